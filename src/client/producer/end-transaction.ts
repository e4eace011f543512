/** Tells a broker group what becomes of a half message. Used by the transaction producer and its checks. */
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import { callLeader, type LeaderCallOptions, type LeaderCallPorts } from '../leader-call.ts'
import type { TransactionResult } from './transaction-types.ts'

export interface Ending {
  readonly producerGroup: string
  readonly brokerGroup: string
  readonly transactionId: string
  readonly decision: 'commit' | 'rollback'
  readonly fromCheck: boolean
}

/**
 * Tried over failovers until the time is up; the same resolution twice is one. Never throws: what went wrong is in the
 * result, and a transaction whose end is not known is left to a check.
 */
export async function endTransaction(
  ports: LeaderCallPorts,
  { producerGroup, brokerGroup, transactionId, decision, fromCheck }: Ending,
  options: LeaderCallOptions,
): Promise<Pick<TransactionResult, 'state' | 'error'>> {
  const request = { producerGroup, transactionId, resolution: decision, fromCheck }
  const wanted = decision === 'commit' ? 'committed' : 'rolled_back'
  try {
    await callLeader(ports, brokerGroup, { method: brokerMethods.endTransaction, request }, options)
    return { state: wanted, error: null }
  } catch (cause) {
    const error: LedgerError = toLedgerError(cause)
    // Somebody else ended it the other way, which is final.
    if (error.code === 'TRANSACTION_RESOLVED')
      return { state: wanted === 'committed' ? 'rolled_back' : 'committed', error }
    return { state: 'unknown', error }
  }
}

/** Whatever user code returned: not every user has a compiler. */
export function checkDecision(what: string, decision: unknown): 'commit' | 'rollback' | 'unknown' {
  if (decision === 'commit' || decision === 'rollback' || decision === 'unknown') return decision
  const text = `${what} must return 'commit', 'rollback' or 'unknown', not ${String(decision).slice(0, 80)}`
  throw new LedgerError('INVALID_PARAMETER', text)
}
