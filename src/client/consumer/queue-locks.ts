/**
 * Holds the locks of the queues that are consumed in order (RocketMQ: RebalanceImpl.lock). Owned by the push consumer.
 *
 * A lease ends by log time, which this process does not see. So messages are handed out only until two thirds of it
 * have passed on the own monotonic clock, counted from before the lock was asked for, and it is renewed after one third.
 */
import type { Cancel } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import { queuesPerRequestMax } from '../../message/limits.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import { callLeader } from '../leader-call.ts'
import type { BrokerGroupState } from './broker-group-state.ts'
import type { HeldQueue } from './held-queue.ts'
import type { HeldQueues } from './held-queues.ts'
import { queueKey } from './offsets.ts'
import type { ConsumerPorts } from './push-settings.ts'

/** Before a lock is asked for again that another member has, or that was refused. */
const lockRetryMs = 1_000

export interface QueueLocksParts {
  readonly identity: { readonly group: string; readonly member: string }
  readonly queues: HeldQueues
  readonly states: ReadonlyMap<string, BrokerGroupState>
  readonly leaseMs: number
  /** Messages may be handed out. */
  readonly onLocked: () => void
}

interface Ask {
  /** Monotonic: when to ask next. */
  dueMs: number
  asking: boolean
  /** Monotonic: since when the lock is wanted and not had; null while it is had. */
  sinceMs: number | null
  told: boolean
}

export class QueueLocks {
  readonly #ports: ConsumerPorts
  readonly #parts: QueueLocksParts
  readonly #signal: AbortSignal
  readonly #asks = new WeakMap<HeldQueue, Ask>()
  #cancelTimer: Cancel = () => {}

  constructor(ports: ConsumerPorts, parts: QueueLocksParts, signal: AbortSignal) {
    this.#ports = ports
    this.#parts = parts
    this.#signal = signal
  }

  /** Asks for every lock that is due, and comes back when the next one is. Called when queues were taken over. */
  ask(): void {
    if (this.#signal.aborted) return
    const nowMs = this.#ports.clock.monotonicMs()
    let nextMs = Number.POSITIVE_INFINITY
    for (const state of this.#parts.states.values()) {
      const due = this.#parts.queues.of(state.name).filter((held) => {
        const ask = this.#askOf(held, nowMs)
        if (!ask.asking && ask.dueMs > nowMs) nextMs = Math.min(nextMs, ask.dueMs)
        return !ask.asking && ask.dueMs <= nowMs
      })
      for (let at = 0; at < due.length; at += queuesPerRequestMax)
        void this.#lock(state, due.slice(at, at + queuesPerRequestMax))
    }
    this.#cancelTimer()
    this.#cancelTimer = () => {}
    if (nextMs < Number.POSITIVE_INFINITY)
      this.#cancelTimer = this.#ports.clock.after(nextMs - nowMs, () => this.ask(), { background: true })
  }

  /** A commit came too late: the lock has to be taken again before anything is handed out. */
  lost(queues: readonly HeldQueue[]): void {
    for (const held of queues) {
      held.leaseUntilMs = 0
      const ask = this.#asks.get(held)
      if (ask) ask.dueMs = 0
    }
    this.ask()
  }

  /**
   * Lets the next owner begin at once. Queues whose listener still runs keep their lock to its end: nobody else may
   * begin before. Never throws.
   */
  async unlock(state: BrokerGroupState, queues: readonly HeldQueue[], timeoutMs: number): Promise<void> {
    const idle = queues.filter((held) => !held.isBusy)
    for (const held of queues) held.leaseUntilMs = 0
    const by = { ...this.#parts.identity, generation: state.generation }
    try {
      for (let at = 0; at < idle.length; at += queuesPerRequestMax) {
        const request = { ...by, queues: idle.slice(at, at + queuesPerRequestMax).map(named) }
        await callLeader(this.#ports, state.name, { method: brokerMethods.unlockQueues, request }, { timeoutMs })
      }
    } catch (cause) {
      // The end of the leases will do the same a little later.
      this.#ports.logger.debug('unlocking queues failed', { error: toLedgerError(cause).message })
    }
  }

  close(): void {
    this.#cancelTimer()
  }

  #askOf(held: HeldQueue, nowMs: number): Ask {
    const known = this.#asks.get(held)
    if (known) return known
    const made: Ask = { dueMs: 0, asking: false, sinceMs: nowMs, told: false }
    this.#asks.set(held, made)
    return made
  }

  async #lock(state: BrokerGroupState, queues: readonly HeldQueue[]): Promise<void> {
    const { clock } = this.#ports
    const { identity, leaseMs } = this.#parts
    const askedMs = clock.monotonicMs()
    for (const held of queues) this.#askOf(held, askedMs).asking = true
    let failure: LedgerError | null = null
    let leases: readonly { readonly until: number }[] = []
    try {
      const request = { ...identity, generation: state.generation, leaseMs, queues: queues.map(named) }
      const options = { timeoutMs: Math.min(this.#ports.requestTimeoutMs, leaseMs / 3), signal: this.#signal }
      leases = (await callLeader(this.#ports, state.name, { method: brokerMethods.lockQueues, request }, options))
        .leases
    } catch (cause) {
      failure = toLedgerError(cause)
      if (failure.code === 'ILLEGAL_GENERATION') state.member.beat()
    }
    for (const [at, held] of queues.entries()) this.#note(held, askedMs, (leases[at]?.until ?? 0) > 0, failure)
    if (leases.some(({ until }) => until > 0)) this.#parts.onLocked()
    this.ask()
  }

  #note(held: HeldQueue, askedMs: number, isLocked: boolean, failure: LedgerError | null): void {
    const { leaseMs } = this.#parts
    const nowMs = this.#ports.clock.monotonicMs()
    const ask = this.#askOf(held, nowMs)
    const where = queueKey(held.queue)
    ask.asking = false
    if (isLocked) {
      held.leaseUntilMs = askedMs + (leaseMs * 2) / 3
      ask.dueMs = askedMs + leaseMs / 3
      ask.sinceMs = null
      if (ask.told) this.#ports.status.emit({ kind: 'resumed', what: 'consumer', where })
      ask.told = false
      return
    }
    ask.dueMs = nowMs + lockRetryMs
    // While the lease before is still good, nothing has stopped yet.
    if (nowMs < held.leaseUntilMs) return
    ask.sinceMs ??= nowMs
    const sinceMs = nowMs - ask.sinceMs
    if (ask.told || sinceMs < leaseMs) return
    ask.told = true
    const reason = failure ?? new LedgerError('LEASE_LOST', `another member still has the lock of ${where}`)
    this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where, sinceMs, reason })
  }
}

function named({ queue: { topic, queue } }: HeldQueue): { readonly topic: string; readonly queue: number } {
  return { topic, queue }
}
