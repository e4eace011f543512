/** What a topic that comes or goes means for all tables. Called by the files that apply commands. */
import type { ApplyResult, TopicInfo } from '../contract.ts'
import type { Refusal } from './result.ts'
import type { Tables } from './tables.ts'

export function keepTopic(tables: Tables, topic: TopicInfo | Refusal): ApplyResult {
  if ('code' in topic) return topic
  tables.queues.ensure(topic.topicId, topic.config.readQueues)
  return { kind: 'topic', topic }
}

/** The topic has left the table of topics with this entry; nothing that belongs to it stays. */
export function dropTopic(tables: Tables, topicId: number, index: number): void {
  tables.queues.drop(topicId)
  tables.garbage.addTopic(topicId, index)
  tables.offsets.dropTopic(topicId)
  tables.givenBack.dropTopic(topicId)
  tables.locks.dropTopic(topicId)
  tables.received.dropTopic(topicId)
  tables.halves.dropTopic(topicId, index)
  tables.timers.dropTopic(topicId, index)
}
