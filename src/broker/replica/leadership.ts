/**
 * Leadership as this replica gives it away: at the word of an operator, before a stop, and when it is not well enough
 * to lead. Owned by the replica. Who leads is the core's decision; here is only whom to ask, and how that ended.
 */
import type { Input, RaftStatus, StepResult } from '../../../raft/index.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { LeaderView, ProposeOptions } from '../contract.ts'
import type { MembershipHistory } from '../membership/history.ts'
import { named } from '../membership/membership.ts'
import { notLeader } from './admission.ts'
import { LeaderFitness, type Unfitness } from './leader-fitness.ts'
import type { Members } from './members.ts'
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
  step(input: Input): StepResult
  raftStatus(): RaftStatus
  readonly view: RoleView
  readonly members: Pick<Members, 'isConnected'>
  readonly history: MembershipHistory
  /** Who leads, this node included. */
  leader(): LeaderView | null
  /** Why the replica takes part in nothing any more, null while it does. */
  stopped(): LedgerError | null
}

export class Leadership {
  readonly #ports: LeadershipPorts
  readonly #fitness: LeaderFitness

  constructor(ports: LeadershipPorts) {
    this.#ports = ports
    this.#fitness = new LeaderFitness({
      clock: ports.clock,
      step: ports.step,
      patienceMs: ports.patienceMs,
      isLeader: () => ports.view.role === 'leader',
      hasLeader: () => this.#hasLeader(),
      successors: () => this.#successors(),
    })
  }

  /** Something that makes this replica unfit to lead began or ended. */
  setUnfit(what: Unfitness, isUnfit: boolean): void {
    this.#fitness.set(what, isUnfit)
  }

  /** Role or leader changed. */
  roleChanged(): void {
    this.#fitness.roleChanged()
  }

  /** Members of any kind that a leader can count on now. */
  reachablePeers(): readonly ReachablePeer[] {
    return reachablePeers(this.#ports.raftStatus(), (node) => this.#ports.members.isConnected(node))
  }

  stop(): void {
    this.#fitness.stop()
  }

  /** Begins to hand leadership to this voter. Throws NOT_LEADER, NOT_A_MEMBER or CHANGE_IN_PROGRESS. */
  transferTo(node: string): void {
    const { history, group, step, leader } = this.#ports
    if (!named(history.newest.membership.voters, node))
      throw new LedgerError('NOT_A_MEMBER', `${node} is no voter of ${group}`)
    const result = step({ kind: 'transfer', to: node })
    if (result.kind !== 'refused') return
    const { refusal } = result
    if (refusal.kind === 'not_leader') throw notLeader(leader(), refusal.leader ?? '', refusal.term)
    throw new LedgerError('CHANGE_IN_PROGRESS', `leadership cannot be handed over now: ${refusal.kind}`)
  }

  /** Hands leadership to the peer that holds most of the log; false when this node does not lead or has no peer. */
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

  #hasLeader(): boolean {
    const { leader } = this.#ports.view
    return leader !== null && this.#ports.members.isConnected(leader.node)
  }

  #successors(): readonly string[] {
    return successors(this.reachablePeers(), this.#ports.history.newest.membership)
  }
}

function notTaken(to: string | null, raft: RaftStatus): LedgerError {
  const lag = raft.lastIndex - (raft.peers.find(({ id }) => id === to)?.match ?? 0)
  if (lag > 0) return new LedgerError('NOT_CAUGHT_UP', `${to} lacks ${lag} entries, so it could not take over`)
  return new LedgerError('SERVICE_NOT_AVAILABLE', `${to} did not take over in time`)
}
