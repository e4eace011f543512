/** Applying a command: judges it against the state, then changes the state or refuses with nothing changed. */
import { unreachable } from '../../common/assert.ts'
import type { ApplyResult, CommittedEntry } from '../contract.ts'
import type { AssignGroup, Command, CommitOffsets, DeleteTopic, ExpireProducers, Trim } from './command.ts'
import { checkGroup, deleteGroup, lockQueues, resetQueue, seekGroup, setGroup, unlockQueues } from './group-changes.ts'
import type { QueueId } from './group-commands.ts'
import { receive, settle } from './receiving.ts'
import { nothing, type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'
import { dropTopic, keepTopic } from './topic-changes.ts'
import { findPinned, noteChecks, recallTimer, rollBack } from './unseen-messages.ts'

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
      return commitOffsets(tables, command, entry.storeTime)
    case 'assign_group':
      return assignGroup(tables, command)
    case 'expire_producers':
      return expireProducers(tables, command, entry.storeTime)
    case 'set_limits':
      return tables.limits.set(command.limits)
    case 'trim':
      return trim(tables, command, entry.index)
    case 'set_group':
      return setGroup(tables, command)
    case 'delete_group':
      return deleteGroup(tables, command, entry.index)
    case 'seek_group':
      return seekGroup(tables, command)
    case 'lock_queues':
      return lockQueues(tables, command, entry.storeTime)
    case 'unlock_queues':
      return unlockQueues(tables, command)
    case 'receive':
      return receive(tables, command, entry)
    case 'settle':
      return settle(tables, command, entry)
    case 'roll_back':
      return rollBack(tables, command, entry.index)
    case 'note_checks':
      return noteChecks(tables, command, entry.storeTime)
    case 'recall_timer':
      return recallTimer(tables, command, entry.index)
    case 'timers_carried':
      tables.timers.carried(Math.min(command.upTo, entry.index - 1))
      return nothing
    default:
      return unreachable(command)
  }
}

function deleteTopic(tables: Tables, command: DeleteTopic, index: number): ApplyResult {
  const topic = tables.topics.delete(command, index)
  if ('code' in topic) return topic
  dropTopic(tables, topic.topicId, index)
  return { kind: 'topic_deleted', topicId: topic.topicId }
}

function commitOffsets(tables: Tables, command: CommitOffsets, logTime: number): ApplyResult {
  const { group, seek } = command
  const problem = findProblem(tables, command) ?? findUnlocked(tables, command, logTime)
  if (problem) return problem
  const offsets = command.offsets.map(({ topicId, queue, offset }) => {
    // Whoever consumed messages that were trimmed since has nothing left to read before the minimum.
    const min = tables.queues.find(topicId, queue)?.min ?? 0
    const committed = tables.offsets.commit({ group, topicId, queue }, Math.max(offset, min), seek)
    const at = { group, topicId, queue }
    if (seek) resetQueue(tables, at, committed)
    else {
      tables.givenBack.committed(at, committed)
      tables.received.committed(group, at, committed)
    }
    return committed
  })
  return { kind: 'offsets', offsets }
}

/** A member whose lock has ended may be behind another one that has it: what it says comes too late. */
function findUnlocked(tables: Tables, command: CommitOffsets, logTime: number): Refusal | null {
  if (!command.leased) return null
  const { group, member } = command
  const late = command.offsets.find((at) => tables.locks.holder(group, at, logTime)?.member !== member)
  return late ? refusal('LEASE_LOST', `${member} of ${group} does not hold the lock of queue ${late.queue}`) : null
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
  if (typeof generation !== 'number') return generation
  // From now on members consume: what is not acknowledged lies behind the committed offset, and comes to them.
  if (command.members.length > 0) tables.received.dropGroup(command.group)
  return { kind: 'generation', generation }
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
  const pinned = findPinned(tables, command.firstIndex)
  if (pinned) return pinned
  const { firstIndex } = tables.trim.current
  if (command.firstIndex !== 0 && command.firstIndex <= firstIndex) return { kind: 'trimmed', firstIndex, moved }
  for (const { topicId, queue, minOffset } of command.queues) {
    const state = tables.queues.find(topicId, queue)
    if (!state || minOffset <= state.min) continue
    tables.garbage.addQueue({ topicId, queue, from: state.min, to: minOffset }, index)
    tables.queues.raiseMin(state, minOffset)
    moved++
  }
  if (moved > 0) {
    const minimumOf = (at: QueueId): number => tables.queues.find(at.topicId, at.queue)?.min ?? 0
    tables.received.trimmed(minimumOf)
    tables.givenBack.trimmed(minimumOf)
  }
  for (const range of tables.keys.trimmed(command.firstIndex)) tables.garbage.addRange(range, index)
  return { kind: 'trimmed', firstIndex: tables.trim.raise(command.firstIndex, index), moved }
}
