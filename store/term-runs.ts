/**
 * The terms of all entries as runs of equal term: `[first index, term]`, ascending. A log of millions of entries has
 * a few dozen of them. Used by recovery and the CommitLog; raft keeps its own.
 */
import { invariant } from './assert.ts'

export interface TermRun {
  readonly first: number
  readonly term: number
}

export class TermRuns {
  readonly #runs: TermRun[] = []

  /** Indexes come in order. */
  add(index: number, term: number): void {
    const last = this.#runs.at(-1)
    invariant(last === undefined || term >= last.term, 'R2: terms never go back along the log')
    if (last === undefined || term > last.term) this.#runs.push({ first: index, term })
  }

  /** Forgets the entries from `index` on. */
  truncate(index: number): void {
    while (this.#runs.length > 0 && this.#runs.at(-1)!.first >= index) this.#runs.pop()
  }

  /** Term of an entry of the log; 0 before the first. */
  termAt(index: number): number {
    let low = 0
    let high = this.#runs.length - 1
    let term = 0
    while (low <= high) {
      const middle = (low + high) >>> 1
      const run = this.#runs[middle]!
      if (run.first > index) high = middle - 1
      else {
        term = run.term
        low = middle + 1
      }
    }
    return term
  }

  all(): readonly TermRun[] {
    return [...this.#runs]
  }
}
