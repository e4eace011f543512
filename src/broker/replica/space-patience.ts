/**
 * How long what is staged may wait for space before the replica begins again without it. Owned by `lifecycle.ts`: it
 * outlives the replicas of a node, so that one that keeps getting more than its disk takes does not begin again and
 * again, for ever.
 */

/** Flushes in a row that made nothing durable; with the default pause between two of them this is five seconds. */
const refusalsMin = 10
/** Twice the patience after each time, up to some twenty minutes. */
const doublingsMax = 8

export class SpacePatience {
  #doublings = 0

  /** So many flushes in a row may be refused with DISK_FULL, and make nothing durable. */
  get refusalsMax(): number {
    return refusalsMin * 2 ** this.#doublings
  }

  /**
   * The same while the own vote request waits behind what is staged: nobody leads who would send it again, and perhaps
   * nobody else can.
   */
  readonly refusalsMin: number = refusalsMin

  /** The replica begins again. */
  ended(): void {
    this.#doublings = Math.min(doublingsMax, this.#doublings + 1)
  }

  /** There is space. */
  renew(): void {
    this.#doublings = 0
  }
}
