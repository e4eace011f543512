/**
 * Asks around who belongs to the group now, for a node that has no log to read it from, or one that hides it. Called by
 * `upkeep.ts` before such a node copies its first log, or takes what it misses for lost.
 */
import { LedgerError } from '../../../common/errors.ts'
import type { Logger } from '../../../common/logger.ts'
import { type DescribedMembership, type Member, raftMethods } from '../../../rpc/methods.ts'
import type { Transport } from '../../../rpc/transport.ts'
import type { Identity } from '../identity.ts'

const callMs = 2000

export interface FindMembersParts {
  readonly transport: Transport
  readonly logger: Logger
  readonly identity: Identity
  /** Where replicas of the group may listen for peers. */
  readonly addresses: readonly string[]
  readonly signal: AbortSignal
}

export interface FoundMembers {
  /** Of their membership; 0 for the first one. */
  readonly index: number
  readonly members: readonly Member[]
}

/** The other members by the newest membership that anybody told, null when nobody did. */
export async function findMembers(parts: FindMembersParts): Promise<FoundMembers | null> {
  const replies = await Promise.all([...new Set(parts.addresses)].map((address) => ask(address, parts)))
  parts.signal.throwIfAborted()
  const newest = replies.reduce((a, b) => (!a || (b && b.index > a.index) ? b : a), null)
  if (!newest) return null
  const all = [...newest.outgoing, ...newest.learners, ...newest.voters]
  const byNode = new Map(all.map(({ node, disk, raftAddress }) => [node, { node, disk, raftAddress }]))
  byNode.delete(parts.identity.node)
  return { index: newest.index, members: [...byNode.values()] }
}

async function ask(
  address: string,
  { transport, logger, identity, signal }: FindMembersParts,
): Promise<DescribedMembership | null> {
  const channel = transport.connect(address, 'control')
  try {
    const { cluster, group, node, disk } = identity
    const request = { cluster, group, fromNode: node, fromDisk: disk }
    const { membership } = await channel.call(raftMethods.describe, request, { timeoutMs: callMs, signal })
    return membership ?? null
  } catch (error) {
    const why = error instanceof LedgerError ? error.code : String(error)
    logger.debug('a replica did not tell its membership', { address, why })
    return null
  } finally {
    channel.close()
  }
}
