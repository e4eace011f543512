/**
 * One change of membership: whether it may begin, what it leads to, and the next step of one that has begun.
 *
 * Pure; the admin handler asks for the beginning, the membership driver of the leader for the steps, which follow from
 * the membership alone, so that a new leader goes on where the old one was (Raft section 6, thesis 4.2.1 and 4.3).
 */
import { unreachable } from '../../common/assert.ts'
import type { ErrorCode } from '../../common/errors.ts'
import type { Member } from '../../rpc/methods.ts'
import { byName, isJoint, type Membership, memberNamed, membersOf, named, priorityOf } from './membership.ts'

/** Members of a group, learners included. */
export const membersMax = 15
export const priorityMax = 1000

export type Change =
  /** A learner; with `promote` a voter as soon as it holds the log. */
  | { readonly kind: 'add'; readonly member: Member; readonly promote: boolean }
  | { readonly kind: 'remove'; readonly node: string }
  /** A learner becomes a voter. */
  | { readonly kind: 'promote'; readonly node: string }
  /** The node came back with another disk, and perhaps at another address. */
  | { readonly kind: 'replace'; readonly member: Member }
  | { readonly kind: 'priority'; readonly node: string; readonly priority: number }

/** What the leader knows besides the membership. */
export interface ChangeFacts {
  readonly membership: Membership
  /** The newest membership is committed. */
  readonly isCommitted: boolean
  /** This node is heard of at the moment; the leader itself is. */
  isReachable(node: string): boolean
  /** This learner holds the log, or lags by less than an election timeout. */
  isCaughtUp(node: string): boolean
  /** Go on although no majority may be left. */
  readonly force: boolean
}

export type Judgement =
  | { readonly kind: 'propose'; readonly target: Membership }
  /** The group is as wanted already. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string }

export function judgeChange(change: Change, facts: ChangeFacts): Judgement {
  const { membership } = facts
  if (isDone(change, membership)) return { kind: 'nothing' }
  const busy = underWay(membership, facts.isCommitted)
  if (busy !== null && !isCancel(change, facts)) return refused('CHANGE_IN_PROGRESS', busy)
  const outcome = targetOf(change, facts)
  if ('kind' in outcome) return outcome
  const lost = facts.force ? null : lostMajority(outcome, facts)
  return lost === null ? { kind: 'propose', target: byConsensus(outcome) } : refused('WOULD_LOSE_QUORUM', lost)
}

/** What is not finished yet, in words; null when a change may begin. */
export function underWay(membership: Membership, isCommitted: boolean): string | null {
  const { voters, outgoing, returning, learners } = membership
  if (isJoint(membership)) {
    const joining = voters.filter((voter) => !named(outgoing, voter.node))
    const leaving = outgoing.filter((voter) => !named(voters, voter.node))
    const parts = [
      ...(joining.length > 0 ? [`${nodes(joining)} becomes a voter`] : []),
      ...(leaving.length > 0 ? [`${nodes(leaving)} leaves`] : []),
    ]
    return parts.join(', ') || 'a joint configuration is being left'
  }
  if (returning.length > 0) return `${nodes(returning)} comes back as a learner`
  const promoted = learners.filter((learner) => learner.promote)
  if (promoted.length > 0) return `${nodes(promoted)} is catching up to become a voter`
  return isCommitted ? null : 'the last change is not committed yet'
}

/** The next step of a change under way; null when there is none, or it has to wait. Only for a committed membership. */
export function nextStep(
  membership: Membership,
  facts: Pick<ChangeFacts, 'isCaughtUp' | 'isReachable'>,
): Membership | null {
  const step = stepFrom(membership, facts)
  return step && byConsensus(step)
}

function stepFrom(membership: Membership, facts: Pick<ChangeFacts, 'isCaughtUp' | 'isReachable'>): Membership | null {
  if (isJoint(membership)) return onlyMembers({ ...membership, outgoing: [] })
  if (membership.returning.length > 0) {
    const learners = [...membership.learners, ...membership.returning].sort(byName)
    return { ...membership, learners, returning: [] }
  }
  const ready = membership.learners.find((learner) => learner.promote && facts.isCaughtUp(learner.node))
  if (!ready) return null
  const target = promoted(membership, ready)
  return lostMajority(target, { ...facts, membership }) === null ? target : null
}

function targetOf(change: Change, facts: ChangeFacts): Membership | Extract<Judgement, { kind: 'refused' }> {
  const { membership } = facts
  switch (change.kind) {
    case 'add':
      return added(membership, change)
    case 'remove': {
      if (!memberNamed(membership, change.node)) return notAMember(change.node, membership)
      if (isLast(membership, change.node)) return lastVoter(change.node)
      return without(membership, change.node)
    }
    case 'promote': {
      const learner = named(membership.learners, change.node)
      if (!learner) return notAMember(change.node, membership)
      if (!facts.isCaughtUp(change.node)) {
        return refused('NOT_CAUGHT_UP', `${change.node} does not hold the log yet`)
      }
      return promoted(membership, learner)
    }
    case 'replace': {
      const { node } = change.member
      if (!memberNamed(membership, node)) return notAMember(node, membership)
      if (isLast(membership, node)) return lastVoter(node)
      return replaced(membership, change.member)
    }
    case 'priority': {
      if (!memberNamed(membership, change.node)) return notAMember(change.node, membership)
      const others = membership.priorities.filter(([node]) => node !== change.node)
      const own = change.priority === 0 ? [] : [[change.node, change.priority] as const]
      return { ...membership, priorities: [...others, ...own].sort(([a], [b]) => (a < b ? -1 : 1)) }
    }
    default:
      return unreachable(change)
  }
}

function added(
  membership: Membership,
  { member, promote }: Extract<Change, { kind: 'add' }>,
): Membership | Extract<Judgement, { kind: 'refused' }> {
  const existing = memberNamed(membership, member.node)
  if (existing && existing.disk !== member.disk) {
    const was = `${member.node} is a member with disk ${existing.disk}, it has disk ${member.disk} now: replace it`
    return refused('ALREADY_A_MEMBER', was)
  }
  if (existing) return refused('ALREADY_A_MEMBER', `${member.node} is a member already`)
  const disk = membersOf(membership).find((other) => other.disk === member.disk)
  if (disk) return refused('ALREADY_A_MEMBER', `disk ${member.disk} is a member already, as ${disk.node}`)
  if (membersOf(membership).length >= membersMax) {
    return refused('INVALID_PARAMETER', `a group has at most ${membersMax} members`)
  }
  return { ...membership, learners: [...membership.learners, { ...member, promote }].sort(byName) }
}

function promoted(membership: Membership, { node, disk, raftAddress }: Member): Membership {
  return {
    ...membership,
    voters: [...membership.voters, { node, disk, raftAddress }].sort(byName),
    outgoing: membership.voters,
    learners: membership.learners.filter((learner) => learner.node !== node),
  }
}

function without(membership: Membership, node: string): Membership {
  const learners = membership.learners.filter((learner) => learner.node !== node)
  if (!named(membership.voters, node)) return onlyMembers({ ...membership, learners })
  const voters = membership.voters.filter((voter) => voter.node !== node)
  return { ...membership, voters, outgoing: membership.voters, learners }
}

/** Takes out the old self first. A learner that was to stay one comes back as one, and nobody loses a priority. */
function replaced(membership: Membership, member: Member): Membership {
  const promote = named(membership.learners, member.node)?.promote ?? true
  const { priorities } = membership
  return { ...without(membership, member.node), returning: [{ ...member, promote }], priorities }
}

/** Priorities of nodes that left go with them. */
function onlyMembers(membership: Membership): Membership {
  const stay = new Set([...membersOf(membership), ...membership.returning].map((member) => member.node))
  return { ...membership, priorities: membership.priorities.filter(([node]) => stay.has(node)) }
}

function isDone(change: Change, membership: Membership): boolean {
  switch (change.kind) {
    case 'promote':
      return !isJoint(membership) && named(membership.voters, change.node) !== undefined
    case 'priority': {
      const { node, priority } = change
      return memberNamed(membership, node) !== undefined && priorityOf(membership, node) === priority
    }
    case 'replace':
      return memberNamed(membership, change.member.node)?.disk === change.member.disk
    case 'add':
    case 'remove':
      return false
    default:
      return unreachable(change)
  }
}

/** A learner that never catches up must not hold up the group for ever: it can always be taken out. */
function isCancel(change: Change, { membership, isCommitted }: ChangeFacts): boolean {
  return (
    change.kind === 'remove' &&
    isCommitted &&
    !isJoint(membership) &&
    membership.returning.length === 0 &&
    named(membership.learners, change.node) !== undefined
  )
}

/** What follows a membership that was made by force is agreed upon again. */
function byConsensus({ isForced: _, ...target }: Membership): Membership {
  return target
}

function isLast(membership: Membership, node: string): boolean {
  return membership.voters.length === 1 && membership.voters[0]?.node === node
}

/** Why the target would have no majority of reachable voters, in either of its halves; null when it would. */
function lostMajority(
  target: Membership,
  { membership, isReachable }: Pick<ChangeFacts, 'membership' | 'isReachable'>,
): string | null {
  if (target.voters === membership.voters) return null
  const missing = target.voters.filter((voter) => !isReachable(voter.node))
  if (target.voters.length - missing.length > target.voters.length / 2) return null
  return `of the voters ${nodes(target.voters)} that the group would have, ${nodes(missing)} cannot be reached`
}

function nodes(members: readonly Member[]): string {
  return members.map((member) => member.node).join(', ')
}

function notAMember(node: string, membership: Membership): Extract<Judgement, { kind: 'refused' }> {
  const role = named(membership.voters, node) ? 'is a voter' : 'is no member'
  return refused('NOT_A_MEMBER', `${node} ${role}; the members are ${nodes(membersOf(membership))}`)
}

function lastVoter(node: string): Extract<Judgement, { kind: 'refused' }> {
  return refused('WOULD_LOSE_QUORUM', `${node} is the only voter of the group`)
}

function refused(code: ErrorCode, message: string): Extract<Judgement, { kind: 'refused' }> {
  return { kind: 'refused', code, message }
}
