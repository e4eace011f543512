/**
 * A file of zeros that keeps space for bad times: given back when the disk is full, so that term and vote, state
 * store and the deletion of old segments go on, and made again when there is space. Held by the broker's folder.
 *
 * It never takes what others need: it is only filled while much more than itself is free, and stops at once when
 * somebody wants the space.
 */
import type { Disk, DiskFile } from './disk.ts'
import { isOutOfSpace } from './disk-error.ts'
import { StoreError } from './errors.ts'
import { parentOf } from './folder.ts'

const stepBytes = 1024 * 1024
/** Free space that must be there for the reserve to be made again, in reserves: one is then left for the log. */
const freeFactor = 2

export class SpaceReserve {
  readonly #disk: Disk
  readonly #path: string
  readonly #bytes: number
  #heldBytes: number
  #isWanted = true
  readonly #listeners = new Set<() => void>()
  #last: Promise<unknown> = Promise.resolve()

  private constructor(disk: Disk, path: string, options: { readonly bytes: number; readonly heldBytes: number }) {
    this.#disk = disk
    this.#path = path
    this.#bytes = options.bytes
    this.#heldBytes = options.heldBytes
  }

  /** Finds what an earlier process left; makes nothing. `bytes` 0: there is no reserve, and it always counts as held. */
  static async open(disk: Disk, path: string, bytes: number): Promise<SpaceReserve> {
    const exists = (await disk.list(parentOf(path))).includes(path.slice(path.lastIndexOf('/') + 1))
    if (!exists) return new SpaceReserve(disk, path, { bytes, heldBytes: 0 })
    const file = await disk.open(path, { create: false })
    try {
      return new SpaceReserve(disk, path, { bytes, heldBytes: Math.min(bytes, await file.size()) })
    } finally {
      await file.close()
    }
  }

  /** Size of the whole reserve. */
  get bytes(): number {
    return this.#bytes
  }

  get isHeld(): boolean {
    return this.#heldBytes >= this.#bytes
  }

  /** Free space that must be there for it to be made, or made again; 0 while it is held. */
  get wantedFreeBytes(): number {
    return this.isHeld ? 0 : freeFactor * this.#bytes - this.#heldBytes
  }

  /** Called whenever it is given back: somebody found the disk full. Returns the removal. */
  onGiven(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Gives all of it back. Rejects with STORAGE_FAILED when the disk does not let it. */
  give(): Promise<void> {
    this.#isWanted = false
    for (const listener of this.#listeners) listener()
    return this.#inOrder(() => this.#give())
  }

  /**
   * Makes it again, in steps; between them `goOn` may take its time and may end it. True when all of it is held; false,
   * and nothing is held, when the disk has not enough free space or it ended early. Rejects with STORAGE_FAILED.
   */
  take(goOn: () => Promise<boolean> = () => Promise.resolve(true)): Promise<boolean> {
    this.#isWanted = true
    return this.#inOrder(async () => {
      if (this.isHeld) return true
      if (await this.isShort()) return false
      if (await this.#fill(goOn)) return true
      await this.#give()
      return false
    })
  }

  /** It is not held, and there is not enough space to make it. */
  async isShort(): Promise<boolean> {
    if (this.isHeld) return false
    const { freeBytes } = await this.#disk.space(parentOf(this.#path))
    return freeBytes < this.wantedFreeBytes
  }

  /** Gives it back when nearly nothing else is free. For the start, before anything is written. */
  async giveIfTight(): Promise<void> {
    if (this.#heldBytes === 0) return
    const { freeBytes } = await this.#disk.space(parentOf(this.#path))
    if (freeBytes < this.#bytes) await this.give()
  }

  async #give(): Promise<void> {
    this.#heldBytes = 0
    await this.#withFile(async (file) => {
      await file.truncate(0)
      await file.sync()
    })
  }

  async #fill(goOn: () => Promise<boolean>): Promise<boolean> {
    const zeros = Buffer.alloc(Math.min(stepBytes, this.#bytes))
    return this.#withFile(async (file) => {
      for (let at = 0; at < this.#bytes; at += zeros.length) {
        if (!this.#isWanted || (at > 0 && !(await goOn()))) return false
        try {
          await file.write([zeros.subarray(0, this.#bytes - at)], at)
          await file.sync()
        } catch (error) {
          if (isOutOfSpace(error)) return false
          throw error
        }
        // Step by step: what it has taken is no more missing from the free space.
        this.#heldBytes = Math.max(this.#heldBytes, Math.min(this.#bytes, at + zeros.length))
      }
      return true
    })
  }

  /** Opened for each use: it lies there for months between two of them. */
  async #withFile<Result>(work: (file: DiskFile) => Promise<Result>): Promise<Result> {
    try {
      const file = await this.#disk.open(this.#path, { create: true })
      try {
        return await work(file)
      } finally {
        await file.close()
      }
    } catch (cause) {
      throw new StoreError('STORAGE_FAILED', `${this.#path} could not be written`, { cause })
    }
  }

  #inOrder<Result>(work: () => Promise<Result>): Promise<Result> {
    const run = this.#last.then(work)
    this.#last = run.catch(() => {})
    return run
  }
}
