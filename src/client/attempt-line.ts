/** One failed attempt as a line for the error that lists them all. Called wherever the client tries several addresses. */
import type { LedgerError } from '../common/errors.ts'

/** The transport says where it failed only when no server of ours has answered: here it is always said, once. */
export function failureAt(address: string, { code, message }: LedgerError): string {
  const told = `${address}: `
  return `${told}${code} ${message.startsWith(told) ? message.slice(told.length) : message}`
}
