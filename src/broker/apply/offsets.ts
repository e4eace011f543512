/**
 * Offsets that consumer groups have committed. They never go back on their own (B5): only a seek moves one back.
 *
 * One row per group and topic. Who may commit is judged in `groups.ts`, what exists in `commands.ts`.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { groupOffsetsKey, nameInKey, readUint64, rowKinds, topicIdBehindName, writeUint64 } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'

interface TopicOffsets {
  readonly group: string
  readonly topicId: number
  /** By queue; -1 where nothing was committed. */
  offsets: Float64Array
  dirty: boolean
  dropped: boolean
}

const nothingCommitted = -1

export class GroupOffsets implements StateTable {
  readonly #groups = new Map<string, Map<number, TopicOffsets>>()
  #dirty: TopicOffsets[] = []
  #deletedKeys: Buffer[] = []

  get dirtyCount(): number {
    return this.#dirty.length + this.#deletedKeys.length
  }

  /** Groups that have committed something. */
  get groupCount(): number {
    return this.#groups.size
  }

  has(group: string): boolean {
    return this.#groups.has(group)
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.groupOffsets)) {
      const topic = this.#ensure(nameInKey(key), topicIdBehindName(key))
      topic.offsets = decodeOffsets(value)
    }
  }

  get(group: string, topicId: number, queue: number): number | undefined {
    const offset = this.#groups.get(group)?.get(topicId)?.offsets[queue]
    return offset === undefined || offset === nothingCommitted ? undefined : offset
  }

  /** Returns what is committed now: the higher one, unless `seek`. */
  commit(target: { group: string; topicId: number; queue: number }, offset: number, seek: boolean): number {
    const topic = this.#ensure(target.group, target.topicId)
    if (target.queue >= topic.offsets.length) topic.offsets = lengthened(topic.offsets, target.queue + 1)
    const current = topic.offsets[target.queue] ?? nothingCommitted
    const next = seek ? offset : Math.max(offset, current)
    invariant(seek || next >= current, 'B5: a committed offset goes back only by a seek')
    if (next === current) return next
    topic.offsets[target.queue] = next
    if (!topic.dirty) this.#dirty.push(topic)
    topic.dirty = true
    return next
  }

  /** The topic was deleted: no group has offsets in it any more. */
  dropTopic(topicId: number): void {
    for (const topics of this.#groups.values()) {
      const topic = topics.get(topicId)
      if (!topic) continue
      topic.dropped = true
      topics.delete(topicId)
      this.#deletedKeys.push(groupOffsetsKey(topic.group, topicId))
    }
    this.#dirty = this.#dirty.filter((topic) => !topic.dropped)
    for (const [group, topics] of this.#groups) if (topics.size === 0) this.#groups.delete(group)
  }

  collect(into: StateOperation[]): void {
    for (const key of this.#deletedKeys) into.push({ kind: 'delete', key })
    this.#deletedKeys = []
    for (const topic of this.#dirty) {
      topic.dirty = false
      into.push({ kind: 'put', key: groupOffsetsKey(topic.group, topic.topicId), value: encodeOffsets(topic.offsets) })
    }
    this.#dirty = []
  }

  #ensure(group: string, topicId: number): TopicOffsets {
    const topics = this.#groups.get(group) ?? new Map<number, TopicOffsets>()
    if (topics.size === 0) this.#groups.set(group, topics)
    const known = topics.get(topicId)
    if (known) return known
    const made: TopicOffsets = { group, topicId, offsets: new Float64Array(0), dirty: false, dropped: false }
    topics.set(topicId, made)
    return made
  }
}

function lengthened(offsets: Float64Array, length: number): Float64Array {
  const longer = new Float64Array(length).fill(nothingCommitted)
  longer.set(offsets)
  return longer
}

/** Each offset + 1, so that 0 says "nothing". */
function encodeOffsets(offsets: Float64Array): Buffer {
  const value = Buffer.allocUnsafe(offsets.length * 8)
  for (const [queue, offset] of offsets.entries()) writeUint64(value, offset + 1, queue * 8)
  return value
}

function decodeOffsets(value: Buffer): Float64Array {
  return Float64Array.from({ length: value.length / 8 }, (_, queue) => readUint64(value, queue * 8) - 1)
}
