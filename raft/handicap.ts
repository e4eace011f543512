/**
 * Priority (`Configuration.priorities`) and health: a node lets others, who should rather lead, stand before it.
 *
 * Used by `core.ts` when the deadline of a node passes. Only a wish, never a reason for no leader: the handicap is the
 * gap to the highest priority among those who might still stand, and every round that nobody used halves it. So a node
 * stands after at most `handicapRoundsMax` rounds, whatever the priorities, and votes are granted regardless of them.
 * A reluctant node lets at least one round pass: the longest timeout of a node that is well is over by then.
 */
import { awaitLeader, retrySoon } from './election-timer.ts'
import { priorityOf } from './quorum.ts'
import type { Replica } from './replica.ts'

/** No gap makes a node wait longer than for so many rounds. */
export const handicapRoundsMax = 3

/** The deadline has passed: true when the node lets this round pass and waits for another. */
export function passesRound(replica: Replica): boolean {
  replica.handicap ??= handicapOf(replica)
  if (replica.handicap < 1) return false
  replica.handicap = Math.floor(replica.handicap / 2)
  // Where everybody knows that the leader is gone, the others stand at once; otherwise they wait for the silence, too.
  if (replica.electionReason === 'election_timeout') awaitLeader(replica)
  else retrySoon(replica)
  return true
}

/** Who is out of reach, and the leader that was lost, will not stand. */
function handicapOf({ configuration, id, health, otherVoters, leader, lostLeader, lostPeers }: Replica): number {
  const hopefuls = otherVoters.filter((other) => other !== leader && other !== lostLeader && !lostPeers.has(other))
  if (hopefuls.length === 0) return 0
  const highest = Math.max(...hopefuls.map((other) => priorityOf(configuration, other)))
  const gap = Math.min(highest - priorityOf(configuration, id), 2 ** handicapRoundsMax - 1)
  return health === 'reluctant' ? Math.max(gap, 1) : gap
}
