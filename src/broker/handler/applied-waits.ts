/**
 * Pulls that wait until this replica has applied a log index: the reader has seen that entry acknowledged and must not
 * be shown less (read-your-writes). Parked by the pull handler, woken by apply and by the clock.
 *
 * A replica that stays behind lets them go after their wait: it never answers with a state older than asked for.
 */
import type { Cancel, Clock } from '../../common/clock.ts'

interface Waiting {
  readonly index: number
  readonly wake: () => void
  readonly cancelTimer: Cancel
}

export class AppliedWaits {
  readonly #clock: Clock
  readonly #parkedMax: number
  readonly #waiting = new Set<Waiting>()
  /** Lowest index waited for, at most; so that apply pays nothing while nobody is close. */
  #lowest = Number.POSITIVE_INFINITY

  constructor(options: { readonly clock: Clock; readonly parkedMax: number }) {
    this.#clock = options.clock
    this.#parkedMax = options.parkedMax
  }

  /** Calls `wake` once: when `index` is applied, or after `waitMs`. Null when as many wait as may. */
  park(index: number, waitMs: number, wake: () => void): Cancel | null {
    if (this.#waiting.size >= this.#parkedMax) return null
    const fire = (): void => {
      if (this.#remove(waiting)) wake()
    }
    const cancelTimer = this.#clock.after(waitMs, fire, { background: true })
    const waiting: Waiting = { index, wake, cancelTimer }
    this.#waiting.add(waiting)
    this.#lowest = Math.min(this.#lowest, index)
    return () => {
      this.#remove(waiting)
    }
  }

  /** Everything up to `index` is applied. */
  applied(index: number): void {
    if (index < this.#lowest) return
    this.#lowest = Number.POSITIVE_INFINITY
    for (const waiting of [...this.#waiting]) {
      if (waiting.index > index) this.#lowest = Math.min(this.#lowest, waiting.index)
      // Not now: apply is in the middle of its slice, and reading would stretch it.
      else if (this.#remove(waiting)) this.#clock.defer(waiting.wake)
    }
  }

  #remove(waiting: Waiting): boolean {
    if (!this.#waiting.delete(waiting)) return false
    waiting.cancelTimer()
    return true
  }
}
