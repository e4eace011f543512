/** Status of a replica for the command line and the console, made from the core's own status. Called by `replica.ts`. */
import type { RaftStatus } from '../../../raft/index.ts'
import type { DiskSpace } from '../../../store/index.ts'
import type { ReplicaPeer, ReplicaStatusReply } from '../../rpc/methods.ts'
import { membersOf } from '../membership/membership.ts'
import type { MembershipView } from './membership-view.ts'
import type { ReplicaParts } from './replica-parts.ts'

export interface StatusFacts {
  readonly parts: ReplicaParts
  readonly membership: MembershipView
  readonly raft: RaftStatus
  /** Null before it was measured. */
  readonly space: DiskSpace | null
  /** Why the role is what it is, while the node is a voter. */
  readonly reason: string
  /** Why the replica should not lead, null when it may. */
  readonly unfit: string | null
  readonly uptimeMs: number
}

export function replicaStatus(facts: StatusFacts): ReplicaStatusReply {
  const { raft, membership } = facts
  const { configuration, recovered, options, ports, address } = facts.parts
  const { log, machine } = recovered
  const { standing } = membership
  return {
    cluster: configuration.cluster,
    group: configuration.group,
    node: options.node,
    incarnation: configuration.incarnation,
    // A node without a vote is shown as what it is to its group.
    role: standing === 'voter' ? raft.role : standing,
    reason: membership.reason ?? facts.unfit ?? facts.reason,
    term: raft.term,
    vote: raft.vote ?? '',
    leader: raft.leader ?? '',
    firstIndex: log.firstIndex,
    lastIndex: log.lastIndex,
    durableIndex: log.durableIndex,
    commitIndex: raft.commit,
    appliedIndex: machine.appliedIndex,
    logBytes: log.endPosition - log.origin.position,
    stateHash: machine.hash,
    pid: ports.pid ?? 0,
    uptimeMs: Math.round(facts.uptimeMs),
    peers: membersOf(membership.history.newest.membership)
      .filter((member) => member.node !== options.node)
      .map((member) => peerOf(member, facts)),
    address,
    diskTotalBytes: facts.space?.totalBytes ?? 0,
    diskFreeBytes: facts.space?.freeBytes ?? 0,
    ...noUpkeep,
  }
}

/** What `broker.ts` fills in from the upkeep of the replica. */
const noUpkeep = { quarantine: '', holes: [], lost: [] } as const

function peerOf(member: { readonly node: string; readonly raftAddress: string }, facts: StatusFacts): ReplicaPeer {
  const progress = facts.raft.peers.find((peer) => peer.id === member.node)
  const problem = facts.membership.members.problemOf(member.node)
  return {
    node: member.node,
    raftAddress: member.raftAddress,
    matchIndex: progress?.match ?? 0,
    state: facts.raft.role === 'leader' ? (progress?.state ?? '') : '',
    connected: facts.membership.members.isConnected(member.node),
    ...(problem === null ? {} : { problem }),
  }
}

/** Status of a node that takes no part in its group. */
export function strangerStatus(facts: {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly reason: string
  readonly pid: number
  readonly uptimeMs: number
  readonly address: string
}): ReplicaStatusReply {
  return {
    ...facts,
    uptimeMs: Math.round(facts.uptimeMs),
    incarnation: '',
    role: 'stranger',
    term: 0,
    vote: '',
    leader: '',
    firstIndex: 0,
    lastIndex: 0,
    durableIndex: 0,
    commitIndex: 0,
    appliedIndex: 0,
    logBytes: 0,
    stateHash: '',
    peers: [],
    diskTotalBytes: 0,
    diskFreeBytes: 0,
    ...noUpkeep,
  }
}
