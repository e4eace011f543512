/**
 * Watches the space for the log: what happens when it ends, and when it is there again. Owned by the replica.
 *
 * A full disk is not filled to its last byte: the log stops growing, the reserve is given back, and what must go on
 * (term and vote, state store, trims) lives on it. Only when there is space for the reserve again, the log grows on.
 */
import type { CommitLogApi, SpaceReserve } from '../../../store/index.ts'
import { type Clock, sleep } from '../../common/clock.ts'

/** Time between two steps of making the reserve: it must not compete with the log for the disk. */
const reserveStepMs = 20

export interface SpaceWatchPorts {
  readonly clock: Clock
  readonly log: Pick<CommitLogApi, 'grow' | 'diskFull' | 'limitGrowth'>
  readonly reserve: Pick<SpaceReserve, 'bytes' | 'isHeld' | 'give' | 'take' | 'onGiven'>
  /** Free bytes on the disk now. */
  freeBytes(): Promise<number>
  readonly retryMs: number
  /** All of the reserve is there, and the log grows. */
  hasSpace(): void
  /** The disk became full, or has space again. */
  changed(full: boolean): void
  failed(error: unknown): void
}

export class SpaceWatch {
  readonly #ports: SpaceWatchPorts
  #isFull = false
  #stopped = false
  /** Somebody lacked space and took the reserve since it was to be made again. */
  #wasGiven = false
  #running: Promise<unknown> = Promise.resolve()
  #removeListener = (): void => {}

  constructor(ports: SpaceWatchPorts) {
    this.#ports = ports
  }

  /** Makes the reserve; a disk that has no space for it counts as full from the beginning. */
  start(): void {
    this.#removeListener = this.#ports.reserve.onGiven(() => {
      this.#wasGiven = true
      this.notice()
    })
    this.#guard(async () => {
      // The log may have been opened without leave to grow, or found no space; without a reserve only it can tell.
      if ((await this.#takeReserve()) && !this.#ports.log.diskFull) this.#ports.hasSpace()
      else this.notice()
    })
    this.#watchLater()
  }

  /** Somebody found the disk full. */
  notice(): void {
    if (this.#isFull || this.#stopped) return
    this.#isFull = true
    this.#guard(async () => {
      await this.#end()
      this.#retryLater()
    })
    this.#ports.changed(true)
  }

  /** Resolves when nothing of it runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#removeListener()
    await this.#running
  }

  /** Somebody else may fill the disk: noticed before a write of the state store has to fail, when it is slow enough. */
  #watchLater(): void {
    const { clock, reserve, retryMs, freeBytes } = this.#ports
    const look = async (): Promise<void> => {
      if (this.#stopped) return
      if (!this.#isFull && (await freeBytes()) < reserve.bytes / 4) this.notice()
      this.#watchLater()
    }
    clock.after(retryMs, () => this.#guard(look), { background: true })
  }

  /** The log does not grow before the reserve is given back: what it took then would be missing from the reserve. */
  async #end(): Promise<void> {
    const { log, reserve } = this.#ports
    log.limitGrowth(0)
    if (reserve.bytes === 0) return
    await reserve.give()
    log.limitGrowth(await this.#lentBytes())
  }

  /**
   * For what must get into the log on a full disk: the trim that makes space, the start of a term. Each replica that
   * begins on a full disk lends anew, so it is never all that is left, and the last quarter is not for the log.
   */
  async #lentBytes(): Promise<number> {
    const { reserve, freeBytes } = this.#ports
    const quarter = Math.floor(reserve.bytes / 4)
    const left = Math.floor(((await freeBytes()) - quarter) / 2)
    return Math.max(0, Math.min(quarter, left))
  }

  #retryLater(): void {
    this.#ports.clock.after(this.#ports.retryMs, () => this.#guard(() => this.#retry()), { background: true })
  }

  async #retry(): Promise<void> {
    if (this.#stopped) return
    this.#wasGiven = false
    const isBack = (await this.#takeReserve()) && (await this.#grows())
    if (this.#stopped) return
    if (!isBack) {
      this.#retryLater()
      return
    }
    this.#isFull = false
    this.#ports.hasSpace()
    this.#ports.changed(false)
  }

  #takeReserve(): Promise<boolean> {
    const { clock, reserve } = this.#ports
    return reserve.take(async () => {
      if (!this.#stopped) await sleep(clock, reserveStepMs)
      return !this.#stopped
    })
  }

  /** While writes are refused nobody else would prepare space. A flush is for the persister alone to begin (S1). */
  async #grows(): Promise<boolean> {
    const { log } = this.#ports
    if (this.#stopped) return false
    log.limitGrowth(null)
    await log.grow()
    // On a disk that counts as full nobody else sees that the reserve has gone again while the log grew.
    if (!log.diskFull && !this.#wasGiven) return true
    await this.#end()
    return false
  }

  #guard(work: () => Promise<void>): void {
    const run = work().catch((error: unknown) => {
      if (!this.#stopped) this.#ports.failed(error)
    })
    const before = this.#running
    // Fulfilled with nothing: what one promise of the chain keeps would be kept as long as the process lives.
    this.#running = run.then(() => before).then(() => undefined)
  }
}
