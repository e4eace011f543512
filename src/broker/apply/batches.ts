/**
 * Applying a batch: where every message gets its offset. Called once per batch entry; must stay at microseconds.
 *
 * The handlers checked the batch in full; here only what depends on the state is judged, again, because it may have
 * changed between proposal and commit.
 */
import { invariant } from '../../common/assert.ts'
import { LedgerError } from '../../common/errors.ts'
import { readBatchHeader } from '../../message/batch.ts'
import { batchMagic, batchVersion, headerAt } from '../../message/layout.ts'
import type { BatchHeader } from '../../message/types.ts'
import type { ApplyResult, CommittedEntry, TopicInfo } from '../contract.ts'
import { EntryError } from './command.ts'
import { type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'
import { permissionWrite } from './topics.ts'

export function applyBatch(tables: Tables, entry: CommittedEntry): ApplyResult {
  const header = readHeader(entry.body)
  if ('code' in header) return header
  const topic = writableTopic(tables, header)
  if ('code' in topic) return topic
  const { topicId } = topic
  const judgement = tables.producers.judge(header, topicId, tables.limits.current)
  if (judgement.kind === 'refused') return judgement
  const { queue, recordCount } = header
  if (judgement.kind === 'duplicate') {
    const { baseOffset, index, storeTime } = judgement.original
    return { kind: 'stored', topicId, queue, baseOffset, recordCount, index, storeTime, duplicate: true }
  }
  const state = tables.queues.find(topicId, queue)
  invariant(state !== undefined, 'B2: every write queue of a topic exists')
  const { index, position, storeTime } = entry
  const bytes = entry.body.length
  const baseOffset = tables.queues.append(state, { recordCount, index, position, storeTime, bytes })
  if (judgement.checked) {
    const { producerEpoch: epoch, baseSequence } = header
    tables.producers.record(header, topicId, { epoch, baseSequence, recordCount, bytes, baseOffset, index, storeTime })
  }
  return { kind: 'stored', topicId, queue, baseOffset, recordCount, index, storeTime, duplicate: false }
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
function readHeader(body: Buffer): BatchHeader | Refusal {
  const isBatch = body.length > headerAt.version && body.readUInt32LE(headerAt.magic) === batchMagic
  const version = isBatch ? body.readUInt8(headerAt.version) : batchVersion
  if (version > batchVersion) {
    throw new EntryError('unknown_version', `batch format ${version} is not known to this build`)
  }
  try {
    const header = readBatchHeader(body)
    if (header.totalLength === body.length && header.recordCount > 0) return header
    return refusal('MESSAGE_ILLEGAL', `a batch of ${header.totalLength} bytes in an entry of ${body.length}`)
  } catch (error) {
    if (error instanceof LedgerError && error.code === 'MESSAGE_ILLEGAL') {
      return refusal('MESSAGE_ILLEGAL', error.message)
    }
    throw error
  }
}
