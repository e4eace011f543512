/**
 * Membership and leadership for operators: who belongs to the group, one change of it, a handover. Registered by
 * `broker.ts`; only the leader answers, confirmed by a quorum.
 *
 * A change is judged here (`membership/change.ts`) and begun with one entry; the membership driver carries it to its
 * end. Nothing but that entry decides: an answer that got lost costs a look at the membership, not a second change.
 */
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import {
  adminMethods,
  type ChangeMembershipRequest,
  type DescribeReply,
  type Member,
  type MembershipReply,
  type TransferLeadershipReply,
} from '../../rpc/methods.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import type { ReplicaApi } from '../contract.ts'
import { type Change, judgeChange, priorityMax, underWay } from '../membership/change.ts'
import type { MembershipDriver } from '../membership/driver.ts'
import { memberNamed, memberRole, membersOf, named, priorityOf } from '../membership/membership.ts'
import type { Replica } from '../replica/replica.ts'
import { failureOf } from './failure.ts'
import { becomeCurrent, notLeader, waitOptions } from './leadership.ts'

export interface MembershipHandlerParts {
  readonly api: ReplicaApi
  readonly driver: MembershipDriver
  /** The one that runs; null in between. */
  replica(): Replica | null
  /** Asks the node that listens for peers at this address who it is. Rejects with UNAVAILABLE or WRONG_CLUSTER. */
  describe(raftAddress: string): Promise<DescribeReply>
}

const namePattern = /^[a-zA-Z0-9_-]{1,64}$/
const addressPattern = /^[^:\s]+:\d{1,5}$/

export function registerMembershipHandlers(routes: ServerRoutes, parts: MembershipHandlerParts): void {
  routes.unary(adminMethods.getMembership, async (_request, context) => replyOf(await leading(parts, context)))
  routes.unary(adminMethods.changeMembership, async (request, context) => {
    checkRequest(request)
    checkIncarnation(parts, request.incarnation)
    try {
      return await change(parts, request, context)
    } catch (error) {
      throw failureOf(error)
    }
  })
  routes.unary(adminMethods.transferLeadership, async ({ to, incarnation }, context) => {
    checkIncarnation(parts, incarnation)
    const replica = await leading(parts, context)
    if (to !== replica.node) await transfer(replica, to, context)
    return transferReply(to, replica.leader(), replica.term)
  })
}

/**
 * The answer once leadership has moved. Throws NOT_LEADER when an election gave it to another node than the wanted one:
 * that one can be asked to hand it on, and nobody is told that what he wants has come about.
 */
export function transferReply(
  wanted: string,
  leader: { readonly node: string; readonly address: string; readonly term: number } | null,
  term: number,
): TransferLeadershipReply {
  if (wanted !== '' && leader !== null && leader.node !== wanted) {
    const { node, address } = leader
    throw new LedgerError('NOT_LEADER', `${node} was elected, not ${wanted}`, {
      term: leader.term,
      leader: { node, address },
    })
  }
  return { leader: leader?.node ?? '', term: leader?.term ?? term }
}

/** The replica of this node, which leads. */
async function leading({ api, replica }: MembershipHandlerParts, context: CallContext): Promise<Replica> {
  await becomeCurrent(api, waitOptions(context))
  const running = replica()
  if (!running) throw notLeader(api)
  return running
}

async function change(
  parts: MembershipHandlerParts,
  request: ChangeMembershipRequest,
  context: CallContext,
): Promise<MembershipReply> {
  const asked = await leading(parts, context)
  const wanted = await changeOf(parts, asked, request)
  const isReady = wanted.kind === 'promote' && (await parts.driver.watch(asked, wanted.node, context.signal))
  // Asking and watching the node took its time.
  const replica = await leading(parts, context)
  const { index: basis } = replica.history.newest
  const facts = parts.driver.facts(replica)
  const isCaughtUp = (node: string): boolean => isReady || facts.isCaughtUp(node)
  const judgement = judgeChange(wanted, { ...facts, isCaughtUp, force: request.force })
  if (judgement.kind === 'refused') throw new LedgerError(judgement.code, judgement.message)
  if (judgement.kind === 'nothing') return replyOf(replica)
  if (wanted.kind === 'remove' && wanted.node === replica.node) await leaveFirst(replica, context)
  await replica.proposeMembership(judgement.target, basis, waitOptions(context))
  return replyOf(replica)
}

async function changeOf(
  parts: MembershipHandlerParts,
  replica: Replica,
  request: ChangeMembershipRequest,
): Promise<Change> {
  const { kind, node, priority } = request
  switch (kind) {
    case 'add':
      return { kind, member: await whoIs(parts, replica, node, request.raftAddress), promote: !request.learner }
    case 'replace': {
      const known = memberNamed(replica.history.newest.membership, node)
      if (!known) throw new LedgerError('NOT_A_MEMBER', `${node} is no member of ${replica.group}`)
      return { kind, member: await whoIs(parts, replica, node, request.raftAddress || known.raftAddress) }
    }
    case 'remove':
    case 'promote':
      return { kind, node }
    case 'priority':
      return { kind, node, priority }
    default:
      throw new LedgerError('INVALID_PARAMETER', `kind: ${kind} is no change; add, remove, promote, replace, priority`)
  }
}

/** Asks the node itself for the disk it has now: an operator should not have to know it, nor be able to mistake it. */
async function whoIs(
  { describe }: MembershipHandlerParts,
  replica: Replica,
  node: string,
  raftAddress: string,
): Promise<Member> {
  let found: DescribeReply
  try {
    found = await describe(raftAddress)
  } catch (cause) {
    const { code, message } = toLedgerError(cause)
    if (code === 'WRONG_CLUSTER') throw new LedgerError('FOREIGN_GROUP', `${raftAddress} says: ${message}`)
    throw new LedgerError('NODE_UNREACHABLE', `${node} does not answer at ${raftAddress}: ${message}`, {}, { cause })
  }
  if (found.node !== node) throw new LedgerError('FOREIGN_GROUP', `${raftAddress} is node ${found.node}, not ${node}`)
  const incarnation = found.configuration?.incarnation
  if (incarnation !== undefined && incarnation !== replica.incarnation) {
    const other = `${incarnation} of group ${replica.group}, not to ${replica.incarnation}`
    throw new LedgerError('FOREIGN_GROUP', `the folder of ${node} belongs to incarnation ${other}`)
  }
  return { node, disk: found.disk, raftAddress }
}

/** Thesis 3.10 and 4.2.2: a leader that is to be removed lets another one lead and remove it. */
async function leaveFirst(replica: Replica, context: CallContext): Promise<void> {
  try {
    await transfer(replica, '', context)
  } catch {
    // Nobody took over in time. The core lets a leader remove itself, too: it steps down once that is committed.
    return
  }
  const leader = replica.leader()
  throw new LedgerError('NOT_LEADER', `${replica.node} has handed over to be removed`, {
    term: replica.term,
    ...(leader ? { leader: { node: leader.node, address: leader.address } } : {}),
  })
}

/** Resolves when another node leads. `to` empty: whoever holds most of the log. */
async function transfer(replica: Replica, to: string, context: CallContext): Promise<void> {
  if (to !== '') replica.leadership.transferTo(to)
  else if (!replica.leadership.transferAway())
    throw new LedgerError('WOULD_LOSE_QUORUM', 'no other voter that could lead can be reached')
  await replica.leadership.handedOver(waitOptions(context))
}

function replyOf(replica: Replica): MembershipReply {
  const { index, membership } = replica.history.newest
  const raft = replica.raftStatus()
  const committed = replica.history.isCommitted
  return {
    group: replica.group,
    leader: replica.leader()?.node ?? '',
    term: raft.term,
    index,
    committed,
    members: membersOf(membership).map(({ node, disk, raftAddress }) => {
      const isSelf = node === replica.node
      const problem = isSelf ? null : replica.members.problemOf(node)
      return {
        node,
        disk,
        raftAddress,
        address: replica.members.addressOf(node),
        role: memberRole(membership, node) ?? '',
        promote: named(membership.learners, node)?.promote ?? false,
        priority: priorityOf(membership, node),
        matchIndex: raft.peers.find((peer) => peer.id === node)?.match ?? 0,
        connected: isSelf || replica.members.isConnected(node),
        ...(problem === null ? {} : { problem }),
      }
    }),
    underWay: underWay(membership, committed) ?? '',
    lastIndex: raft.lastIndex,
    returning: membership.returning,
    incarnation: replica.incarnation,
  }
}

/**
 * An address outlives its broker: another group may have it by now, of the same name and with the same node names.
 * Asked before who leads, so that the operator learns this rather than the way to a foreign leader.
 */
function checkIncarnation({ api }: MembershipHandlerParts, meant: string | undefined): void {
  if (meant === undefined || meant === api.incarnation) return
  const own = `incarnation ${api.incarnation} of group ${api.group} in cluster ${api.cluster}`
  throw new LedgerError('FOREIGN_GROUP', `this broker belongs to ${own}, not to ${meant}`)
}

function checkRequest({ kind, node, raftAddress, priority }: ChangeMembershipRequest): void {
  if (!namePattern.test(node)) throw invalid('node', 'must be a name of up to 64 characters a-z A-Z 0-9 _ -')
  const isNeeded = kind === 'add'
  if ((isNeeded || raftAddress !== '') && !addressPattern.test(raftAddress))
    throw invalid('raftAddress', 'is no host:port')
  if (priority > priorityMax) throw invalid('priority', `must be at most ${priorityMax}`)
}

function invalid(field: string, reason: string): LedgerError {
  return new LedgerError('INVALID_PARAMETER', `${field} ${reason}`)
}
