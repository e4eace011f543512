/**
 * What a leader does: propose, beat, count answers, prove its leadership, give it up.
 *
 * Used by `core.ts`. Appends are not built here but when a Ready is taken (`replication.ts`), so that many proposals
 * share one message.
 */
import { invariant } from './assert.ts'
import { isLegalStep } from './membership.ts'
import type { AppendResponse, HeartbeatResponse } from './messages.ts'
import { quorumValue } from './quorum.ts'
import { answerReads } from './reads.ts'
import type { ChangeRefusal, Input, ProposedEntry, Refusal, RoleChangeReason } from './ready.ts'
import type { Replica } from './replica.ts'
import { areAppendsDue, maybeCommit, planNews, serveMembers } from './replication.ts'
import { becomeFollower, becomeLeader } from './roles.ts'
import { endTransfer, offerTransfer } from './transfer.ts'
import type { LogIndex, Millis, NodeId } from './types.ts'

export function startLeading(replica: Replica): void {
  becomeLeader(replica)
  serveMembers(replica)
  beat(replica)
}

/** Gives the entries their indexes, or says why not. */
export function propose(
  replica: Replica,
  entries: Extract<Input, { kind: 'propose' }>['entries'],
): { readonly first: LogIndex } | { readonly refusal: Refusal } {
  const refusal = refusalToPropose(replica, entries)
  if (refusal !== null) return { refusal }
  const leadership = replica.leading()
  const first = replica.log.lastIndex + 1
  for (const entry of entries) {
    replica.log.propose(replica.term, entry)
    leadership.uncommittedBytes += entry.bytes
  }
  return { first }
}

export function notLeader(replica: Replica): Refusal {
  return { kind: 'not_leader', leader: replica.leader, term: replica.term }
}

/** Does what is due: transfer timeout, CheckQuorum (thesis 6.2), heartbeat. */
export function tickLeader(replica: Replica): void {
  const leadership = replica.leading()
  const { now } = replica
  if (leadership.transfer !== null && now >= leadership.transfer.deadline) endTransfer(replica, 'timed_out')
  if (now >= leadership.quorumEndsAt) {
    leadership.quorumEndsAt = quorumEndsAt(replica)
    if (now >= leadership.quorumEndsAt) {
      stepDown(replica, 'quorum_lost')
      return
    }
  }
  // A handover that failed leaves nobody better.
  if (replica.quarantine !== null && leadership.transfer === null) {
    stepDown(replica, 'sick')
    return
  }
  if (now >= leadership.heartbeatAt) beat(replica)
  // Nobody lacks the news: an append carried it.
  if (now >= leadership.newsAt && !areAppendsDue(replica)) leadership.newsAt = Number.POSITIVE_INFINITY
}

/** Earliest time at which `tickLeader` has something to do. */
export function leaderDeadline(replica: Replica): Millis {
  const { heartbeatAt, newsAt, quorumEndsAt: endsAt, transfer } = replica.leading()
  return Math.min(heartbeatAt, newsAt, endsAt, transfer?.deadline ?? Number.POSITIVE_INFINITY)
}

/** Gives up and tells everyone, so that they need not wait for a timeout. */
export function stepDown(replica: Replica, reason: RoleChangeReason): void {
  for (const to of replica.otherMembers) {
    replica.outbox.sendNow({ kind: 'stepped_down', from: replica.id, to, term: replica.term })
  }
  becomeFollower(replica, replica.term, null, reason)
}

/** After a pause another leader may rule: nothing is promised before a quorum answered a round that starts now. */
export function doubtLeadership(replica: Replica): void {
  const leadership = replica.leading()
  if (leadership.transfer !== null && replica.now >= leadership.transfer.deadline) endTransfer(replica, 'timed_out')
  // The heartbeat of the new round brings the commit; an overdue time would be taken for another stall.
  leadership.newsAt = Number.POSITIVE_INFINITY
  leadership.silenceFrom = replica.now
  leadership.confirmingRound = leadership.round + 1
  startRound(replica)
  confirmRounds(replica)
}

/** True when waiting reads can start a round. */
export function isReadRoundDue(replica: Replica): boolean {
  const { leadership } = replica
  if (leadership === null || !leadership.isTermStarted || leadership.confirmingRound !== null) return false
  return leadership.reads.wantsRound()
}

export function startReadRound(replica: Replica): void {
  const leadership = replica.leading()
  leadership.reads.start(leadership.round + 1, replica.log.commit)
  startRound(replica)
  confirmRounds(replica)
}

export function onHeartbeatResponse(replica: Replica, response: HeartbeatResponse): void {
  const leadership = replica.leading()
  const progress = leadership.followers.get(response.from)
  if (progress === undefined) return
  const { now, log, config } = replica
  progress.heardAt = now
  progress.session = response.session
  progress.canLead = response.canLead
  if (!response.canLead && leadership.transfer?.to === response.from) endTransfer(replica, 'refused')
  progress.ackedRound = Math.max(progress.ackedRound, Math.min(response.round, leadership.round))
  if (progress.lacks(log.lastIndex)) progress.suspectLoss(now, config.heartbeatMs)
  confirmRounds(replica)
}

export function onAppendResponse(replica: Replica, response: AppendResponse): void {
  const leadership = replica.leading()
  const progress = leadership.followers.get(response.from)
  if (progress === undefined) return
  progress.heardAt = replica.now
  const { rejected, matchIndex } = response
  if (rejected !== null) {
    // Raft 5.3: skip a whole term per refusal, on both sides.
    const agreed = replica.log.lastAtMost(rejected.hintIndex, rejected.hintTerm)
    if (rejected.hasLost) progress.forget(agreed.index)
    else progress.rejected(rejected.rejectedIndex, agreed.index + 1)
    return
  }
  invariant(matchIndex <= replica.log.lastIndex, 'R3: a follower holds entries of this term that its leader lacks')
  progress.silentSince = replica.now
  if (!progress.accepted(matchIndex)) return
  maybeCommit(replica)
  if (progress.sentCommit < replica.log.commit) planNews(replica)
  offerTransfer(replica)
}

/** The messages to the peer were dropped. */
export function onUnreachable(replica: Replica, peer: NodeId): void {
  const progress = replica.leadership?.followers.get(peer)
  if (progress?.state === 'replicate') progress.becomeProbe(progress.match + 1)
}

function refusalToPropose(replica: Replica, entries: readonly ProposedEntry[]): Refusal | null {
  const { leadership, log, config } = replica
  if (leadership === null) return notLeader(replica)
  if (leadership.transfer !== null) return { kind: 'transferring', to: leadership.transfer.to }
  if (leadership.confirmingRound !== null) return { kind: 'unconfirmed' }
  invariant(entries.length > 0, 'R2: a proposal needs an entry')
  const reason = refusalToChange(replica, entries)
  if (reason !== null) return { kind: 'change_refused', reason }
  let { uncommittedBytes } = leadership
  const uncommittedEntries = log.lastIndex - log.commit
  if (uncommittedEntries === 0) return null
  for (const { bytes } of entries) uncommittedBytes += bytes
  const isFull =
    uncommittedBytes > config.uncommittedBytesMax || uncommittedEntries + entries.length > config.uncommittedEntriesMax
  return isFull ? { kind: 'full', uncommittedBytes: leadership.uncommittedBytes } : null
}

/**
 * One change at a time, each from a committed configuration, and none before an entry of the own term is committed: a
 * configuration of an older term that is not in this log might still come back and be committed by a majority that
 * shares no node with the one that would count here.
 */
function refusalToChange({ log, leadership }: Replica, entries: readonly ProposedEntry[]): ChangeRefusal | null {
  const next = entries.find(({ configuration }) => configuration !== undefined)?.configuration
  if (next === undefined) return null
  invariant(entries.length === 1, 'R2: a configuration is proposed alone')
  if (!leadership?.isTermStarted) return 'term_not_started'
  if (!log.configurations.isCommitted) return 'change_under_way'
  return !next.isForced && isLegalStep(log.configurations.newest, next) ? null : 'illegal_step'
}

function startRound(replica: Replica): void {
  replica.leading().round++
  beat(replica)
}

/** A heartbeat to everyone, with the number of the newest round, so that a lost one is repeated by the next. */
export function beat(replica: Replica): void {
  const leadership = replica.leading()
  const { id: from, term, now, log, config } = replica
  for (const [to, progress] of leadership.followers) {
    const commit = Math.min(progress.match, log.commit)
    const { session } = progress
    replica.outbox.sendNow({
      kind: 'heartbeat',
      from,
      to,
      term,
      commit,
      round: leadership.round,
      lastIndex: log.lastIndex,
      session,
    })
    const { firstIndex } = log
    if (progress.state === 'snapshot') replica.outbox.sendNow({ kind: 'catch_up', from, to, term, firstIndex })
  }
  const isAlone = leadership.followers.size === 0
  leadership.heartbeatAt = isAlone ? Number.POSITIVE_INFINITY : now + config.heartbeatMs
  leadership.quorumEndsAt = quorumEndsAt(replica)
  offerTransfer(replica)
}

function quorumEndsAt(replica: Replica): Millis {
  const { followers, silenceFrom } = replica.leading()
  const heardAt = quorumValue(replica.configuration, (id) => {
    if (id === replica.id) return Number.POSITIVE_INFINITY
    return Math.max(silenceFrom, followers.get(id)?.heardAt ?? silenceFrom)
  })
  return heardAt + replica.config.electionTimeoutMinMs
}

function confirmRounds(replica: Replica): void {
  const leadership = replica.leading()
  if (leadership.reads.size === 0 && leadership.confirmingRound === null) return
  const round = quorumValue(replica.configuration, (id) =>
    id === replica.id ? leadership.round : (leadership.followers.get(id)?.ackedRound ?? 0),
  )
  answerReads(replica, round)
  if (leadership.confirmingRound !== null && round >= leadership.confirmingRound) leadership.confirmingRound = null
}
