/** Turns words of the command line into values, or a usage error that says what was expected. */
import { InvalidArgumentError } from 'commander'

export function positiveInteger(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number from 1 up.')
  return value
}

export function wholeNumber(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number from 0 up.')
  return value
}

/** `a:1,b:2` as a list. */
export function addressList(text: string): readonly string[] {
  const list = text
    .split(',')
    .map((address) => address.trim())
    .filter((address) => address !== '')
  for (const address of list)
    if (!/^[^:]+:\d{1,5}$/.test(address)) throw new InvalidArgumentError(`${address} is not host:port.`)
  return list
}
