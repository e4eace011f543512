/**
 * What a majority says. Pure functions over the voters and, inside a joint configuration, the outgoing voters
 * (Raft section 6): a joint decision needs a majority of both.
 */
import type { Configuration, NodeId } from './types.ts'

/** Everyone who may vote, each once. */
export function votersOf(configuration: Configuration): readonly NodeId[] {
  return [...new Set([...configuration.voters, ...configuration.outgoing])]
}

/** Everyone who receives the log, each once. */
export function membersOf(configuration: Configuration): readonly NodeId[] {
  return [...new Set([...configuration.voters, ...configuration.outgoing, ...configuration.learners])]
}

export function isVoter(configuration: Configuration, id: NodeId): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id)
}

/** Who should rather lead: the higher number. */
export function priorityOf({ priorities = [] }: Configuration, id: NodeId): number {
  return priorities.find(([node]) => node === id)?.[1] ?? 0
}

/** The largest value that a quorum has reached. Infinity when nobody votes. */
export function quorumValue(configuration: Configuration, reachedBy: (id: NodeId) => number): number {
  return Math.min(majorityValue(configuration.voters, reachedBy), majorityValue(configuration.outgoing, reachedBy))
}

export type VoteOutcome = 'won' | 'lost' | 'pending'

/** `votes`: true for a grant, false for a refusal, absent while unanswered. */
export function voteOutcome(configuration: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome {
  if (quorumValue(configuration, (id) => (votes.get(id) === true ? 1 : 0)) >= 1) return 'won'
  return quorumValue(configuration, (id) => (votes.get(id) === false ? 0 : 1)) >= 1 ? 'pending' : 'lost'
}

function majorityValue(voters: readonly NodeId[], reachedBy: (id: NodeId) => number): number {
  if (voters.length === 0) return Number.POSITIVE_INFINITY
  const values = voters.map(reachedBy).sort(descending)
  return values[voters.length >> 1] as number
}

/** Not by subtraction: two infinite values have no difference. */
function descending(a: number, b: number): number {
  if (a === b) return 0
  return a < b ? 1 : -1
}
