/**
 * What became of every topic, entry by entry, as the group applied it: the truth for acknowledged changes and for what
 * replicas say of topics. Fed by the judge; asked by those who change topics and by those who read them.
 */
import type { ApplyResult } from '../../src/broker/contract.ts'
import type { TopicConfig, TopicInfo } from '../../src/rpc/methods.ts'

/** Null: there is no such topic. */
export type TopicState = TopicConfig | null

interface Change {
  readonly index: number
  readonly topic: TopicInfo | null
}

export class TopicHistory {
  readonly #changes = new Map<string, Change[]>()
  readonly #names = new Map<number, string>()

  get names(): Iterable<string> {
    return this.#changes.keys()
  }

  /** An entry was applied for the first time. */
  learn(index: number, result: ApplyResult): void {
    if (result.kind === 'topic') {
      const { topic } = result
      this.#names.set(topic.topicId, topic.config.topic)
      this.#add(topic.config.topic, { index, topic })
    }
    if (result.kind === 'topic_deleted') this.#add(this.#names.get(result.topicId) ?? '', { index, topic: null })
  }

  now(name: string): TopicInfo | null {
    return this.#changes.get(name)?.at(-1)?.topic ?? null
  }

  /** First entry behind `index` that left the topic like this, also if it was so before. */
  changedBehind(name: string, index: number, wanted: TopicState): number | null {
    const found = this.#changes.get(name)?.find((change) => change.index > index && isLike(change.topic, wanted))
    return found?.index ?? null
  }

  /** It was like this after entry `index` or has become so since. */
  wasSince(name: string, index: number, state: TopicState): boolean {
    return this.#statesSince(name, index).some((topic) => isLike(topic, state))
  }

  existedSince(name: string, index: number): boolean {
    return this.#statesSince(name, index).some((topic) => topic !== null)
  }

  #statesSince(name: string, index: number): readonly (TopicInfo | null)[] {
    const changes = this.#changes.get(name) ?? []
    const at = changes.findLastIndex((change) => change.index <= index)
    return [changes[at]?.topic ?? null, ...changes.slice(at + 1).map(({ topic }) => topic)]
  }

  #add(name: string, change: Change): void {
    const known = this.#changes.get(name)
    if (known) known.push(change)
    else this.#changes.set(name, [change])
  }
}

function isLike(topic: TopicInfo | null, state: TopicState): boolean {
  if (topic === null || state === null) return topic === null && state === null
  const { readQueues, writeQueues, permission } = topic.config
  return readQueues === state.readQueues && writeQueues === state.writeQueues && permission === state.permission
}
