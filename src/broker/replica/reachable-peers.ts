/** Which members a leader can count on now, from the core's status and the connections. Pure. */
import type { RaftStatus } from '../../../raft/index.ts'
import { type Membership, named } from '../membership/membership.ts'

export interface ReachablePeer {
  readonly node: string
  readonly matchIndex: number
  /** False: it said that it is not well enough to lead. */
  readonly canLead: boolean
}

/** Members of any kind besides this one. */
export function reachablePeers(status: RaftStatus, isConnected: (node: string) => boolean): readonly ReachablePeer[] {
  return status.peers
    .filter(({ id }) => id !== status.id && isConnected(id))
    .map(({ id, match, canLead }) => ({ node: id, matchIndex: match, canLead }))
}

/** Voters that could lead, those with most of the log first. */
export function successors(peers: readonly ReachablePeer[], { voters }: Membership): readonly string[] {
  return peers
    .filter(({ node, canLead }) => canLead && named(voters, node) !== undefined)
    .sort((a, b) => b.matchIndex - a.matchIndex)
    .map(({ node }) => node)
}
