/** Events of life in the store, as coded errors. Bugs break an `invariant()` instead. */
export type StoreErrorCode =
  /** A write or sync failed, or a write came back short: the file must not be used any more. */
  | 'STORAGE_FAILED'
  /** No space to prepare: nothing was written, everything stays usable, try again when there is space. */
  | 'DISK_FULL'
  /** Stored bytes do not pass their check below the durable mark. `details` names file and position. */
  | 'ROTTEN'
  /** A frame from a peer does not fit here: wrong position, chain, checksum or shape. */
  | 'BAD_FRAME'
  /** Rows of a state image from a peer are not what an image can hold, or not in its order. */
  | 'BAD_IMAGE'
  /** As many are open as may be; try again when one was closed. */
  | 'BUSY'
  /** Another process has this folder open. */
  | 'FOLDER_IN_USE'
  /** The folder belongs to another node, group or cluster, or was made with other fixed settings. */
  | 'FOREIGN_FOLDER'
  /** Format version that this build does not know. */
  | 'UNKNOWN_FORMAT'
  /** Asked for an index or position that the log does not have (any more). */
  | 'OUT_OF_RANGE'
  | 'CLOSED'

export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly code: StoreErrorCode
  readonly details: Readonly<Record<string, string | number>>

  constructor(
    code: StoreErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly details?: Readonly<Record<string, string | number>> } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.details = options.details ?? {}
  }
}
