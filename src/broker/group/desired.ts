/**
 * The assignment that a group should have by its members and the topics as they are. Called by the coordinator before
 * it proposes; pure but for reading the state machine.
 */
import { LedgerError } from '../../common/errors.ts'
import type { AssignedMember } from '../apply/command.ts'
import type { GroupAssignment, StateMachineApi, TopicInfo } from '../contract.ts'
import { assignQueues } from './assign.ts'
import type { Membership } from './membership.ts'

/** An assignment is one entry of the log, and every rebalance writes it anew. */
export const assignmentBytesMax: number = 1024 * 1024
/** What a queue of an assignment takes at most. */
const bytesPerQueue = 16
const bytesPerName = 4
const readable = 4

/** INVALID_PARAMETER when the assignment would be too large for one entry, null when it fits. */
export function findTooLarge(membership: Membership, machine: StateMachineApi): LedgerError | null {
  const names = membership.topics.reduce((sum, topic) => sum + topic.length + bytesPerName, 0)
  const queues = readableTopics(membership, machine).reduce((sum, topic) => sum + topic.config.readQueues, 0)
  const bytes = membership.count * names + queues * bytesPerQueue
  if (bytes <= assignmentBytesMax) return null
  return new LedgerError(
    'INVALID_PARAMETER',
    `group ${membership.group} cannot be assigned: ${membership.count} members that subscribe to ${membership.topics.length} topics with ${queues} queues need more than ${assignmentBytesMax} bytes; use several groups`,
  )
}

/** Who should own what: an even share of the readable queues of the topics that the group subscribes to. */
export function desiredMembers(
  membership: Membership,
  current: GroupAssignment,
  machine: StateMachineApi,
): readonly AssignedMember[] {
  if (membership.count === 0) return []
  const queues = readableTopics(membership, machine).flatMap(({ topicId, config }) =>
    Array.from({ length: config.readQueues }, (_, queue) => ({ topicId, queue })),
  )
  const held = new Map(current.members.map(({ member, queues: mine }) => [member, mine]))
  const assigned = assignQueues(membership.names, queues, held)
  return membership.names.map((member) => ({
    member,
    topics: membership.topics,
    queues: assigned.get(member) ?? [],
  }))
}

export function sameMembers(a: GroupAssignment['members'], b: GroupAssignment['members']): boolean {
  return fingerprint(a) === fingerprint(b)
}

function readableTopics(membership: Membership, machine: StateMachineApi): readonly TopicInfo[] {
  return membership.topics.flatMap((name) => {
    const topic = machine.topic(name)
    return topic && (topic.config.permission & readable) !== 0 ? [topic] : []
  })
}

function fingerprint(members: GroupAssignment['members']): string {
  const lines = members.map(({ member, topics, queues }) => {
    const owned = queues.map(({ topicId, queue }) => `${topicId}/${queue}`).sort()
    return JSON.stringify([member, [...topics].sort(), owned])
  })
  return lines.sort().join('\n')
}
