/**
 * Who leads and what this node is, as the core's events tell it; the cheap answer to what every request asks.
 *
 * Owned by the replica. `leading` is stricter than the core's role: only once the no-op of the own term is applied
 * does this node know everything that earlier leaders committed (thesis 6.4).
 */
import type { NodeId, RaftEvent, Role } from '../../../raft/index.ts'

export class RoleView {
  #role: Role = 'follower'
  #reason = 'started'
  #leader: NodeId | null = null
  #leaderTerm = 0
  /** Index of the no-op of the term that this node leads, null before it is committed. */
  #startedIndex: number | null = null
  readonly #listeners = new Set<() => void>()

  get role(): Role {
    return this.#role
  }

  /** Why the role is what it is. */
  get reason(): string {
    return this.#reason
  }

  get leader(): { readonly node: NodeId; readonly term: number } | null {
    return this.#leader === null ? null : { node: this.#leader, term: this.#leaderTerm }
  }

  leading(appliedIndex: number): boolean {
    return this.#role === 'leader' && this.#startedIndex !== null && appliedIndex >= this.#startedIndex
  }

  /** Calls back after every change of what others see; returns how to end that. */
  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Role, leader, or what a reader of these sees with them (addresses, topics) has changed. */
  notify(): void {
    for (const listener of this.#listeners) listener()
  }

  /** True when the event changed what others see. */
  take(event: RaftEvent): boolean {
    switch (event.kind) {
      case 'role_changed':
        this.#role = event.to
        this.#reason = event.reason
        if (event.to !== 'leader') this.#startedIndex = null
        this.#setLeader(event.leader, event.term)
        return true
      case 'leader_changed':
        this.#setLeader(event.leader, event.term)
        return true
      case 'term_started':
        this.#startedIndex = event.index
        return true
      default:
        return false
    }
  }

  #setLeader(leader: NodeId | null, term: number): void {
    this.#leader = leader
    this.#leaderTerm = term
  }
}
