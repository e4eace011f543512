/**
 * Messages that a consumer group has given back or given up, and not committed behind yet: each is taken once, however
 * often its consumer asks. What lies before the committed offset needs no memory: it is done with.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import type { QueueId } from './group-commands.ts'
import { groupMessageKey, groupQueueInKey, rowKinds } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'

/** Remembered of one queue to one group: whoever gives back this many must commit before more are taken. */
export const givenBackPerQueueMax = 16_384

interface QueueOfGroup extends QueueId {
  readonly group: string
}

interface Entry extends QueueOfGroup {
  readonly offsets: Set<number>
}

export class GivenBack implements StateTable {
  readonly #queues = new Map<string, Entry>()
  readonly #changes = new Map<string, { readonly key: Buffer; readonly present: boolean }>()

  get dirtyCount(): number {
    return this.#changes.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key] of scanRows(store, rowKinds.givenBack)) {
      const { offset, ...at } = groupQueueInKey(key)
      this.#ensure(at).offsets.add(offset)
    }
  }

  has(at: QueueOfGroup, offset: number): boolean {
    return this.#queues.get(nameOf(at))?.offsets.has(offset) ?? false
  }

  /** Of one queue of a group. */
  count(at: QueueOfGroup): number {
    return this.#queues.get(nameOf(at))?.offsets.size ?? 0
  }

  add(at: QueueOfGroup, offset: number): void {
    this.#ensure(at).offsets.add(offset)
    this.#note(at, offset, true)
  }

  /** The group has committed up to this offset. Called with every commit: most queues have nothing here. */
  committed(at: QueueOfGroup, offset: number): void {
    const entry = this.#queues.get(nameOf(at))
    if (!entry) return
    for (const given of entry.offsets) {
      if (given >= offset) continue
      entry.offsets.delete(given)
      this.#note(at, given, false)
    }
    if (entry.offsets.size === 0) this.#queues.delete(nameOf(at))
  }

  /** Whoever seeks wants to see them again. */
  forget(at: QueueOfGroup): void {
    this.committed(at, Number.POSITIVE_INFINITY)
  }

  /** What lies before the minimum of its queue cannot be given back again: nobody can read it. */
  trimmed(minimumOf: (queue: QueueId) => number): void {
    for (const entry of [...this.#queues.values()]) this.committed(entry, minimumOf(entry))
  }

  dropTopic(topicId: number): void {
    for (const entry of [...this.#queues.values()]) if (entry.topicId === topicId) this.forget(entry)
  }

  dropGroup(group: string): void {
    for (const entry of [...this.#queues.values()]) if (entry.group === group) this.forget(entry)
  }

  collect(into: StateOperation[]): void {
    for (const { key, present } of this.#changes.values())
      into.push(present ? { kind: 'put', key, value: Buffer.alloc(0) } : { kind: 'delete', key })
    this.#changes.clear()
  }

  #ensure({ group, topicId, queue }: QueueOfGroup): Entry {
    const name = nameOf({ group, topicId, queue })
    const entry = this.#queues.get(name) ?? { group, topicId, queue, offsets: new Set<number>() }
    this.#queues.set(name, entry)
    return entry
  }

  #note(at: QueueOfGroup, offset: number, present: boolean): void {
    const key = groupMessageKey(rowKinds.givenBack, at.group, at, offset)
    this.#changes.set(`${nameOf(at)}/${offset}`, { key, present })
  }
}

function nameOf({ group, topicId, queue }: QueueOfGroup): string {
  return `${group}/${topicId}/${queue}`
}
