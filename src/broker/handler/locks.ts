/** Leases of orderly consumption, locked and unlocked. Registered by `register.ts`; apply judges by log time. */
import { LedgerError } from '../../common/errors.ts'
import type { AssignedQueue, LockQueuesReply, LockQueuesRequest } from '../../rpc/group-messages.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import type { QueueId } from '../apply/group-commands.ts'
import type { ReplicaApi } from '../contract.ts'
import { checkMember } from '../group/heartbeat-check.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { checkQueues, hasQueue, topicOf } from './offsets.ts'
import { change } from './topics.ts'

export function registerLockHandlers(routes: ServerRoutes, replica: ReplicaApi): void {
  routes.unary(brokerMethods.lockQueues, (request, context) => lockQueues(replica, request, context))
  routes.unary(brokerMethods.unlockQueues, async (request, context) => {
    checkMember(request.group, request.member)
    checkCount(request.generation, 'generation')
    checkQueues(request.queues)
    // What is gone has no lock.
    const known = request.queues.filter((one) => hasQueue(replica, one))
    const { group, member, generation } = request
    const queues = await idsOf(replica, known, context)
    await change(replica, { kind: 'unlock_queues', group, member, generation, queues }, context)
    return {}
  })
}

async function lockQueues(
  replica: ReplicaApi,
  request: LockQueuesRequest,
  context: CallContext,
): Promise<LockQueuesReply> {
  const { group, member } = request
  checkMember(group, member)
  const generation = checkCount(request.generation, 'generation')
  const leaseMs = checkCount(request.leaseMs, 'leaseMs')
  checkQueues(request.queues)
  const queues = await idsOf(replica, request.queues, context)
  const result = await change(replica, { kind: 'lock_queues', group, member, generation, leaseMs, queues }, context)
  if (result.kind !== 'locks') throw new LedgerError('SYSTEM_ERROR', `lock_queues gave ${result.kind}`)
  return { leases: result.until.map((until) => ({ until })) }
}

/** By the newest state: one that only believes it leads may not know the queues that its group has got since. */
async function idsOf(
  replica: ReplicaApi,
  queues: readonly AssignedQueue[],
  context: CallContext,
): Promise<readonly QueueId[]> {
  if (!replica.leading || !queues.every((one) => hasQueue(replica, one)))
    await becomeCurrent(replica, waitOptions(context))
  return queues.map((one) => ({ topicId: topicOf(replica, one).topicId, queue: one.queue }))
}
