/**
 * The terms of all entries as runs of equal term: `[first index, term]`, ascending. A log of millions of entries has
 * a few dozen of them. Used by recovery and the CommitLog; raft keeps its own.
 *
 * Indexes that are never added lie in a hole and count to the run before them, until `fill` says better.
 */
import { invariant } from './assert.ts'

export interface TermRun {
  readonly first: number
  readonly term: number
}

export class TermRuns {
  #runs: TermRun[] = []
  /** Term of all that lies before the first run. */
  #previousTerm: number
  #first: number

  /** For a log that begins with the entry `first`. */
  constructor(first: number, previousTerm: number) {
    this.#first = first
    this.#previousTerm = previousTerm
  }

  /** Indexes come in order. */
  add(index: number, term: number): void {
    const last = this.#runs.at(-1)
    invariant(term >= (last?.term ?? this.#previousTerm), 'R2: terms never go back along the log')
    // A hole at the very beginning has a run, too: whoever is given the runs knows of nothing before the first one.
    if (last === undefined && index > this.#first) this.#runs.push({ first: this.#first, term: this.#previousTerm })
    if (term > (this.#runs.at(-1)?.term ?? -1)) this.#runs.push({ first: index, term })
  }

  /** Whether a lost entry may be of this term, by those around it. */
  allows(index: number, term: number): boolean {
    const next = this.#runs.find((run) => run.first > index)
    return term >= this.termAt(index) && (next === undefined || term <= next.term)
  }

  /** The true term of a lost entry; those of its hole before it are known. */
  fill(index: number, term: number): void {
    invariant(this.allows(index, term), 'R2: terms never go back along the log')
    const at = this.#runs.findLastIndex((run) => run.first <= index)
    const next = this.#runs[at + 1]
    const before = this.#runs[at]?.term ?? this.#previousTerm
    if (at >= 0 && term === before) return
    // Terms only grow, so that all between this entry and a run of the same term are of it, too.
    const joined = next?.term === term ? 1 : 0
    // The first entry of the log may itself be what was guessed.
    const guessed = this.#runs[at]?.first === index ? 1 : 0
    this.#runs.splice(at + 1 - guessed, guessed + joined, { first: index, term })
  }

  /** Forgets the entries from `index` on. */
  truncate(index: number): void {
    while (this.#runs.length > 0 && this.#runs.at(-1)!.first >= index) this.#runs.pop()
  }

  /** Forgets the entries before `firstIndex`, but for the term of the last of them. */
  trim(firstIndex: number): void {
    this.#previousTerm = this.termAt(firstIndex - 1)
    this.#first = firstIndex
    const at = this.#runs.findLastIndex((run) => run.first <= firstIndex)
    if (at < 0) return
    const [first, ...later] = this.#runs.slice(at)
    this.#runs = [{ first: firstIndex, term: first!.term }, ...later]
  }

  /** Term of an entry of the log, or of the one before the first. */
  termAt(index: number): number {
    let low = 0
    let high = this.#runs.length - 1
    let term = this.#previousTerm
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
