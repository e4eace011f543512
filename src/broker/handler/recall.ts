/**
 * Taking back a delayed message before it is delivered (RocketMQ: RecallMessageProcessor). Registered by
 * `register.ts`; the leader alone answers.
 *
 * Apply cannot tell a timer that never was from one that waits, so nothing may be proposed whose row was not seen.
 */
import { LedgerError } from '../../common/errors.ts'
import type { TimerKey } from '../../message/extensions.ts'
import { checkTopicName } from '../../message/names.ts'
import { readRecallHandle } from '../../message/recall-handle.ts'
import type { AssignedQueue } from '../../rpc/group-messages.ts'
import { brokerMethods, type Empty } from '../../rpc/methods.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import type { TimerPlace } from '../apply/timers.ts'
import type { ReplicaApi } from '../contract.ts'
import { failureOf } from './failure.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { change, topicNamed } from './topics.ts'

type RecallRequest = AssignedQueue & { readonly handle: string }

export function registerRecallHandler(routes: ServerRoutes, replica: ReplicaApi): void {
  routes.unary(brokerMethods.recallMessage, (request, context) => recallMessage(replica, request, context))
}

async function recallMessage(replica: ReplicaApi, request: RecallRequest, context: CallContext): Promise<Empty> {
  const { topic, queue, handle } = request
  checkTopicName(topic)
  checkCount(queue, 'queue')
  const timer = readRecallHandle(handle, { topic, queue })
  await becomeCurrent(replica, waitOptions(context))
  const { topicId } = topicNamed(replica, topic)
  const place = await findRow(replica, timer)
  if (place?.topicId !== topicId || place.queue !== queue) throw notFound()
  const result = await change(replica, { kind: 'recall_timer', topicId, queue, timer }, context)
  // Delivered, or recalled by somebody else, between the look and the entry.
  if (result.kind !== 'recalled' || !result.done) throw notFound()
  return {}
}

async function findRow(replica: ReplicaApi, timer: TimerKey): Promise<TimerPlace | null> {
  try {
    return await replica.machine.timers.rows.find(timer)
  } catch (error) {
    throw failureOf(error)
  }
}

function notFound(): LedgerError {
  return new LedgerError('TIMER_NOT_FOUND', 'the message is not waiting: it was delivered or recalled before')
}
