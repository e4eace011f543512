/**
 * Checks of numbers that users hand in. Every option and argument of the SDK goes through here, so that a wrong one is
 * refused by name at once instead of hanging something later.
 */
import { LedgerError } from '../common/errors.ts'

/** The value, or CONFIG_INVALID naming the option and its range. */
export function checkCount(name: string, value: number, min: number, max: number): number {
  return checkRange('CONFIG_INVALID', name, value, { min, max })
}

/** The argument of a call, or INVALID_PARAMETER naming it and its range. */
export function checkArgument(name: string, value: number, min: number, max: number): number {
  return checkRange('INVALID_PARAMETER', name, value, { min, max })
}

function checkRange(
  code: 'CONFIG_INVALID' | 'INVALID_PARAMETER',
  name: string,
  value: number,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value
  // Whatever it is: not every user has a compiler.
  const shown = typeof value === 'object' && value !== null ? 'an object' : String(value)
  throw new LedgerError(code, `${name} is ${shown}; it must be a whole number from ${min} to ${max}`)
}

/** Addresses from `['a:1', 'b:2']` or `'a:1,b:2'`. */
export function parseAddresses(name: string, given: readonly string[] | string): readonly string[] {
  const parts = typeof given === 'string' ? given.split(/[,;]/) : given
  if (!Array.isArray(parts) || parts.some((part) => typeof part !== 'string')) {
    const text = `${name} must be addresses, for example '127.0.0.1:9876' or ['a:9876', 'b:9876']`
    throw new LedgerError('CONFIG_INVALID', text)
  }
  const addresses = parts.map((part) => part.trim()).filter((part) => part !== '')
  if (addresses.length === 0) throw new LedgerError('CONFIG_INVALID', `${name} names no address`)
  for (const address of addresses) {
    const port = Number(/^(?:\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})$/.exec(address)?.[1] ?? Number.NaN)
    if (Number.isInteger(port) && port > 0 && port < 65_536) continue
    const text = `${name} holds ${JSON.stringify(address)}; an address is host:port, for example 127.0.0.1:9876`
    throw new LedgerError('CONFIG_INVALID', text)
  }
  return [...new Set(addresses)]
}
