/**
 * Reads and judgements that need the newest state. Used by handlers and the group coordinator.
 *
 * Having been the leader a moment ago proves nothing: a paused process wakes up believing it still leads. What only
 * the leader may say is confirmed by a quorum round first (thesis 6.4).
 */
import { LedgerError } from '../../common/errors.ts'
import type { CallContext } from '../../rpc/transport.ts'
import type { ProposeOptions, ReplicaApi } from '../contract.ts'

/** Longest a unary call waits for the log, whatever deadline its caller has. */
export const callWaitMsMax = 30_000

/** The error of a replica that does not lead, with what it knows of who does. */
export function notLeader(replica: ReplicaApi): LedgerError {
  const leader = replica.leader()
  const who = leader ? `node ${leader.node} leads in term ${leader.term}` : 'no leader is known'
  return new LedgerError('NOT_LEADER', `node ${replica.node} does not lead ${replica.group}: ${who}`, {
    term: replica.term,
    ...(leader && leader.node !== replica.node ? { leader: { node: leader.node, address: leader.address } } : {}),
  })
}

export function waitOptions(context: CallContext): ProposeOptions {
  return { timeoutMs: Math.min(context.remainingMs, callWaitMsMax), signal: context.signal }
}

/** Resolves on a leader whose state is current. Rejects as `ReplicaApi.readCurrent` does, or with NOT_LEADER. */
export async function becomeCurrent(replica: ReplicaApi, options: ProposeOptions): Promise<void> {
  const leader = replica.leader()
  if (leader && leader.node !== replica.node) throw notLeader(replica)
  await replica.readCurrent(options)
  // Leadership may have gone between the quorum round and this turn; the state is current all the same, but what
  // follows is often a proposal or the coordinator's memory, which only a leader has.
  if (!replica.leading) throw notLeader(replica)
}
