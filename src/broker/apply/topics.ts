/**
 * Topics: their settings by name and by id. The id is the index of the entry that created the topic, so that a topic
 * deleted and created again is another one (design section 6).
 *
 * Changed by commands only. Names were checked by the handlers; here only what depends on the state is judged. Maps,
 * never objects, hold names: `__proto__` is a name like any other.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import type { TopicConfig, TopicInfo } from '../contract.ts'
import type { DeleteTopic } from './command.ts'
import { readTopicConfig, writeTopicConfig } from './command-payloads.ts'
import { deadTopicKey, readUint64, rowKinds, topicKey, writeUint64 } from './keys.ts'
import type { Limits } from './limits.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { ProtobufReader, ProtobufWriter } from './protobuf.ts'
import { type Refusal, refusal } from './result.ts'

export const permissionRead: number = 4
export const permissionWrite: number = 2

export class TopicTable implements StateTable {
  readonly #byName = new Map<string, TopicInfo>()
  readonly #byId = new Map<number, TopicInfo>()
  readonly #dirty = new Set<number>()
  /** Deleted since the last collect: topic id and index of the entry that deleted it. */
  readonly #dead = new Map<number, number>()
  #list: readonly TopicInfo[] | null = null

  get dirtyCount(): number {
    return this.#dirty.size + this.#dead.size * 2
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.topic)) {
      this.#put({ topicId: readUint64(key, 1), config: readTopicConfig(new ProtobufReader(value)) })
    }
  }

  byName(name: string): TopicInfo | undefined {
    return this.#byName.get(name)
  }

  byId(topicId: number): TopicInfo | undefined {
    return this.#byId.get(topicId)
  }

  /** In order of creation. */
  all(): readonly TopicInfo[] {
    this.#list ??= [...this.#byId.values()].sort((a, b) => a.topicId - b.topicId)
    return this.#list
  }

  /** The existing topic when it has the same settings (creation is idempotent). */
  create(config: TopicConfig, topicId: number, limits: Limits): TopicInfo | Refusal {
    const existing = this.#byName.get(config.topic)
    if (existing && sameConfig(existing.config, config)) return existing
    if (existing) return refusal('TOPIC_EXISTS', `topic ${config.topic} exists with other settings`)
    const problem = findProblem(config, limits)
    if (problem) return refusal('INVALID_PARAMETER', `topic ${config.topic}: ${problem}`)
    if (this.#byName.size >= limits.topicsMax) {
      return refusal('INVALID_PARAMETER', `there are ${limits.topicsMax} topics already, the most allowed`)
    }
    return this.#change({ topicId, config })
  }

  /** Queues beyond a smaller count are kept with their messages; they only get no new ones. */
  update(config: TopicConfig, limits: Limits): TopicInfo | Refusal {
    const existing = this.#byName.get(config.topic)
    if (!existing) return refusal('TOPIC_NOT_EXIST', `topic ${config.topic} does not exist`)
    if (sameConfig(existing.config, config)) return existing
    const problem = findProblem(config, limits)
    if (problem) return refusal('INVALID_PARAMETER', `topic ${config.topic}: ${problem}`)
    return this.#change({ topicId: existing.topicId, config })
  }

  /**
   * Forgets the topic at once. The rows of its queues stay behind under the dead id, where nothing finds them; the
   * `dead topic` row tells a cleaner, which may delete them at any time and in any slices.
   */
  delete({ topic: name, topicId }: Omit<DeleteTopic, 'kind'>, index: number): TopicInfo | Refusal {
    const topic = this.#byName.get(name)
    if (!topic) return refusal('TOPIC_NOT_EXIST', `topic ${name} does not exist`)
    if (topicId !== undefined && topicId !== topic.topicId) {
      return refusal('TOPIC_NOT_EXIST', `topic ${name} was deleted and created again`)
    }
    this.#byName.delete(name)
    this.#byId.delete(topic.topicId)
    this.#dirty.delete(topic.topicId)
    this.#dead.set(topic.topicId, index)
    this.#list = null
    return topic
  }

  collect(into: StateOperation[]): void {
    for (const [topicId, index] of this.#dead) {
      const value = Buffer.allocUnsafe(8)
      writeUint64(value, index, 0)
      into.push({ kind: 'delete', key: topicKey(topicId) }, { kind: 'put', key: deadTopicKey(topicId), value })
    }
    this.#dead.clear()
    for (const topicId of this.#dirty) {
      const topic = this.#byId.get(topicId)
      if (!topic) continue
      const writer = new ProtobufWriter()
      writeTopicConfig(writer, topic.config)
      into.push({ kind: 'put', key: topicKey(topicId), value: writer.finish() })
    }
    this.#dirty.clear()
  }

  #change(topic: TopicInfo): TopicInfo {
    this.#put(topic)
    this.#dirty.add(topic.topicId)
    return topic
  }

  #put(topic: TopicInfo): void {
    this.#byName.set(topic.config.topic, topic)
    this.#byId.set(topic.topicId, topic)
    this.#list = null
  }
}

function sameConfig(a: TopicConfig, b: TopicConfig): boolean {
  return a.readQueues === b.readQueues && a.writeQueues === b.writeQueues && a.permission === b.permission
}

function findProblem(config: TopicConfig, limits: Limits): string | null {
  const { readQueues, writeQueues, permission } = config
  if (writeQueues < 1) return 'needs at least one write queue'
  if (readQueues < writeQueues) return 'must have at least as many read queues as write queues'
  if (readQueues > limits.queuesPerTopicMax) return `may have at most ${limits.queuesPerTopicMax} queues`
  if (permission > 7 || (permission & ~(permissionRead | permissionWrite)) !== 0) {
    return 'permission may only hold the bits 4 and 2'
  }
  return null
}
