/**
 * The key-value port on `level` (LevelDB); the only importer of it. Used by `state-store.ts` through the port.
 *
 * The database's LOCK file is also the lock of the whole data folder: open this before any other file of a node.
 * LevelDB reorders nothing but silently skips damaged blocks of its log after a power loss, so whoever reads after
 * one must check for gaps (`marker-chain.ts`). Never hand `level` objects or errors to callers.
 */
import { Level } from 'level'
import { StoreError, type StoreErrorCode } from './errors.ts'
import type { KeyRange, KeyValue, KeyValueEngine, KeyValueOperation, KeyValueSnapshot } from './key-value.ts'

/** What `level` is under Node: its types show only what browsers have too. */
type Database = Level<Buffer, Buffer> & { compactRange(start: Buffer, end: Buffer): Promise<void> }
type DatabaseSnapshot = ReturnType<Database['snapshot']>
type DatabaseClass = { destroy(directory: string): Promise<void> }

const encodings = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
/** No caller's key: long, and at the very end of the key space, so that compacting it touches no table. */
const unusedKey = Buffer.alloc(64, 0xff)
const behindUnusedKey = Buffer.alloc(65, 0xff)

export class LevelKeyValueEngine implements KeyValueEngine {
  async open(directory: string): Promise<KeyValue> {
    const database = new Level<Buffer, Buffer>(directory, encodings) as Database
    try {
      await database.open()
    } catch (error) {
      // A database that failed to open still counts as a resource until it is closed.
      await database.close()
      throw toStoreError(error, `cannot open the state database in ${directory}`, directory)
    }
    return new LevelKeyValue(database, directory)
  }

  async destroy(directory: string): Promise<void> {
    try {
      await (Level as unknown as DatabaseClass).destroy(directory)
    } catch (error) {
      throw toStoreError(error, `cannot remove the state database in ${directory}`, directory)
    }
  }
}

class LevelKeyValue implements KeyValue {
  readonly #database: Database
  readonly #directory: string

  constructor(database: Database, directory: string) {
    this.#database = database
    this.#directory = directory
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.#database.get(key)
    } catch (error) {
      throw this.#wrap(error, 'cannot read from')
    }
  }

  range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]> {
    return this.#range(range, undefined)
  }

  async snapshot(): Promise<KeyValueSnapshot> {
    try {
      const snapshot = this.#database.snapshot()
      return {
        range: (range) => this.#range(range, snapshot),
        close: () => snapshot.close(),
      }
    } catch (error) {
      throw this.#wrap(error, 'cannot read from')
    }
  }

  async write(operations: readonly KeyValueOperation[], options: { readonly sync: boolean }): Promise<void> {
    try {
      await this.#database.batch(operations.map(toLevelOperation), { sync: options.sync })
    } catch (error) {
      throw this.#wrap(error, 'cannot write to')
    }
  }

  async flush(): Promise<void> {
    try {
      // Compacting a range first writes the memory table into a synced table file and syncs the manifest; a synced
      // write alone would leave out the previous log file while its table is still being written.
      await this.#database.compactRange(unusedKey, behindUnusedKey)
      // compactRange reports no failure, but after one LevelDB refuses every further write.
      await this.#database.batch([{ type: 'del', key: unusedKey }], { sync: true })
    } catch (error) {
      throw this.#wrap(error, 'cannot flush')
    }
  }

  async close(): Promise<void> {
    try {
      await this.#database.close()
    } catch (error) {
      throw this.#wrap(error, 'cannot close')
    }
  }

  async #range(
    range: KeyRange,
    snapshot: DatabaseSnapshot | undefined,
  ): Promise<readonly (readonly [key: Buffer, value: Buffer])[]> {
    const { from, to, limit, reverse = false } = range
    if (limit <= 0) return []
    try {
      // `all` closes the iterator in every case, so no handle outlives this call.
      return await this.#database.iterator({ gte: from, lt: to, limit, reverse, snapshot }).all()
    } catch (error) {
      throw this.#wrap(error, 'cannot read from')
    }
  }

  #wrap(error: unknown, what: string): StoreError {
    return toStoreError(error, `${what} the state database in ${this.#directory}`, this.#directory)
  }
}

type LevelOperation =
  | { readonly type: 'put'; readonly key: Buffer; readonly value: Buffer }
  | { readonly type: 'del'; readonly key: Buffer }

function toLevelOperation(operation: KeyValueOperation): LevelOperation {
  return operation.kind === 'put'
    ? { type: 'put', key: operation.key, value: operation.value }
    : { type: 'del', key: operation.key }
}

function toStoreError(error: unknown, what: string, directory: string): StoreError {
  const root = rootCause(error)
  const code = storeCodeOf(root)
  const why = code === 'FOLDER_IN_USE' ? 'another process uses this folder' : root.message
  return new StoreError(code, `${what}: ${why}`, { cause: error, details: { directory } })
}

interface CodedError {
  readonly code: string
  readonly message: string
}

/** An open that failed is reported as LEVEL_DATABASE_NOT_OPEN with the reason as its cause. */
function rootCause(error: unknown): CodedError {
  if (!(error instanceof Error)) return { code: '', message: String(error) }
  if (error.cause instanceof Error) return rootCause(error.cause)
  return { code: 'code' in error ? String(error.code) : '', message: error.message }
}

function storeCodeOf(error: CodedError): StoreErrorCode {
  switch (error.code) {
    case 'LEVEL_LOCKED':
      return 'FOLDER_IN_USE'
    case 'LEVEL_DATABASE_NOT_OPEN':
    case 'LEVEL_ITERATOR_NOT_OPEN':
    case 'LEVEL_SNAPSHOT_NOT_OPEN':
    case 'LEVEL_BATCH_NOT_OPEN':
      return 'CLOSED'
    case 'LEVEL_CORRUPTION':
      return 'ROTTEN'
    case 'LEVEL_IO_ERROR':
      // A file that the database's own records name is gone.
      if (error.message.includes('No such file')) return 'ROTTEN'
      return /No space left|Disk quota exceeded/.test(error.message) ? 'DISK_FULL' : 'STORAGE_FAILED'
    default:
      return 'STORAGE_FAILED'
  }
}
