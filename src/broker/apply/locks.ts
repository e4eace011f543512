/**
 * Leases of orderly consumption: one member at a time consumes a queue (RocketMQ: RebalanceLockManager, which forgets
 * all locks with its master). They end by log time, so a change of leaders changes none, and there are never two on
 * one queue that have not ended.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { type Schema, schema, text, uint } from '../../common/protobuf-schema.ts'
import type { QueueId } from './group-commands.ts'
import { groupQueueInKey, groupQueueKey, rowKinds } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'

export interface Lease {
  readonly member: string
  /** Log time at which it ends. */
  readonly until: number
  /** Of the group, when it was taken last. */
  readonly generation: number
}

interface Lock extends QueueId {
  readonly group: string
  readonly lease: Lease
}

const leaseSchema: Schema<Lease> = schema<Lease>({ member: text(1), until: uint(2), generation: uint(3) })

export class LockTable implements StateTable {
  readonly #locks = new Map<string, Lock>()
  readonly #dirty = new Map<string, Buffer>()

  get dirtyCount(): number {
    return this.#dirty.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.lock)) {
      const { group, topicId, queue } = groupQueueInKey(key)
      this.#locks.set(nameOf(group, { topicId, queue }), { group, topicId, queue, lease: leaseSchema.decode(value) })
    }
  }

  /** The lease in force at this log time. */
  holder(group: string, queue: QueueId, logTime: number): Lease | null {
    const lease = this.#locks.get(nameOf(group, queue))?.lease
    return lease && lease.until > logTime ? lease : null
  }

  /** True: the member has it, until the new time or the later one that it had. */
  lock(group: string, queue: QueueId, wanted: Lease, logTime: number): boolean {
    const holder = this.holder(group, queue, logTime)
    if (holder && holder.member !== wanted.member) return false
    const until = Math.max(wanted.until, holder?.until ?? 0)
    invariant(until >= logTime, 'B5: a lease ends behind its beginning')
    this.#put(group, queue, { ...wanted, until })
    return true
  }

  /** Of somebody else, or taken in a later generation: nothing happens. */
  unlock(group: string, queue: QueueId, by: Pick<Lease, 'member' | 'generation'>): void {
    const lock = this.#locks.get(nameOf(group, queue))
    if (lock && lock.lease.member === by.member && lock.lease.generation <= by.generation) this.#drop(lock)
  }

  dropTopic(topicId: number): void {
    for (const lock of [...this.#locks.values()]) if (lock.topicId === topicId) this.#drop(lock)
  }

  dropGroup(group: string): void {
    for (const lock of [...this.#locks.values()]) if (lock.group === group) this.#drop(lock)
  }

  collect(into: StateOperation[]): void {
    for (const [name, key] of this.#dirty) {
      const lock = this.#locks.get(name)
      into.push(lock ? { kind: 'put', key, value: leaseSchema.encode(lock.lease) } : { kind: 'delete', key })
    }
    this.#dirty.clear()
  }

  #put(group: string, { topicId, queue }: QueueId, lease: Lease): void {
    const name = nameOf(group, { topicId, queue })
    this.#locks.set(name, { group, topicId, queue, lease })
    this.#note(name, group, { topicId, queue })
  }

  #drop({ group, topicId, queue }: Lock): void {
    const name = nameOf(group, { topicId, queue })
    this.#locks.delete(name)
    this.#note(name, group, { topicId, queue })
  }

  #note(name: string, group: string, queue: QueueId): void {
    this.#dirty.set(name, groupQueueKey(rowKinds.lock, group, queue))
  }
}

function nameOf(group: string, { topicId, queue }: QueueId): string {
  return `${group}/${topicId}/${queue}`
}
