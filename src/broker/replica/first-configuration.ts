/**
 * Judgements about the first configuration: whether a node belongs to it, whether two nodes were started with the
 * same settings. Pure; called by `bootstrap.ts` and by its RPC handler.
 */
import type { BootstrapRequest, FirstConfiguration } from '../../rpc/methods.ts'
import { type BrokerOptions, defaultSegmentBytes } from '../options.ts'
import type { Identity } from './identity.ts'
import { featureLevel } from './peer-server.ts'

/** What every initial voter must agree on before anything is cast in stone. */
export interface BootstrapSettings {
  /** `node=address`, sorted. */
  readonly nodeAddresses: readonly string[]
  readonly segmentBytes: number
}

export function bootstrapSettings(options: BrokerOptions): BootstrapSettings {
  return {
    nodeAddresses: options.members.map((member) => `${member.node}=${member.raftAddress}`).sort(),
    segmentBytes: options.segmentBytes ?? defaultSegmentBytes,
  }
}

/** Null when both were started alike, else the difference as seen from this node. */
export function settingsDifference(request: BootstrapRequest, own: BootstrapSettings): string | null {
  const theirs = [...request.nodeAddresses].sort().join(', ')
  const ours = own.nodeAddresses.join(', ')
  if (theirs !== ours) return `members: ${request.fromNode} has ${theirs}; this node has ${ours}`
  if (request.segmentBytes !== own.segmentBytes) {
    return `segmentBytes: ${request.fromNode} has ${request.segmentBytes}; this node has ${own.segmentBytes}`
  }
  return null
}

/** Null when this node and disk are a member, else why it is a stranger. */
export function strangerReason(configuration: FirstConfiguration, identity: Identity): string | null {
  if (configuration.cluster !== identity.cluster || configuration.group !== identity.group) {
    return `FOREIGN: the configuration is of ${configuration.cluster}/${configuration.group}`
  }
  const member = configuration.members.find((candidate) => candidate.node === identity.node)
  if (!member) return `NOT_A_MEMBER: node ${identity.node} is not in the group's configuration`
  if (member.disk === identity.disk) return null
  return (
    `WIPED: the group knows node ${identity.node} with disk ${member.disk}, but this folder is disk ${identity.disk}; ` +
    'what the old disk promised is lost, so this replica must not vote. Restore the old folder or replace the member.'
  )
}

/** The node that decides: the smallest id, so that all agree on it without talking. */
export function decider(options: BrokerOptions): string {
  return options.members.map((member) => member.node).sort()[0] ?? options.node
}

export function makeConfiguration(
  options: BrokerOptions,
  disks: ReadonlyMap<string, string>,
  incarnation: string,
): FirstConfiguration {
  return {
    cluster: options.cluster,
    group: options.group,
    incarnation,
    members: options.members.map(({ node, raftAddress }) => ({ node, raftAddress, disk: disks.get(node) ?? '' })),
    segmentBytes: bootstrapSettings(options).segmentBytes,
    featureLevel,
    formerIncarnations: [],
  }
}
