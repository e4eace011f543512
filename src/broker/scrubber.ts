/**
 * Reads the durable log from the disk again and again, so that rot is found while a peer still has what is lost.
 * Started by `upkeep.ts` with each replica; what it finds the log itself reports (`onRot`).
 *
 * It never hurries: one small piece, then a pause, and none at all while the log grows fast, but never so long that
 * the end of a pass would be out of sight.
 */
import type { CommitLogApi, Position } from '../../store/index.ts'
import type { Cancel, Clock } from '../common/clock.ts'

/** Shortest pause between two pieces, milliseconds. */
const pauseMinMs = 10
const pauseMaxMs = 60_000
/** A log that grows faster than this keeps the disk busy. */
const busyBytesPerSecond = 8 * 1024 * 1024
/** Longest run of pauses because of load, milliseconds. */
const postponeMsMax = 600_000
const postponeMs = 1000

export interface ScrubberPorts {
  readonly clock: Clock
  readonly log: CommitLogApi
  /** Time for one pass over the whole log, unless that would be faster than `bytesPerSecondMax`. */
  readonly passMs: number
  /** Read at a time. */
  readonly pieceBytes: number
  readonly bytesPerSecondMax: number
  failed(error: unknown): void
}

export interface ScrubStatus {
  /** How far the pass is. */
  readonly position: Position
  /** Passes that are complete. */
  readonly passes: number
}

export class Scrubber {
  readonly #ports: ScrubberPorts
  #next: Position = 0
  #passes = 0
  #cancel: Cancel = () => {}
  #reading: Promise<void> | null = null
  #stopped = false
  #lastEnd: Position
  #lastMs: number
  #postponedMs = 0

  constructor(ports: ScrubberPorts) {
    this.#ports = ports
    this.#lastEnd = ports.log.endPosition
    this.#lastMs = ports.clock.monotonicMs()
  }

  get status(): ScrubStatus {
    return { position: this.#next, passes: this.#passes }
  }

  start(): void {
    this.#plan(this.#pauseMs())
  }

  async close(): Promise<void> {
    this.#stopped = true
    this.#cancel()
    await this.#reading
  }

  #plan(ms: number): void {
    if (this.#stopped) return
    this.#cancel = this.#ports.clock.after(ms, () => this.#wake(), { background: true })
  }

  #wake(): void {
    if (this.#isBusy() && this.#postponedMs < postponeMsMax) {
      this.#postponedMs += postponeMs
      this.#plan(postponeMs)
      return
    }
    this.#postponedMs = 0
    this.#reading = this.#read().finally(() => {
      this.#reading = null
      this.#plan(this.#pauseMs())
    })
  }

  async #read(): Promise<void> {
    const { log, pieceBytes, failed } = this.#ports
    try {
      const { next, isEnd } = await log.scrub(this.#next, pieceBytes)
      if (isEnd) this.#passes++
      this.#next = next
    } catch (error) {
      if (this.#stopped) return
      this.#stopped = true
      failed(error)
    }
  }

  /** Spreads the pieces evenly over the time of a pass. */
  #pauseMs(): number {
    const { log, passMs, pieceBytes, bytesPerSecondMax } = this.#ports
    const bytes = Math.max(pieceBytes, log.endPosition - log.origin.position)
    const evenMs = (passMs * pieceBytes) / bytes
    const fastestMs = (pieceBytes / bytesPerSecondMax) * 1000
    return Math.min(Math.max(evenMs, fastestMs, pauseMinMs), Math.max(pauseMaxMs, fastestMs))
  }

  #isBusy(): boolean {
    const { clock, log } = this.#ports
    const nowMs = clock.monotonicMs()
    const tookMs = Math.max(1, nowMs - this.#lastMs)
    const grown = log.endPosition - this.#lastEnd
    this.#lastEnd = log.endPosition
    this.#lastMs = nowMs
    return (grown / tookMs) * 1000 > busyBytesPerSecond
  }
}
