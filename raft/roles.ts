/**
 * The transitions between roles (Raft figure 4), the only place where role, term, vote and leader change.
 *
 *   follower -> pre_candidate -> candidate -> leader, and from each back to follower
 *
 * Used by all step files. A transition says what it did by events; it never sends, except what opens a round.
 */
import { invariant } from './assert.ts'
import { awaitLeader } from './election-timer.ts'
import { Leadership } from './leadership.ts'
import type { RoleChangeReason } from './ready.ts'
import type { Replica } from './replica.ts'
import type { NodeId, Role, Term } from './types.ts'

/** Follows `leader` (null: nobody known) in `term`, which is the own one or a higher one. Draws a new timeout. */
export function becomeFollower(replica: Replica, term: Term, leader: NodeId | null, reason: RoleChangeReason): void {
  if (term !== replica.term) enterTerm(replica, term, null)
  if (replica.leadership !== null) endLeadership(replica, leader, reason)
  replica.votes.clear()
  if (leader !== null) {
    invariant(replica.termLeader === null || replica.termLeader === leader, 'R1: a second leader in one term')
    replica.termLeader = leader
    replica.lostLeader = null
    replica.seriesStartedAt = null
    replica.handicap = null
  }
  setLeader(replica, leader)
  setRole(replica, 'follower', reason)
  awaitLeader(replica)
}

/** Thesis 9.6: asks whether an election could be won, before it disturbs anyone with a higher term. */
export function becomePreCandidate(replica: Replica, reason: RoleChangeReason): void {
  invariant(replica.role !== 'leader' && replica.mayStand, 'R1: this node may not stand for election')
  openRound(replica)
  setLeader(replica, null)
  setRole(replica, 'pre_candidate', reason)
}

/** Raft 5.2. The own vote counts once it is durable, not here. */
export function becomeCandidate(replica: Replica, reason: RoleChangeReason): void {
  invariant(replica.role !== 'leader' && replica.mayStand, 'R1: this node may not stand for election')
  enterTerm(replica, replica.term + 1, replica.id)
  openRound(replica)
  setLeader(replica, null)
  setRole(replica, 'candidate', reason)
}

/** Appends the no-op of the term: nothing of older terms commits without it (Raft 5.4.2, thesis 6.4). */
export function becomeLeader(replica: Replica): void {
  const { log, now, outbox } = replica
  invariant(replica.role === 'candidate', 'R1: only a candidate becomes leader')
  const noop = log.propose(replica.term, { kind: 'noop', bytes: 0 })
  const leadership = new Leadership({ termStart: noop.index, now })
  for (let index = log.commit + 1; index <= log.lastIndex; index++) {
    leadership.uncommittedBytes += log.entryAt(index).bytes
  }
  const votes = [...replica.votes].filter(([, granted]) => granted).map(([id]) => id)
  replica.leadership = leadership
  replica.termLeader = replica.id
  replica.lostLeader = null
  replica.electionAt = Number.POSITIVE_INFINITY
  setRole(replica, 'leader', 'vote_won')
  setLeader(replica, replica.id)
  outbox.emit({ kind: 'leader_elected', term: replica.term, tookMs: now - (replica.seriesStartedAt ?? now), votes })
  replica.votes.clear()
  replica.seriesStartedAt = null
  replica.handicap = null
}

/** Forgets the leader without a change of role, for example because it said that it stepped down. */
export function loseLeader(replica: Replica, leader: NodeId): void {
  replica.lostLeader = leader
  setLeader(replica, null)
}

function openRound(replica: Replica): void {
  replica.votes.clear()
  replica.isRoundShortened = false
  replica.seriesStartedAt ??= replica.now
  const { electionReason } = replica
  awaitLeader(replica)
  replica.electionReason = electionReason
}

function enterTerm(replica: Replica, term: Term, vote: NodeId | null): void {
  invariant(term > replica.term, 'R1: the term went back')
  replica.term = term
  replica.vote = vote
  replica.termLeader = null
  replica.lostLeader = null
  dropReads(replica, replica.reads.drop())
  replica.outbox.forgetAcknowledgements()
}

function endLeadership(replica: Replica, newLeader: NodeId | null, reason: RoleChangeReason): void {
  const { reads, transfer } = replica.leading()
  replica.leadership = null
  dropReads(replica, reads.drop())
  if (transfer === null) return
  const isDone = reason === 'transferred' || newLeader === transfer.to
  replica.outbox.emit({ kind: 'transfer_ended', to: transfer.to, outcome: isDone ? 'done' : 'lost' })
}

function dropReads(replica: Replica, contexts: readonly number[]): void {
  if (contexts.length > 0) replica.outbox.emit({ kind: 'reads_dropped', contexts })
}

function setRole(replica: Replica, role: Role, reason: RoleChangeReason): void {
  const from = replica.role
  if (from === role) return
  replica.role = role
  const leader = role === 'leader' ? replica.id : replica.leader
  replica.outbox.emit({ kind: 'role_changed', from, to: role, term: replica.term, leader, reason })
}

function setLeader(replica: Replica, leader: NodeId | null): void {
  if (replica.leader === leader) return
  dropReads(replica, replica.reads.drop())
  replica.leader = leader
  replica.outbox.emit({ kind: 'leader_changed', leader, term: replica.term })
}
