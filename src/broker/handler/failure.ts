/**
 * Anything caught in a handler as the error that a client gets; bugs are no answer and pass through.
 *
 * Called wherever a handler or the coordinator catches. A broken invariant must reach the process, which stops: an
 * answer would hide it.
 */
import { StoreError, type StoreErrorCode } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'
import { type ErrorCode, LedgerError, toLedgerError } from '../../common/errors.ts'

const codesOfStore: { readonly [Code in StoreErrorCode]: ErrorCode } = {
  STORAGE_FAILED: 'SERVICE_NOT_AVAILABLE',
  DISK_FULL: 'DISK_FULL',
  ROTTEN: 'DATA_LOSS',
  BAD_FRAME: 'DATA_LOSS',
  BAD_IMAGE: 'SYSTEM_ERROR',
  BUSY: 'FLOW_CONTROL',
  FOLDER_IN_USE: 'SYSTEM_ERROR',
  FOREIGN_FOLDER: 'SYSTEM_ERROR',
  UNKNOWN_FORMAT: 'SYSTEM_ERROR',
  OUT_OF_RANGE: 'SYSTEM_ERROR',
  CLOSED: 'SERVICE_NOT_AVAILABLE',
}

/** Throws what is no event of life. */
export function failureOf(error: unknown): LedgerError {
  // Each folder has its own class of this name, because raft and store import nothing.
  if (error instanceof Error && error.name === 'InvariantError') throw error
  if (error instanceof StoreError) return new LedgerError(codesOfStore[error.code], error.message, {}, { cause: error })
  return toLedgerError(error)
}

/** Throws out of every promise, where the process sees it. */
export function throwBug(clock: Clock, error: unknown): void {
  clock.defer(() => {
    throw error
  })
}
