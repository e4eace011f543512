/**
 * The key-value port under the state store.
 *
 * Implemented by `level-key-value.ts` (the only importer of `level`) and by `memory-key-value.ts` with a crash model
 * that loses any subset of un-synced log blocks, as LevelDB does. Keys order by unsigned bytes; none is empty.
 * After `close` every call rejects with a StoreError `CLOSED`, also those of its snapshots; a failed write with
 * `STORAGE_FAILED`, or with `DISK_FULL` when it found no space: then nothing is written any more until the database
 * was closed and opened, and whether the failed write is there only shows then.
 */
export type KeyValueOperation =
  | { readonly kind: 'put'; readonly key: Buffer; readonly value: Buffer }
  | { readonly kind: 'delete'; readonly key: Buffer }

export interface KeyRange {
  /** Inclusive. */
  readonly from: Buffer
  /** Exclusive. */
  readonly to: Buffer
  readonly limit: number
  readonly reverse?: boolean
}

/** The rows as they were at one moment; writes that come later do not change it. Costs space until it is closed. */
export interface KeyValueSnapshot {
  range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]>
  /** A second call does nothing. Closing the database closes its snapshots. */
  close(): Promise<void>
}

export interface KeyValue {
  get(key: Buffer): Promise<Buffer | undefined>
  range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]>
  /**
   * All or nothing. Survives a crash of the process. With `sync` this batch survives a power loss too, but earlier
   * ones that were not synced need not: LevelDB syncs only the log file it writes, not the one before it.
   */
  write(operations: readonly KeyValueOperation[], options: { readonly sync: boolean }): Promise<void>
  /** Everything that was written before the call, and nothing that is written after it. */
  snapshot(): Promise<KeyValueSnapshot>
  /** Makes everything that was written before the call durable against power loss. */
  flush(): Promise<void>
  /** Waits for what is running, then releases database and lock. A second call does nothing. */
  close(): Promise<void>
}

export interface KeyValueEngine {
  /**
   * Opens or creates the database in this directory and locks it against other processes until closed or until the
   * process dies. Rejects with a StoreError: `FOLDER_IN_USE` when somebody else holds it, `ROTTEN` when its content
   * cannot be read, `DISK_FULL` when there is no space, `STORAGE_FAILED` for everything else (permissions, space, a file in the way).
   */
  open(directory: string): Promise<KeyValue>
  /** Removes the database and everything in it; a missing one is no error. Rejects with FOLDER_IN_USE when open. */
  destroy(directory: string): Promise<void>
}
