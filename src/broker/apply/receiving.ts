/** Applying what is received and settled message by message. Called by `commands.ts`. */
import type { ApplyResult, CommittedEntry } from '../contract.ts'
import { commitFloor } from './deliveries.ts'
import type { Receive, Settle } from './receive-commands.ts'
import { refusal } from './result.ts'
import type { Tables } from './tables.ts'

/** Longest time for which a message may be invisible (RocketMQ: 12 h). */
export const invisibleMsMax: number = 12 * 3_600_000

const groupBytesMax = 255

export function receive(tables: Tables, command: Receive, entry: CommittedEntry): ApplyResult {
  const { group, topicId, queue, invisibleMs } = command
  if (group === '' || Buffer.byteLength(group) > groupBytesMax)
    return refusal('INVALID_PARAMETER', `the group name must have 1 to ${groupBytesMax} bytes`)
  if (!tables.topics.byId(topicId)) return refusal('TOPIC_NOT_EXIST', `there is no topic with id ${topicId}`)
  const range = tables.queues.find(topicId, queue)
  if (!range) return refusal('INVALID_PARAMETER', `topic ${topicId} has no queue ${queue}`)
  if (invisibleMs < 1 || invisibleMs > invisibleMsMax)
    return refusal('INVALID_PARAMETER', `invisibleMs must be from 1 to ${invisibleMsMax}, not ${invisibleMs}`)
  if (tables.groups.assignment(group).members.length > 0)
    return refusal('INVALID_PARAMETER', `the queues of group ${group} are assigned to members`)
  if (tables.groupSettings.get(group).paused) return refusal('SUPERSEDED', `group ${group} is paused`)
  const { groupsMax } = tables.limits.current
  if (!tables.offsets.has(group) && tables.offsets.groupCount >= groupsMax)
    return refusal('INVALID_PARAMETER', `there are ${groupsMax} consumer groups already, the most allowed`)
  const start = Math.max(range.min, tables.offsets.get(group, topicId, queue) ?? command.start)
  const problem = tables.received.findProblem(command, start, range.max, entry.storeTime)
  if (problem) return problem
  const messages = tables.received.receive(command, start, entry)
  commitFloor(tables, group, { topicId, queue })
  const visibleAt = entry.storeTime + invisibleMs
  return {
    kind: 'received',
    receipt: entry.index,
    visibleAt,
    messages: messages.map(({ offset, attempt }) => ({ offset, attempt })),
  }
}

/** Each for itself: one that is stale does not hold up the others. */
export function settle(tables: Tables, { group, messages }: Settle, entry: CommittedEntry): ApplyResult {
  const long = messages.find(({ invisibleMs }) => (invisibleMs ?? 0) > invisibleMsMax)
  if (long) return refusal('INVALID_PARAMETER', `a message may be invisible for at most ${invisibleMsMax} ms`)
  const done = messages.map((message) => tables.received.settle(group, message, entry))
  for (const { topicId, queue } of messages) commitFloor(tables, group, { topicId, queue })
  return { kind: 'settled', done, receipt: entry.index }
}
