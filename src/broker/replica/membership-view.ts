/**
 * The membership of the group as the log of this replica tells it, and what this node is by it. Owned by the replica,
 * which tells it of every configuration entry in log order. Says in the event ring what was committed, once each.
 */
import { decodeMembership } from '../membership/codec.ts'
import { publishMembership } from '../membership/events.ts'
import { MembershipHistory } from '../membership/history.ts'
import { firstMembership, isMember, type PlacedMembership } from '../membership/membership.ts'
import { type Standing, StandingView } from '../membership/standing.ts'
import type { ReplicaParts } from './replica-parts.ts'

export class MembershipView {
  /** The memberships in the log. */
  readonly history: MembershipHistory
  readonly #parts: Pick<ReplicaParts, 'events'>
  readonly #standing: StandingView
  /** The committed membership that the events told of. */
  #announced: PlacedMembership

  constructor(parts: ReplicaParts) {
    const { recovered, configuration } = parts
    const { identity } = parts.folder
    this.#parts = parts
    this.history = new MembershipHistory(recovered.memberships, recovered.boot.hardState.commit)
    this.#announced = this.history.committed
    this.#standing = new StandingView(this.history, identity, isMember(firstMembership(configuration), identity))
  }

  /** What this node is to its group. */
  get standing(): Standing {
    return this.#standing.now
  }

  /** Why it is no voter, for people; null for one. */
  get reason(): string | null {
    return this.#standing.reason
  }

  /** A configuration entry is staged: it counts from now on (Raft section 6). */
  staged(index: number, body: Buffer): void {
    this.history.appended(index, decodeMembership(body))
  }

  /** See `StandingView.disowned`. */
  disowned(by: string | null): boolean {
    return this.#standing.disowned(by)
  }

  /** The history changed. */
  update(term: number): void {
    this.#standing.update()
    const { committed } = this.history
    if (committed.index <= this.#announced.index) return
    publishMembership(this.#announced.membership, committed, term, this.#parts.events)
    this.#announced = committed
  }
}
