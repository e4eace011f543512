/**
 * Leadership as this replica gives it away: at the word of an operator, before a stop, and when it is not well enough
 * to lead. Owned by the replica. Who leads is the core's decision; here is only whom to ask, and how that ended.
 */
import type { Input, PeerMessage, RaftStatus, StepResult } from '../../../raft/index.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { LeaderView, ProposeOptions } from '../contract.ts'
import type { MembershipHistory } from '../membership/history.ts'
import { named } from '../membership/membership.ts'
import type { ReplicaLimits } from '../options.ts'
import { notLeader } from './admission.ts'
import { HealthWatch } from './health/health-watch.ts'
import { PeerPace } from './health/peer-pace.ts'
import { LeaderFitness, type Unfitness } from './leader-fitness.ts'
import type { Members } from './members.ts'
import { PriorityReturn } from './priority-return.ts'
import { type ReachablePeer, reachablePeers, successors } from './reachable-peers.ts'
import type { RoleView } from './role-view.ts'

/** Between two looks at a transfer under way, milliseconds. */
const transferLookMs = 10

export interface LeadershipPorts {
  readonly clock: Clock
  readonly node: string
  readonly group: string
  /** See `LeaderFitnessPorts`. */
  readonly patienceMs: number
  readonly limits: Pick<ReplicaLimits, 'slowFsyncMs' | 'stallMs' | 'leadershipReturnMs'>
  step(input: Input): StepResult
  raftStatus(): RaftStatus
  readonly view: RoleView
  readonly members: Pick<Members, 'isConnected'>
  readonly history: MembershipHistory
  /** Who leads, this node included. */
  leader(): LeaderView | null
  /** Why the replica takes part in nothing any more, null while it does. */
  stopped(): LedgerError | null
  emit(kind: 'leader_unfit' | 'leader_fit' | 'slow_fsync', details: Readonly<Record<string, string | number>>): void
}

export class Leadership {
  readonly #ports: LeadershipPorts
  /** Told of every flush of the log. */
  readonly health: HealthWatch
  readonly #fitness: LeaderFitness
  readonly #priorityReturn: PriorityReturn
  readonly #pace = new PeerPace()
  /** What is wrong, with what is known of it. */
  readonly #unfit = new Map<Unfitness, string>()
  /** Ends listening to the membership. */
  #forget: () => void = () => {}

  constructor(ports: LeadershipPorts) {
    this.#ports = ports
    this.health = new HealthWatch({
      clock: ports.clock,
      slowFlushMs: ports.limits.slowFsyncMs,
      stallMs: ports.limits.stallMs,
      slowFlush: (tookMs) => ports.emit('slow_fsync', { tookMs: Math.round(tookMs) }),
      changed: (what, why) => (why === null ? this.fitAgain(what) : this.unfit(what, why)),
    })
    this.#fitness = new LeaderFitness({
      clock: ports.clock,
      step: ports.step,
      patienceMs: ports.patienceMs,
      isLeader: () => ports.view.role === 'leader',
      successors: (reasons) => this.#successorsFor(reasons),
    })
    this.#priorityReturn = new PriorityReturn({
      clock: ports.clock,
      node: ports.node,
      calmMs: ports.limits.leadershipReturnMs,
      history: ports.history,
      raftStatus: ports.raftStatus,
      isConnected: (node) => ports.members.isConnected(node),
      step: ports.step,
    })
  }

  /** Why this replica should not lead, for people; null while it is fit. */
  get unfitReason(): string | null {
    if (this.#unfit.size === 0) return null
    const reasons = [...this.#unfit].map(([what, detail]) => (detail === '' ? what : `${what} (${detail})`))
    return `UNFIT_TO_LEAD: ${reasons.join(', ')}`
  }

  /** Something that makes this replica unfit to lead began. Told again it changes nothing. */
  unfit(what: Unfitness, detail = ''): void {
    if (this.#unfit.has(what)) return
    this.#unfit.set(what, detail)
    this.#ports.emit('leader_unfit', { reason: what, detail })
    this.#fitness.set(what, true)
  }

  /** It is over. */
  fitAgain(what: Unfitness): void {
    if (!this.#unfit.delete(what)) return
    if (this.#unfit.size === 0) this.#ports.emit('leader_fit', { was: what })
    this.#fitness.set(what, false)
  }

  sent(message: PeerMessage): void {
    this.#pace.sent(message, this.#nowMs)
  }

  received(message: PeerMessage): void {
    this.#pace.received(message, this.#nowMs)
  }

  /** Role or leader changed. */
  roleChanged(): void {
    this.#pace.forget()
    this.#fitness.roleChanged()
    this.#priorityReturn.changed()
  }

  /** Members of any kind that a leader can count on now. */
  reachablePeers(): readonly ReachablePeer[] {
    return reachablePeers(this.#ports.raftStatus(), (node) => this.#ports.members.isConnected(node))
  }

  start(): void {
    this.health.start()
    this.#forget = this.#ports.history.onChanged(() => this.#priorityReturn.changed())
  }

  stop(): void {
    this.health.stop()
    this.#fitness.stop()
    this.#forget()
    this.#priorityReturn.stop()
  }

  /** Begins to hand leadership to this voter. Throws NOT_LEADER, NOT_A_MEMBER, CHANGE_IN_PROGRESS, or
   * SERVICE_NOT_AVAILABLE for one that said that it cannot lead. */
  transferTo(node: string): void {
    const { history, group, step, leader } = this.#ports
    if (!named(history.newest.membership.voters, node))
      throw new LedgerError('NOT_A_MEMBER', `${node} is no voter of ${group}`)
    const result = step({ kind: 'transfer', to: node })
    if (result.kind !== 'refused') return
    const { refusal } = result
    if (refusal.kind === 'not_leader') throw notLeader(leader(), refusal.leader ?? '', refusal.term)
    if (refusal.kind === 'cannot_lead') throw new LedgerError('SERVICE_NOT_AVAILABLE', unwell(node))
    throw new LedgerError('CHANGE_IN_PROGRESS', `leadership cannot be handed over now: ${refusal.kind}`)
  }

  /** Hands leadership to the voter that can lead and holds most of the log; false when this node does not lead, or alone. */
  transferAway(): boolean {
    const { raftStatus, step } = this.#ports
    if (raftStatus().role !== 'leader') return false
    const [best] = this.#successors()
    return best !== undefined && step({ kind: 'transfer', to: best }).kind === 'done'
  }

  /**
   * Resolves when another node leads, after a transfer was begun. Rejects with NOT_CAUGHT_UP or
   * SERVICE_NOT_AVAILABLE when it ended otherwise, and with DEADLINE_EXCEEDED.
   */
  handedOver(options: ProposeOptions): Promise<void> {
    const { clock, node, raftStatus, leader, stopped } = this.#ports
    const { transferringTo: to } = raftStatus()
    const endMs = clock.monotonicMs() + options.timeoutMs
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const now = leader()
        const raft = raftStatus()
        const error = stopped()
        if (error) reject(error)
        else if (now && now.node !== node) resolve()
        else if (raft.role === 'leader' && raft.transferringTo === null) reject(notTaken(to, raft))
        else if (clock.monotonicMs() >= endMs || options.signal?.aborted) {
          reject(new LedgerError('DEADLINE_EXCEEDED', 'leadership is still being handed over'))
        } else clock.after(transferLookMs, look, { background: true })
      }
      look()
    })
  }

  readonly #nowMs = (): number => this.#ports.clock.monotonicMs()

  /** A slow disk is no reason to give leadership to another slow disk: that voter would refuse, and time be lost. */
  #successorsFor(reasons: ReadonlySet<Unfitness>): readonly string[] {
    // A process that is busy itself sees every answer late.
    const isDiskAlone = reasons.size === 1 && reasons.has('slow_disk')
    if (!isDiskAlone) return this.#successors()
    const { slowFsyncMs } = this.#ports.limits
    return this.#successors().filter((node) => this.#pace.isQuick(node, slowFsyncMs, this.#nowMs()))
  }

  #successors(): readonly string[] {
    return successors(this.reachablePeers(), this.#ports.history.newest.membership)
  }
}

function unwell(node: string): string {
  return `${node} is not well enough to lead now`
}

function notTaken(to: string | null, raft: RaftStatus): LedgerError {
  const heir = raft.peers.find(({ id }) => id === to)
  if (heir?.canLead === false) return new LedgerError('SERVICE_NOT_AVAILABLE', unwell(heir.id))
  const lag = raft.lastIndex - (heir?.match ?? 0)
  if (lag > 0) return new LedgerError('NOT_CAUGHT_UP', `${to} lacks ${lag} entries, so it could not take over`)
  return new LedgerError('SERVICE_NOT_AVAILABLE', `${to} did not take over in time`)
}
