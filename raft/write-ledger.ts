/**
 * Which writes were handed out in which Ready, and what of them is durable.
 *
 * Used by `core.ts` for `persisted(number)`. The danger it guards against (ABA): entry (5, term 2) is handed out,
 * cut, and handed out again; the fsync of the first copy must not count for the second, because the cut between
 * them may reach the disk without it. So a durable index never passes a cut that is still on its way.
 */
import { invariant } from './assert.ts'
import type { LogIndex, NodeId, Term } from './types.ts'

/** The durable duties of one Ready. `lastIndex` is null when it appends nothing. */
export interface Write {
  readonly ready: number
  readonly term: Term
  readonly vote: NodeId | null
  readonly truncateFrom: LogIndex | null
  readonly lastIndex: LogIndex | null
}

export class WriteLedger {
  #pending: Write[] = []
  #lastIndex: LogIndex
  #term: Term
  #vote: NodeId | null

  constructor(start: { readonly lastIndex: LogIndex; readonly term: Term; readonly vote: NodeId | null }) {
    this.#lastIndex = start.lastIndex
    this.#term = start.term
    this.#vote = start.vote
  }

  /** Term and vote as they stand on the disk. */
  get term(): Term {
    return this.#term
  }

  get vote(): NodeId | null {
    return this.#vote
  }

  record(write: Write): void {
    this.#pending.push(write)
  }

  /** Everything up to the Ready `number` is fsynced. */
  persisted(number: number): void {
    let count = 0
    for (const write of this.#pending) {
      if (write.ready > number) break
      if (write.truncateFrom !== null) this.#lastIndex = Math.min(this.#lastIndex, write.truncateFrom - 1)
      if (write.lastIndex !== null) this.#lastIndex = write.lastIndex
      invariant(write.term >= this.#term, 'R1: the durable term went back')
      this.#term = write.term
      this.#vote = write.vote
      count++
    }
    this.#pending.splice(0, count)
  }

  /** Last index that is on the disk and will stay there through every cut handed out so far. */
  stableIndex(): LogIndex {
    let stable = this.#lastIndex
    for (const write of this.#pending) {
      if (write.truncateFrom !== null) stable = Math.min(stable, write.truncateFrom - 1)
    }
    return stable
  }
}
