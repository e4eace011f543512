/**
 * Applying a batch: where every message gets its offset. Called once per batch entry; must stay at microseconds.
 *
 * The handlers checked the batch in full; here only what depends on the state is judged, again, because it may have
 * changed between proposal and commit.
 */
import { unreachable } from '../../common/assert.ts'
import { LedgerError } from '../../common/errors.ts'
import { deliveryTimes, readBatchHeader } from '../../message/batch.ts'
import { delayMsMax } from '../../message/delay-levels.ts'
import { type Delivery, readDelivery, readHalf } from '../../message/extensions.ts'
import { batchMagic, batchVersion, headerAt } from '../../message/layout.ts'
import { type BatchHeader, batchKinds } from '../../message/types.ts'
import type { ApplyResult, CommittedEntry, TopicInfo } from '../contract.ts'
import { EntryError } from './command.ts'
import { addTimers, append, applyDelivery, findFull } from './deliveries.ts'
import type { LastBatch } from './producer-table.ts'
import { type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'
import { permissionWrite } from './topics.ts'

/** A batch as it was read: what its bytes say, before the state is looked at. */
interface ReadBatch {
  readonly header: BatchHeader
  readonly delivery: Delivery | null
  /** Set for half messages. */
  readonly producerGroup: string
}

export function applyBatch(tables: Tables, entry: CommittedEntry): ApplyResult {
  const batch = readBatch(entry.body)
  if ('code' in batch) return batch
  const { header, delivery } = batch
  if (delivery) return applyDelivery(tables, entry, header, delivery)
  const topic = writableTopic(tables, header)
  if ('code' in topic) return topic
  const { topicId } = topic
  const judgement = tables.producers.judge(header, topicId, tables.limits.current)
  if (judgement.kind === 'refused') return judgement
  if (judgement.kind === 'duplicate') return duplicateOf(header, topicId, judgement.original)
  const result = store(tables, entry, batch, topicId)
  if (judgement.checked && (result.kind === 'stored' || result.kind === 'pending')) {
    const { producerEpoch: epoch, baseSequence, recordCount } = header
    const { index, storeTime } = entry
    const baseOffset = result.kind === 'stored' ? result.baseOffset : 0
    const bytes = entry.body.length
    tables.producers.record(header, topicId, { epoch, baseSequence, recordCount, bytes, baseOffset, index, storeTime })
  }
  return result
}

/** Visible at once, later, or with its transaction. */
function store(
  tables: Tables,
  entry: CommittedEntry,
  { header, producerGroup }: ReadBatch,
  topicId: number,
): ApplyResult {
  switch (header.kind) {
    case batchKinds.normal:
    case batchKinds.ordered:
      return append(tables, entry, header, topicId)
    case batchKinds.delayed:
      return (
        findDelayProblem(entry) ?? findFull(tables, header.recordCount) ?? addTimers(tables, entry, header, topicId)
      )
    case batchKinds.half:
      return addHalves(tables, entry, { header, producerGroup }, topicId)
    case batchKinds.internal:
      return refusal('MESSAGE_ILLEGAL', 'an internal batch names no sources')
    default:
      return unreachable(header.kind)
  }
}

/** The handler has judged by an earlier log time, so what it let through passes here. */
function findDelayProblem({ body, storeTime }: CommittedEntry): Refusal | null {
  const times = deliveryTimes(body)
  if (times.includes(0)) return refusal('MESSAGE_ILLEGAL', 'a delayed message has no time')
  const furthest = Math.max(...times)
  if (furthest <= storeTime + delayMsMax) return null
  return refusal('INVALID_PARAMETER', `a message is delayed until ${furthest}, further ahead than ${delayMsMax} ms`)
}

function addHalves(
  tables: Tables,
  { index, position, storeTime }: CommittedEntry,
  { header, producerGroup }: Pick<ReadBatch, 'header' | 'producerGroup'>,
  topicId: number,
): ApplyResult {
  const { queue, recordCount } = header
  const { halvesMax } = tables.limits.current
  if (producerGroup === '') return refusal('MESSAGE_ILLEGAL', 'half messages name no producer group')
  if (tables.halves.pendingCount + recordCount > halvesMax)
    return refusal('FLOW_CONTROL', `${halvesMax} transactions are open, the most allowed`)
  for (let record = 0; record < recordCount; record++) {
    const place = { atIndex: index, atPosition: position, atRecord: record }
    tables.halves.add({ index, record, topicId, queue, producerGroup, storeTime, ...place, checks: 0, nextCheck: 0 })
  }
  return { kind: 'pending', topicId, queue, recordCount, index, storeTime, duplicate: false }
}

function duplicateOf(header: BatchHeader, topicId: number, original: LastBatch): ApplyResult {
  const { queue, recordCount } = header
  const { baseOffset, index, storeTime } = original
  const isVisible = header.kind === batchKinds.normal || header.kind === batchKinds.ordered
  if (isVisible) return { kind: 'stored', topicId, queue, baseOffset, recordCount, index, storeTime, duplicate: true }
  return { kind: 'pending', topicId, queue, recordCount, index, storeTime, duplicate: true }
}

function writableTopic(tables: Tables, header: BatchHeader): TopicInfo | Refusal {
  const topic = tables.topics.byName(header.topic)
  if (!topic) return refusal('TOPIC_NOT_EXIST', `topic ${header.topic} does not exist`)
  if ((topic.config.permission & permissionWrite) === 0) {
    return refusal('NO_PERMISSION', `topic ${header.topic} does not permit writing`)
  }
  if (header.queue >= topic.config.writeQueues) {
    return refusal('INVALID_PARAMETER', `topic ${header.topic} has ${topic.config.writeQueues} write queues`)
  }
  return topic
}

/**
 * Bytes that are no batch are refused alike on every replica. A newer version of the format is not: builds that know
 * it would store what this one refuses, so this replica stops before the entry.
 */
function readBatch(body: Buffer): ReadBatch | Refusal {
  const isBatch = body.length > headerAt.version && body.readUInt32LE(headerAt.magic) === batchMagic
  const version = isBatch ? body.readUInt8(headerAt.version) : batchVersion
  if (version > batchVersion) {
    throw new EntryError('unknown_version', `batch format ${version} is not known to this build`)
  }
  try {
    const header = readBatchHeader(body)
    if (header.totalLength === body.length && header.recordCount > 0) {
      if (header.extensions.length === 0) return { header, delivery: null, producerGroup: '' }
      return { header, delivery: readDelivery(header), producerGroup: readHalf(header)?.producerGroup ?? '' }
    }
    return refusal('MESSAGE_ILLEGAL', `a batch of ${header.totalLength} bytes in an entry of ${body.length}`)
  } catch (error) {
    if (error instanceof LedgerError && error.code === 'MESSAGE_ILLEGAL') {
      return refusal('MESSAGE_ILLEGAL', error.message)
    }
    throw error
  }
}
