/**
 * Whether a learner is close enough to become a voter (thesis 4.2.1): the log is sent to it in rounds, each up to where
 * the log ended when the round began; a round shorter than an election timeout says that it would not hold up the group.
 *
 * Told of its progress by the membership driver; reads no clock.
 */
export interface Progress {
  /** What the learner holds. */
  readonly match: number
  /** Where the leader's log ends. */
  readonly lastIndex: number
}

export class CatchUp {
  readonly #electionTimeoutMs: number
  #target: number
  #beganMs: number
  #isCaughtUp = false

  constructor(electionTimeoutMs: number, { lastIndex }: Progress, nowMs: number) {
    this.#electionTimeoutMs = electionTimeoutMs
    this.#target = lastIndex
    this.#beganMs = nowMs
  }

  /** True while it is caught up: by its last whole round, or because nothing is missing. */
  observe({ match, lastIndex }: Progress, nowMs: number): boolean {
    const tookMs = nowMs - this.#beganMs
    if (match >= this.#target) {
      this.#isCaughtUp = tookMs < this.#electionTimeoutMs
      this.#target = lastIndex
      this.#beganMs = nowMs
    } else if (tookMs >= this.#electionTimeoutMs) {
      this.#isCaughtUp = false
    }
    return this.#isCaughtUp || match >= lastIndex
  }
}
