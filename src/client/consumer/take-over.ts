/**
 * Makes an assignment true: gives up the queues that are another member's now, and begins those that are new where the
 * group is. One assignment of a broker group at a time. Owned by the push consumer.
 */
import { sleep } from '../../common/clock.ts'
import { toLedgerError } from '../../common/errors.ts'
import { retryTopicOf } from '../../message/system-topics.ts'
import type { MessageQueue, StartFrom } from '../types.ts'
import type { BrokerGroupState } from './broker-group-state.ts'
import type { Dispatch } from './dispatch.ts'
import type { Assignment } from './group-member.ts'
import type { HeldQueue } from './held-queue.ts'
import type { HeldQueues } from './held-queues.ts'
import type { OffsetCommits } from './offset-commits.ts'
import { commitOffsets, fetchOffsets, fetchTopicIds, queueKey, resolveStart } from './offsets.ts'
import { type ConsumerPorts, type PushSettings, troubleRetryMs } from './push-settings.ts'
import type { QueueLocks } from './queue-locks.ts'

/** How long a new assignment waits for the locks of the old one to be given back. */
const unlockMs = 2_000

export interface TakeOverParts {
  readonly queues: HeldQueues
  readonly dispatch: Dispatch
  readonly commits: OffsetCommits
  /** Of a consumer that consumes in order. */
  readonly locks: QueueLocks | null
  readonly settings: PushSettings
  readonly isClosing: () => boolean
}

export class TakeOver {
  readonly #ports: ConsumerPorts
  readonly #identity: { readonly group: string; readonly member: string }
  readonly #parts: TakeOverParts
  readonly #signal: AbortSignal

  constructor(
    ports: ConsumerPorts,
    identity: { readonly group: string; readonly member: string },
    parts: TakeOverParts,
    signal: AbortSignal,
  ) {
    this.#ports = ports
    this.#identity = identity
    this.#parts = parts
    this.#signal = signal
  }

  /** Begins with it, or with the newest that has come once the one under way is done with. */
  onAssignment(state: BrokerGroupState, assignment: Assignment): void {
    state.wanted = assignment
    if (!state.applying) void this.#applyAll(state)
  }

  /** One at a time; while one is applied, only the newest of those that come waits. */
  async #applyAll(state: BrokerGroupState): Promise<void> {
    const where = { group: this.#identity.group, brokerGroup: state.name }
    state.applying = true
    while (state.wanted && !this.#signal.aborted) {
      const { wanted } = state
      state.wanted = null
      try {
        await this.#apply(state, wanted)
      } catch (cause) {
        const error = toLedgerError(cause)
        if (this.#signal.aborted) break
        this.#ports.logger.warn('taking over queues failed', { ...where, error: error.message })
        await sleep(this.#ports.clock, troubleRetryMs, this.#signal).catch(() => {})
        state.wanted ??= wanted
      }
    }
    state.applying = false
  }

  async #apply(state: BrokerGroupState, assignment: Assignment): Promise<void> {
    const keys = new Set(assignment.queues.map(queueKey))
    const revoked = this.#parts.queues.of(state.name).filter((held) => !keys.has(queueKey(held.queue)))
    const added = assignment.queues.filter((queue) => !this.#parts.queues.has(queue))
    if (revoked.length > 0) await this.#revoke(state, revoked)
    if (assignment.generation !== state.generation) {
      await this.#replaceRecreated(state)
      await this.#followSeeks(state)
    }
    state.generation = assignment.generation
    if (added.length > 0) await this.#takeOver(state, added)
    if (revoked.length === 0 && added.length === 0) return
    this.#ports.status.emit({
      kind: 'rebalanced',
      group: this.#identity.group,
      queues: this.#parts.queues.all.map(({ queue }) => queue),
    })
    const { generation } = assignment
    this.#ports.logger.info('rebalanced', {
      group: this.#identity.group,
      brokerGroup: state.name,
      generation,
      queues: keys.size,
    })
  }

  async #revoke(state: BrokerGroupState, revoked: readonly HeldQueue[]): Promise<void> {
    for (const held of revoked) held.revoked = true
    await this.#parts.dispatch.drain(revoked)
    // Still under the old generation. Usually refused by now; then the new owner begins at the last regular commit.
    await this.#parts.commits.commit(state)
    await this.#parts.locks?.unlock(state, revoked, unlockMs)
    for (const held of revoked) this.#parts.queues.letGo(held)
  }

  /**
   * A topic that was deleted and created again brings a new generation for queues of the same names. Commits under it
   * of what is still held of the old topic would count in the new one, and hide messages that nobody has consumed.
   */
  async #replaceRecreated(state: BrokerGroupState): Promise<void> {
    const kept = this.#parts.queues.of(state.name)
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#signal }
    const ids = await fetchTopicIds(
      this.#ports,
      kept.map((held) => held.queue),
      call,
    )
    for (const held of kept) {
      const isSame = held.reader.topicId === 0 || held.reader.topicId === ids.get(held.queue.topic)
      if (!isSame) this.#parts.queues.startOver(held)
    }
  }

  /**
   * An operator may have sent the group elsewhere, which made the new generation. Commits under it of what was consumed
   * before would undo that: a queue whose committed offset is none that this member committed is begun anew there.
   */
  async #followSeeks(state: BrokerGroupState): Promise<void> {
    const kept = this.#parts.queues.of(state.name)
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#signal }
    const queues = kept.map(({ queue }) => queue)
    const committed = await fetchOffsets(this.#ports, this.#identity.group, queues, call)
    for (const held of kept) {
      const offset = committed.get(queueKey(held.queue))
      if (offset !== undefined && !held.revoked && held.isElsewhere(offset)) this.#parts.queues.moveTo(held, offset)
    }
  }

  async #takeOver(state: BrokerGroupState, added: readonly MessageQueue[]): Promise<void> {
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#signal }
    const { incarnation } = state
    // Before the offsets are asked for: the topic may be created again before they are used.
    for (const { topic } of added) this.#ports.routes.want(topic)
    const topicIds = added.map((queue) => this.#ports.routes.table.topicId(queue))
    const committed = await fetchOffsets(this.#ports, this.#identity.group, added, call)
    const starts = await Promise.all(
      added.map(
        (queue) => committed.get(queueKey(queue)) ?? resolveStart(this.#ports, queue, this.#startOf(queue), call),
      ),
    )
    if (this.#parts.isClosing()) return
    const begun = await this.#fixStarts(state, added, { starts, committed })
    // Offsets of the incarnation before are none of this one; the next assignment is on its way.
    if (this.#parts.isClosing() || state.incarnation !== incarnation) return
    for (const [position, queue] of added.entries()) {
      const key = queueKey(queue)
      const start = { start: starts[position] ?? 'first', topicId: topicIds[position] ?? 0 }
      this.#parts.queues.hold(queue, start, committed.get(key) ?? begun.get(key))
    }
  }

  /** What the group gave back is consumed from its beginning: nothing of it is from before the group. */
  #startOf({ topic }: MessageQueue): StartFrom {
    return topic === retryTopicOf(this.#identity.group) ? 'first' : this.#parts.settings.from
  }

  /**
   * Commits where the group begins in queues that it never committed. Else a member that takes over before the first
   * regular commit would begin at the end of that time, and what came in between would reach nobody.
   */
  async #fixStarts(
    state: BrokerGroupState,
    added: readonly MessageQueue[],
    found: { readonly starts: readonly (number | 'first')[]; readonly committed: ReadonlyMap<string, number> },
  ): Promise<ReadonlyMap<string, number>> {
    const begun = added.flatMap((queue, position) => {
      const offset = found.starts[position]
      return typeof offset !== 'number' || found.committed.has(queueKey(queue)) ? [] : [{ queue, offset }]
    })
    const committer = { ...this.#identity, generation: state.generation }
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#signal, seek: false }
    try {
      await commitOffsets(this.#ports, committer, begun, call)
    } catch (cause) {
      // The next assignment is known already: learn it now.
      if (toLedgerError(cause).code === 'ILLEGAL_GENERATION') state.member.beat()
      throw cause
    }
    return new Map(begun.map(({ queue, offset }) => [queueKey(queue), offset]))
  }
}
