/**
 * One change of membership from its request to its end, with a word to the operator whenever it moves. Used by the
 * `raft` commands and by `fast-try add-node`.
 *
 * An answer that got lost is looked up in the membership before anything is asked again, so that a change is never
 * begun twice.
 */
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import {
  adminMethods,
  type ChangeMembershipRequest,
  type GroupMember,
  type MembershipReply,
} from '../../rpc/methods.ts'
import type { RaftGroup } from './group.ts'

export interface ChangeOptions {
  /** Until the change is done, milliseconds. */
  readonly timeoutMs: number
  /** False: answer as soon as it has begun. */
  readonly wait: boolean
  readonly say: (line: string) => void
}

export interface ChangeOutcome {
  readonly membership: MembershipReply
  /** False: the group was as wanted already. */
  readonly changed: boolean
}

const pollMs = 200
const beginAttemptsMax = 20
/** So long a node that was just started may take until it answers its leader. */
const unreachableMsMax = 3000
/** It is asked at least so often: a busy machine may need that time for one answer. */
const unreachableAttemptsMin = 3

export async function runChange(
  group: RaftGroup,
  clock: Clock,
  request: ChangeMembershipRequest,
  options: ChangeOptions,
): Promise<ChangeOutcome> {
  const endMs = clock.monotonicMs() + options.timeoutMs
  const before = await group.membership(options.timeoutMs)
  // The group whose members were just read, whoever has the addresses by now.
  const { incarnation } = before
  const meant = incarnation === undefined ? request : { ...request, incarnation }
  let now = await begin(group, clock, meant, before, endMs)
  for (let told = ''; options.wait && !isDone(request, before, now); ) {
    const text = progressOf(now)
    if (text !== told) options.say(text)
    told = text
    if (clock.monotonicMs() >= endMs) {
      throw new LedgerError('TIMEOUT', `not done after ${options.timeoutMs} ms, the group goes on with it: ${text}`)
    }
    await sleep(clock, pollMs)
    now = await group.membership(Math.max(pollMs, endMs - clock.monotonicMs())).catch((cause: unknown) => {
      throw begun(request, toLedgerError(cause))
    })
  }
  return { membership: now, changed: now.index !== before.index }
}

async function begin(
  group: RaftGroup,
  clock: Clock,
  request: ChangeMembershipRequest,
  before: MembershipReply,
  endMs: number,
): Promise<MembershipReply> {
  const startMs = clock.monotonicMs()
  let reason: LedgerError | null = null
  /** The first attempt that may have begun it. */
  let lost: LedgerError | null = null
  for (let attempt = 1; ; attempt++) {
    try {
      const timeoutMs = Math.max(1, endMs - clock.monotonicMs())
      return await group.call(adminMethods.changeMembership, request, { timeoutMs, isSafe: isNotBegun })
    } catch (cause) {
      const error = toLedgerError(cause)
      const isOver = attempt >= beginAttemptsMax || clock.monotonicMs() >= endMs
      if (error.stored === 'unknown') lost ??= error
      // An earlier attempt may have been the one that began it.
      const now =
        lost === null && attempt === 1 ? before : await look(group, request, lost, endMs - clock.monotonicMs())
      if (hasBegun(request, before, now)) return now
      // It may yet come to light, unless somebody who could know says what stands against it.
      if (lost !== null && isOver && isNotBegun(error)) throw unknown(request, lost, error)
      // The last attempt may have had no time left to learn why it is in vain.
      if (error.code !== 'DEADLINE_EXCEEDED') reason = error
      const isEarly = attempt < unreachableAttemptsMin || clock.monotonicMs() - startMs < unreachableMsMax
      const mayCome = error.code === 'NODE_UNREACHABLE' && isEarly
      if (isOver || !(mayCome || error.stored === 'unknown')) throw reason ?? error
    }
    await sleep(clock, pollMs)
  }
}

/** The members as they are now; when nobody can tell, a change whose answer got lost has an unknown outcome. */
async function look(
  group: RaftGroup,
  request: ChangeMembershipRequest,
  lost: LedgerError | null,
  timeoutMs: number,
): Promise<MembershipReply> {
  try {
    return await group.membership(Math.max(pollMs, timeoutMs))
  } catch (cause) {
    const error = toLedgerError(cause)
    throw lost === null || error.code === 'FOREIGN_GROUP' ? error : unknown(request, lost, error)
  }
}

const whereToLook = 'look with `ledgermq raft members` before you ask again'
const unseenHint =
  'Members are told by a leader: `ledgermq raft status` shows which replicas are down, bring them back.'

function unknown({ kind, node }: ChangeMembershipRequest, lost: LedgerError, cause: LedgerError): LedgerError {
  const text = `${kind} ${node} may have begun (${lost.message}), and who could tell does not answer: ${cause.message}`
  return new LedgerError('OUTCOME_UNKNOWN', `${text}; ${whereToLook}`, {}, { cause, hint: unseenHint })
}

/** It stands in the log of the leader that began it. */
function begun({ kind, node }: ChangeMembershipRequest, cause: LedgerError): LedgerError {
  if (cause.code === 'FOREIGN_GROUP') return cause
  const text = `${kind} ${node} was begun, but whether it is done cannot be seen: ${cause.message}`
  return new LedgerError('OUTCOME_UNKNOWN', `${text}; ${whereToLook}`, {}, { cause, hint: unseenHint })
}

/** What the leader found out about the change itself; asked again it would say the same for a while. */
const judgedCodes: ReadonlySet<string> = new Set(['CHANGE_IN_PROGRESS', 'NOT_CAUGHT_UP', 'NODE_UNREACHABLE'])

/** Refused before anything was proposed, for a reason that passes. */
function isNotBegun(error: LedgerError): boolean {
  return error.retryable && error.stored === 'no' && !judgedCodes.has(error.code)
}

function hasBegun(request: ChangeMembershipRequest, before: MembershipReply, now: MembershipReply): boolean {
  if (now.index === before.index) return false
  const { node } = request
  const is = find(now, node)
  switch (request.kind) {
    case 'add':
      return is !== undefined
    case 'remove':
      return is === undefined || is.role === 'leaving_voter'
    case 'promote':
      return is?.role === 'voter' || is?.role === 'joining_voter'
    case 'replace':
      return is?.disk !== find(before, node)?.disk || now.returning.some((member) => member.node === node)
    default:
      return is?.priority === request.priority
  }
}

export function isDone(request: ChangeMembershipRequest, before: MembershipReply, now: MembershipReply): boolean {
  if (now.underWay !== '') return false
  const is = find(now, request.node)
  switch (request.kind) {
    case 'add':
      return is?.role === (request.learner ? 'learner' : 'voter')
    case 'remove':
      return is === undefined
    case 'promote':
      return is?.role === 'voter'
    case 'replace':
      return is?.role === 'voter' || (is?.role === 'learner' && find(before, request.node)?.role === 'learner')
    default:
      return is?.priority === request.priority
  }
}

/** What is waited for, in the group's own words. */
function progressOf(now: MembershipReply): string {
  const learning = now.members.filter((member) => member.role === 'learner' && member.promote)
  const lags = learning.map((member) => {
    const lag = Math.max(0, now.lastIndex - member.matchIndex)
    if (member.connected) return `${member.node} lacks ${lag} entries`
    return `${member.node} is not connected${member.problem === undefined ? '' : `: ${member.problem}`}`
  })
  const what = now.underWay || 'the group has gone on to another change'
  return lags.length > 0 ? `waiting: ${what} (${lags.join(', ')})` : `waiting: ${what}`
}

function find(reply: MembershipReply, node: string): GroupMember | undefined {
  return reply.members.find((member) => member.node === node)
}
