/** Applying a command: judges it against the state, then changes the state or refuses with nothing changed. */
import { unreachable } from '../../common/assert.ts'
import type { ApplyResult, CommittedEntry, TopicInfo } from '../contract.ts'
import type { AssignGroup, Command, CommitOffsets, DeleteTopic, ExpireProducers, Trim } from './command.ts'
import { nothing, type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'

const groupBytesMax = 255

export function applyCommand(tables: Tables, command: Command, entry: CommittedEntry): ApplyResult {
  const limits = tables.limits.current
  switch (command.kind) {
    case 'create_topic':
      return keepTopic(tables, tables.topics.create(command.config, entry.index, limits))
    case 'update_topic':
      return keepTopic(tables, tables.topics.update(command.config, limits))
    case 'delete_topic':
      return deleteTopic(tables, command, entry.index)
    case 'commit_offsets':
      return commitOffsets(tables, command)
    case 'assign_group':
      return assignGroup(tables, command)
    case 'expire_producers':
      return expireProducers(tables, command, entry.storeTime)
    case 'set_limits':
      return tables.limits.set(command.limits)
    case 'trim':
      return trim(tables, command, entry.index)
    default:
      return unreachable(command)
  }
}

function keepTopic(tables: Tables, topic: TopicInfo | Refusal): ApplyResult {
  if ('code' in topic) return topic
  tables.queues.ensure(topic.topicId, topic.config.readQueues)
  return { kind: 'topic', topic }
}

function deleteTopic(tables: Tables, command: DeleteTopic, index: number): ApplyResult {
  const topic = tables.topics.delete(command, index)
  if ('code' in topic) return topic
  tables.queues.drop(topic.topicId)
  tables.garbage.addTopic(topic.topicId, index)
  tables.offsets.dropTopic(topic.topicId)
  return { kind: 'topic_deleted', topicId: topic.topicId }
}

function commitOffsets(tables: Tables, command: CommitOffsets): ApplyResult {
  const { group, seek } = command
  const problem = findProblem(tables, command)
  if (problem) return problem
  const offsets = command.offsets.map(({ topicId, queue, offset }) => {
    // Whoever consumed messages that were trimmed since has nothing left to read before the minimum.
    const min = tables.queues.find(topicId, queue)?.min ?? 0
    return tables.offsets.commit({ group, topicId, queue }, Math.max(offset, min), seek)
  })
  return { kind: 'offsets', offsets }
}

/** All or nothing: every offset is judged before the first is stored. */
function findProblem(tables: Tables, command: CommitOffsets): Refusal | null {
  const { group, seek } = command
  const fenced = checkGroup(group) ?? tables.groups.fence(command)
  if (fenced) return fenced
  for (const { topicId, queue, offset } of command.offsets) {
    if (!tables.topics.byId(topicId)) return refusal('TOPIC_NOT_EXIST', `there is no topic with id ${topicId}`)
    const range = tables.queues.find(topicId, queue)
    if (!range) return refusal('INVALID_PARAMETER', `topic ${topicId} has no queue ${queue}`)
    if ((seek && offset < range.min) || offset > range.max) {
      return refusal('INVALID_PARAMETER', `offset ${offset} of queue ${queue} is outside ${range.min} to ${range.max}`)
    }
  }
  const { groupsMax } = tables.limits.current
  if (!tables.offsets.has(group) && tables.offsets.groupCount >= groupsMax) {
    return refusal('INVALID_PARAMETER', `there are ${groupsMax} consumer groups already, the most allowed`)
  }
  return null
}

function assignGroup(tables: Tables, command: AssignGroup): ApplyResult {
  const generation = checkGroup(command.group) ?? tables.groups.assign(command, tables.limits.current)
  return typeof generation === 'number' ? { kind: 'generation', generation } : generation
}

/** Handlers know which names are allowed; here the name must only fit into a key. */
function checkGroup(group: string): Refusal | null {
  if (group.length > 0 && Buffer.byteLength(group) <= groupBytesMax) return null
  return refusal('INVALID_PARAMETER', `the group name must have 1 to ${groupBytesMax} bytes`)
}

/** The leader's clock proposes, log time decides: nobody expires earlier than the limit says. */
function expireProducers(tables: Tables, command: ExpireProducers, logTime: number): ApplyResult {
  const limits = tables.limits.current
  const idleBefore = Math.min(command.idleBefore, logTime - limits.producerIdleMs)
  tables.producers.expire({ idleBefore, removeMax: command.removeMax }, limits)
  return nothing
}

/**
 * All or nothing: every minimum is judged before the first one moves. Queues that are gone have nothing to trim. Where as
 * much was given up already, nothing moves: its leader looked the minimums up in a state that is long gone.
 */
function trim(tables: Tables, command: Trim, index: number): ApplyResult {
  if (command.firstIndex > index) {
    return refusal('INVALID_PARAMETER', `entry ${index} cannot trim the log up to ${command.firstIndex}`)
  }
  for (const { topicId, queue, minOffset } of command.queues) {
    const max = tables.queues.find(topicId, queue)?.max ?? minOffset
    if (minOffset > max) {
      return refusal('INVALID_PARAMETER', `queue ${queue} of topic ${topicId} ends at ${max}, before ${minOffset}`)
    }
  }
  let moved = 0
  const { firstIndex } = tables.trim.current
  if (command.firstIndex !== 0 && command.firstIndex <= firstIndex) return { kind: 'trimmed', firstIndex, moved }
  for (const { topicId, queue, minOffset } of command.queues) {
    const state = tables.queues.find(topicId, queue)
    if (!state || minOffset <= state.min) continue
    tables.garbage.addQueue({ topicId, queue, from: state.min, to: minOffset }, index)
    tables.queues.raiseMin(state, minOffset)
    moved++
  }
  return { kind: 'trimmed', firstIndex: tables.trim.raise(command.firstIndex, index), moved }
}
