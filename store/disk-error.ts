/**
 * Errors of the disk port made by our own code, and how to read the code of any of them. Node's errors carry the
 * same `code` field. Used by the disks and by the callers that tell `ENOSPC` and `ENOENT` apart.
 */
import type { DiskErrorCode } from './disk.ts'
import { StoreError } from './errors.ts'

export class DiskError extends Error {
  override readonly name = 'DiskError'
  readonly code: DiskErrorCode

  constructor(code: DiskErrorCode, message: string) {
    super(`${code}: ${message}`)
    this.code = code
  }
}

/** The `code` of an error of the disk port, undefined when it carries none. */
export function diskErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

const outOfSpaceCodes: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** The disk, the quota or the largest size of a file is used up. */
export function isOutOfSpace(error: unknown): boolean {
  return outOfSpaceCodes.has(diskErrorCode(error) ?? '')
}

/** A lack of space is at the bottom of it, whatever it ended: what failed may be begun anew when there is space. */
export function isForLackOfSpace(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (isOutOfSpace(cause) || (cause instanceof StoreError && cause.code === 'DISK_FULL')) return true
  }
  return false
}
