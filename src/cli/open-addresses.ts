/**
 * Stops a process before it listens where other machines reach it. Called for every listener of namesrv and broker
 * unless the operator passed --insecure: whoever reaches an open port may send, read and administer, and that must be
 * a decision, not an accident.
 */
import { LedgerError } from '../common/errors.ts'

/** Throws CONFIG_INVALID for the first address that is not on this machine's loopback; empty ones do not count. */
export function refuseOpenAddresses(addresses: readonly string[]): void {
  const open = addresses.find((text) => text !== '' && !isLoopback(text))
  if (open === undefined) return
  throw new LedgerError(
    'CONFIG_INVALID',
    `${open} is reachable from other machines and there is no TLS yet: pass --insecure if the network is trusted`,
  )
}

function isLoopback(text: string): boolean {
  const host = text.slice(0, text.lastIndexOf(':'))
  return host === 'localhost' || host === '[::1]' || /^127\./.test(host)
}
