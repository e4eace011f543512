/**
 * Commits what a push consumer has consumed, broker group by broker group. Called by the consumer every now and then,
 * and before it gives queues up. Never throws: what is not committed comes again.
 */
import { type LedgerError, toLedgerError } from '../../common/errors.ts'
import type { BrokerGroupState } from './broker-group-state.ts'
import type { HeldQueue } from './held-queue.ts'
import type { HeldQueues } from './held-queues.ts'
import { type Committer, commitOffsets, type OffsetOfQueue, queueKey } from './offsets.ts'
import type { ConsumerPorts } from './push-settings.ts'
import type { QueueLocks } from './queue-locks.ts'

/** Calls of one commit: finds several bad queues among thousands, and does not flood a broker that refuses all of them. */
const commitCallsMax = 64

/** How far a queue was consumed. */
interface Progress extends OffsetOfQueue {
  readonly held: HeldQueue
}

export class OffsetCommits {
  readonly #ports: ConsumerPorts
  readonly #identity: { readonly group: string; readonly member: string }
  readonly #queues: HeldQueues
  readonly #locks: QueueLocks | null
  readonly #signal: AbortSignal

  /** `locks`: of a consumer that consumes in order. */
  constructor(
    ports: ConsumerPorts,
    identity: { readonly group: string; readonly member: string },
    parts: { readonly queues: HeldQueues; readonly locks: QueueLocks | null },
    signal: AbortSignal,
  ) {
    this.#ports = ports
    this.#identity = identity
    this.#queues = parts.queues
    this.#locks = parts.locks
    this.#signal = signal
  }

  /** Commits what is new in the queues of one broker group. Never throws: what is not committed comes again. */
  async commit(state: BrokerGroupState): Promise<void> {
    // Two commits at once could arrive in the wrong order.
    while (state.committing) await state.committing
    state.committing = this.#commitNow(state).finally(() => {
      state.committing = null
    })
    await state.committing
  }

  async #commitNow(state: BrokerGroupState): Promise<void> {
    const nowMs = this.#ports.clock.monotonicMs()
    const entries = this.#queues.of(state.name).flatMap((held) => {
      const offset = held.toCommit()
      // Without its lock, which it will have again, it would only spoil the commit of the others.
      return offset === null || nowMs >= held.leaseUntilMs ? [] : [{ held, queue: held.queue, offset }]
    })
    await this.#commitEntries(state, entries)
  }

  /**
   * A commit is all or nothing. What is refused for good is tried in halves, so that one queue, say of a topic that was
   * deleted just now, does not hold back the others.
   */
  async #commitEntries(state: BrokerGroupState, entries: readonly Progress[]): Promise<void> {
    // Of the generation that what was consumed belongs to: a later one may own queues of the same names in a new topic.
    const leased = this.#locks !== null
    const committer = { ...this.#identity, generation: state.generation, ...(leased ? { leased } : {}) }
    const { incarnation } = state
    const parts = entries.length > 0 ? [entries] : []
    for (let calls = 0; calls < commitCallsMax && !this.#signal.aborted; calls++) {
      const part = parts.shift()
      if (!part || state.incarnation !== incarnation) return
      const error = await this.#tryCommit(state, committer, part)
      // The next commit comes soon; what is refused now for all would only be refused again.
      if (error?.retryable) return
      if (!error || part.length === 1) continue
      const middle = Math.ceil(part.length / 2)
      parts.push(part.slice(0, middle), part.slice(middle))
    }
  }

  async #tryCommit(
    state: BrokerGroupState,
    committer: Committer,
    entries: readonly Progress[],
  ): Promise<LedgerError | null> {
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#signal, seek: false }
    try {
      await commitOffsets(this.#ports, committer, entries, call)
      for (const { held, offset } of entries) held.committed = offset
      return null
    } catch (cause) {
      const error = toLedgerError(cause)
      const queues = entries.map(({ queue }) => queueKey(queue)).slice(0, 3)
      this.#ports.logger.debug('commit failed', { group: this.#identity.group, queues, error: error.message })
      if (error.code === 'ILLEGAL_GENERATION') state.member.beat()
      if (error.code === 'LEASE_LOST') this.#locks?.lost(entries.map(({ held }) => held))
      return error
    }
  }
}
