/**
 * What another configuration means for this node, at once (Raft section 6): whom a leader serves, who may stand for
 * election, and the end of a leader that was removed.
 *
 * Called by `core.ts` after every input: entries come, are cut and are committed in several places, and none of them
 * has to think of this.
 */
import { awaitLeader } from './election-timer.ts'
import { beat, stepDown } from './leader.ts'
import type { Replica } from './replica.ts'
import { serveMembers } from './replication.ts'
import { becomeFollower } from './roles.ts'

export function followConfiguration(replica: Replica): void {
  const { configurations } = replica.log
  if (replica.configurationRevision === configurations.revision) return
  replica.configurationRevision = configurations.revision
  const { index, newest: configuration, isCommitted } = configurations
  replica.outbox.emit({ kind: 'configuration_changed', index, configuration, isCommitted })
  if (replica.role === 'leader') reconfigureLeader(replica)
  else reconfigureFollower(replica)
}

function reconfigureLeader(replica: Replica): void {
  // A voter that was just named gets a whole window to answer before its silence counts.
  replica.leading().silenceFrom = replica.now
  serveMembers(replica)
  // Raft section 6: it managed the group without being part of it only until this was committed.
  if (!replica.log.configurations.mayStand) stepDown(replica, 'removed')
  else beat(replica)
}

function reconfigureFollower(replica: Replica): void {
  if (replica.mayStand) {
    if (replica.electionAt === Number.POSITIVE_INFINITY) awaitLeader(replica)
    return
  }
  if (replica.role !== 'follower') becomeFollower(replica, replica.term, replica.leader, 'removed')
  replica.electionAt = Number.POSITIVE_INFINITY
}
