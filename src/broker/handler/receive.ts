/**
 * Receive and Settle: consumption message by message. Registered by `register.ts`; the leader alone answers. Checks
 * what a client says and translates; `../receive/` does the rest.
 */
import { errorTable, LedgerError } from '../../common/errors.ts'
import { checkGroupName, checkReadableTopicName } from '../../message/names.ts'
import { makeReceiptHandle } from '../../message/receipt-handle.ts'
import { parseTagFilter } from '../../message/tag-filter.ts'
import { encodePulledBatches } from '../../rpc/envelopes.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { ReceiveReply, ReceiveRequest, SettleReply, SettleRequest } from '../../rpc/receive-messages.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import { invisibleMsMax } from '../apply/receiving.ts'
import type { ReplicaApi } from '../contract.ts'
import { type ReceiveCall, ReceiveEngine } from '../receive/engine.ts'
import type { Granted } from '../receive/look.ts'
import { scopeOf, settleMessages } from '../receive/settler.ts'
import type { Start } from '../receive/start.ts'
import type { HandlerContext } from './context.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { pullBytesMax } from './pull-read.ts'
import { topicNamed } from './topics.ts'

/** Longest wait for a first message. */
export const receiveWaitMsMax = 20_000
/** Most messages of one receive, and of one settle. */
export const receiveMessagesMax = 1024
const attemptIdLengthMax = 64
/** Of a caller's time, kept for what has to be done when a message came at the end of the wait. */
const reserveMs = 500

export function registerReceiveHandlers(
  routes: ServerRoutes,
  context: HandlerContext,
): { close(): void; renewed(): void } {
  const { replica, clock, logger, settings } = context
  const engine = new ReceiveEngine({
    replica,
    clock,
    logger,
    receivesMax: settings.receivesMax,
    retryAfterMs: settings.retryAfterMs,
  })
  routes.unary(brokerMethods.receive, async (request, call) => {
    const checked = await checkReceive(replica, request, call)
    const granted = await engine.receive(checked)
    return replyOf(replica, checked, granted)
  })
  routes.unary(brokerMethods.settle, async (request, call): Promise<SettleReply> => {
    checkSettle(request)
    if (!replica.leading) await becomeCurrent(replica, waitOptions(call))
    const { timeoutMs } = waitOptions(call)
    const results = await settleMessages(context, request.group, request.messages, timeoutMs).finally(() =>
      engine.groupChanged(request.group),
    )
    return {
      results: results.map(({ problem, handle }) => ({
        code: problem ? errorTable[problem.code].number : 0,
        message: problem?.message ?? '',
        handle,
      })),
    }
  })
  return engine
}

async function checkReceive(replica: ReplicaApi, request: ReceiveRequest, context: CallContext): Promise<ReceiveCall> {
  const { group, topic, attemptId } = request
  checkGroupName(group)
  checkReadableTopicName(topic)
  if (attemptId.length > attemptIdLengthMax)
    throw new LedgerError('INVALID_PARAMETER', `attemptId has ${attemptId.length} characters`)
  const waitMs = within('waitMs', request.waitMs, 0, receiveWaitMsMax)
  const order = {
    group,
    attemptId,
    messagesMax: within('maxMessages', request.maxMessages, 1, receiveMessagesMax),
    bytesMax: within('bytesMax', request.bytesMax, 1, pullBytesMax),
    invisibleMs: within('invisibleMs', request.invisibleMs, 1, invisibleMsMax),
    filter: parseTagFilter(request.expression),
    start: startOf(request),
    queue: request.queue === undefined ? null : checkCount(request.queue, 'queue'),
  }
  // One that only believes it leads may not know the topic yet.
  if (!replica.leading || !replica.machine.topic(topic)) await becomeCurrent(replica, waitOptions(context))
  const { remainingMs, signal } = context
  return {
    ...order,
    topic: topicNamed(replica, topic),
    waitMs: Math.max(0, Math.min(waitMs, remainingMs - reserveMs)),
    remainingMs,
    signal,
  }
}

function startOf({ from, fromTime }: ReceiveRequest): Start | null {
  if (from === '') return null
  if (from !== 'first' && from !== 'last' && from !== 'time')
    throw new LedgerError('INVALID_PARAMETER', `from must be first, last or time, not ${from.slice(0, 40)}`)
  return { from, time: checkCount(fromTime, 'fromTime') }
}

function within(name: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw new LedgerError('INVALID_PARAMETER', `${name} must be a whole number from ${min} to ${max}, not ${value}`)
}

function checkSettle({ group, messages }: SettleRequest): void {
  checkGroupName(group)
  if (messages.length === 0) throw new LedgerError('INVALID_REQUEST', 'the request names no message')
  if (messages.length > receiveMessagesMax)
    throw new LedgerError(
      'INVALID_PARAMETER',
      `${messages.length} messages, at most ${receiveMessagesMax} in a request`,
    )
}

function replyOf(replica: ReplicaApi, call: ReceiveCall, granted: Granted | null): ReceiveReply {
  const { topicId } = call.topic
  const progress = { appliedIndex: replica.appliedIndex, commitIndex: replica.commitIndex }
  if (!granted)
    return { topicId, queue: 0, messages: [], invisibleMs: 0, ...progress, batches: encodePulledBatches([]) }
  const { queue } = granted
  const scope = scopeOf(replica, call.group)
  return {
    topicId,
    queue,
    messages: granted.messages.map(({ offset, attempt, receipt }) => ({
      offset,
      attempt,
      handle: makeReceiptHandle(scope, { topicId, queue, offset, receipt }),
    })),
    invisibleMs: Math.max(0, granted.visibleAt - replica.logTime),
    ...progress,
    batches: encodePulledBatches(granted.batches),
  }
}
