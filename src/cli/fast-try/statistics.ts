/** Small statistics of measured times, in whole milliseconds. Called by the scripts and the verdict. */
export interface Spread {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Nearest-rank percentiles; zeros when nothing was measured. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number): number => Math.round(sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0)
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}
