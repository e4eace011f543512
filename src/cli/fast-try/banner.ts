/** What a person reads when a local cluster is up: where it is, what becomes of its data, what to try next. */
import { type ClusterPlan, namesrvAddresses } from './layout.ts'

export interface BannerFacts {
  readonly plan: ClusterPlan
  readonly kept: boolean
  readonly readyMs: number
  readonly leaders: readonly string[]
  /** True when the cluster goes on after this command. */
  readonly background: boolean
}

export function banner(facts: BannerFacts): string {
  const { plan } = facts
  const namesrv = namesrvAddresses(plan).join(',')
  const lines = [
    `Cluster ${plan.cluster} is ready after ${facts.readyMs} ms. Leader: ${facts.leaders.join(', ')}`,
    ...plan.namesrvs.map((item) => `  ${item.name.padEnd(8)} 127.0.0.1:${item.port}`),
    ...plan.nodes.map(
      (node) =>
        `  ${node.name.padEnd(8)} 127.0.0.1:${node.clientPort}  raft 127.0.0.1:${node.raftPort}  group ${node.group}`,
    ),
    // Nothing was taken where nothing was wished for.
    ...(plan.anyPorts ? [] : plan.replacedPorts).map(
      (port) => `  port ${port.insteadOf} was taken: ${port.name} uses ${port.port}`,
    ),
    `  data     ${plan.dataDirectory} (${facts.kept ? 'kept' : 'thrown away at the end'})`,
  ]
  if (!facts.background && !facts.kept) return lines.join('\n')
  return [
    ...lines,
    'Try next:',
    `  npx ledgermq produce Hello 'first message' --namesrv ${namesrv}`,
    `  npx ledgermq consume Hello --from start --count 1 --namesrv ${namesrv}`,
    `  npx ledgermq cluster list --namesrv ${namesrv}`,
    ...(facts.background ? [`  npx ledgermq fast-try kill leader --data ${plan.dataDirectory}`] : []),
  ].join('\n')
}
