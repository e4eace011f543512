/**
 * The stall rule: a process that was paused, or whose event loop was blocked, must not act on the time it slept
 * through. Messages may wait in its sockets, and another leader may rule.
 *
 * Used by `core.ts` before every input, not only a tick: a proposal may arrive before the late tick does.
 */
import { awaitLeader } from './election-timer.ts'
import { doubtLeadership } from './leader.ts'
import { expireReads } from './reads.ts'
import type { Replica } from './replica.ts'
import type { Millis } from './types.ts'

/** `deadline` is the one that was due before this input. */
export function noticeStall(replica: Replica, deadline: Millis): void {
  const lateMs = replica.now - deadline
  if (lateMs <= replica.config.electionTimeoutMinMs / 2) return
  replica.outbox.emit({ kind: 'stalled', lateMs })
  if (replica.role === 'leader') {
    doubtLeadership(replica)
    return
  }
  awaitLeader(replica)
  // An overdue read would be taken for another stall.
  expireReads(replica)
}
