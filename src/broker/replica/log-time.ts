/**
 * Log time: which wall clock a leader stamps entries with. Called by the replica loop.
 *
 * One voter's clock must not decide what expires on all of them, so the stamp follows the median of the voters'
 * clocks and never goes back. Pure functions: the loop passes every time in; nothing here reads a clock.
 */

/** Own clock further from the median than this is not used, and an event says so. */
export const clockOffMaxMs = 5000

/** What a peer's wall clock showed, and when we learnt it by the own monotonic clock. */
export interface ClockSample {
  readonly wallMs: number
  readonly atMs: number
}

export interface ClockView {
  /** Own wall clock now. */
  readonly ownWallMs: number
  /** Own monotonic time now; advances the samples of peers that were last heard a while ago. */
  readonly nowMs: number
  /** Last sample of every other voter that was ever heard. */
  readonly samples: readonly ClockSample[]
}

export interface ClockJudgement {
  /** The time to stamp with, before it is kept from going back. */
  readonly wallMs: number
  /** Own clock minus the median of all, whole milliseconds. */
  readonly ownOffMs: number
  /** The own clock is so far off that it must not be used. */
  readonly ownIsOff: boolean
}

/**
 * Median over the own clock and the peers' clocks. With an even count both middle values are as good; the one nearer
 * to the own clock is taken, so that a clock counts as wrong only when a majority disagrees with it.
 */
export function judgeClocks(view: ClockView): ClockJudgement {
  const peers = view.samples.map((sample) => sample.wallMs + (view.nowMs - sample.atMs))
  const all = [...peers, view.ownWallMs].sort((a, b) => a - b)
  const median = middle(all, view.ownWallMs)
  const ownOffMs = Math.round(view.ownWallMs - median)
  const ownIsOff = Math.abs(ownOffMs) > clockOffMaxMs
  // Within tolerance the own clock would do as well; the median is taken so that leaders differ as little as can be.
  return {
    wallMs: ownIsOff
      ? middle(
          peers.sort((a, b) => a - b),
          median,
        )
      : median,
    ownOffMs,
    ownIsOff,
  }
}

/** The stamp of the next entry: whole milliseconds, never before the entry in front of it. */
export function nextStamp(previousStamp: number, judgement: ClockJudgement): number {
  return Math.max(previousStamp, Math.floor(judgement.wallMs))
}

function middle(sorted: readonly number[], near: number): number {
  const high = sorted[Math.floor(sorted.length / 2)] ?? near
  if (sorted.length % 2 === 1) return high
  const low = sorted[sorted.length / 2 - 1] ?? near
  return Math.min(Math.max(near, low), high)
}
