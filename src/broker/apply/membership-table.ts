/**
 * The membership of the group as committed, kept as one row. Changed by configuration entries alone; every replica
 * starts from it, because the log may no longer hold the entry.
 *
 * Whether a change may begin was judged by the leader that proposed it, against the same membership: the core lets no
 * second one into the log before the first is committed. So apply takes what it gets.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { decodeMembership, decodePlacedMembership, encodePlacedMembership } from '../membership/codec.ts'
import type { PlacedMembership } from '../membership/membership.ts'
import { EntryError } from './command.ts'
import { membershipKey } from './keys.ts'
import type { StateTable } from './pending-changes.ts'
import { ProtobufError } from './protobuf.ts'

export class MembershipTable implements StateTable {
  #current: PlacedMembership | null = null
  #dirty = false

  /** Null: the first configuration of the group is in force. */
  get current(): PlacedMembership | null {
    return this.#current
  }

  get dirtyCount(): number {
    return this.#dirty ? 1 : 0
  }

  async load(store: StateStoreApi): Promise<void> {
    const row = await store.get(membershipKey)
    if (row) this.#current = decodePlacedMembership(row)
  }

  /** Throws EntryError for a body that only a newer build can read. */
  set(index: number, body: Buffer): PlacedMembership {
    try {
      this.#current = { index, membership: decodeMembership(body) }
    } catch (cause) {
      if (cause instanceof ProtobufError) throw new EntryError('malformed', `membership: ${cause.message}`, { cause })
      throw cause
    }
    this.#dirty = true
    return this.#current
  }

  collect(into: StateOperation[]): void {
    if (!this.#dirty || !this.#current) return
    this.#dirty = false
    into.push({ kind: 'put', key: membershipKey, value: encodePlacedMembership(this.#current) })
  }
}
