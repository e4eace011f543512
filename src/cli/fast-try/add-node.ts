/**
 * One more replica for a local cluster that runs: a broker process that joins, and the change of membership that brings
 * it in. Called by `fast-try add-node`.
 */
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { silentLogger } from '../../common/logger.ts'
import { createGrpcTransport } from '../../rpc/grpc-transport.ts'
import type { MembershipReply } from '../../rpc/methods.ts'
import { runChange } from '../raft/change.ts'
import { RaftGroup } from '../raft/group.ts'
import { type ClusterPlan, type NodePlan, planJoiningNode, savePlan } from './layout.ts'
import { Processes } from './processes.ts'

export interface AddNodeOptions {
  readonly group: string
  /** Let it stay a learner. */
  readonly learner: boolean
  readonly timeoutMs: number
  readonly say: (line: string) => void
}

/** Rejects with SERVICE_NOT_AVAILABLE when no broker of the group runs. */
export async function addNode(
  plan: ClusterPlan,
  clock: Clock,
  options: AddNodeOptions,
): Promise<{ readonly node: NodePlan; readonly membership: MembershipReply }> {
  const { group, learner, timeoutMs, say } = options
  const running = new Processes(plan, clock, { attached: false })
  const addresses = plan.nodes
    .filter((node) => node.group === group && running.state(node.name) === 'running')
    .map((node) => `127.0.0.1:${node.clientPort}`)
  if (addresses.length === 0) throw new LedgerError('SERVICE_NOT_AVAILABLE', `no broker of ${group} runs`)
  const { plan: larger, node } = await planJoiningNode(plan, group)
  // Written before it starts: `status`, `kill` and `stop` must know of every process there is.
  savePlan(larger)
  const processes = new Processes(larger, clock, { attached: false })
  processes.start(node.name)
  await processes.waitStarted(timeoutMs)
  const raftAddress = `127.0.0.1:${node.raftPort}`
  say(`${node.name} runs as process ${processes.pid(node.name)}, raft ${raftAddress}`)
  const transport = createGrpcTransport({ clock, logger: silentLogger })
  const raft = new RaftGroup({ clock, transport }, addresses)
  try {
    const request = { kind: 'add', node: node.node, raftAddress, learner, priority: 0, force: false }
    const { membership } = await runChange(raft, clock, request, { timeoutMs, wait: true, say })
    return { node, membership }
  } finally {
    raft.close()
  }
}
