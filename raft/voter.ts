/**
 * How this node answers those who stand for election (Raft 5.2, 5.4.1; thesis 9.6 and 4.2.3).
 *
 * The configuration of the candidate counts, not the own one (thesis 4.1): the entry that gives this node a vote may not
 * have reached it yet, and its vote may be needed before any leader can bring it.
 *
 * Used by `core.ts`. Grants and refusals leave only after the Ready is durable: a vote that a crash could undo
 * might be given twice in one term (R1).
 */
import { awaitLeader, retryAfterSplit } from './election-timer.ts'
import type { PreVoteRequest, VoteRefusal, VoteRequest } from './messages.ts'
import type { Replica } from './replica.ts'
import { becomeFollower } from './roles.ts'
import type { NodeId } from './types.ts'

/**
 * Changes neither term nor vote. Of two that ask at the same time one gives way here, so that they do not split the
 * vote that follows.
 */
export function answerPreVote(replica: Replica, request: PreVoteRequest): void {
  const refusal = preVoteRefusal(replica, request)
  if (refusal === null && replica.role === 'pre_candidate' && request.from < replica.id) {
    becomeFollower(replica, replica.term, null, 'pre_vote_lost')
    retryAfterSplit(replica)
  }
  replica.outbox.sendAfterPersist({
    kind: 'pre_vote_response',
    from: replica.id,
    to: request.from,
    term: refusal === null ? request.term : replica.term,
    refusal,
  })
}

export function answerVote(replica: Replica, request: VoteRequest): void {
  const refusal = voteRefusal(replica, request)
  if (refusal === null) {
    replica.vote = request.from
    awaitLeader(replica)
  }
  const term = Math.max(replica.term, request.term)
  replica.outbox.emit({ kind: 'vote_cast', candidate: request.from, term: request.term, refusal })
  replica.outbox.sendAfterPersist({ kind: 'vote_response', from: replica.id, to: request.from, term, refusal })
}

function preVoteRefusal(replica: Replica, request: PreVoteRequest): VoteRefusal | null {
  if (replica.quarantine !== null) return 'quarantined'
  if (request.term < replica.term) return 'old_term'
  if (seesLeader(replica, request.from)) return 'leader_seen'
  if (request.term === replica.term && hasVotedForOther(replica, request.from)) return 'voted_for_other'
  return replica.log.isUpToDate(request.lastIndex, request.lastTerm) ? null : 'log_behind'
}

/** Takes over a higher term, unless a live leader forbids it. */
function voteRefusal(replica: Replica, request: VoteRequest): VoteRefusal | null {
  if (replica.quarantine !== null) return 'quarantined'
  if (request.term < replica.term) return 'old_term'
  if (request.term > replica.term) {
    if (!request.transfer && seesLeader(replica, request.from)) return 'leader_seen'
    const isTransfer = replica.leadership?.transfer?.to === request.from
    becomeFollower(replica, request.term, null, isTransfer ? 'transferred' : 'higher_term')
  }
  if (hasVotedForOther(replica, request.from)) return 'voted_for_other'
  return replica.log.isUpToDate(request.lastIndex, request.lastTerm) ? null : 'log_behind'
}

function hasVotedForOther(replica: Replica, candidate: NodeId): boolean {
  return replica.vote !== null && replica.vote !== candidate
}

/**
 * Thesis 4.2.3: no vote while a leader is alive, so that a node that was cut off does not depose it. A known leader
 * that asks for votes itself leads no more, and one whose connection broke here holds no lease (`lostLeader`).
 */
function seesLeader(replica: Replica, candidate: NodeId): boolean {
  if (replica.role === 'leader') return true
  const { leader } = replica
  if (leader === null || leader === candidate || leader === replica.lostLeader) return false
  return replica.now - replica.leaderHeardAt < replica.config.electionTimeoutMinMs
}
