/**
 * Handing leadership over (thesis 3.10): take no proposals, let the target catch up, tell it to stand at once.
 *
 * Used by `core.ts` and `leader.ts`. Ends when someone else leads, when the target is lost or says that it cannot lead, or
 * by timeout; until then the order is repeated with every heartbeat.
 */
import type { Refusal, TransferOutcome } from './ready.ts'
import type { Replica } from './replica.ts'
import type { NodeId } from './types.ts'

export function startTransfer(replica: Replica, to: NodeId): Refusal | null {
  const { leadership, config, now } = replica
  if (leadership === null) return { kind: 'not_leader', leader: replica.leader, term: replica.term }
  if (to === replica.id || leadership.transfer?.to === to) return null
  if (leadership.transfer !== null) return { kind: 'transferring', to: leadership.transfer.to }
  // Not to one that is on its way out either: it could not lead for long.
  if (!replica.configuration.voters.includes(to)) return { kind: 'unknown_peer', peer: to }
  if (leadership.followers.get(to)?.canLead === false) return { kind: 'cannot_lead', peer: to }
  leadership.transfer = { to, deadline: now + config.transferTimeoutMs }
  offerTransfer(replica)
  return null
}

/** Orders the election as soon as the target holds everything. */
export function offerTransfer(replica: Replica): void {
  const { leadership, log, id: from, term } = replica
  const to = leadership?.transfer?.to
  if (to === undefined || leadership?.followers.get(to)?.match !== log.lastIndex) return
  replica.outbox.sendNow({ kind: 'timeout_now', from, to, term })
}

export function endTransfer(replica: Replica, outcome: TransferOutcome): void {
  const leadership = replica.leading()
  if (leadership.transfer === null) return
  const { to } = leadership.transfer
  leadership.transfer = null
  replica.outbox.emit({ kind: 'transfer_ended', to, outcome })
}
