/**
 * Says whether the event loop of this process is in distress, from how late a timer fires. Pure; fed by
 * `health-watch.ts`.
 *
 * A single stall, however long (a pause of the process, one large collection), is over when it is noticed. Repeated
 * ones mean that heartbeats, votes and answers will be late again: others should lead meanwhile.
 */
import { Bouts } from './bouts.ts'

/** Holds a handful of stalls of a loop that is overloaded. */
const windowMs = 10_000
/** One may be a pause, two may be a pause and what piled up behind it. */
const stallsMin = 3
/** So much of the window stalled: less is noise of a busy machine that everybody on it would show. */
const stalledShareMin = 0.1
/** Without distress for this long it is over: well above the window, as for disks. */
const calmMs = 30_000
/** Stalls that a calm period may hold. */
const calmStallsMax = 1

export class LoopPace {
  readonly #stallMs: number
  readonly #stalls = new Bouts(calmMs)
  #distress: string | null = null
  #foundMs = 0

  /** A timer that is later than this was stalled, milliseconds. */
  constructor(stallMs: number) {
    this.#stallMs = stallMs
  }

  /** A timer that was due at `dueMs` fires. */
  fired(dueMs: number, nowMs: number): void {
    if (nowMs - dueMs > this.#stallMs) this.#stalls.add(dueMs, nowMs)
  }

  /** In words while it is in distress, null while it is not. */
  judge(nowMs: number): string | null {
    const fromMs = nowMs - windowMs
    const count = this.#stalls.countSince(fromMs)
    const stalledMs = this.#stalls.msSince(fromMs)
    if (count >= stallsMin && stalledMs >= windowMs * stalledShareMin) {
      this.#distress ??= `stalled ${count} times for ${Math.round(stalledMs)} ms in the last ${windowMs / 1000} s`
      this.#foundMs = nowMs
    } else if (nowMs - this.#foundMs >= calmMs && this.#stalls.countSince(nowMs - calmMs) <= calmStallsMax) {
      this.#distress = null
    }
    return this.#distress
  }
}
