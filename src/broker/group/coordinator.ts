/**
 * The coordinator of consumer groups on the leader of a broker group: hears members, and proposes who consumes which
 * of this broker group's queues. Created by `handler/register.ts`, one per replica; on followers it only refuses.
 *
 * The assignment in force is the one in the log; what is kept here can be lost at any time. A new leader takes over
 * the assignment as it stands and gives every member in it a session's time to be heard, so that a failover alone
 * moves no queue. Commits are fenced by the generation, not by this memory.
 */
import { frameTypes } from '../../../store/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { Empty, GroupHeartbeatReply, GroupHeartbeatRequest, LeaveGroupRequest } from '../../rpc/methods.ts'
import { type AssignedMember, encodeCommand } from '../apply/command.ts'
import type { ProposeOptions, ReplicaApi } from '../contract.ts'
import type { EventSink } from '../events.ts'
import { failureOf, throwBug } from '../handler/failure.ts'
import { becomeCurrent, notLeader } from '../handler/leadership.ts'
import { desiredMembers, findTooLarge, sameMembers } from './desired.ts'
import { checkHeartbeat, checkMember, sessionTimeoutMsDefault } from './heartbeat-check.ts'
import { Membership, sameTopics } from './membership.ts'

/** How long changes of members are collected before one rebalance. */
export const rebalanceDelayMs = 150
/** Groups with members on one broker group. */
export const groupsMax = 10_000
/** Members are told to come at least this often, so that they learn of a rebalance soon. */
const heartbeatIntervalMsMax = 3000
const scanIntervalMs = 500
const proposeTimeoutMs = 5000
const retryDelayMs = 500

interface Group {
  readonly membership: Membership
  /** Set while a rebalance waits for its turn. */
  planned: Cancel | null
  proposing: boolean
  /** Something changed while a proposal was under way. */
  changedMeanwhile: boolean
  /** Why the state machine refuses the assignment; told to the members that it leaves without queues. */
  refusal: LedgerError | null
}

export class GroupCoordinator {
  readonly #replica: ReplicaApi
  readonly #events: EventSink
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #groups = new Map<string, Group>()
  readonly #unsubscribe: readonly (() => void)[]
  /** Term in which this replica leads and the groups were taken over; null while it does not lead. */
  #activeTerm: number | null = null
  #scanTimer: Cancel | null = null
  #scannedMs = 0
  #closed = false

  constructor(options: {
    readonly replica: ReplicaApi
    readonly events: EventSink
    readonly clock: Clock
    readonly logger: Logger
  }) {
    this.#replica = options.replica
    this.#events = options.events
    this.#clock = options.clock
    this.#logger = options.logger
    this.#unsubscribe = [
      options.replica.onRoleChanged(() => this.#followRole()),
      options.replica.onApplied((_entry, result) => {
        if (result.kind === 'topic' || result.kind === 'topic_deleted') this.#planAll()
      }),
    ]
    this.#followRole()
  }

  /**
   * Takes a member's sign of life and tells what it owns. Rejects with NOT_LEADER, INVALID_PARAMETER (another
   * subscription than the group's), FLOW_CONTROL (too many members or groups), and as `readCurrent` does.
   */
  async heartbeat(request: GroupHeartbeatRequest, options: ProposeOptions): Promise<GroupHeartbeatReply> {
    const heard = checkHeartbeat(request)
    await this.#ensureLeading(options)
    const group = this.#groups.get(request.group) ?? this.#newGroup(request.group)
    const change = group.membership.hear(request.member, heard, this.#clock.monotonicMs())
    if (change === 'joined') this.#tell('client_joined', request.group, { member: request.member })
    if (change !== 'known') this.#plan(group)
    if (group.refusal && !this.#isAssigned(request.group, request.member, heard.topics)) throw group.refusal
    return this.#replyTo(group, request.member, heard.sessionTimeoutMs)
  }

  /** Gives the member's queues to others without waiting for its session to end. Unknown members are no error. */
  async leave(request: LeaveGroupRequest, options: ProposeOptions): Promise<Empty> {
    checkMember(request.group, request.member)
    await this.#ensureLeading(options)
    const group = this.#groups.get(request.group)
    if (group?.membership.remove(request.member)) {
      this.#tell('client_left', request.group, { member: request.member, reason: 'left' })
      this.#plan(group)
    }
    return {}
  }

  close(): void {
    this.#closed = true
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#standDown()
  }

  async #ensureLeading(options: ProposeOptions): Promise<void> {
    await becomeCurrent(this.#replica, options)
    this.#followRole()
    if (this.#activeTerm === null) throw notLeader(this.#replica)
  }

  #newGroup(name: string): Group {
    if (this.#groups.size >= groupsMax)
      throw new LedgerError('FLOW_CONTROL', `this broker group has ${groupsMax} consumer groups with members`, {
        retryAfterMs: 10_000,
      })
    return this.#addGroup(name)
  }

  #addGroup(name: string): Group {
    const group: Group = {
      membership: new Membership(name),
      planned: null,
      proposing: false,
      changedMeanwhile: false,
      refusal: null,
    }
    this.#groups.set(name, group)
    return group
  }

  /** Has what it asks for. Whom a newcomer leaves no room goes on with the queues it has. */
  #isAssigned(group: string, member: string, topics: readonly string[]): boolean {
    const mine = this.#replica.machine.assignment(group).members.find((one) => one.member === member)
    return mine !== undefined && sameTopics([...mine.topics].sort(), topics)
  }

  #replyTo(group: Group, member: string, sessionTimeoutMs: number): GroupHeartbeatReply {
    const assignment = this.#replica.machine.assignment(group.membership.group)
    const mine = assignment.members.find((one) => one.member === member)
    const queues = (mine?.queues ?? []).flatMap(({ topicId, queue }) => {
      const topic = this.#replica.machine.topicById(topicId)
      return topic ? [{ topic: topic.config.topic, queue }] : []
    })
    const settled = !group.planned && !group.proposing
    const intervalMs = settled ? Math.min(Math.floor(sessionTimeoutMs / 3), heartbeatIntervalMsMax) : rebalanceDelayMs
    return { generation: assignment.generation, queues, intervalMs }
  }

  /** Takes over or stands down when the role changed. Called as often as one likes. */
  #followRole(): void {
    const leads = this.#replica.leading && !this.#closed
    if (leads && this.#activeTerm === this.#replica.term) return
    if (this.#activeTerm !== null) this.#standDown()
    if (leads) this.#takeOver()
  }

  #takeOver(): void {
    const nowMs = this.#clock.monotonicMs()
    this.#activeTerm = this.#replica.term
    for (const name of this.#replica.machine.groupsWithMembers()) {
      const group = this.#addGroup(name)
      for (const { member, topics } of this.#replica.machine.assignment(name).members)
        group.membership.adopt(member, {
          topics: [...topics].sort(),
          sessionTimeoutMs: sessionTimeoutMsDefault,
          heardMs: nowMs,
        })
      // Topics may have changed while nobody was there to rebalance.
      this.#plan(group)
    }
    this.#scannedMs = nowMs
    this.#armScan()
  }

  #standDown(): void {
    this.#activeTerm = null
    this.#scanTimer?.()
    this.#scanTimer = null
    for (const group of this.#groups.values()) group.planned?.()
    this.#groups.clear()
  }

  #armScan(): void {
    this.#scanTimer = this.#clock.after(scanIntervalMs, () => this.#scan(), { background: true })
  }

  #scan(): void {
    const nowMs = this.#clock.monotonicMs()
    const lateMs = nowMs - this.#scannedMs - scanIntervalMs
    this.#scannedMs = nowMs
    this.#armScan()
    for (const group of this.#groups.values()) {
      // This process slept: heartbeats that came meanwhile are still unread.
      if (lateMs > scanIntervalMs) group.membership.forgive(lateMs)
      const expired = group.membership.expire(nowMs)
      for (const member of expired)
        this.#tell('client_left', group.membership.group, { member, reason: 'session timed out' })
      if (expired.length > 0) this.#plan(group)
    }
  }

  #planAll(): void {
    for (const group of this.#groups.values()) this.#plan(group)
  }

  #plan(group: Group, delayMs: number = rebalanceDelayMs): void {
    if (group.proposing) group.changedMeanwhile = true
    if (group.planned || group.proposing) return
    group.planned = this.#clock.after(delayMs, () => {
      group.planned = null
      // Nothing in a rebalance throws but bugs.
      this.#rebalance(group).catch((error: unknown) => throwBug(this.#clock, error))
    })
  }

  async #rebalance(group: Group): Promise<void> {
    const term = this.#activeTerm
    const { group: name } = group.membership
    const current = this.#replica.machine.assignment(name)
    const tooLarge = findTooLarge(group.membership, this.#replica.machine)
    if (tooLarge) return this.#onProposeFailed(group, tooLarge)
    const members = desiredMembers(group.membership, current, this.#replica.machine)
    if (sameMembers(members, current.members)) return this.#settle(group)
    group.proposing = true
    const failure = await this.#propose(name, current.generation, members)
    group.proposing = false
    // Another term has another set of groups: this one is no longer in use.
    if (this.#activeTerm !== term || this.#groups.get(name) !== group) return
    if (failure) this.#onProposeFailed(group, failure)
    if (group.changedMeanwhile) this.#plan(group)
    group.changedMeanwhile = false
    if (!failure) this.#settle(group)
  }

  /** Returns what went wrong, null when the assignment is in force. */
  async #propose(
    group: string,
    expectedGeneration: number,
    members: readonly AssignedMember[],
  ): Promise<LedgerError | null> {
    const body = encodeCommand({ kind: 'assign_group', group, expectedGeneration, members })
    try {
      const { result } = await this.#replica.propose(frameTypes.command, [body], { timeoutMs: proposeTimeoutMs })
      if (result.kind === 'refused') return new LedgerError(result.code, result.message)
      if (result.kind !== 'generation') return new LedgerError('SYSTEM_ERROR', `assign_group gave ${result.kind}`)
      const queues = members.reduce((sum, member) => sum + member.queues.length, 0)
      this.#tell('rebalance', group, { generation: result.generation, members: members.length, queues })
      return null
    } catch (error) {
      return failureOf(error)
    }
  }

  #onProposeFailed(group: Group, failure: LedgerError): void {
    const transient = failure.retryable || failure.code === 'DEADLINE_EXCEEDED'
    group.refusal = transient ? null : failure
    this.#logger.warn('rebalance failed', { consumerGroup: group.membership.group, reason: failure.message })
    if (transient) this.#plan(group, retryDelayMs)
  }

  /** The assignment in force is the desired one. */
  #settle(group: Group): void {
    group.refusal = null
    if (group.membership.count === 0 && !group.planned && !group.proposing) this.#groups.delete(group.membership.group)
  }

  #tell(
    kind: 'client_joined' | 'client_left' | 'rebalance',
    consumerGroup: string,
    details: Readonly<Record<string, string | number>>,
  ): void {
    this.#events.emit(kind, this.#replica.term, { consumerGroup, ...details })
  }
}
