/**
 * What a node still has to get back before its word counts in elections: entries that it acknowledged and lost.
 *
 * Part of `replica.ts` while the node is quarantined; asked by `voter.ts`, `candidate.ts` and `follower.ts`.
 *
 * Why it may acknowledge but not vote. A leader commits on the word of a majority, and the next leader is safe to elect
 * because some voter of every majority holds what was committed (Raft 5.4.3). A node that lost entries it acknowledged
 * is that voter in name only: it would grant its vote to a candidate that lacks them. Without its vote every majority
 * for a new leader consists of nodes that kept their word. Its acknowledgements are sound: they leave after the fsync.
 *
 * When it may vote again. It must hold every entry that was or may still be committed by counting its old word. Let T
 * be the term that it last stored. Such an entry was acknowledged in T or before. A leader of a term above T was elected
 * without this node, so by someone who holds the entry; the leader of T itself sent the entry before it was acknowledged
 * and never cuts its log. Either way the entry lies at or below the end of that leader's log, provided that the end was
 * taken **after** this node lost its entries: the leader of T may have told an earlier end before it sent the entry.
 * Hence the three conditions: a heartbeat of the own term, which is never below T; sent after the start, shown by the
 * session that the leader can only have learned since; and the own durable log reaches the end that it names. What lies
 * in the own log up to there is either the part that was never lost or came from such leaders, so it is the right one.
 *
 * None of this holds if term and vote were lost, too: then T is not known, and the node must not come back as itself.
 */
import type { QuarantineStatus } from './ready.ts'
import type { LogIndex } from './types.ts'

export class Quarantine {
  #hasHoles = true
  #awaitsLeader: boolean
  #target: LogIndex | null = null

  constructor(untilLeaderReached: boolean) {
    this.#awaitsLeader = untilLeaderReached
  }

  /** May this node lack entries at the end of its log that it acknowledged? */
  get awaitsLeader(): boolean {
    return this.#awaitsLeader
  }

  get isOver(): boolean {
    return !this.#hasHoles && !this.#awaitsLeader
  }

  status(): QuarantineStatus {
    return { hasHoles: this.#hasHoles, awaitsLeader: this.#awaitsLeader, target: this.#target }
  }

  holesFound(): void {
    this.#hasHoles = true
  }

  healed(): void {
    this.#hasHoles = false
  }

  /** A leader whose word qualifies (above) has a log up to `lastIndex`. Any such end will do, so the lowest does. */
  leaderEndsAt(lastIndex: LogIndex): void {
    this.#target = Math.min(this.#target ?? lastIndex, lastIndex)
  }

  /** The own disk holds the log up to `index`. */
  stableTo(index: LogIndex): void {
    if (this.#target !== null && index >= this.#target) this.#awaitsLeader = false
  }
}
