/** Status of a replica for the command line and the console, made from the core's own status. Called by `replica.ts`. */
import type { RaftStatus } from '../../../raft/index.ts'
import type { CommitLogApi, DiskSpace } from '../../../store/index.ts'
import type { FirstConfiguration, ReplicaPeer, ReplicaStatusReply } from '../../rpc/methods.ts'
import type { StateMachineApi } from '../contract.ts'
import { type Membership, membersOf } from '../membership/membership.ts'

export interface StatusFacts {
  readonly node: string
  readonly configuration: FirstConfiguration
  readonly membership: Membership
  /** Instead of the role of the core, for a node without a vote. */
  readonly role: string | null
  readonly raft: RaftStatus
  readonly log: CommitLogApi
  readonly machine: StateMachineApi
  /** Null before it was measured. */
  readonly space: DiskSpace | null
  readonly reason: string
  readonly pid: number
  readonly uptimeMs: number
  readonly address: string
  isConnected(node: string): boolean
  /** Why there is no connection; null while there is one or nothing is known yet. */
  problemOf(node: string): string | null
}

export function replicaStatus(facts: StatusFacts): ReplicaStatusReply {
  const { raft, log, machine, configuration } = facts
  return {
    cluster: configuration.cluster,
    group: configuration.group,
    node: facts.node,
    incarnation: configuration.incarnation,
    role: facts.role ?? raft.role,
    reason: facts.reason,
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
    pid: facts.pid,
    uptimeMs: Math.round(facts.uptimeMs),
    peers: membersOf(facts.membership)
      .filter((member) => member.node !== facts.node)
      .map((member) => peerOf(member, facts)),
    address: facts.address,
    diskTotalBytes: facts.space?.totalBytes ?? 0,
    diskFreeBytes: facts.space?.freeBytes ?? 0,
    ...noUpkeep,
  }
}

/** What `broker.ts` fills in from the upkeep of the replica. */
const noUpkeep = { quarantine: '', holes: [], lost: [] } as const

function peerOf(member: { readonly node: string; readonly raftAddress: string }, facts: StatusFacts): ReplicaPeer {
  const progress = facts.raft.peers.find((peer) => peer.id === member.node)
  const problem = facts.problemOf(member.node)
  return {
    node: member.node,
    raftAddress: member.raftAddress,
    matchIndex: progress?.match ?? 0,
    state: facts.raft.role === 'leader' ? (progress?.state ?? '') : '',
    connected: facts.isConnected(member.node),
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
