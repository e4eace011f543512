/**
 * Watches what a leader stands on, its disk and its event loop, and tells when one comes into distress and when that
 * is over. Owned by the replica, on every replica: who is in distress should not stand for election either.
 *
 * It measures; the detectors judge; what follows from it is `leader-fitness.ts`.
 */
import type { Cancel, Clock } from '../../../common/clock.ts'
import { DiskPace } from './disk-pace.ts'
import { LoopPace } from './loop-pace.ts'

/** Between two looks, milliseconds: a stall of twice this is always seen, and it costs next to nothing. */
const lookMs = 250

export type Distress = 'slow_disk' | 'busy'

export interface HealthWatchPorts {
  readonly clock: Clock
  /** A flush that takes longer is slow, milliseconds. */
  readonly slowFlushMs: number
  /** A timer that is later than this was stalled, milliseconds. */
  readonly stallMs: number
  slowFlush(tookMs: number): void
  /** Distress began, for this reason, or is over: null. Told once each. */
  changed(what: Distress, why: string | null): void
}

export class HealthWatch {
  readonly #ports: HealthWatchPorts
  readonly #disk: DiskPace
  readonly #loop: LoopPace
  readonly #told = new Set<Distress>()
  #cancel: Cancel = () => {}
  #stopped = false
  /** Of the next look. */
  #dueMs = Number.POSITIVE_INFINITY

  constructor(ports: HealthWatchPorts) {
    this.#ports = ports
    this.#disk = new DiskPace(ports.slowFlushMs)
    this.#loop = new LoopPace(ports.stallMs)
  }

  start(): void {
    const dueMs = this.#ports.clock.monotonicMs() + lookMs
    this.#dueMs = dueMs
    this.#cancel = this.#ports.clock.after(
      lookMs,
      () => {
        this.#loop.fired(dueMs, this.#ports.clock.monotonicMs())
        this.#wake()
        this.#judge()
        if (!this.#stopped) this.start()
      },
      { background: true },
    )
  }

  stop(): void {
    this.#stopped = true
    this.#cancel()
  }

  flushBegan(): void {
    this.#disk.began(this.#ports.clock.monotonicMs())
  }

  /** Also when it failed: a full disk is not slow. */
  flushEnded(): void {
    this.#wake()
    const tookMs = this.#disk.ended(this.#ports.clock.monotonicMs())
    if (tookMs !== null) this.#ports.slowFlush(tookMs)
  }

  /**
   * A look that is long overdue says that the process slept. Without this a pause with a flush under way looked like a
   * disk that hangs: a node that had been paused for some seconds did not stand for election for half a minute, and
   * when two of three had been, nobody stood for seconds.
   */
  #wake(): void {
    const nowMs = this.#ports.clock.monotonicMs()
    if (nowMs - this.#dueMs <= this.#ports.stallMs) return
    // It was awake at the look before.
    this.#disk.slept(this.#dueMs - lookMs, nowMs)
    // So much is told; the look itself, which counts the stall, comes soon.
    this.#dueMs = nowMs + lookMs
  }

  #judge(): void {
    const nowMs = this.#ports.clock.monotonicMs()
    this.#tell('slow_disk', this.#disk.judge(nowMs))
    this.#tell('busy', this.#loop.judge(nowMs))
  }

  #tell(what: Distress, why: string | null): void {
    if (this.#told.has(what) === (why !== null)) return
    if (why === null) this.#told.delete(what)
    else this.#told.add(what)
    this.#ports.changed(what, why)
  }
}
