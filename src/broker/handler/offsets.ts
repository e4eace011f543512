/**
 * Consumer offsets and queue ranges: commit, fetch, query. Registered by `register.ts`; the leader alone answers.
 *
 * Committed offsets live in the log: a commit is answered after it was applied, and a fetch never shows an older one
 * than a commit that was answered (B5, thesis 6.4).
 */
import { LedgerError } from '../../common/errors.ts'
import { queuesPerRequestMax } from '../../message/limits.ts'
import { checkGroupName, checkTopicName } from '../../message/names.ts'
import {
  brokerMethods,
  type CommitOffsetsReply,
  type CommitOffsetsRequest,
  type FetchOffsetsReply,
  type FetchOffsetsRequest,
  type QueryOffsetsReply,
  type QueryOffsetsRequest,
  type QueueOffset,
  type TopicInfo,
} from '../../rpc/methods.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import type { ReplicaApi } from '../contract.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { change, topicNamed } from './topics.ts'

const memberLengthMax = 255

export function registerOffsetHandlers(routes: ServerRoutes, replica: ReplicaApi): void {
  routes.unary(brokerMethods.commitOffsets, (request, context) => commitOffsets(replica, request, context))
  routes.unary(brokerMethods.fetchOffsets, (request, context) => fetchOffsets(replica, request, context))
  routes.unary(brokerMethods.queryOffsets, (request, context) => queryOffsets(replica, request, context))
}

async function commitOffsets(
  replica: ReplicaApi,
  request: CommitOffsetsRequest,
  context: CallContext,
): Promise<CommitOffsetsReply> {
  const { group, member, seek } = request
  checkGroupName(group)
  if (member.length > memberLengthMax)
    throw new LedgerError('INVALID_PARAMETER', `member has ${member.length} characters, at most ${memberLengthMax}`)
  const generation = checkCount(request.generation, 'generation')
  checkQueues(request.offsets)
  for (const { offset } of request.offsets) checkCount(offset, 'offset')
  // The names are translated by the newest state; what happens to the topics after that is for apply to judge. One that
  // only believes it leads may know neither a topic nor the queues it has got since.
  if (!replica.leading || !request.offsets.every((one) => hasQueue(replica, one)))
    await becomeCurrent(replica, waitOptions(context))
  const offsets = request.offsets.map((one) => ({
    topicId: topicOf(replica, one).topicId,
    queue: one.queue,
    offset: one.offset,
  }))
  const result = await change(replica, { kind: 'commit_offsets', group, member, generation, seek, offsets }, context)
  if (result.kind !== 'offsets') throw new LedgerError('SYSTEM_ERROR', `commit_offsets gave ${result.kind}`)
  return {
    offsets: request.offsets.map(({ topic, queue }, index) => ({ topic, queue, offset: result.offsets[index] ?? 0 })),
  }
}

async function fetchOffsets(
  replica: ReplicaApi,
  request: FetchOffsetsRequest,
  context: CallContext,
): Promise<FetchOffsetsReply> {
  checkGroupName(request.group)
  checkQueues(request.queues)
  await becomeCurrent(replica, waitOptions(context))
  return {
    offsets: request.queues.map((one) => {
      const { topicId } = topicOf(replica, one)
      const offset = replica.machine.committedOffset(request.group, topicId, one.queue)
      const { topic, queue } = one
      return offset === undefined ? { topic, queue } : { topic, queue, offset }
    }),
  }
}

async function queryOffsets(
  replica: ReplicaApi,
  request: QueryOffsetsRequest,
  context: CallContext,
): Promise<QueryOffsetsReply> {
  checkTopicName(request.topic)
  checkCount(request.queue, 'queue')
  const time = request.time === undefined ? undefined : checkCount(request.time, 'time')
  await becomeCurrent(replica, waitOptions(context))
  const { topicId } = topicOf(replica, request)
  const offsetByTime = time === undefined ? undefined : await replica.machine.offsetByTime(topicId, request.queue, time)
  // After the wait: a range read before it could end below the offset that was found.
  const range = replica.machine.queueRange(topicId, request.queue)
  if (!range) throw new LedgerError('TOPIC_NOT_EXIST', `topic ${request.topic} was deleted just now`)
  return {
    minOffset: range.min,
    maxOffset: range.max,
    ...(offsetByTime === undefined ? {} : { offsetByTime }),
    topicId,
  }
}

function checkQueues(queues: readonly QueueOffset[]): void {
  if (queues.length === 0) throw new LedgerError('INVALID_REQUEST', 'the request names no queue')
  if (queues.length > queuesPerRequestMax)
    throw new LedgerError('INVALID_PARAMETER', `${queues.length} queues, at most ${queuesPerRequestMax} in a request`)
  for (const { topic, queue } of queues) {
    checkTopicName(topic)
    checkCount(queue, 'queue')
  }
}

interface Queue {
  readonly topic: string
  readonly queue: number
}

function hasQueue({ machine }: ReplicaApi, at: Queue): boolean {
  const topic = machine.topic(at.topic)
  return topic !== undefined && machine.queueRange(topic.topicId, at.queue) !== undefined
}

/** The topic, if it exists and has this queue. */
function topicOf(replica: ReplicaApi, at: Queue): TopicInfo {
  const topic = topicNamed(replica, at.topic)
  if (!hasQueue(replica, at))
    throw new LedgerError(
      'INVALID_PARAMETER',
      `queue ${at.queue} of ${at.topic} does not exist; it has ${topic.config.readQueues} queues, counted from 0`,
    )
  return topic
}
