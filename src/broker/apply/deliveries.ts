/**
 * Applying a batch that a leader made of messages stored before: each of them is admitted once. Called by
 * `batches.ts`. All or nothing; what is refused the leader makes anew from the state as it is then.
 */
import { unreachable } from '../../common/assert.ts'
import { deliveryTimes, keyedRecords } from '../../message/batch.ts'
import { dueTime } from '../../message/delay-levels.ts'
import type { ConsumedSource, Delivery, SourceRecord } from '../../message/extensions.ts'
import { deadLetterTopicOf, retryTopicOf } from '../../message/system-topics.ts'
import type { BatchHeader } from '../../message/types.ts'
import type { ApplyResult, CommittedEntry, TopicInfo } from '../contract.ts'
import { givenBackPerQueueMax } from './given-back.ts'
import { type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'
import { findTakeProblem } from './timer-take.ts'

type Carried = Extract<Delivery, { readonly kind: 'carried_timers' | 'carried_halves' }>
type OfKind<Kind extends Delivery['kind']> = Extract<Delivery, { readonly kind: Kind }>

export function applyDelivery(
  tables: Tables,
  entry: CommittedEntry,
  header: BatchHeader,
  delivery: Delivery,
): ApplyResult {
  if (countOf(delivery) !== header.recordCount)
    return refusal('MESSAGE_ILLEGAL', `${header.recordCount} records of ${countOf(delivery)} sources`)
  switch (delivery.kind) {
    case 'timers':
      return deliverTimers(tables, entry, header, delivery)
    case 'transaction':
      return commitHalves(tables, entry, header, delivery)
    case 'retry':
      return giveBack(tables, entry, header, delivery.source)
    case 'dead_letters':
      return giveUp(tables, entry, header, delivery.source)
    case 'carried_timers':
    case 'carried_halves':
      return carry(tables, entry, header, delivery)
    default:
      return unreachable(delivery)
  }
}

function countOf(delivery: Delivery): number {
  return 'sources' in delivery ? delivery.sources.length : delivery.source.offsets.length
}

function deliverTimers(
  tables: Tables,
  entry: CommittedEntry,
  header: BatchHeader,
  delivery: OfKind<'timers'>,
): ApplyResult {
  const { topicId } = delivery
  const target = { topicId, queue: header.queue }
  const problem = findTargetProblem(tables, header, topicId) ?? findTakeProblem(tables.timers, target, delivery, entry)
  if (problem) return problem
  tables.timers.take(target, delivery, entry.index)
  return append(tables, entry, header, topicId)
}

function commitHalves(
  tables: Tables,
  entry: CommittedEntry,
  header: BatchHeader,
  { topicId, sources }: OfKind<'transaction'>,
): ApplyResult {
  const target = { topicId, queue: header.queue }
  const problem = findTargetProblem(tables, header, topicId) ?? tables.halves.findProblem(sources, target)
  if (problem) return problem
  tables.halves.resolve(sources, 'committed', entry.index)
  return append(tables, entry, header, topicId)
}

/** Messages that a consumer could not handle: they come again later, in the retry topic of their group. */
function giveBack(tables: Tables, entry: CommittedEntry, header: BatchHeader, source: ConsumedSource): ApplyResult {
  const problem = findConsumedProblem(tables, source) ?? findFull(tables, source.offsets.length)
  if (problem) return problem
  const topic = systemTopic(tables, entry, header, retryTopicOf(source.group))
  if ('code' in topic) return topic
  takeConsumed(tables, source, entry)
  return addTimers(tables, entry, header, topic.topicId)
}

function giveUp(tables: Tables, entry: CommittedEntry, header: BatchHeader, source: ConsumedSource): ApplyResult {
  const problem = findConsumedProblem(tables, source)
  if (problem) return problem
  const topic = systemTopic(tables, entry, header, deadLetterTopicOf(source.group))
  if ('code' in topic) return topic
  takeConsumed(tables, source, entry)
  return append(tables, entry, header, topic.topicId)
}

function carry(tables: Tables, entry: CommittedEntry, header: BatchHeader, delivery: Carried): ApplyResult {
  const { index, position } = entry
  if (delivery.kind === 'carried_halves') {
    const problem = findCarriedProblem(tables, header, delivery.sources)
    if (problem) return problem
    for (const [record, source] of delivery.sources.entries()) tables.halves.carry(source, { index, position, record })
  } else {
    const { topicId } = delivery
    for (const [record, source] of delivery.sources.entries())
      tables.timers.carry(source, { topicId, queue: header.queue, index, position, record })
  }
  return { kind: 'carried', recordCount: header.recordCount }
}

/** A transaction is committed from these bytes, to the queue they name. Those resolved meanwhile are carried for nothing. */
function findCarriedProblem(tables: Tables, header: BatchHeader, sources: readonly SourceRecord[]): Refusal | null {
  for (const source of sources) {
    const half = tables.halves.find(source)
    const isOwn = half?.queue === header.queue && tables.topics.byId(half.topicId)?.config.topic === header.topic
    if (half && !isOwn) return refusal('INVALID_PARAMETER', 'a half message is carried in a batch for another queue')
  }
  return null
}

/** Every record of the batch is due at its own time. */
export function addTimers(tables: Tables, entry: CommittedEntry, header: BatchHeader, topicId: number): ApplyResult {
  const { index, position, storeTime } = entry
  const { queue, recordCount } = header
  for (const [record, deliveryTime] of deliveryTimes(entry.body).entries()) {
    const time = dueTime(deliveryTime, storeTime)
    tables.timers.add({ time, index, record }, { topicId, queue, index, position, record })
  }
  return { kind: 'pending', topicId, queue, recordCount, index, storeTime, duplicate: false }
}

/** Why no more messages can wait for their time now, or null. */
export function findFull(tables: Tables, count: number): Refusal | null {
  const { timersMax } = tables.limits.current
  const { pending, recalledCount } = tables.timers
  // A recalled one takes memory until its queue was delivered up to its time.
  if (pending + recalledCount + count <= timersMax) return null
  return refusal('FLOW_CONTROL', `${timersMax} messages wait for their delivery time, the most allowed`)
}

/** Gives the batch the next offsets of its queue, which exists. */
export function append(tables: Tables, entry: CommittedEntry, header: BatchHeader, topicId: number): ApplyResult {
  const { index, position, storeTime } = entry
  const { queue, recordCount } = header
  const state = tables.queues.find(topicId, queue)
  if (!state) return refusal('INVALID_PARAMETER', `topic ${header.topic} has no queue ${queue}`)
  const bytes = entry.body.length
  const baseOffset = tables.queues.append(state, { recordCount, index, position, storeTime, bytes })
  for (const { record, keys } of keyedRecords(entry.body)) {
    const message = { queue, offset: baseOffset + record, index, record, position }
    for (const key of keys) tables.keys.add(topicId, key, message, storeTime)
  }
  return { kind: 'stored', topicId, queue, baseOffset, recordCount, index, storeTime, duplicate: false }
}

/** Neither permission nor the count of write queues matters: the messages were accepted before. */
function findTargetProblem(tables: Tables, header: BatchHeader, topicId: number): Refusal | null {
  if (tables.topics.byId(topicId)?.config.topic !== header.topic)
    return refusal('TOPIC_NOT_EXIST', `there is no topic ${header.topic} with id ${topicId}`)
  if (!tables.queues.find(topicId, header.queue))
    return refusal('INVALID_PARAMETER', `topic ${header.topic} has no queue ${header.queue}`)
  return null
}

/** Made with the first message for it, so its id is the index of that entry. */
function systemTopic(tables: Tables, entry: CommittedEntry, header: BatchHeader, name: string): TopicInfo | Refusal {
  if (header.topic !== name || header.queue !== 0)
    return refusal('INVALID_PARAMETER', `a message for ${name} is stored in queue ${header.queue} of ${header.topic}`)
  const topic = tables.topics.ensureSystem(name, entry.index, tables.limits.current)
  if (!('code' in topic)) tables.queues.ensure(topic.topicId, topic.config.readQueues)
  return topic
}

/** May these messages be taken from their consumer, by the right that the source names? */
function findConsumedProblem(tables: Tables, source: ConsumedSource): Refusal | null {
  const { group, topicId, queue, offsets, member, receipts } = source
  if (offsets.length === 0) return refusal('INVALID_PARAMETER', 'the delivery names no message')
  if (new Set(offsets).size < offsets.length) return refusal('INVALID_PARAMETER', 'a message is named twice')
  if (member === '') return findReceiptProblem(tables, source)
  if (receipts.length > 0) return refusal('INVALID_PARAMETER', 'a member of a group has no receipts')
  const fenced = tables.groups.fence({ ...source, offsets: [{ topicId, queue }] })
  if (fenced) return fenced
  const max = tables.queues.find(topicId, queue)?.max ?? 0
  const committed = tables.offsets.get(group, topicId, queue) ?? 0
  if (tables.givenBack.count(source) + offsets.length > givenBackPerQueueMax)
    return refusal(
      'FLOW_CONTROL',
      `the group has given back ${givenBackPerQueueMax} messages that it has not committed`,
    )
  for (const offset of offsets) {
    if (offset >= max) return refusal('INVALID_PARAMETER', `offset ${offset} is beyond the end of the queue, ${max}`)
    if (offset < committed || tables.givenBack.has(source, offset))
      return refusal('SUPERSEDED', `offset ${offset} was given back, or committed, before`)
  }
  return null
}

function findReceiptProblem(
  tables: Tables,
  { group, topicId, queue, offsets, receipts }: ConsumedSource,
): Refusal | null {
  if (receipts.length !== offsets.length)
    return refusal('INVALID_PARAMETER', `${offsets.length} messages with ${receipts.length} receipts`)
  if (new Set(offsets).size < offsets.length) return refusal('INVALID_PARAMETER', 'an offset is named twice')
  const known = tables.received.find(group, { topicId, queue })
  const stale = offsets.find((offset, at) => {
    const message = known?.messages.get(offset)
    return !message || message.attempt === 0 || message.receipt !== receipts[at]
  })
  return stale === undefined ? null : refusal('RECEIPT_STALE', `the receipt of offset ${stale} is stale`)
}

function takeConsumed(tables: Tables, source: ConsumedSource, entry: CommittedEntry): void {
  const { group, topicId, queue, offsets, member, receipts } = source
  for (const [at, offset] of offsets.entries()) {
    if (member !== '') tables.givenBack.add(source, offset)
    else tables.received.settle(group, { topicId, queue, offset, receipt: receipts[at] ?? 0, invisibleMs: null }, entry)
  }
  if (member === '') commitFloor(tables, group, { topicId, queue })
}

/** Whoever receives message by message commits nothing: what is done with follows from what is left. */
export function commitFloor(tables: Tables, group: string, at: { topicId: number; queue: number }): void {
  const known = tables.received.find(group, at)
  if (!known) return
  const queue = { group, topicId: at.topicId, queue: at.queue }
  tables.givenBack.committed(queue, tables.offsets.commit(queue, tables.received.floor(known), false))
}
