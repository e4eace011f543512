/** What went wrong while a broker started, as the error that the operator is told. Called by `broker.ts`. */
import { StoreError } from '../../store/index.ts'
import { type ErrorCode, LedgerError, toLedgerError } from '../common/errors.ts'

/** Bugs stay what they are; store errors keep their meaning. */
export function startError(error: unknown): Error {
  if (error instanceof Error && error.name === 'InvariantError') return error
  if (!(error instanceof StoreError)) return toLedgerError(error)
  return new LedgerError(codeOf(error), error.message, {}, { cause: error })
}

function codeOf(error: StoreError): ErrorCode {
  switch (error.code) {
    case 'FOLDER_IN_USE':
    case 'FOREIGN_FOLDER':
    case 'DISK_FULL':
    case 'STORAGE_FAILED':
      return error.code
    default:
      return 'SYSTEM_ERROR'
  }
}
