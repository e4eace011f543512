/**
 * EndTransaction (RocketMQ: EndTransactionProcessor). Registered by `register.ts`; the leader alone answers.
 *
 * A resolution is final and may be repeated: the same one again is a success, the opposite is refused. Judged here for
 * the producer's sake, and by apply in the order of the log: whatever stale leaders propose, it happens once (B3).
 */
import { frameTypes } from '../../../store/index.ts'
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName } from '../../message/names.ts'
import { readTransactionId, type TransactionName } from '../../message/transaction-id.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { EndTransactionReply, EndTransactionRequest } from '../../rpc/transaction-messages.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import { encodeCommand } from '../apply/command.ts'
import type { Half, Outcome } from '../apply/halves.ts'
import type { ApplyResult, ReplicaApi } from '../contract.ts'
import { commitBatchOf } from '../transactions/commit-batch.ts'
import { readHalfBatch } from '../transactions/read-half.ts'
import type { HandlerContext } from './context.ts'
import { failureOf } from './failure.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'

/** The state moves on between a look and a proposal at most a few times: a resolution is final. */
const looksMax = 5

interface Wish {
  readonly name: TransactionName
  readonly transactionId: string
  readonly producerGroup: string
  readonly outcome: Outcome
}

export function registerTransactionHandlers(
  routes: ServerRoutes,
  { replica, logger }: Pick<HandlerContext, 'replica' | 'logger'>,
): void {
  routes.unary(brokerMethods.endTransaction, async (request, context) => {
    const wish = checkRequest(request, replica.group)
    try {
      const reply = await endTransaction(replica, wish, context)
      const { transactionId, fromCheck } = request
      logger.debug('a transaction was ended', { transactionId, outcome: reply.outcome, fromCheck })
      return reply
    } catch (error) {
      throw failureOf(error)
    }
  })
}

function checkRequest(request: EndTransactionRequest, brokerGroup: string): Wish {
  const { producerGroup, transactionId, resolution } = request
  checkGroupName(producerGroup)
  if (resolution !== 'commit' && resolution !== 'rollback')
    throw new LedgerError(
      'INVALID_PARAMETER',
      `resolution must be commit or rollback, not ${JSON.stringify(resolution.slice(0, 40))}`,
    )
  const name = readTransactionId(transactionId, brokerGroup)
  return { name, transactionId, producerGroup, outcome: resolution === 'commit' ? 'committed' : 'rolled_back' }
}

async function endTransaction(replica: ReplicaApi, wish: Wish, context: CallContext): Promise<EndTransactionReply> {
  // A proposal proves by itself that this replica leads; every other answer needs a quorum behind it.
  if (!replica.leading || !findOpen(replica, wish.name)) await becomeCurrent(replica, waitOptions(context))
  for (let look = 0; look < looksMax; look++) {
    const half = findOpen(replica, wish.name)
    if (!half) return answerResolved(wish, replica.machine.halves.outcome(wish.name))
    if (half.producerGroup !== wish.producerGroup)
      throw new LedgerError('NO_PERMISSION', `the transaction is none of producer group ${wish.producerGroup}`)
    const result = await resolve(replica, half, wish, context)
    if (result?.kind === 'stored') return { outcome: wish.outcome }
    if (result?.kind === 'resolved') return answerResolved(wish, result.outcomes[0] ?? undefined)
    // Refused: resolved by another leader's proposal, or its topic is gone, which resolves it, too.
    if (result?.kind === 'refused' && !isPassing(result.code)) throw new LedgerError(result.code, result.message)
  }
  throw new LedgerError('FLOW_CONTROL', `transaction ${wish.transactionId} changes faster than it can be ended`, {
    retryAfterMs: 100,
  })
}

/** Null when its bytes were carried elsewhere meanwhile. */
async function resolve(replica: ReplicaApi, half: Half, wish: Wish, context: CallContext): Promise<ApplyResult | null> {
  const options = waitOptions(context)
  if (wish.outcome === 'rolled_back') {
    const command = encodeCommand({ kind: 'roll_back', sources: [{ index: half.index, record: half.record }] })
    return (await replica.propose(frameTypes.command, [command], options)).result
  }
  const stored = await readHalfBatch(replica, half)
  if (!stored) return null
  return (await replica.propose(frameTypes.batch, [commitBatchOf(stored, half)], options)).result
}

function findOpen({ machine }: ReplicaApi, name: TransactionName): Half | null {
  const half = machine.halves.find(name)
  return half?.storeTime === name.storeTime ? half : null
}

function isPassing(code: string): boolean {
  return code === 'SUPERSEDED' || code === 'TOPIC_NOT_EXIST'
}

function answerResolved(wish: Wish, outcome: Outcome | undefined): EndTransactionReply {
  if (outcome === wish.outcome) return { outcome }
  if (outcome === undefined)
    throw new LedgerError(
      'TRANSACTION_NOT_FOUND',
      `transaction ${wish.transactionId} is not open, and not one of those that were resolved lately`,
    )
  const was = outcome === 'committed' ? 'committed' : 'rolled back'
  throw new LedgerError('TRANSACTION_RESOLVED', `transaction ${wish.transactionId} was ${was} before`)
}
