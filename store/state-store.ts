/**
 * The state store: all state derived from the log, in one key-value database, with the index that it stands for.
 * Opened by the broker before any other file of its data folder (the database holds the folder's lock).
 *
 * Changes, appliedIndex, running hash and a chained marker go into the same atomic batch (S4). What was found after
 * a power loss is believed only if the chain from the last checkpoint to the end has no gap; otherwise the store
 * starts empty and the log is applied from its beginning. It never repairs and never guesses.
 */
import { invariant } from './assert.ts'
import type { StateBatch, StateImage, StateRow, StateStoreApi } from './contract.ts'
import { StoreError } from './errors.ts'
import type { KeyRange, KeyValueOperation } from './key-value.ts'
import { firstMarker, isHash, type Marker, markerKey, nextMarker } from './marker-chain.ts'
import { checkContent } from './state-check.ts'
import { isRotten, type StateDirectory, StateFiles } from './state-files.ts'
import { StoreImage } from './state-image.ts'
import { assertUserKey, firstUserKey, keyBehind, userKeyEnd } from './user-keys.ts'

/** Writes that may wait behind the one that runs; more means that the caller does not wait at all. */
const waitingWritesMax = 64
/** Markers deleted with one batch. */
const prunedMarkersPerBatch = 1000
/** Images open at a time: each keeps the database from dropping what was deleted since. */
export const openImagesMax = 2

export interface StateStoreOptions extends StateDirectory {
  /**
   * True only when nothing worse than the death of the process can have happened since the last open (same boot id).
   * Then content is trusted from appliedIndex; otherwise the chain of markers is checked.
   */
  readonly trusted: boolean
}

/**
 * Opens or creates the state store. Rejects with FOLDER_IN_USE when another process holds it (nothing is touched) and
 * with STORAGE_FAILED when the disk does not let it. Content that cannot be believed is no error: `rebuiltBecause`.
 */
export async function openStateStore(options: StateStoreOptions): Promise<StateStoreApi> {
  const { files, problem } = await StateFiles.open(options)
  const store = new StateStore(files)
  try {
    await store.start(problem, options.trusted)
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

class StateStore implements StateStoreApi {
  readonly #files: StateFiles
  readonly #images = new Set<StateImage>()
  #last: Marker
  #rebuiltBecause: string | null = null
  #failure: unknown = null
  #closed = false
  #waitingWrites = 0
  #lastWrite: Promise<unknown> = Promise.resolve()
  #lastCheckpoint: Promise<unknown> = Promise.resolve()
  /** Markers below this index are gone. */
  #prunedTo = 0

  constructor(files: StateFiles) {
    this.#files = files
    this.#last = firstMarker(files.schema)
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
  async start(problem: string | null, wantsTrust: boolean): Promise<void> {
    const { checkpoint, schema } = this.#files
    const saved = checkpoint.current
    if (problem !== null) return this.#rebuild(problem)
    if (saved?.state === 'rebuilding') return this.#rebuild('an earlier rebuild was interrupted')
    // A check that was cut short must be repeated, even by a process that has reason to trust what it finds.
    const trusted = wantsTrust && saved?.state === 'verified'
    const base = saved?.marker ?? firstMarker(schema)
    if (saved && !trusted) await checkpoint.save({ state: 'suspect', marker: base })
    const found = await this.#check(base, trusted)
    if ('problem' in found) return this.#rebuild(found.problem)
    this.#last = found.last
    // What a killed process left may be in the page cache only. Synced batches must not come to lie behind it: after a
    // power loss there would be a gap, and all of the state would be lost.
    if (!trusted || found.last.to > base.to) await this.#saveCheckpoint()
  }

  async #check(base: Marker, trusted: boolean): Promise<{ readonly last: Marker } | { readonly problem: string }> {
    try {
      return await checkContent(this.#files, { base, trusted, schema: this.#files.schema })
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
      // Synced each: the log that this state stands for may be trimmed, so a lost batch could not be applied again.
      await this.#files.write(operations, { sync: true })
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
    await this.#files.flush()
    await this.#files.checkpoint.save({ state: 'verified', marker })
    await this.#prune(marker.to)
  }

  /** Markers before the checkpoint prove nothing any more. Deletes may be lost: old markers do no harm. */
  async #prune(to: number): Promise<void> {
    if (this.#prunedTo >= to) return
    let from: Buffer | null = markerKey(this.#prunedTo)
    while (from) from = await this.#remove(from, markerKey(to), prunedMarkersPerBatch)
    this.#prunedTo = to
  }

  /** Deletes the first `limit` rows of [from, to); returns the key behind the last of them, null when none is left. */
  async #remove(from: Buffer, to: Buffer, limit: number): Promise<Buffer | null> {
    const rows = await this.#files.range({ from, to, limit })
    const last = rows.at(-1)
    if (!last) return null
    const operations = rows.map(([key]) => ({ kind: 'delete', key }) as const)
    await this.#files.write(operations, { sync: false })
    return rows.length < limit ? null : keyBehind(last[0])
  }

  reset(reason: string): Promise<void> {
    return this.#inOrder(async () => {
      await this.#lastCheckpoint
      await this.#rebuild(reason)
    })
  }

  async #rebuild(reason: string): Promise<void> {
    await this.#closeImages()
    await this.#files.discard()
    const empty = firstMarker(this.#files.schema)
    await this.#files.checkpoint.save({ state: 'verified', marker: empty })
    this.#last = empty
    this.#prunedTo = 0
    this.#rebuiltBecause = reason
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    assertUserKey(key)
    return this.#files.get(key)
  }

  async range(range: KeyRange): Promise<readonly StateRow[]> {
    return this.#files.range({
      ...range,
      from: Buffer.compare(range.from, firstUserKey) < 0 ? firstUserKey : range.from,
    })
  }

  image(): Promise<StateImage> {
    // In order with the writes: rows and appliedIndex of the image belong together (S4).
    return this.#inOrder(async () => {
      if (this.#images.size >= openImagesMax) throw new StoreError('BUSY', `${openImagesMax} images are open already`)
      const { to: appliedIndex, hash } = this.#last
      const snapshot = await this.#files.snapshot()
      const image = new StoreImage({ appliedIndex, hash, snapshot, closed: () => this.#images.delete(image) })
      this.#images.add(image)
      return image
    })
  }

  deleteRange(from: Buffer, to: Buffer, limit: number): Promise<Buffer | null> {
    assertUserKey(from)
    return this.#inOrder(async () => {
      const end = Buffer.compare(to, userKeyEnd) > 0 ? userKeyEnd : to
      try {
        return await this.#remove(from, end, limit)
      } catch (error) {
        this.#failure ??= error
        throw error
      }
    })
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#lastWrite
    await this.#lastCheckpoint
    await this.#closeImages()
    await this.#files.close()
  }

  async #closeImages(): Promise<void> {
    for (const image of [...this.#images]) await image.close()
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
