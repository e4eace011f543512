/**
 * Numbers of requests are checked before anything is done with them: a NaN or a negative offset in a command would
 * lie in the log for ever. Used by the unary handlers; a number that breaks this is no valid request.
 */
import { LedgerError } from '../../common/errors.ts'

/** Throws INVALID_REQUEST unless this is a whole number from 0 to 2^53 - 1. */
export function checkCount(value: number, field: string): number {
  if (!isCount(value))
    throw new LedgerError('INVALID_REQUEST', `${field} must be a whole number from 0 to 2^53 - 1, not ${value}`)
  return value
}

export function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}
