/** A picture of the core for status commands, metrics and lag. Changes nothing. */
import type { PeerStatus, RaftStatus } from './ready.ts'
import type { Replica } from './replica.ts'
import type { Millis } from './types.ts'

export function statusOf(replica: Replica, now: Millis): RaftStatus {
  const { log, leadership } = replica
  return {
    id: replica.id,
    role: replica.role,
    term: replica.term,
    vote: replica.vote,
    leader: replica.leader,
    firstIndex: log.firstIndex,
    lastIndex: log.lastIndex,
    lastTerm: log.lastTerm,
    stableIndex: log.stable,
    commit: log.commit,
    applied: log.applied,
    termStarted: leadership?.isTermStarted ?? false,
    unconfirmed: leadership !== null && leadership.confirmingRound !== null,
    quarantine: replica.quarantine?.status() ?? null,
    health: replica.health,
    transferringTo: leadership?.transfer?.to ?? null,
    configuration: log.configurations.newest,
    configurationIndex: log.configurations.index,
    configurationCommitted: log.configurations.isCommitted,
    peers: [ownStatus(replica), ...followerStatus(replica, now)],
  }
}

function ownStatus({ id, log, isWell }: Replica): PeerStatus {
  return {
    id,
    canLead: isWell,
    match: log.stable,
    next: log.lastIndex + 1,
    state: 'replicate',
    inflightMessages: 0,
    inflightBytes: 0,
    silentMs: 0,
  }
}

function followerStatus({ leadership }: Replica, now: Millis): PeerStatus[] {
  if (leadership === null) return []
  return [...leadership.followers].map(([id, progress]) => ({
    id,
    canLead: progress.canLead,
    match: progress.match,
    next: progress.next,
    state: progress.state,
    inflightMessages: progress.inflights.messages,
    inflightBytes: progress.inflights.bytes,
    silentMs: progress.heardAt === null ? null : Math.max(0, now - progress.heardAt),
  }))
}
