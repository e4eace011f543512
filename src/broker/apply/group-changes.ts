/** Applying commands about consumer groups: settings, seeks, locks. Called by `commands.ts`. */

import { retryTopicOf } from '../../message/system-topics.ts'
import type { ApplyResult } from '../contract.ts'
import type { DeleteGroup, LockQueues, QueueId, SeekGroup, SetGroup, UnlockQueues } from './group-commands.ts'
import { nothing, type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'
import { dropTopic } from './topic-changes.ts'

const groupBytesMax = 255

/** Longest time for which a queue may be locked at once. */
export const leaseMsMax = 600_000

export function setGroup(tables: Tables, { group, settings }: SetGroup): ApplyResult {
  return checkGroup(group) ?? tables.groupSettings.set(group, settings, tables.limits.current) ?? nothing
}

/** With its retry topic, which nobody else can read. Its dead letters stay: they are what people come back for. */
export function deleteGroup(tables: Tables, { group }: DeleteGroup, index: number): ApplyResult {
  if (tables.groups.assignment(group).members.length > 0)
    return refusal('INVALID_PARAMETER', `group ${group} has members; stop them first`)
  const { offsets, groupSettings, received, groups } = tables
  if (![offsets, groupSettings, received, groups].some((table) => table.has(group)))
    return refusal('SUBSCRIPTION_GROUP_NOT_EXIST', `there is no group ${group}`)
  groups.forget(group)
  groupSettings.delete(group)
  offsets.dropGroup(group)
  tables.givenBack.dropGroup(group)
  tables.locks.dropGroup(group)
  received.dropGroup(group)
  const retries = tables.topics.delete({ topic: retryTopicOf(group) }, index)
  if (!('code' in retries)) dropTopic(tables, retries.topicId, index)
  return nothing
}

/** All or nothing. */
export function seekGroup(tables: Tables, command: SeekGroup): ApplyResult {
  const { group, expectedGeneration, offsets } = command
  const illegal = checkGroup(group)
  if (illegal) return illegal
  for (const { topicId, queue, offset } of offsets) {
    if (!tables.topics.byId(topicId)) return refusal('TOPIC_NOT_EXIST', `there is no topic with id ${topicId}`)
    const range = tables.queues.find(topicId, queue)
    if (!range) return refusal('INVALID_PARAMETER', `topic ${topicId} has no queue ${queue}`)
    if (offset < range.min || offset > range.max)
      return refusal('INVALID_PARAMETER', `offset ${offset} of queue ${queue} is outside ${range.min} to ${range.max}`)
  }
  const { groupsMax } = tables.limits.current
  if (!tables.offsets.has(group) && tables.offsets.groupCount >= groupsMax)
    return refusal('INVALID_PARAMETER', `there are ${groupsMax} consumer groups already, the most allowed`)
  const generation = tables.groups.renew(group, expectedGeneration)
  if (typeof generation !== 'number') return generation
  for (const { topicId, queue, offset } of offsets) {
    tables.offsets.commit({ group, topicId, queue }, offset, true)
    resetQueue(tables, { group, topicId, queue }, offset)
  }
  return { kind: 'generation', generation }
}

/** The group begins anew there: what it gave back or received before no longer counts. */
export function resetQueue(tables: Tables, at: QueueId & { readonly group: string }, offset: number): void {
  tables.givenBack.forget(at)
  if (tables.received.find(at.group, at)) tables.received.seek(at.group, at, offset)
}

export function lockQueues(tables: Tables, command: LockQueues, logTime: number): ApplyResult {
  const { group, member, generation, leaseMs, queues } = command
  if (member === '') return refusal('INVALID_PARAMETER', 'only a member of a group may lock queues')
  if (leaseMs < 1 || leaseMs > leaseMsMax)
    return refusal('INVALID_PARAMETER', `leaseMs must be from 1 to ${leaseMsMax}, not ${leaseMs}`)
  const fenced = tables.groups.fence({ ...command, offsets: queues })
  if (fenced) return fenced
  const until = logTime + leaseMs
  return {
    kind: 'locks',
    until: queues.map((queue) =>
      tables.locks.lock(group, queue, { member, until, generation }, logTime)
        ? (tables.locks.holder(group, queue, logTime)?.until ?? 0)
        : 0,
    ),
  }
}

/** Also by a member that does not own the queues any more: the next one need not wait. */
export function unlockQueues(tables: Tables, { group, member, generation, queues }: UnlockQueues): ApplyResult {
  for (const queue of queues) tables.locks.unlock(group, queue, { member, generation })
  return nothing
}

/** Handlers know which names are allowed; here the name must only fit into a key. */
export function checkGroup(group: string): Refusal | null {
  if (group.length > 0 && Buffer.byteLength(group) <= groupBytesMax) return null
  return refusal('INVALID_PARAMETER', `the group name must have 1 to ${groupBytesMax} bytes`)
}
