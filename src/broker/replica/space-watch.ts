/**
 * While the disk is full, tries again and again until there is space. Owned by the replica.
 *
 * Only a flush prepares new space, and while writes are refused nothing else would flush: without this a broker that
 * was full once would stay so for ever.
 */
import { type CommitLogApi, StoreError } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'

export interface SpaceWatchPorts {
  readonly clock: Clock
  readonly log: CommitLogApi
  readonly retryMs: number
  /** The disk became full, or has space again. */
  changed(full: boolean): void
  failed(error: unknown): void
}

export class SpaceWatch {
  readonly #ports: SpaceWatchPorts
  #watching = false
  #stopped = false

  constructor(ports: SpaceWatchPorts) {
    this.#ports = ports
  }

  /** Somebody found the disk full. */
  notice(): void {
    if (this.#watching || this.#stopped) return
    this.#watching = true
    this.#ports.changed(true)
    this.#retryLater()
  }

  stop(): void {
    this.#stopped = true
  }

  #retryLater(): void {
    this.#ports.clock.after(this.#ports.retryMs, () => void this.#retry(), { background: true })
  }

  async #retry(): Promise<void> {
    if (this.#stopped) return
    try {
      await this.#ports.log.flush()
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'DISK_FULL') {
        if (!this.#stopped) this.#ports.failed(error)
        return
      }
    }
    if (this.#stopped) return
    if (this.#ports.log.diskFull) {
      this.#retryLater()
      return
    }
    this.#watching = false
    this.#ports.changed(false)
  }
}
