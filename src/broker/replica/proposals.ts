/**
 * Proposals on their way: which callers wait for which log entry, and what each of them is told in the end.
 *
 * Owned by the replica loop. Every caller gets exactly one answer: applied, definitely not stored (ROLLED_BACK), or
 * OUTCOME_UNKNOWN. "Not stored" is said only when an entry of another term is committed at the same index: a mere
 * overwrite of the own log proves nothing, because a third replica may still carry the entry to a majority (Raft
 * figure 8).
 */
import { LedgerError } from '../../common/errors.ts'
import type { Applied, ApplyResult, LeaderView } from '../contract.ts'

interface Waiting {
  readonly index: number
  readonly term: number
  readonly bytes: number
  readonly deadlineMs: number
  resolve(applied: Applied): void
  reject(error: LedgerError): void
}

/** A caller with its deadline; `bytes` counts against the limits until it is answered. */
export interface Caller {
  readonly bytes: number
  /** Monotonic time at which the caller stops waiting. */
  readonly deadlineMs: number
  resolve(applied: Applied): void
  reject(error: LedgerError): void
}

export class Proposals {
  /** By index; entries are handed out in ascending order, so insertion order is index order. */
  readonly #waiting = new Map<number, Waiting>()
  #bytes = 0

  get count(): number {
    return this.#waiting.size
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The core gave the caller's entry this place. */
  accepted(index: number, term: number, caller: Caller): void {
    const earlier = this.#waiting.get(index)
    if (earlier) this.#answer(earlier, (waiting) => waiting.reject(unknown('a newer term took its place', null)))
    this.#waiting.set(index, { ...caller, index, term })
    this.#bytes += caller.bytes
  }

  /** The entry at `index` was applied; whoever waits for this index learns which one it was. */
  applied(index: number, term: number, result: ApplyResult): void {
    const waiting = this.#waiting.get(index)
    if (!waiting) return
    this.#answer(waiting, () => {
      if (waiting.term === term) waiting.resolve({ index, term, result })
      else waiting.reject(new LedgerError('ROLLED_BACK', `entry ${index} of term ${waiting.term} lost to term ${term}`))
    })
  }

  /**
   * This node leads no more: what is not committed has an unknown fate and is told so at once, so that the client
   * can go to the new leader. Committed entries stay; applying them gives the exact answer.
   */
  deposed(commit: number, leader: LeaderView | null): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.index <= commit) continue
      this.#answer(waiting, () => waiting.reject(unknown('this replica stopped leading', leader)))
    }
  }

  /** Storage failed or the node stops: nobody will learn more from this process. */
  failAll(reason: string): void {
    for (const waiting of this.#waiting.values()) {
      this.#answer(waiting, () => waiting.reject(unknown(reason, null)))
    }
  }

  /** Answers callers whose deadline has passed. */
  expire(nowMs: number): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.deadlineMs > nowMs) continue
      this.#answer(waiting, () => waiting.reject(unknown('no quorum confirmed it before the deadline', null)))
    }
  }

  /** The caller aborted; the entry itself can no longer be called back. */
  abort(index: number, term: number): void {
    const waiting = this.#waiting.get(index)
    if (!waiting || waiting.term !== term) return
    this.#answer(waiting, () =>
      waiting.reject(new LedgerError('ABORTED', 'the caller aborted; the entry may be stored')),
    )
  }

  #answer(waiting: Waiting, say: (waiting: Waiting) => void): void {
    this.#waiting.delete(waiting.index)
    this.#bytes -= waiting.bytes
    say(waiting)
  }
}

function unknown(reason: string, leader: LeaderView | null): LedgerError {
  const facts = leader ? { leader: { node: leader.node, address: leader.address }, term: leader.term } : {}
  return new LedgerError('OUTCOME_UNKNOWN', `proposed, then ${reason}`, facts)
}
