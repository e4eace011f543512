/**
 * Moves a consumer group to other positions (RocketMQ: resetOffset). Called for the RPC of that name: first a preview,
 * then the same request with the generation that the preview told.
 *
 * The generation fences it: when members came or went since the preview, it is refused, and whoever asked looks again.
 * What members consumed before it cannot be committed afterwards.
 */
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName, checkReadableTopicName } from '../../message/names.ts'
import type { SeekGroupReply, SeekGroupRequest, SeekPosition } from '../../rpc/group-messages.ts'
import type { CallContext } from '../../rpc/transport.ts'
import type { ReplicaApi } from '../contract.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { topicOf } from './offsets.ts'
import { change, topicNamed } from './topics.ts'

const targets = ['first', 'last', 'time', 'offset', 'group'] as const

export async function seekGroup(
  replica: ReplicaApi,
  request: SeekGroupRequest,
  context: CallContext,
): Promise<SeekGroupReply> {
  check(request)
  const { group, topic, expectedGeneration } = request
  await becomeCurrent(replica, waitOptions(context))
  const { generation } = replica.machine.assignment(group)
  const { topicId, positions } = await findPositions(replica, request)
  if (expectedGeneration === undefined) return { generation, queues: positions }
  if (positions.length === 0) throw new LedgerError('INVALID_PARAMETER', `there is no position of ${topic} to seek to`)
  const offsets = positions.map(({ queue, newOffset }) => ({ topicId, queue, offset: newOffset }))
  const result = await change(replica, { kind: 'seek_group', group, expectedGeneration, offsets }, context)
  if (result.kind !== 'generation') throw new LedgerError('SYSTEM_ERROR', `seek_group gave ${result.kind}`)
  const queues = positions.map(({ queue, currentOffset, newOffset }) => {
    const readBack = replica.machine.committedOffset(group, topicId, queue) ?? newOffset
    return { topic, queue, newOffset: readBack, ...(currentOffset === undefined ? {} : { currentOffset }) }
  })
  return { generation: result.generation, queues }
}

async function findPositions(
  replica: ReplicaApi,
  request: SeekGroupRequest,
): Promise<{ readonly topicId: number; readonly positions: readonly SeekPosition[] }> {
  const { machine } = replica
  const { topicId } =
    request.queue === undefined
      ? topicNamed(replica, request.topic)
      : topicOf(replica, { topic: request.topic, queue: request.queue })
  const positions: SeekPosition[] = []
  const first = request.queue ?? 0
  for (let queue = first; machine.queueRange(topicId, queue); queue++) {
    if (request.queue !== undefined && queue > first) break
    const wanted = await positionIn(replica, request, { topicId, queue })
    const range = machine.queueRange(topicId, queue)
    if (wanted === undefined || !range) continue
    const newOffset = Math.min(range.max, Math.max(range.min, wanted))
    const currentOffset = machine.committedOffset(request.group, topicId, queue)
    const entry = { topic: request.topic, queue, newOffset }
    positions.push(currentOffset === undefined ? entry : { ...entry, currentOffset })
  }
  return { topicId, positions }
}

/** Before it is brought into the range of the queue; undefined: nothing to go by. */
async function positionIn(
  { machine }: ReplicaApi,
  request: SeekGroupRequest,
  { topicId, queue }: { readonly topicId: number; readonly queue: number },
): Promise<number | undefined> {
  switch (request.to) {
    case 'first':
      return 0
    case 'last':
      return Number.MAX_SAFE_INTEGER
    case 'time':
      return machine.offsetByTime(topicId, queue, request.time)
    case 'offset':
      return request.offset
    default:
      return machine.committedOffset(request.otherGroup, topicId, queue)
  }
}

function check(request: SeekGroupRequest): void {
  checkGroupName(request.group)
  checkReadableTopicName(request.topic)
  checkCount(request.time, 'time')
  checkCount(request.offset, 'offset')
  if (request.queue !== undefined) checkCount(request.queue, 'queue')
  if (request.expectedGeneration !== undefined) checkCount(request.expectedGeneration, 'expectedGeneration')
  if (!targets.some((target) => target === request.to))
    throw new LedgerError('INVALID_PARAMETER', `a group seeks to ${targets.join(', ')}, not ${request.to}`)
  if (request.to === 'group') checkGroupName(request.otherGroup)
}
