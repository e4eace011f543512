/**
 * The key-value port under the state store.
 *
 * Implemented by `level-key-value.ts` (the only importer of `level`) and by `memory-key-value.ts` with a crash model
 * that loses any subset of un-synced log blocks, as LevelDB does. Keys order by unsigned bytes.
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

export interface KeyValue {
  get(key: Buffer): Promise<Buffer | undefined>
  range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]>
  /** All or nothing for a crash of the process; durable against power loss only with `sync`. */
  write(operations: readonly KeyValueOperation[], options: { readonly sync: boolean }): Promise<void>
  close(): Promise<void>
}

export interface KeyValueEngine {
  /**
   * Opens or creates the database in this directory and locks it against other processes until closed or until the
   * process dies. Rejects with a StoreError `FOLDER_IN_USE` when another process holds it.
   */
  open(directory: string): Promise<KeyValue>
  /** Removes the database and everything in it. It must not be open. */
  destroy(directory: string): Promise<void>
}
