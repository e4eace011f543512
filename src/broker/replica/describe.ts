/**
 * The answer to `Describe`: who this node is and what it knows of its group. Served on the raft listener by `broker.ts`
 * from the first moment, also by a node that has no group yet: the leader asks a newcomer for its disk this way.
 */
import { LedgerError } from '../../common/errors.ts'
import { type DescribeReply, type DescribeRequest, type FirstConfiguration, raftMethods } from '../../rpc/methods.ts'
import type { Transport } from '../../rpc/transport.ts'
import type { Identity } from './identity.ts'
import type { Replica } from './replica.ts'

export interface DescribeFacts {
  readonly identity: Identity
  /** Null before this node has a group. */
  readonly configuration: FirstConfiguration | null
  /** Null while none runs. */
  readonly replica: Replica | null
}

const askTimeoutMs = 3000

/** Asks the node that listens for peers at this address who it is. */
export async function askWho(
  transport: Transport,
  raftAddress: string,
  request: DescribeRequest,
): Promise<DescribeReply> {
  const channel = transport.connect(raftAddress, 'control')
  try {
    return await channel.call(raftMethods.describe, request, { timeoutMs: askTimeoutMs })
  } finally {
    channel.close()
  }
}

/** Throws WRONG_CLUSTER for a caller of another cluster or group. */
export function describe(request: DescribeRequest, { identity, configuration, replica }: DescribeFacts): DescribeReply {
  const { cluster, group, node, disk } = identity
  if (request.cluster !== cluster || request.group !== group) {
    const asked = `${request.cluster}/${request.group}`
    throw new LedgerError('WRONG_CLUSTER', `this is node ${node} of ${cluster}/${group}, not of ${asked}`)
  }
  const known = configuration === null ? {} : { configuration }
  if (!replica) return { node, disk, ...known, firstIndex: 0, lastIndex: 0, commitIndex: 0, term: 0, leader: '' }
  const { index, membership } = replica.history.newest
  const { voters, outgoing, learners } = membership
  return {
    node,
    disk,
    ...known,
    membership: { index, voters, outgoing, learners },
    firstIndex: replica.log.firstIndex,
    lastIndex: replica.log.lastIndex,
    commitIndex: replica.commitIndex,
    term: replica.term,
    leader: replica.leader()?.node ?? '',
  }
}
