/**
 * Steps from one configuration to the next (Raft section 6): into a joint one and out of it, and which steps are legal.
 *
 * Pure functions. Used by the driver to make the configuration that it proposes, by `leader.ts` to refuse any other, and
 * by `configurations.ts` to check what the log holds.
 */
import type { Configuration, NodeId } from './types.ts'

/** More members, outgoing ones and learners included, are never needed; a larger list is refused. */
export const membersMax = 64

export interface MembershipTarget {
  readonly voters: readonly NodeId[]
  readonly learners: readonly NodeId[]
}

/** Both majorities count from here on: that of the voters of `current` and that of the target. `current` is not joint. */
export function enterJoint(current: Configuration, target: MembershipTarget): Configuration {
  const { voters, learners } = target
  return { voters, outgoing: current.voters, learners, ...prioritiesOf(current) }
}

/** The target alone decides from here on. To be proposed when the joint configuration is committed. */
export function leaveJoint(current: Configuration): Configuration {
  return { voters: current.voters, outgoing: [], learners: current.learners, ...prioritiesOf(current) }
}

/**
 * May `next` follow `current`, which is committed? Simple to joint, joint to simple, or simple to simple with the same
 * voters. In each of them any majority before shares a node with any majority after.
 */
export function isLegalStep(current: Configuration, next: Configuration): boolean {
  if (!isWellFormed(next)) return false
  if (next.isForced) return isSimple(next)
  if (next.outgoing.length > 0) return isSimple(current) && isSameSet(next.outgoing, current.voters)
  return isSameSet(next.voters, current.voters)
}

/** No name twice, somebody votes, and nobody both votes from here on and does not. */
export function isWellFormed({ voters, outgoing, learners }: Configuration): boolean {
  if (voters.length === 0 || voters.length + outgoing.length + learners.length > membersMax) return false
  return isSet([...voters, ...learners]) && isSet(outgoing)
}

function isSimple(configuration: Configuration): boolean {
  return configuration.outgoing.length === 0
}

function isSet(names: readonly NodeId[]): boolean {
  return new Set(names).size === names.length
}

function isSameSet(a: readonly NodeId[], b: readonly NodeId[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name))
}

function prioritiesOf({ priorities }: Configuration): Pick<Configuration, 'priorities'> {
  return priorities === undefined ? {} : { priorities }
}
