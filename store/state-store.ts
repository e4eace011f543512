/**
 * The state store: all state derived from the log, in one key-value database, with the index that it stands for.
 * Opened by the broker before any other file of its data folder (the database holds the folder's lock).
 *
 * Changes, appliedIndex, running hash and a chained marker go into the same atomic batch (S4). What was found after
 * a power loss is believed only if the chain from the last checkpoint to the end has no gap; otherwise the store
 * starts empty and the log is applied from its beginning. It never repairs and never guesses.
 */
import { invariant } from './assert.ts'
import { CheckpointFile } from './checkpoint-file.ts'
import type { StateBatch, StateStoreApi } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import type { KeyRange, KeyValue, KeyValueEngine, KeyValueOperation } from './key-value.ts'
import { firstMarker, isHash, type Marker, markerKey, nextMarker, reservedPrefix } from './marker-chain.ts'
import { checkContent } from './state-check.ts'

/** Writes that may wait behind the one that runs; more means that the caller does not wait at all. */
const waitingWritesMax = 64
/** Markers deleted with one batch. */
const prunedMarkersPerBatch = 1000

const firstUserKey = Buffer.from([reservedPrefix + 1])

export interface StateStoreOptions {
  readonly engine: KeyValueEngine
  readonly disk: Disk
  /** Holds the database (`database/`) and the checkpoint file. The same place for engine and disk: use absolute paths. */
  readonly directory: string
  /**
   * True only when nothing worse than the death of the process can have happened since the last open (same boot id).
   * Then content is trusted from appliedIndex; otherwise the chain of markers is checked.
   */
  readonly trusted: boolean
  /** Layout of the caller's rows, 0 to 65535. Content of another layout is thrown away and built anew. */
  readonly schema?: number
}

/**
 * Opens or creates the state store. Rejects with FOLDER_IN_USE when another process holds it (nothing is touched) and
 * with STORAGE_FAILED when the disk does not let it. Content that cannot be believed is no error: `rebuiltBecause`.
 */
export async function openStateStore(options: StateStoreOptions): Promise<StateStoreApi> {
  const schema = options.schema ?? 0
  invariant(Number.isInteger(schema) && schema >= 0 && schema <= 0xffff, `schema ${schema} does not fit 16 bits`)
  await makeDirectory(options.disk, options.directory)
  const { keyValue, problem } = await openDatabase(options)
  const file = await CheckpointFile.open(options.disk, options.directory).catch(async (error: unknown) => {
    await keyValue.close()
    throw error
  })
  const store = new StateStore({ ...options, schema, file, keyValue })
  try {
    await store.start(problem)
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

async function makeDirectory(disk: Disk, directory: string): Promise<void> {
  await disk.makeDirectory(directory)
  const parentEnd = directory.lastIndexOf('/')
  if (parentEnd > 0) await disk.syncDirectory(directory.slice(0, parentEnd))
}

/** The lock comes first: until it is held, no other file is looked at. */
async function openDatabase(
  options: StateStoreOptions,
): Promise<{ readonly keyValue: KeyValue; readonly problem: string | null }> {
  const { engine } = options
  const directory = databaseDirectory(options.directory)
  try {
    return { keyValue: await engine.open(directory), problem: null }
  } catch (error) {
    if (!isRotten(error)) throw error
    await engine.destroy(directory)
    return { keyValue: await engine.open(directory), problem: error.message }
  }
}

function databaseDirectory(directory: string): string {
  return `${directory}/database`
}

function isRotten(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === 'ROTTEN'
}

interface StateStoreParts extends StateStoreOptions {
  readonly schema: number
  readonly file: CheckpointFile
  readonly keyValue: KeyValue
}

class StateStore implements StateStoreApi {
  readonly #options: StateStoreParts
  readonly #file: CheckpointFile
  #keyValue: KeyValue
  #last: Marker
  #rebuiltBecause: string | null = null
  #failure: unknown = null
  #closed = false
  #waitingWrites = 0
  #lastWrite: Promise<unknown> = Promise.resolve()
  #lastCheckpoint: Promise<unknown> = Promise.resolve()
  /** Markers below this index are gone. */
  #prunedTo = 0

  constructor(parts: StateStoreParts) {
    this.#options = parts
    this.#file = parts.file
    this.#keyValue = parts.keyValue
    this.#last = firstMarker(parts.schema)
  }

  get appliedIndex(): number {
    return this.#last.to
  }

  get hash(): string {
    return this.#last.hash
  }

  get rebuiltBecause(): string | null {
    return this.#rebuiltBecause
  }

  /** Decides once, before anybody reads, whether the content can be believed. */
  async start(problem: string | null): Promise<void> {
    const saved = this.#file.current
    if (problem !== null) return this.#rebuild(problem)
    if (saved?.state === 'rebuilding') return this.#rebuild('an earlier rebuild was interrupted')
    // A check that was cut short must be repeated, even by a process that has reason to trust what it finds.
    const trusted = this.#options.trusted && saved?.state === 'verified'
    const base = saved?.marker ?? firstMarker(this.#options.schema)
    if (saved && !trusted) await this.#file.save({ state: 'suspect', marker: base })
    const found = await this.#check(base, trusted)
    if ('problem' in found) return this.#rebuild(found.problem)
    this.#last = found.last
    if (!trusted) await this.#saveCheckpoint()
  }

  async #check(base: Marker, trusted: boolean): Promise<{ readonly last: Marker } | { readonly problem: string }> {
    try {
      return await checkContent(this.#keyValue, { base, trusted, schema: this.#options.schema })
    } catch (error) {
      if (isRotten(error)) return { problem: error.message }
      throw error
    }
  }

  write(batch: StateBatch): Promise<void> {
    invariant(this.#waitingWrites < waitingWritesMax, `more than ${waitingWritesMax} writes wait for the state store`)
    this.#waitingWrites++
    return this.#inOrder(() => this.#write(batch)).finally(() => {
      this.#waitingWrites--
    })
  }

  async #write(batch: StateBatch): Promise<void> {
    try {
      const { marker, bytes } = this.#nextMarker(batch)
      const operations: KeyValueOperation[] = [...batch.operations]
      operations.push({ kind: 'put', key: markerKey(marker.to), value: bytes })
      await this.#keyValue.write(operations, { sync: false })
      this.#last = marker
    } catch (error) {
      // Whether the batch is there is unknown now: nothing may be written behind it.
      this.#failure ??= error
      throw error
    }
  }

  #nextMarker(batch: StateBatch): { readonly marker: Marker; readonly bytes: Buffer } {
    const { appliedIndex, hash, operations } = batch
    invariant(
      Number.isSafeInteger(appliedIndex) && appliedIndex > this.#last.to,
      `S4: state moves from ${this.#last.to} to ${appliedIndex}, which is not forward`,
    )
    invariant(isHash(hash), `S4: the running hash ${hash} has not 16 hex digits`)
    for (const operation of operations) assertUserKey(operation.key)
    return nextMarker(this.#last, appliedIndex, hash)
  }

  checkpoint(): Promise<void> {
    const run = this.#lastCheckpoint.then(async () => {
      await this.#lastWrite
      this.#assertUsable()
      await this.#saveCheckpoint()
    })
    this.#lastCheckpoint = run.catch(() => {})
    return run
  }

  /** Writes go on meanwhile: the marker is taken before the flush that makes it durable. */
  async #saveCheckpoint(): Promise<void> {
    const marker = this.#last
    await this.#keyValue.flush()
    await this.#file.save({ state: 'verified', marker })
    await this.#prune(marker.to)
  }

  /** Markers before the checkpoint prove nothing any more. Deletes may be lost: old markers do no harm. */
  async #prune(to: number): Promise<void> {
    while (this.#prunedTo < to) {
      const rows = await this.#keyValue.range({
        from: markerKey(this.#prunedTo),
        to: markerKey(to),
        limit: prunedMarkersPerBatch,
      })
      const operations = rows.map(([key]) => ({ kind: 'delete', key }) as const)
      if (operations.length > 0) await this.#keyValue.write(operations, { sync: false })
      const last = operations.at(-1)
      this.#prunedTo = last && rows.length === prunedMarkersPerBatch ? Number(last.key.readBigUInt64BE(2)) : to
    }
  }

  reset(reason: string): Promise<void> {
    return this.#inOrder(async () => {
      await this.#lastCheckpoint
      await this.#rebuild(reason)
    })
  }

  /** Recorded before anything is removed, so that a crash on the way cannot leave half of the old content. */
  async #rebuild(reason: string): Promise<void> {
    const { engine, schema } = this.#options
    const directory = databaseDirectory(this.#options.directory)
    const empty = firstMarker(schema)
    await this.#file.save({ state: 'rebuilding', marker: empty })
    await this.#keyValue.close()
    await engine.destroy(directory)
    this.#keyValue = await engine.open(directory)
    await this.#file.save({ state: 'verified', marker: empty })
    this.#last = empty
    this.#prunedTo = 0
    this.#rebuiltBecause = reason
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    assertUserKey(key)
    return this.#keyValue.get(key)
  }

  async range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]> {
    const from = Buffer.compare(range.from, firstUserKey) < 0 ? firstUserKey : range.from
    return this.#keyValue.range({ ...range, from })
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#lastWrite
    await this.#lastCheckpoint
    await this.#keyValue.close()
    await this.#file.close()
  }

  /** LevelDB may reorder writes that run side by side, so only one runs. */
  #inOrder<Result>(work: () => Promise<Result>): Promise<Result> {
    const run = this.#lastWrite.then(() => {
      this.#assertUsable()
      return work()
    })
    this.#lastWrite = run.catch(() => {})
    return run
  }

  #assertUsable(): void {
    if (this.#failure !== null) {
      throw new StoreError('STORAGE_FAILED', 'an earlier write of the state store failed', { cause: this.#failure })
    }
  }
}

function assertUserKey(key: Buffer): void {
  invariant(key.length > 0 && key[0] !== reservedPrefix, 'S4: keys that begin with 0x00 are the state store’s own')
}
