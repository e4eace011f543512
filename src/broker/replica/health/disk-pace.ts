/**
 * Says whether the disk under the log is in distress, from the flushes of the log. Pure; fed by `health-watch.ts`.
 *
 * One slow flush is everyday life. Distress is when writing has been slow for some time, or hangs; it ends only after
 * a calm period, so that a disk on the edge does not move leadership to and fro.
 */
import { Bouts } from './bouts.ts'

/** Long enough to hold several flushes of a bad disk, short enough to act before producers give up (3 s a try). */
const windowMs = 10_000
/** So many slow flushes with no quick one between them, in one window: the disk is slow, not only its cache flushed. */
const slowInRowMin = 5
/** A row that is over sooner is a hiccup (a burst of writeback, the garbage collection of an SSD). */
const rowMsMin = 2000
/** So much of the window in slow flushes, one that still runs included: half of all writes wait, or the disk hangs. */
const slowShareMin = 0.5
/** Without distress for this long it is over: well above the window, so that it is judged by fresh flushes alone. */
const calmMs = 30_000
/** Slow flushes that a calm period may hold. */
const calmSlowMax = 1

export class DiskPace {
  readonly #slowMs: number
  readonly #slow = new Bouts(calmMs)
  #runningFromMs: number | null = null
  #inRow = 0
  #rowFromMs = 0
  #distress: string | null = null
  #foundMs = 0

  /** A flush that takes longer is slow, milliseconds. */
  constructor(slowMs: number) {
    this.#slowMs = slowMs
  }

  began(nowMs: number): void {
    this.#runningFromMs = nowMs
  }

  /** The process did not run in between: nobody can say what the disk did meanwhile, so that it is not blamed. */
  slept(fromMs: number, toMs: number): void {
    if (this.#runningFromMs !== null) this.#runningFromMs += toMs - Math.max(fromMs, this.#runningFromMs)
  }

  /** How long it took if it was slow, else null. */
  ended(nowMs: number): number | null {
    const fromMs = this.#runningFromMs ?? nowMs
    this.#runningFromMs = null
    const tookMs = nowMs - fromMs
    if (tookMs <= this.#slowMs) {
      this.#inRow = 0
      return null
    }
    if (this.#inRow === 0) this.#rowFromMs = fromMs
    this.#inRow++
    this.#slow.add(fromMs, nowMs)
    return tookMs
  }

  /** In words while it is in distress, null while it is not. */
  judge(nowMs: number): string | null {
    const why = this.#found(nowMs)
    if (why !== null) {
      this.#distress ??= why
      this.#foundMs = nowMs
    } else if (this.#distress !== null && this.#isCalm(nowMs)) this.#distress = null
    return this.#distress
  }

  #found(nowMs: number): string | null {
    const fromMs = nowMs - windowMs
    const inRow = Math.min(this.#inRow, this.#slow.countSince(fromMs))
    if (inRow >= slowInRowMin && nowMs - this.#rowFromMs >= rowMsMin) {
      return `${inRow} flushes in a row took more than ${this.#slowMs} ms`
    }
    const slowMs = this.#slow.msSince(fromMs) + this.#hangingMs(nowMs)
    if (slowMs < windowMs * slowShareMin) return null
    return `${Math.round((slowMs / windowMs) * 100)} % of the last ${windowMs / 1000} s were spent in slow flushes`
  }

  #hangingMs(nowMs: number): number {
    const tookMs = nowMs - (this.#runningFromMs ?? nowMs)
    return tookMs > this.#slowMs ? Math.min(tookMs, windowMs) : 0
  }

  #isCalm(nowMs: number): boolean {
    return nowMs - this.#foundMs >= calmMs && this.#slow.countSince(nowMs - calmMs) <= calmSlowMax
  }
}
