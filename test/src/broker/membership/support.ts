/** Memberships by a line: `n0 n1 n2`, with options for the rest. */
import type { Learner, Membership } from '../../../../src/broker/membership/membership.ts'
import type { Member } from '../../../../src/rpc/methods.ts'

export function member(node: string, disk: string = `disk-${node}`): Member {
  return { node, disk, raftAddress: `${node}:2` }
}

export function learner(node: string, promote: boolean = true): Learner {
  return { ...member(node), promote }
}

export function group(voters: string, rest: Partial<Membership> = {}): Membership {
  const named = voters.split(' ').map((node) => member(node))
  return { voters: named, outgoing: [], learners: [], returning: [], priorities: [], ...rest }
}

/** `n0 n1 / n0 n1 n2 +n3 ~n2`: voters, outgoing voters, learners, returning nodes. */
export function shown({ voters, outgoing, learners, returning }: Membership): string {
  const list = (members: readonly Member[]): string => members.map((each) => each.node).join(' ')
  return [
    list(voters),
    ...(outgoing.length > 0 ? [`/ ${list(outgoing)}`] : []),
    ...learners.map((each) => `+${each.node}`),
    ...returning.map((each) => `~${each.node}`),
  ].join(' ')
}
