/**
 * The one deadline of a node that does not lead: when it stands for election. All jitter is drawn here.
 *
 * Used by `roles.ts` and the step files. A node that may not stand never gets a deadline.
 */

import type { RoleChangeReason } from './ready.ts'
import type { Replica } from './replica.ts'
import type { Millis } from './types.ts'

/** Raft 5.2: a random timeout, so that one node stands before the others. */
export function awaitLeader(replica: Replica): void {
  const { electionTimeoutMinMs, electionTimeoutMaxMs } = replica.config
  schedule(replica, between(replica, electionTimeoutMinMs, electionTimeoutMaxMs), 'election_timeout')
}

/** The leader is known to be gone. */
export function standSoon(replica: Replica, reason: RoleChangeReason): void {
  replica.leaderSeenRetriesLeft = replica.config.leaderSeenRetriesMax
  schedule(replica, between(replica, 0, replica.config.connectionLostWaitMaxMs), reason)
}

/** A round was split or lost. */
export function retryAfterSplit(replica: Replica): void {
  const { splitRetryMinMs, splitRetryMaxMs } = replica.config
  schedule(replica, between(replica, splitRetryMinMs, splitRetryMaxMs), 'election_timeout')
}

/** A round was left to others. Keeps the reason. */
export function retrySoon(replica: Replica): void {
  const { splitRetryMinMs, splitRetryMaxMs } = replica.config
  schedule(replica, between(replica, splitRetryMinMs, splitRetryMaxMs), replica.electionReason)
}

/** The others have not yet noticed that the leader is gone. Keeps the reason of the first round. */
export function retryAfterLeaderSeen(replica: Replica): void {
  schedule(replica, replica.config.leaderSeenRetryMs, replica.electionReason)
}

function schedule(replica: Replica, waitMs: Millis, reason: RoleChangeReason): void {
  replica.electionAt = replica.standsByItself ? replica.now + waitMs : Number.POSITIVE_INFINITY
  replica.electionReason = reason
}

function between(replica: Replica, min: Millis, max: Millis): Millis {
  return min + replica.random() * (max - min)
}
