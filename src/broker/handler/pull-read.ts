/**
 * One pull, judged and read (RocketMQ: PullMessageProcessor and DefaultMessageStore.getMessage). Called by the Pull
 * stream, which parks and answers.
 *
 * It serves applied batches only (B4), as they lie in the log, and only bytes whose checksum the store has verified
 * (S3). Judging is synchronous, so that nothing can be applied between "nothing there" and the wait for it.
 */
import { type CommitLogApi, frameBody, frameTypes, StoreError } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { LedgerError } from '../../common/errors.ts'
import { checkTopicName } from '../../message/names.ts'
import { type PulledBatch, type PullReply, type PullRequest, pullEnvelopeBytes } from '../../rpc/envelopes.ts'
import type { TopicInfo } from '../../rpc/methods.ts'
import type { QueueRow, ReplicaApi } from '../contract.ts'
import { notLeader } from './leadership.ts'
import { isCount } from './numbers.ts'
import type { ReadAdvice } from './read-advice.ts'

/** Most bytes of one answer, whatever the client asks for. */
export const pullBytesMax: number = 4 * 1024 * 1024
/** Most batches of one answer: small ones must not make one answer hold the loop. */
export const batchesPerPullMax = 1024
const readable = 4

export type PullVerdict =
  | { readonly kind: 'read'; readonly topic: TopicInfo }
  /** This replica has not applied `index` yet, which the reader must see. */
  | { readonly kind: 'behind'; readonly index: number; readonly problem: LedgerError }
  /** Nothing there yet, as far as this replica knows. */
  | { readonly kind: 'empty'; readonly topic: TopicInfo }
  /** Only a confirmed leader may say this; `topic` is set where waiting is the answer of everyone else. */
  | { readonly kind: 'confirm'; readonly topic: TopicInfo | null; readonly problem: LedgerError }
  | { readonly kind: 'refused'; readonly problem: LedgerError }

/** Judges by the state as it is in this moment. */
export function judgePull(replica: ReplicaApi, request: PullRequest): PullVerdict {
  const malformed = findMalformed(request)
  if (malformed) return { kind: 'refused', problem: malformed }
  // Recovering a long log takes its time, in which others have what is new.
  if (!replica.running) return { kind: 'refused', problem: notRunning(replica) }
  const { machine } = replica
  const { afterIndex } = request
  if (afterIndex > machine.appliedIndex) {
    const text = `${replica.node} has applied ${machine.appliedIndex}, the reader asks for ${afterIndex}`
    return { kind: 'behind', index: afterIndex, problem: new LedgerError('REPLICA_BEHIND', text) }
  }
  const topic = machine.topic(request.topic)
  // An id from further along in the log than this replica has come: it is behind, the topic is not gone.
  if (topic?.topicId !== request.topicId && request.topicId > machine.appliedIndex && !replica.leading)
    return { kind: 'refused', problem: notLeader(replica) }
  if (!topic)
    return judgeMissing(
      new LedgerError('TOPIC_NOT_EXIST', `topic ${request.topic} does not exist in ${replica.group}`),
      {
        leading: replica.leading,
        topic: null,
      },
    )
  if (request.topicId !== 0 && request.topicId !== topic.topicId)
    return {
      kind: 'refused',
      problem: new LedgerError(
        'TOPIC_ID_CHANGED',
        `topic ${request.topic} has id ${topic.topicId} now, not ${request.topicId}`,
      ),
    }
  if ((topic.config.permission & readable) === 0)
    return judgeSetting(replica, new LedgerError('NO_PERMISSION', `topic ${request.topic} may not be read`))
  const range = machine.queueRange(topic.topicId, request.queue)
  if (!range) {
    const text = `queue ${request.queue} of ${request.topic} does not exist; it has ${topic.config.readQueues} queues, counted from 0`
    return judgeSetting(replica, new LedgerError('INVALID_PARAMETER', text))
  }
  if (request.offset >= range.min && request.offset < range.max) return { kind: 'read', topic }
  if (request.offset === range.max) return { kind: 'empty', topic }
  const problem = new LedgerError(
    'PULL_OFFSET_MOVED',
    `offset ${request.offset} is outside of queue ${request.queue} of ${request.topic}: ${range.min} to ${range.max}`,
    { minOffset: range.min, maxOffset: range.max },
  )
  // The minimum only grows, so a late replica can be sure of it. Of the end it cannot: it waits for what it lacks.
  if (request.offset < range.min) return { kind: 'refused', problem }
  return judgeMissing(problem, { leading: replica.leading, topic })
}

/** The answer when there is nothing to read, with how far this replica is. */
export function emptyReply(replica: ReplicaApi, request: PullRequest, topic: TopicInfo): PullReply {
  return replyWith(replica, request, topic, [], request.offset)
}

/**
 * Reads what fits, at least one batch. Null when the topic went away or the offset was trimmed meanwhile: judge again.
 * Throws StoreErrors, ROTTEN among them, and DATA_LOSS, when not even the first batch can be read.
 */
export async function readPull(
  replica: ReplicaApi,
  advice: ReadAdvice,
  request: PullRequest,
  topic: TopicInfo,
): Promise<PullReply | null> {
  const { machine, log } = replica
  const rows = await machine.findRows(topic.topicId, request.queue, request.offset, batchesPerPullMax)
  const read = await readBatches({ machine, log }, rows, request)
  const range = machine.queueRange(topic.topicId, request.queue)
  if (!range || request.offset < range.min) return null
  if (read instanceof Error) throw read
  const { batches, cold } = read
  const last = rows[batches.length - 1]
  invariant(last !== undefined, 'B2: a queue has a row for every offset between its minimum and maximum')
  const reply = replyWith(replica, request, topic, batches, last.baseOffset + last.recordCount)
  if (!replica.leading) return reply
  const bytesBehind = log.endPosition - last.position
  const key = topic.topicId + request.queue
  return { ...reply, suggestedNode: advice.suggest({ bytesBehind, cold, index: last.index, key }) }
}

async function readBatches(
  replica: Pick<ReplicaApi, 'machine' | 'log'>,
  rows: readonly QueueRow[],
  request: PullRequest,
): Promise<{ readonly batches: readonly PulledBatch[]; readonly cold: boolean } | StoreError | LedgerError> {
  const bytesMax = Math.min(request.bytesMax, pullBytesMax)
  const batches: PulledBatch[] = []
  let bytes = 0
  let cold = false
  for (const row of rows) {
    bytes += row.bytes + pullEnvelopeBytes
    if (batches.length > 0 && bytes > bytesMax) break
    let frame = replica.log.cachedAt(row.position)
    if (!frame) {
      cold = true
      try {
        frame = await replica.log.readAt(row.position)
      } catch (error) {
        // What was read before it is good; the next pull starts at the bad one and says so.
        if (batches.length > 0) break
        // Whether that matters depends on what was trimmed meanwhile.
        if (isBeforeLog(replica.log, row, error)) return lostBefore(replica.log, row)
        if (error instanceof StoreError) return error
        throw error
      }
    }
    invariant(
      row.index <= replica.machine.appliedIndex,
      'B4: a consumer never sees beyond what is committed and applied',
    )
    invariant(frame.header.index === row.index, 'B2: a row of a queue points at its own entry')
    invariant(frame.header.type === frameTypes.batch, 'B2: a row of a queue points at a batch')
    batches.push({
      baseOffset: row.baseOffset,
      index: row.index,
      storeTime: row.storeTime,
      startRecord: Math.max(0, request.offset - row.baseOffset),
      batch: frameBody(frame),
    })
  }
  return { batches, cold }
}

/**
 * A log that was copied from behind lost entries lacks what lies before them, too. To a reader it is as lost here as
 * they are elsewhere: it must be able to find out that nobody has them.
 */
function isBeforeLog({ origin }: Pick<CommitLogApi, 'origin'>, row: QueueRow, error: unknown): boolean {
  return error instanceof StoreError && error.code === 'OUT_OF_RANGE' && row.position < origin.position
}

function lostBefore({ origin }: Pick<CommitLogApi, 'origin'>, { index }: QueueRow): LedgerError {
  return new LedgerError('DATA_LOSS', `the log of this replica begins behind entry ${origin.index}, without ${index}`)
}

function replyWith(
  replica: ReplicaApi,
  request: PullRequest,
  topic: TopicInfo,
  batches: readonly PulledBatch[],
  nextOffset: number,
): PullReply {
  const { machine } = replica
  const range = machine.queueRange(topic.topicId, request.queue)
  return {
    requestId: request.requestId,
    code: 0,
    status: null,
    nextOffset,
    minOffset: range?.min ?? 0,
    maxOffset: range?.max ?? 0,
    appliedIndex: machine.appliedIndex,
    commitIndex: replica.commitIndex,
    appliedTime: machine.appliedTime,
    topicId: topic.topicId,
    suggestedNode: '',
    batches,
  }
}

function notRunning({ node }: ReplicaApi): LedgerError {
  return new LedgerError('SERVICE_NOT_AVAILABLE', `the replica of ${node} has ended, and the next has not begun`)
}

function findMalformed(request: PullRequest): LedgerError | null {
  for (const field of ['queue', 'offset', 'topicId', 'bytesMax', 'waitMs', 'afterIndex'] as const)
    if (!isCount(request[field]))
      return new LedgerError('INVALID_PARAMETER', `${field} must be a whole number from 0 on, not ${request[field]}`)
  try {
    checkTopicName(request.topic)
  } catch (error) {
    if (error instanceof LedgerError) return error
    throw error
  }
  return null
}

function judgeMissing(
  problem: LedgerError,
  by: { readonly leading: boolean; readonly topic: TopicInfo | null },
): PullVerdict {
  if (by.leading) return { kind: 'confirm', topic: by.topic, problem }
  return by.topic ? { kind: 'empty', topic: by.topic } : { kind: 'refused', problem }
}

/** Settings may have changed where this replica has not come yet: a queue that it does not know may be new. */
function judgeSetting(replica: ReplicaApi, problem: LedgerError): PullVerdict {
  return replica.leading ? { kind: 'confirm', topic: null, problem } : { kind: 'refused', problem: notLeader(replica) }
}
