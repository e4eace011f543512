/**
 * Who belongs to a broker group, as a value: voters, the voters of an unfinished change, learners, priorities.
 *
 * The body of configuration entries (`codec.ts`) and the row that the state machine keeps. The consensus core knows
 * node ids only; disks and addresses live here. Pure functions, called by the replica, apply and the admin handlers.
 */
import type { Configuration } from '../../../raft/index.ts'
import type { FirstConfiguration, Member } from '../../rpc/methods.ts'

/** `promote`: becomes a voter by itself once it holds the log. */
export interface Learner extends Member {
  readonly promote: boolean
}

/** Every node is named at most once, with one disk: the core tells members apart by node id alone. */
export interface Membership {
  readonly voters: readonly Member[]
  /** Voters of the configuration that is being left (Raft section 6); empty outside a joint configuration. */
  readonly outgoing: readonly Member[]
  readonly learners: readonly Learner[]
  /** Nodes that come back with another disk: learners as soon as their old selves are out, to become what those were. */
  readonly returning: readonly Learner[]
  /** Absent is 0. */
  readonly priorities: readonly (readonly [node: string, priority: number])[]
  /** Made by force from one survivor, after the majority was lost for good (`forced-recovery.ts`). */
  readonly isForced?: boolean
}

/** A membership with the index of its entry; 0 is the first configuration. */
export interface PlacedMembership {
  readonly index: number
  readonly membership: Membership
}

export function firstMembership(configuration: FirstConfiguration): Membership {
  return { voters: configuration.members, outgoing: [], learners: [], returning: [], priorities: [] }
}

export function isJoint(membership: Membership): boolean {
  return membership.outgoing.length > 0
}

/** Voters, outgoing voters and learners, each node once, by name. */
export function membersOf(membership: Membership): readonly Member[] {
  const { voters, outgoing, learners } = membership
  const byNode = new Map([...outgoing, ...learners, ...voters].map((member) => [member.node, member]))
  return [...byNode.values()].sort(byName)
}

export function memberNamed(membership: Membership, node: string): Member | undefined {
  return membersOf(membership).find((member) => member.node === node)
}

/** A member is node and disk together: the same node with another disk is somebody else (KIP-853). */
export function isMember(membership: Membership, who: { readonly node: string; readonly disk: string }): boolean {
  return memberNamed(membership, who.node)?.disk === who.disk
}

export type MemberRole = 'voter' | 'joining_voter' | 'leaving_voter' | 'learner'

/** Null for a node that is no member. */
export function memberRole(membership: Membership, node: string): MemberRole | null {
  const { voters, outgoing, learners } = membership
  const isIn = named(voters, node)
  if (isIn) return isJoint(membership) && !named(outgoing, node) ? 'joining_voter' : 'voter'
  if (named(outgoing, node)) return 'leaving_voter'
  return named(learners, node) ? 'learner' : null
}

export function priorityOf(membership: Membership, node: string): number {
  return membership.priorities.find(([name]) => name === node)?.[1] ?? 0
}

/**
 * As the core of the node `self` sees it. A node of the own name with another disk is not this one: it gets an id that
 * nobody answers to, so that a node that came back empty never takes itself for the voter it was.
 */
export function toConfiguration(
  membership: Membership,
  self: { readonly node: string; readonly disk: string },
): Configuration {
  const idOf = ({ node, disk }: Member): string => (node === self.node && disk !== self.disk ? `${node}@${disk}` : node)
  return {
    voters: membership.voters.map(idOf),
    outgoing: membership.outgoing.map(idOf),
    learners: membership.learners.map(idOf),
    ...(membership.priorities.length > 0 ? { priorities: membership.priorities } : {}),
    ...(membership.isForced ? { isForced: true } : {}),
  }
}

export function named<Entry extends Member>(members: readonly Entry[], node: string): Entry | undefined {
  return members.find((member) => member.node === node)
}

export function byName(a: { readonly node: string }, b: { readonly node: string }): number {
  if (a.node === b.node) return 0
  return a.node < b.node ? -1 : 1
}
