/**
 * Which term each log position has, kept as runs: terms never decrease along the log, so a handful of pairs
 * `[first index, term]` answer every question about terms without a disk.
 *
 * Used by `log.ts` only. Knows nothing of the ends of the log: the caller asks for positions it holds.
 */
import { invariant } from './assert.ts'
import type { LogIndex, Term, TermRun } from './types.ts'

export class TermRuns {
  #runs: TermRun[]

  constructor(runs: readonly TermRun[]) {
    for (let i = 1; i < runs.length; i++) {
      const before = runs[i - 1] as TermRun
      const run = runs[i] as TermRun
      invariant(before.first < run.first && before.term < run.term, 'R2: term runs must ascend')
    }
    this.#runs = [...runs]
  }

  /** Term of the entry at `index`, which must lie at or after the first run. */
  termAt(index: LogIndex): Term {
    const run = this.#runs[this.#runAt(index)]
    invariant(run !== undefined, `R2: no term is known for index ${index}`)
    return run.term
  }

  append(index: LogIndex, term: Term): void {
    const last = this.#runs.at(-1)
    if (last !== undefined && last.term === term) return
    invariant(last === undefined || last.term < term, 'R2: the term of an entry is lower than that of the one before')
    this.#runs.push({ first: index, term })
  }

  truncateFrom(index: LogIndex): void {
    while (this.#runs.length > 0 && (this.#runs.at(-1) as TermRun).first >= index) this.#runs.pop()
  }

  /** Forgets everything before `first`; `last` is the last index of the log. */
  compact(first: LogIndex, last: LogIndex): void {
    if (first > last) {
      this.#runs = []
      return
    }
    const position = this.#runAt(first)
    this.#runs.splice(0, position)
    this.#runs[0] = { first, term: (this.#runs[0] as TermRun).term }
  }

  /** The last position at or before `index` whose term is at most `term`; null when the runs hold none. */
  lastAtMost(index: LogIndex, term: Term): { readonly index: LogIndex; readonly term: Term } | null {
    let end = index
    for (let position = this.#runAt(index); position >= 0; position--) {
      const run = this.#runs[position] as TermRun
      if (run.term <= term) return { index: end, term: run.term }
      end = run.first - 1
    }
    return null
  }

  /** Position of the run that holds `index`, -1 when it lies before all runs. The newest run is asked first. */
  #runAt(index: LogIndex): number {
    let high = this.#runs.length - 1
    if (high >= 0 && (this.#runs[high] as TermRun).first <= index) return high
    let low = -1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#runs[middle] as TermRun).first <= index) low = middle
      else high = middle - 1
    }
    return low
  }
}
