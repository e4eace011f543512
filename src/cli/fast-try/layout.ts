/**
 * The plan of a local cluster: which processes with which ports and folders. Made once, written to `cluster.json` in
 * the data folder, and read back by `fast-try status|kill|restart|stop`.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LedgerError } from '../../common/errors.ts'
import { type FoundPort, findPorts, type PortWish } from './ports.ts'

export interface NodePlan {
  /** Unique in the cluster: `n0` with one group, `RaftNode01/n0` style names are made of group and node. */
  readonly name: string
  readonly group: string
  readonly node: string
  readonly clientPort: number
  readonly raftPort: number
  /** Where clients are sent instead of to the client port: something in front of it that delays or cuts. */
  readonly advertisedPort?: number
  /** No initial replica of its group: started later, to be added to it. */
  readonly joins?: true
}

export interface NamesrvPlan {
  readonly name: string
  readonly port: number
}

export interface ClusterPlan {
  readonly version: 1
  readonly cluster: string
  readonly dataDirectory: string
  readonly namesrvs: readonly NamesrvPlan[]
  readonly nodes: readonly NodePlan[]
  readonly segmentBytes: number
  /** How often brokers register with the namesrvs; their default when absent. */
  readonly registerIntervalMs?: number
  /** None of the ports is a documented one, by choice. */
  readonly anyPorts?: true
  /** Ports that differ from the documented ones, for the banner. */
  readonly replacedPorts: readonly FoundPort[]
}

export interface LayoutOptions {
  readonly dataDirectory: string
  readonly nodesPerGroup: number
  readonly groups: number
  readonly namesrvs: number
  /** No documented ports, so that many clusters can start side by side. */
  readonly anyPorts?: boolean
}

export const clusterName = 'RaftCluster'
const namesrvPort = 9876
const clientPortBase = 30_911
const raftPortBase = 30_912
const segmentBytes = 64 * 1024 * 1024

export async function planCluster(options: LayoutOptions): Promise<ClusterPlan> {
  const namesrvNames = range(options.namesrvs).map((index) => (options.namesrvs === 1 ? 'namesrv' : `namesrv${index}`))
  const members = range(options.groups).flatMap((group) =>
    range(options.nodesPerGroup).map((node) => ({
      group: `RaftNode${String(group).padStart(2, '0')}`,
      node: `n${node}`,
      name: options.groups === 1 ? `n${node}` : `g${group}-n${node}`,
      slot: group * options.nodesPerGroup + node,
    })),
  )
  const wishes: PortWish[] = [
    ...namesrvNames.map((name, index) => ({ name, port: namesrvPort + index * 10 })),
    ...members.flatMap((member) => [
      { name: `${member.name} client`, port: clientPortBase + member.slot * 10 },
      { name: `${member.name} raft`, port: raftPortBase + member.slot * 10 },
    ]),
  ]
  const ports = await findPorts(wishes, { anyPorts: options.anyPorts ?? false })
  const portOf = (name: string): number => ports.find((port) => port.name === name)?.port ?? 0
  return {
    version: 1,
    cluster: clusterName,
    dataDirectory: options.dataDirectory,
    namesrvs: namesrvNames.map((name) => ({ name, port: portOf(name) })),
    nodes: members.map(({ group, node, name }) => ({
      name,
      group,
      node,
      clientPort: portOf(`${name} client`),
      raftPort: portOf(`${name} raft`),
    })),
    segmentBytes,
    ...(options.anyPorts === true ? { anyPorts: true as const } : {}),
    replacedPorts: ports.filter((port) => port.insteadOf !== null),
  }
}

/** The plan with one more node in this group, to be started and added; the first free name and ports. */
export async function planJoiningNode(
  plan: ClusterPlan,
  group: string,
): Promise<{ readonly plan: ClusterPlan; readonly node: NodePlan }> {
  const inGroup = plan.nodes.filter((node) => node.group === group)
  const [model] = inGroup
  if (!model) throw new LedgerError('INVALID_PARAMETER', `the cluster has no group ${group}`)
  let number = inGroup.length
  while (inGroup.some((node) => node.node === `n${number}`)) number++
  const node = `n${number}`
  const name = model.name.replace(/n\d+$/, node)
  const slot = plan.nodes.length
  const wishes = [
    { name: `${name} client`, port: clientPortBase + slot * 10 },
    { name: `${name} raft`, port: raftPortBase + slot * 10 },
  ]
  // Side by side with others, the documented ports are theirs, also while one of their nodes is down.
  const [client, raft] = await findPorts(wishes, { anyPorts: plan.replacedPorts.length > 0 })
  const added: NodePlan = { name, group, node, clientPort: client?.port ?? 0, raftPort: raft?.port ?? 0, joins: true }
  return { plan: { ...plan, nodes: [...plan.nodes, added] }, node: added }
}

export function namesrvAddresses(plan: ClusterPlan): readonly string[] {
  return plan.namesrvs.map((namesrv) => `127.0.0.1:${namesrv.port}`)
}

export function nodeDirectory(plan: ClusterPlan, node: NodePlan): string {
  return join(plan.dataDirectory, 'groups', node.group, node.node)
}

const planFile = 'cluster.json'

/** Written whole or not at all: a reader never sees half a plan. */
export function savePlan(plan: ClusterPlan): void {
  mkdirSync(plan.dataDirectory, { recursive: true })
  const path = join(plan.dataDirectory, planFile)
  writeFileSync(`${path}.new`, `${JSON.stringify(plan, null, 2)}\n`)
  renameSync(`${path}.new`, path)
}

/** Null when there is no cluster in this folder. */
export function loadPlan(dataDirectory: string): ClusterPlan | null {
  let text: string
  try {
    text = readFileSync(join(dataDirectory, planFile), 'utf8')
  } catch {
    return null
  }
  const plan = JSON.parse(text) as ClusterPlan
  if (plan.version !== 1)
    throw new LedgerError(
      'CONFIG_INVALID',
      `${join(dataDirectory, planFile)} has version ${plan.version}, this build knows 1`,
    )
  return plan
}

function range(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index)
}
