/**
 * The membership of the group as the log of this replica tells it: what this node is by it, and the other members.
 * Owned by the replica, which tells it of every configuration entry in log order. Says in the event ring what was
 * committed, once each.
 */
import type { Input } from '../../../raft/index.ts'
import { decodeMembership } from '../membership/codec.ts'
import { publishMembership } from '../membership/events.ts'
import { MembershipHistory } from '../membership/history.ts'
import { firstMembership, isMember, type PlacedMembership } from '../membership/membership.ts'
import { type Standing, StandingView } from '../membership/standing.ts'
import { Members } from './members.ts'
import type { ReplicaParts } from './replica-parts.ts'

export interface MembershipViewPorts {
  term(): number
  step(input: Input): void
  /** Membership or standing changed. */
  changed(): void
}

export class MembershipView {
  /** The memberships in the log. */
  readonly history: MembershipHistory
  /** The other members: connections, addresses, clocks. */
  readonly members: Members
  readonly #parts: ReplicaParts
  readonly #ports: MembershipViewPorts
  readonly #standing: StandingView
  /** The committed membership that the events told of. */
  #announced: PlacedMembership

  constructor(parts: ReplicaParts, ports: MembershipViewPorts) {
    const { recovered, configuration } = parts
    const { identity } = parts.folder
    this.#parts = parts
    this.#ports = ports
    this.history = new MembershipHistory(recovered.memberships, recovered.boot.hardState.commit)
    this.#announced = this.history.committed
    this.#standing = new StandingView(this.history, identity, isMember(firstMembership(configuration), identity))
    this.members = new Members({
      ...parts,
      history: this.history,
      disk: identity.disk,
      log: recovered.log,
      term: ports.term,
      step: ports.step,
      disowned: (by) => {
        if (this.#standing.disowned(by)) ports.changed()
      },
    })
    this.history.onChanged(() => this.#onChanged())
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

  #onChanged(): void {
    this.#standing.update()
    const { committed } = this.history
    if (committed.index > this.#announced.index) {
      publishMembership(this.#announced.membership, committed, this.#ports.term(), this.#parts.events)
      this.#announced = committed
    }
    this.#ports.changed()
  }
}
