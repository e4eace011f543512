/**
 * The memberships in the log of one replica: the one in force at its commit and all behind it. Owned by the replica.
 *
 * A membership counts from the moment its entry is in the log (Raft section 6), so a cut of the log brings back the
 * one before; hence the list. Told of every configuration entry that is staged, cut and committed, in log order.
 */
import { invariant } from '../../common/assert.ts'
import { isMember, type Membership, type PlacedMembership } from './membership.ts'

export class MembershipHistory {
  /** Ascending; the first is the one in force at the commit. */
  #placed: readonly PlacedMembership[]
  readonly #listeners = new Set<() => void>()
  #revision = 0

  constructor(placed: readonly PlacedMembership[], commit: number) {
    invariant(placed.length > 0, 'R2: a replica starts from some membership')
    this.#placed = placed
    this.commitTo(commit)
  }

  /** Grows with every change. */
  get revision(): number {
    return this.#revision
  }

  /** From the committed one on, ascending. */
  get placed(): readonly PlacedMembership[] {
    return this.#placed
  }

  /** In force now: the newest one in the log, committed or not. */
  get newest(): PlacedMembership {
    return this.#placed.at(-1) as PlacedMembership
  }

  get committed(): PlacedMembership {
    return this.#placed[0] as PlacedMembership
  }

  get isCommitted(): boolean {
    return this.#placed.length === 1
  }

  appended(index: number, membership: Membership): void {
    invariant(index > this.newest.index, `R2: configuration ${index} behind ${this.newest.index}`)
    this.#placed = [...this.#placed, { index, membership }]
    this.#changed()
  }

  truncatedFrom(index: number): void {
    if (this.newest.index < index) return
    invariant(this.committed.index < index, `R6: the committed configuration ${this.committed.index} was cut`)
    this.#placed = this.#placed.filter((placed) => placed.index < index)
    this.#changed()
  }

  commitTo(commit: number): void {
    const from = this.#placed.findLastIndex((placed) => placed.index <= commit)
    if (from <= 0) return
    this.#placed = this.#placed.slice(from)
    this.#changed()
  }

  /** Named by any membership that may turn out to be the one in force. */
  names(who: { readonly node: string; readonly disk: string }): boolean {
    return this.#placed.some(({ membership }) => isMember(membership, who))
  }

  /**
   * What `who` may claim to know when it presents itself: the index of the newest one, 0 when none here names it. A node
   * that came back empty reads memberships of before its return, which still name the disk that it lost; let in for
   * them it would be asked for the votes of its former self, and several such nodes make a majority of a group that is
   * long gone. Once it holds the entry that names it, only who knows of that one, too, can win its vote (Raft 5.4.1).
   */
  shownBy(who: { readonly node: string; readonly disk: string }): number {
    return this.names(who) ? this.newest.index : 0
  }

  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #changed(): void {
    this.#revision++
    for (const listener of this.#listeners) listener()
  }
}
