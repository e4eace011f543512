/**
 * Fills a state store from the image of a peer. Called by whoever brings a replica back that is too far behind.
 *
 * From the first step to the last the checkpoint file says that the store is being rebuilt, so an install that is cut
 * short leaves an empty store, never half a state. Nothing may open the directory meanwhile (the lock sees to it).
 */
import { invariant } from './assert.ts'
import type { StateInstall, StateRow } from './contract.ts'
import { isForLackOfSpace } from './disk-error.ts'
import { StoreError } from './errors.ts'
import type { KeyValueOperation } from './key-value.ts'
import { firstMarker, isHash, markerKey, nextMarker } from './marker-chain.ts'
import { type StateDirectory, StateFiles } from './state-files.ts'
import { isUserKey } from './user-keys.ts'

/** What the rows stand for: `StateImage.appliedIndex` and `.hash`. */
export interface ImageIdentity {
  readonly appliedIndex: number
  readonly hash: string
}

/**
 * Throws away what the directory held and takes the rows of an image instead. Rejects with FOLDER_IN_USE when a store
 * is open there, with BAD_IMAGE for an index or hash that no image has, with STORAGE_FAILED as `openStateStore`; here
 * and in every step with DISK_FULL for lack of space: begin a new one when there is some.
 */
export async function installStateStore(place: StateDirectory, image: ImageIdentity): Promise<StateInstall> {
  if (!Number.isSafeInteger(image.appliedIndex) || image.appliedIndex < 1 || !isHash(image.hash)) {
    throw new StoreError('BAD_IMAGE', `there is no image of index ${image.appliedIndex} with hash ${image.hash}`)
  }
  try {
    return await begin(place, image)
  } catch (error) {
    throw asCoded(error)
  }
}

async function begin(place: StateDirectory, image: ImageIdentity): Promise<StateInstall> {
  const { files } = await StateFiles.open(place)
  try {
    await files.discard()
    return new Install(files, image)
  } catch (error) {
    await files.close()
    throw error
  }
}

/** A store that found no space is done for, an image is not: nothing of it was promised. */
function asCoded(error: unknown): unknown {
  if (!isForLackOfSpace(error)) return error
  return new StoreError('DISK_FULL', 'no space for the image of a state', { cause: error })
}

class Install implements StateInstall {
  readonly #files: StateFiles
  readonly #image: ImageIdentity
  #lastKey: Buffer | null = null
  #busy: Promise<unknown> = Promise.resolve()
  #state: 'filling' | 'finished' | 'failed' | 'closed' = 'filling'

  constructor(files: StateFiles, image: ImageIdentity) {
    this.#files = files
    this.#image = image
  }

  put(rows: readonly StateRow[]): Promise<void> {
    return this.#alone(async () => {
      const operations = rows.map(([key, value]): KeyValueOperation => {
        this.#checkOrder(key)
        return { kind: 'put', key, value }
      })
      if (operations.length > 0) await this.#files.write(operations, { sync: false })
    })
  }

  finish(): Promise<void> {
    return this.#alone(async () => {
      const { checkpoint, schema } = this.#files
      const { appliedIndex, hash } = this.#image
      const { marker, bytes } = nextMarker(firstMarker(schema), appliedIndex, hash)
      await this.#files.write([{ kind: 'put', key: markerKey(appliedIndex), value: bytes }], { sync: true })
      // The rows were not synced one by one: only the flush covers them all, and only then they may be believed.
      await this.#files.flush()
      await checkpoint.save({ state: 'verified', marker })
      this.#state = 'finished'
    })
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return
    await this.#busy
    this.#state = 'closed'
    await this.#files.close()
  }

  /** A row twice or out of order means that pieces were mixed up on the way. */
  #checkOrder(key: Buffer): void {
    if (!isUserKey(key)) throw new StoreError('BAD_IMAGE', `an image holds no key ${key.toString('hex')}`)
    if (this.#lastKey && Buffer.compare(this.#lastKey, key) >= 0) {
      throw new StoreError('BAD_IMAGE', `key ${key.toString('hex')} does not follow ${this.#lastKey.toString('hex')}`)
    }
    this.#lastKey = key
  }

  /** After a failure nothing more is taken: what is there is no image. */
  #alone(work: () => Promise<void>): Promise<void> {
    invariant(this.#state !== 'finished', 'S4: nothing is added to a finished image')
    const run = this.#busy.then(async () => {
      if (this.#state === 'closed') throw new StoreError('CLOSED', 'the install is closed')
      if (this.#state !== 'filling') throw new StoreError('STORAGE_FAILED', 'an earlier step of the install failed')
      try {
        await work()
      } catch (error) {
        this.#state = 'failed'
        throw asCoded(error)
      }
    })
    this.#busy = run.catch(() => {})
    return run
  }
}
