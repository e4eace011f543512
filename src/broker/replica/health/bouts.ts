/** Stretches of trouble on the monotonic clock, those of the last while. Used by the detectors of this folder; pure. */

interface Stretch {
  readonly fromMs: number
  readonly toMs: number
}

export class Bouts {
  readonly #keepMs: number
  #stretches: Stretch[] = []

  /** Those that ended longer than `keepMs` ago are forgotten. Callers only add ones of some length: that is the bound. */
  constructor(keepMs: number) {
    this.#keepMs = keepMs
  }

  /** Stretches do not overlap and come in order. */
  add(fromMs: number, toMs: number): void {
    this.#stretches = this.#stretches.filter((each) => each.toMs > toMs - this.#keepMs)
    this.#stretches.push({ fromMs, toMs })
  }

  /** How many ended after this. */
  countSince(fromMs: number): number {
    return this.#stretches.filter((each) => each.toMs > fromMs).length
  }

  /** Time spent in them after this, milliseconds. */
  msSince(fromMs: number): number {
    return this.#stretches.reduce((sum, each) => sum + Math.max(0, each.toMs - Math.max(fromMs, each.fromMs)), 0)
  }
}
