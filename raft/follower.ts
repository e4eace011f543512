/**
 * What a node does on the word of a leader: append, heartbeat, a handover, a farewell (Raft 5.2, 5.3; thesis 3.10).
 *
 * Used by `core.ts` for messages of the own term, in every role. An accepted append is answered only after the Ready
 * that makes it durable, also when it is a duplicate: the first copy may still be on its way to the disk.
 */
import { invariant } from './assert.ts'
import { stand } from './candidate.ts'
import { awaitLeader, standSoon } from './election-timer.ts'
import { maybeEndQuarantine } from './fitness.ts'
import type { Append, CatchUp, Heartbeat, PeerMessage, SteppedDown, TimeoutNow } from './messages.ts'
import type { Quarantine } from './quarantine.ts'
import type { Replica } from './replica.ts'
import { becomeFollower, loseLeader } from './roles.ts'
import type { EntryId, LogIndex, NodeId } from './types.ts'

export function onAppend(replica: Replica, append: Append): void {
  followLeader(replica, append)
  const { log } = replica
  const { prevIndex, prevTerm, entries } = append
  const ownTerm = log.termAt(prevIndex)
  if (prevIndex <= log.commit) {
    invariant(
      ownTerm === null || ownTerm === prevTerm || prevIndex <= log.guessedTo,
      'R6: an append contradicts committed entries',
    )
  } else if (ownTerm !== prevTerm) {
    reject(replica, append.from, prevIndex, log.lastAtMost(prevIndex, prevTerm))
    return
  }
  log.merge(entries)
  const lastNew = prevIndex + entries.length
  log.commitTo(Math.min(append.commit, lastNew))
  // Committed entries are in the log of every later leader (R3), so they match even if this append stops before.
  acknowledge(replica, append.from, Math.max(lastNew, log.commit))
}

export function onHeartbeat(replica: Replica, heartbeat: Heartbeat): void {
  followLeader(replica, heartbeat)
  const { log, quarantine } = replica
  // Never beyond what this node acknowledged. If it is beyond the last entry, the disk has lost acknowledged entries.
  if (quarantine?.awaitsLeader) onLeaderEnd(replica, quarantine, heartbeat)
  else log.commitTo(heartbeat.commit)
  answer(replica, {
    kind: 'heartbeat_response',
    from: replica.id,
    to: heartbeat.from,
    term: replica.term,
    round: heartbeat.round,
    session: replica.session,
    canLead: replica.isWell,
  })
}

/** The log of this leader begins too late for appends. */
export function onCatchUp(replica: Replica, message: CatchUp): void {
  followLeader(replica, message)
  const { from, firstIndex } = message
  // What is committed here up to the start of the leader's log matches it; an old message may say otherwise.
  if (replica.log.commit < firstIndex - 1) replica.outbox.catchUp({ from, firstIndex })
}

/** A leader of an older term is told the newer one, so that it gives up and this node is not stuck (Raft 5.1). */
export function answerOldLeader(replica: Replica, message: Append | Heartbeat): void {
  const envelope = { from: replica.id, to: message.from, term: replica.term }
  if (message.kind === 'heartbeat') {
    const { session, isWell: canLead } = replica
    answer(replica, { ...envelope, kind: 'heartbeat_response', round: 0, session, canLead })
    return
  }
  const rejected = { rejectedIndex: message.prevIndex, hintIndex: 0, hintTerm: 0, hasLost: false }
  answer(replica, { ...envelope, kind: 'append_response', matchIndex: 0, rejected })
}

export function onTimeoutNow(replica: Replica, message: TimeoutNow): void {
  if (replica.role === 'leader' || !replica.mayStand || !replica.isWell || replica.termLeader !== message.from) return
  stand(replica, 'ordered', true)
}

export function onSteppedDown(replica: Replica, message: SteppedDown): void {
  invariant(replica.role !== 'leader', 'R1: another leader of the own term stepped down')
  if (replica.termLeader !== null && replica.termLeader !== message.from) return
  loseLeader(replica, message.from)
  if (replica.role === 'follower') standSoon(replica, 'leader_stepped_down')
}

/** The own control connection to `peer` broke. */
export function onPeerLost(replica: Replica, peer: NodeId): void {
  if (replica.role !== 'follower' || replica.leader !== peer || replica.lostLeader === peer) return
  replica.lostLeader = peer
  standSoon(replica, 'connection_lost')
}

/** This node may lack what it acknowledged: see `quarantine.ts` for when that is over. */
function onLeaderEnd(replica: Replica, quarantine: Quarantine, heartbeat: Heartbeat): void {
  const { log } = replica
  if (heartbeat.session === replica.session) quarantine.leaderEndsAt(heartbeat.lastIndex)
  maybeEndQuarantine(replica)
  log.commitTo(Math.min(heartbeat.commit, log.lastIndex))
  // The leader goes by an old acknowledgement. Without appends to refuse this is the only way to tell it.
  if (heartbeat.commit > log.lastIndex)
    reject(replica, heartbeat.from, heartbeat.commit, log.lastAtMost(log.lastIndex, log.lastTerm))
}

/** A sign of life from the leader of the own term. */
function followLeader(replica: Replica, message: Append | CatchUp | Heartbeat): void {
  const { from } = message
  invariant(replica.role !== 'leader', 'R1: a second leader in the own term')
  invariant(replica.termLeader === null || replica.termLeader === from, 'R1: a second leader in one term')
  // Appends may have waited in a socket since before the connection broke; they prove nothing about now.
  if (message.kind === 'append' && replica.lostLeader === from) return
  if (replica.role !== 'follower' || replica.leader !== from) {
    becomeFollower(replica, replica.term, from, 'leader_found')
  } else {
    replica.lostLeader = null
    replica.handicap = null
    awaitLeader(replica)
  }
  replica.leaderHeardAt = replica.now
}

function reject(replica: Replica, to: NodeId, rejectedIndex: LogIndex, hint: EntryId): void {
  const hasLost = replica.quarantine?.awaitsLeader ?? false
  const rejected = { rejectedIndex, hintIndex: hint.index, hintTerm: hint.term, hasLost }
  answer(replica, { kind: 'append_response', from: replica.id, to, term: replica.term, matchIndex: 0, rejected })
}

function acknowledge(replica: Replica, to: NodeId, matchIndex: LogIndex): void {
  const { id: from, term } = replica
  replica.outbox.sendAfterPersist({ kind: 'append_response', from, to, term, matchIndex, rejected: null })
}

/** For what promises nothing but the own term: leaves at once when that is durable. */
function answer(replica: Replica, message: PeerMessage): void {
  if (replica.ledger.term === replica.term) replica.outbox.sendNow(message)
  else replica.outbox.sendAfterPersist(message)
}
