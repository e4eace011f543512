/**
 * What this node is to its group: a voter, a learner, one that has to be brought in, one that was taken out. Owned by
 * the replica; read by status, the registrar and whoever must not serve clients from a replica that nobody feeds.
 */
import type { MembershipHistory } from './history.ts'
import { memberRole } from './membership.ts'

export type Standing = 'voter' | 'learner' | 'stranger' | 'removed'

export class StandingView {
  readonly #history: MembershipHistory
  readonly #self: { readonly node: string; readonly disk: string }
  #wasMember: boolean
  #disownedBy: string | null = null

  constructor(history: MembershipHistory, self: { readonly node: string; readonly disk: string }, wasMember: boolean) {
    this.#history = history
    this.#self = self
    this.#wasMember = wasMember || history.names(self)
  }

  /** The membership changed. */
  update(): void {
    this.#wasMember ||= this.#history.names(this.#self)
    this.#disownedBy = null
  }

  /** A member refused us as none, by a membership as new as ours; null: one let us in. True when this is news. */
  disowned(by: string | null): boolean {
    const before = this.now
    this.#disownedBy = by
    return this.now !== before
  }

  get now(): Standing {
    const { membership } = this.#history.newest
    if (!this.#history.names(this.#self) || (this.#disownedBy !== null && this.#wasMember)) {
      return this.#wasMember ? 'removed' : 'stranger'
    }
    return memberRole(membership, this.#self.node) === 'learner' ? 'learner' : 'voter'
  }

  /** For people; null for a voter. */
  get reason(): string | null {
    switch (this.now) {
      case 'removed':
        return this.#disownedBy === null
          ? `REMOVED: configuration ${this.#history.newest.index} does not name this node any more`
          : `REMOVED: ${this.#disownedBy} has a newer configuration that does not name this node any more`
      case 'stranger':
        return 'NOT_A_MEMBER: waiting for the leader to bring this node in'
      case 'learner':
        return 'receives the log, has no vote'
      default:
        return null
    }
  }
}
