/**
 * Standing for election: the pre-vote (thesis 9.6), then the vote (Raft 5.2).
 *
 * Used by `core.ts` and `follower.ts`. Vote requests wait for the own disk: they name the end of the own log, and a
 * grant must not outlive the entries that it was given for.
 */
import { awaitLeader, retryAfterLeaderSeen, retryAfterSplit } from './election-timer.ts'
import { startLeading } from './leader.ts'
import type { PreVoteResponse, VoteRefusal, VoteResponse } from './messages.ts'
import { voteOutcome } from './quorum.ts'
import type { RoleChangeReason } from './ready.ts'
import type { Replica } from './replica.ts'
import { becomeCandidate, becomeFollower, becomePreCandidate } from './roles.ts'

/** Opens a pre-vote round. Does nothing on a leader and on a node that may not stand or is unable. */
export function campaign(replica: Replica, reason: RoleChangeReason): void {
  if (!replica.standsByItself || replica.role === 'leader') return
  if (replica.otherVoters.length === 0) {
    // Alone there is nobody to disturb, and a second term while the first vote is being written helps nobody.
    if (replica.role === 'candidate') awaitLeader(replica)
    else stand(replica, 'sole_voter', false)
    return
  }
  becomePreCandidate(replica, reason)
  replica.votes.set(replica.id, true)
  for (const to of replica.otherVoters) {
    replica.outbox.sendNow({
      kind: 'pre_vote_request',
      from: replica.id,
      to,
      term: replica.term + 1,
      lastIndex: replica.log.lastIndex,
      lastTerm: replica.log.lastTerm,
    })
  }
}

/** Opens a vote round in the next term. `transfer`: ordered by the leader, which bypasses the leases. */
export function stand(replica: Replica, reason: RoleChangeReason, transfer: boolean): void {
  becomeCandidate(replica, reason)
  for (const to of replica.otherVoters) {
    replica.outbox.sendAfterPersist({
      kind: 'vote_request',
      from: replica.id,
      to,
      term: replica.term,
      lastIndex: replica.log.lastIndex,
      lastTerm: replica.log.lastTerm,
      transfer,
    })
  }
}

/** Counts the own vote as soon as it is on the own disk. */
export function countOwnVote(replica: Replica): void {
  const { ledger, term, id } = replica
  if (replica.role !== 'candidate' || replica.votes.has(id)) return
  if (ledger.term === term && ledger.vote === id) countVote(replica, id, null)
}

export function onVoteResponse(replica: Replica, response: VoteResponse): void {
  if (replica.role === 'candidate') countVote(replica, response.from, response.refusal)
}

export function onPreVoteResponse(replica: Replica, response: PreVoteResponse): void {
  const { from, term, refusal } = response
  if (refusal !== null && term > replica.term) {
    // The own term is old. The next round asks for a newer one.
    becomeFollower(replica, term, null, 'higher_term')
    retryAfterSplit(replica)
    return
  }
  if (replica.role !== 'pre_candidate' || (refusal === null && term !== replica.term + 1)) return
  replica.votes.set(from, refusal === null)
  const outcome = voteOutcome(replica.configuration, replica.votes)
  if (outcome === 'won') stand(replica, 'pre_vote_won', false)
  else if (refusal !== null) onPreVoteRefused(replica, refusal, outcome === 'lost')
}

function onPreVoteRefused(replica: Replica, refusal: VoteRefusal, isLost: boolean): void {
  if (refusal === 'leader_seen') {
    if (canRepeat(replica)) {
      shorten(replica, () => {
        replica.leaderSeenRetriesLeft--
        retryAfterLeaderSeen(replica)
      })
    } else if (isLost) {
      // The others hear their leader: what is broken is near this node. It waits as if it had heard nothing.
      becomeFollower(replica, replica.term, null, 'pre_vote_lost')
      replica.lostLeader = null
    }
    return
  }
  if (isLost) {
    becomeFollower(replica, replica.term, null, 'pre_vote_lost')
    retryAfterSplit(replica)
  } else {
    shorten(replica, () => retryAfterSplit(replica))
  }
}

/** Only who lost the leader himself insists: the others are about to notice too. */
function canRepeat(replica: Replica): boolean {
  const { electionReason, leaderSeenRetriesLeft } = replica
  const isLeaderLost = electionReason === 'connection_lost' || electionReason === 'leader_stepped_down'
  return isLeaderLost && (leaderSeenRetriesLeft > 0 || replica.isRoundShortened)
}

function countVote(replica: Replica, voter: string, refusal: VoteRefusal | null): void {
  replica.votes.set(voter, refusal === null)
  if (voteOutcome(replica.configuration, replica.votes) === 'won') startLeading(replica)
  // Without the refusing voter the round may still be won by a slow one, but it is not worth a whole timeout.
  else if (refusal !== null) shorten(replica, () => retryAfterSplit(replica))
}

/** Moves the deadline of a round up, once: further refusals of the same round must not push it back. */
function shorten(replica: Replica, reschedule: () => void): void {
  if (replica.isRoundShortened) return
  replica.isRoundShortened = true
  reschedule()
}
