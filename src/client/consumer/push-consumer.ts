/**
 * The push consumer: joins a consumer group, gets queues assigned, and calls a listener for every message (RocketMQ:
 * DefaultMQPushConsumer with a concurrent listener). Made by `client.pushConsumer()`.
 *
 * At least once: a message whose listener had not returned, or whose commit was not answered, may come again. One that
 * throws is tried again here after a delay; nothing is skipped unless `attemptsMax` says so, and then a status tells.
 */
import { sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import { checkGroupName, checkTopicName } from '../../message/names.ts'
import { checkFunction, checkList, checkOptions, checkReadFrom, checkStart } from '../arguments.ts'
import { checkCount } from '../options.ts'
import type { MessageQueue, PushConsumerOptions, ReadFrom, StartFrom } from '../types.ts'
import { allowManyListeners } from '../wait.ts'
import type { ConsumedMessage } from './consumed-batch.ts'
import { type Assignment, GroupMember } from './group-member.ts'
import { HeldQueue } from './held-queue.ts'
import {
  type Committer,
  commitOffsets,
  fetchOffsets,
  fetchTopicIds,
  type OffsetOfQueue,
  queueKey,
  resolveStart,
} from './offsets.ts'
import type { Delivery, FlowLimits } from './process-queue.ts'
import type { ReadBudget, ReaderOptions, ReaderPorts } from './queue-reader.ts'

export interface PushConsumerPorts extends ReaderPorts {
  readonly requestTimeoutMs: number
  readonly onClosed: (consumer: PushConsumer) => void
}

export interface ListenerContext {
  /** Aborted when the queue was given to another member or the consumer closes, and the time to finish is over. */
  readonly signal: AbortSignal
  /** 1 for the first call with this message. */
  readonly attempt: number
}

/** Resolves: consumed. Throws: comes again after a delay. */
export type Listener = (message: ConsumedMessage, context: ListenerContext) => Promise<void> | void

/** Read ahead per queue beyond what flow control holds. */
const readAheadBytes = 1024 * 1024
const readAheadBytesMax = 32 * 1024 * 1024
const longPollMs = 15_000
/** Before a queue is tried again whose reader stopped, or whose offset could not be fetched. */
const troubleRetryMs = 1_000
/** Calls of one commit: finds several bad queues among thousands, and does not flood a broker that refuses all of them. */
const commitCallsMax = 64

interface Settings {
  readonly concurrency: number
  readonly attemptsMax: number
  readonly retryDelayMs: number
  readonly retryDelayMsMax: number
  readonly commitIntervalMs: number
  readonly sessionTimeoutMs: number
  readonly drainTimeoutMs: number
  readonly limits: FlowLimits
  readonly from: StartFrom
  readonly readFrom: ReadFrom
}

interface BrokerGroupState {
  readonly member: GroupMember
  /** Of the broker group: another one after a recovery by force. */
  incarnation: string
  generation: number
  wanted: Assignment | null
  applying: boolean
  committing: Promise<void> | null
}

/** How far a queue was consumed. */
interface Progress extends OffsetOfQueue {
  readonly held: HeldQueue
}

export class PushConsumer {
  readonly group: string
  /** Random, so that two processes on one host are two members. */
  readonly member: string
  readonly #ports: PushConsumerPorts
  readonly #topics: readonly string[]
  readonly #settings: Settings
  readonly #budget: ReadBudget = { bytes: 0, bytesMax: readAheadBytesMax }
  readonly #brokerGroups = new Map<string, BrokerGroupState>()
  readonly #held = new Map<string, HeldQueue>()
  /** Ends everything that waits or is retried. */
  readonly #stop = new AbortController()
  #turns: HeldQueue[] = []
  #listener: Listener | null = null
  #running = 0
  #dispatchPlanned = false
  #stopListening = (): void => {}
  #closing: Promise<void> | null = null
  #fatal: LedgerError | null = null

  constructor(ports: PushConsumerPorts, options: PushConsumerOptions) {
    checkGroupName(options.group)
    checkList('CONFIG_INVALID', 'subscribe', options.subscribe)
    checkReadFrom(options.readFrom)
    checkStart('CONFIG_INVALID', options.from)
    for (const topic of options.subscribe) checkTopicName(topic)
    if (options.subscribe.length === 0) throw new LedgerError('CONFIG_INVALID', '`subscribe` names no topic')
    allowManyListeners(this.#stop.signal)
    this.group = options.group
    this.member = ports.random.bytes(12).toString('hex')
    this.#ports = ports
    this.#topics = [...new Set(options.subscribe)].sort()
    this.#settings = readSettings(options)
  }

  /**
   * Consumes until `close` is called, the signal aborts, or the group refuses this member for good (the error is
   * thrown). Call it once.
   */
  async run(listener: Listener, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    checkFunction('INVALID_PARAMETER', 'listener', listener)
    checkOptions(options)
    if (this.#listener || this.#stop.signal.aborted) {
      throw new LedgerError('CLOSED', 'run was called before, or the consumer is closed')
    }
    this.#listener = listener
    const { routes } = this.#ports
    const onAbort = (): void => void this.close()
    options.signal?.addEventListener('abort', onAbort, { once: true })
    if (options.signal?.aborted) onAbort()
    this.#stopListening = routes.listen({
      onRouteChanged: () => this.#joinBrokerGroups(),
      onLeaderChanged: (change) => {
        for (const held of this.#turns) held.reader.onLeaderChanged(change)
        this.#brokerGroups.get(change.group)?.member.beat()
      },
    })
    // Closed before it began: `close` found nothing to stop listening to.
    if (this.#closing) this.#stopListening()
    for (const topic of this.#topics) routes.want(topic)
    this.#joinBrokerGroups()
    try {
      await this.#commitUntilStopped()
      await this.#closing
    } finally {
      options.signal?.removeEventListener('abort', onAbort)
    }
    if (this.#fatal) throw this.#fatal
  }

  /** Queues of this member now. */
  assignment(): readonly MessageQueue[] {
    return this.#turns.map((held) => held.queue)
  }

  /** Hands out nothing more, waits for running listeners (bounded), commits, leaves the group. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#stopListening()
    for (const held of this.#turns) held.revoked = true
    await this.#drain(this.#turns)
    await Promise.all([...this.#brokerGroups.keys()].map((group) => this.#commit(group)))
    this.#stop.abort()
    for (const held of this.#turns.splice(0)) held.drop()
    this.#held.clear()
    const leaveMs = Math.min(2_000, this.#ports.requestTimeoutMs)
    await Promise.all([...this.#brokerGroups.values()].map(({ member }) => member.leave(leaveMs)))
    this.#ports.onClosed(this)
  }

  /** One membership per broker group that has a subscribed topic. */
  #joinBrokerGroups(): void {
    const { table } = this.#ports.routes
    for (const [group, state] of this.#brokerGroups) this.#followIncarnation(group, state)
    for (const reader of this.#turns) reader.reader.resume()
    for (const topic of this.#topics) {
      for (const { group } of table.queues(topic, 'read')) {
        if (this.#brokerGroups.has(group) || this.#closing) continue
        const member = new GroupMember({
          ports: this.#ports,
          brokerGroup: group,
          group: this.group,
          member: this.member,
          topics: this.#topics,
          sessionTimeoutMs: this.#settings.sessionTimeoutMs,
          onAssignment: (assignment) => this.#onAssignment(group, assignment),
          onTrouble: (error) => this.#onTrouble(group, error),
        })
        const incarnation = table.incarnation(group)
        const joined = { member, incarnation, generation: 0, wanted: null, applying: false, committing: null }
        this.#brokerGroups.set(group, joined)
        member.beat()
      }
    }
  }

  /**
   * A broker group that was recovered by force counts on from less. Where its queues have grown again meanwhile, beyond
   * what was read here, no offset shows it: all of them are begun anew where the group is.
   */
  #followIncarnation(brokerGroup: string, state: BrokerGroupState): void {
    const incarnation = this.#ports.routes.table.incarnation(brokerGroup)
    if (incarnation === state.incarnation) return
    const isRecovered = state.incarnation !== ''
    state.incarnation = incarnation
    if (!isRecovered) return
    for (const held of this.#turns) if (held.queue.group === brokerGroup) this.#letGo(held)
    state.member.beat()
  }

  #onTrouble(brokerGroup: string, error: LedgerError | null): void {
    const where = `${this.group}/${brokerGroup}`
    if (error === null) {
      this.#ports.status.emit({ kind: 'resumed', what: 'consumer', where })
      return
    }
    this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where, sinceMs: 0, reason: error })
    // Another subscription than the group's, or a right that is missing: no repetition helps.
    if (error.retryable || this.#closing) return
    this.#fatal = error
    void this.close()
  }

  #onAssignment(brokerGroup: string, assignment: Assignment): void {
    const state = this.#brokerGroups.get(brokerGroup)
    if (!state || this.#closing) return
    state.wanted = assignment
    if (!state.applying) void this.#applyAssignments(brokerGroup, state)
  }

  /** One at a time; while one is applied, only the newest of those that come waits. */
  async #applyAssignments(brokerGroup: string, state: BrokerGroupState): Promise<void> {
    state.applying = true
    while (state.wanted && !this.#stop.signal.aborted) {
      const { wanted } = state
      state.wanted = null
      try {
        await this.#apply(brokerGroup, state, wanted)
      } catch (cause) {
        const error = toLedgerError(cause)
        if (this.#stop.signal.aborted) break
        this.#ports.logger.warn('taking over queues failed', { group: this.group, brokerGroup, error: error.message })
        await sleep(this.#ports.clock, troubleRetryMs, this.#stop.signal).catch(() => {})
        state.wanted ??= wanted
      }
    }
    state.applying = false
  }

  async #apply(brokerGroup: string, state: BrokerGroupState, assignment: Assignment): Promise<void> {
    const keys = new Set(assignment.queues.map(queueKey))
    const revoked = this.#turns.filter((held) => held.queue.group === brokerGroup && !keys.has(queueKey(held.queue)))
    const added = assignment.queues.filter((queue) => !this.#held.has(queueKey(queue)))
    if (revoked.length > 0) await this.#revoke(brokerGroup, revoked)
    if (assignment.generation !== state.generation) await this.#replaceRecreated(brokerGroup)
    state.generation = assignment.generation
    if (added.length > 0) await this.#takeOver(state, added)
    if (revoked.length === 0 && added.length === 0) return
    this.#ports.status.emit({ kind: 'rebalanced', group: this.group, queues: this.assignment() })
    const { generation } = assignment
    this.#ports.logger.info('rebalanced', { group: this.group, brokerGroup, generation, queues: keys.size })
  }

  async #revoke(brokerGroup: string, revoked: readonly HeldQueue[]): Promise<void> {
    for (const held of revoked) held.revoked = true
    await this.#drain(revoked)
    // Still under the old generation. Usually refused by now; then the new owner begins at the last regular commit.
    await this.#commit(brokerGroup)
    for (const held of revoked) {
      held.drop()
      this.#held.delete(queueKey(held.queue))
    }
    this.#turns = this.#turns.filter((held) => !revoked.includes(held))
  }

  /**
   * A topic that was deleted and created again brings a new generation for queues of the same names. Commits under it
   * of what is still held of the old topic would count in the new one, and hide messages that nobody has consumed.
   */
  async #replaceRecreated(brokerGroup: string): Promise<void> {
    const kept = this.#turns.filter((held) => held.queue.group === brokerGroup)
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#stop.signal }
    const ids = await fetchTopicIds(
      this.#ports,
      kept.map((held) => held.queue),
      call,
    )
    for (const held of kept) {
      const isSame = held.reader.topicId === 0 || held.reader.topicId === ids.get(held.queue.topic)
      if (!isSame) this.#startOver(held)
    }
  }

  async #takeOver(state: BrokerGroupState, added: readonly MessageQueue[]): Promise<void> {
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#stop.signal }
    const { incarnation } = state
    // Before the offsets are asked for: the topic may be created again before they are used.
    const topicIds = added.map((queue) => this.#ports.routes.table.topicId(queue))
    const committed = await fetchOffsets(this.#ports, this.group, added, call)
    const starts = await Promise.all(
      added.map(
        (queue) => committed.get(queueKey(queue)) ?? resolveStart(this.#ports, queue, this.#settings.from, call),
      ),
    )
    if (this.#closing) return
    const begun = await this.#fixStarts(state, added, { starts, committed })
    // Offsets of the incarnation before are none of this one; the next assignment is on its way.
    if (this.#closing || state.incarnation !== incarnation) return
    for (const [position, queue] of added.entries()) {
      const key = queueKey(queue)
      const start = { start: starts[position] ?? 'first', topicId: topicIds[position] ?? 0 }
      this.#hold(queue, start, committed.get(key) ?? begun.get(key))
    }
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
    const committer = { group: this.group, member: this.member, generation: state.generation }
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#stop.signal, seek: false }
    try {
      await commitOffsets(this.#ports, committer, begun, call)
    } catch (cause) {
      // The next assignment is known already: learn it now.
      if (toLedgerError(cause).code === 'ILLEGAL_GENERATION') state.member.beat()
      throw cause
    }
    return new Map(begun.map(({ queue, offset }) => [queueKey(queue), offset]))
  }

  #hold(queue: MessageQueue, start: Pick<ReaderOptions, 'start' | 'topicId'>, committed: number | undefined): void {
    const held: HeldQueue = new HeldQueue(this.#ports, {
      queue,
      consumerGroup: this.group,
      readFrom: this.#settings.readFrom,
      pullBytes: readAheadBytes,
      bytesMax: readAheadBytes,
      longPollMs,
      budget: this.#budget,
      limits: this.#settings.limits,
      ...start,
      committed,
      onReady: () => this.#planDispatch(),
      onTopicChanged: () => this.#startOver(held),
    })
    this.#held.set(queueKey(queue), held)
    this.#turns.push(held)
    held.reader.start()
  }

  /** Waits until no listener of these queues runs, at most `drainTimeoutMs`; then tells them to stop. */
  async #drain(queues: readonly HeldQueue[]): Promise<void> {
    const limit = new AbortController()
    const timeout = sleep(this.#ports.clock, this.#settings.drainTimeoutMs, limit.signal).catch(() => {})
    await Promise.race([Promise.all(queues.map((held) => held.idle())), timeout])
    limit.abort()
    for (const held of queues) held.abort.abort()
  }

  /** Messages are handed out outside of the turn that brought them, so that a burst is one round. */
  #planDispatch(): void {
    if (this.#dispatchPlanned || this.#stop.signal.aborted) return
    this.#dispatchPlanned = true
    this.#ports.clock.defer(() => {
      this.#dispatchPlanned = false
      this.#dispatch()
    })
  }

  #dispatch(): void {
    const wasFull = this.#budget.bytes >= this.#budget.bytesMax
    for (const held of this.#turns) this.#fill(held)
    if (wasFull) for (const held of this.#turns) held.reader.resume()
    let idleTurns = 0
    while (this.#running < this.#settings.concurrency && idleTurns < this.#turns.length) {
      const held = this.#turns.shift()
      if (!held) return
      this.#turns.push(held)
      const delivery = held.next()
      if (delivery) void this.#deliver(held, delivery)
      idleTurns = delivery ? 0 : idleTurns + 1
    }
  }

  #fill(held: HeldQueue): void {
    try {
      held.fill()
    } catch (cause) {
      const reason = toLedgerError(cause)
      const where = queueKey(held.queue)
      this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where, sinceMs: 0, reason })
      this.#recover(held, reason)
    }
  }

  /**
   * A reader that stopped. Below the minimum, the messages are gone by retention: go on at the first that is left,
   * loudly. Beyond the end, which a leader says only with its quorum, the group was recovered by force and counts on
   * from less: what comes now has offsets that were seen before, so go on at what the group has committed. Anything else
   * is tried again from where it stopped.
   */
  #recover(held: HeldQueue, reason: LedgerError): void {
    const at = held.reader.position
    const isMoved = reason.code === 'PULL_OFFSET_MOVED'
    const isGone = isMoved && at < (reason.facts.minOffset ?? 0)
    this.#ports.logger.error('reading a queue stopped', { ...held.queue, offset: at, error: reason.message })
    if (isMoved && !isGone) {
      this.#retake(held)
      return
    }
    held.reader.pause()
    held.reader.seek(at)
    const goOn = (): void => {
      if (held.revoked) return
      if (isGone) this.#replace(held, held.committed)
      else held.reader.resume()
    }
    sleep(this.#ports.clock, troubleRetryMs, held.abort.signal).then(goOn, () => {})
  }

  /** Begins the queue anew where the group is: the next assignment finds that it is not held. */
  #retake(held: HeldQueue): void {
    this.#letGo(held)
    this.#brokerGroups.get(held.queue.group)?.member.beat()
  }

  #letGo(held: HeldQueue): void {
    held.drop()
    const key = queueKey(held.queue)
    if (this.#held.get(key) === held) this.#held.delete(key)
    this.#turns = this.#turns.filter((other) => other !== held)
  }

  /**
   * Its topic is another one. In a queue that is being given up nothing is begun anew, and what it holds must not be
   * committed on the way out: by then that may be done in the generation that owns the new topic.
   */
  #startOver(held: HeldQueue): void {
    if (held.revoked) this.#letGo(held)
    else this.#replace(held, undefined)
  }

  /** Begins the queue anew at its first message. */
  #replace(held: HeldQueue, committed: number | undefined): void {
    this.#letGo(held)
    this.#hold(held.queue, { start: 'first' }, committed)
  }

  async #deliver(held: HeldQueue, delivery: Delivery): Promise<void> {
    this.#running++
    try {
      const context = { signal: held.abort.signal, attempt: delivery.failures + 1 }
      await this.#listener?.(delivery.message, context)
      held.process.finished(delivery)
    } catch (cause) {
      this.#onFailed(held, delivery, cause)
    }
    this.#running--
    held.onListenerEnded()
    this.#planDispatch()
  }

  #onFailed(held: HeldQueue, delivery: Delivery, cause: unknown): void {
    const { attemptsMax, retryDelayMs, retryDelayMsMax } = this.#settings
    const { message, failures } = delivery
    const reason = cause instanceof Error ? cause.message : String(cause)
    this.#ports.logger.warn('listener failed', { ...held.queue, offset: message.offset, attempt: failures + 1, reason })
    if (failures + 1 >= attemptsMax) {
      held.process.finished(delivery)
      const { queue, offset, messageId } = message
      this.#ports.status.emit({ kind: 'messageGivenUp', queue, offset, messageId, reason })
      return
    }
    held.process.failed()
    const delayMs = Math.min(retryDelayMsMax, retryDelayMs * 2 ** Math.min(failures, 20))
    sleep(this.#ports.clock, delayMs, held.abort.signal).then(
      () => {
        held.process.retry(delivery)
        this.#planDispatch()
      },
      // The queue is no longer ours: the message comes again at its new owner.
      () => {},
    )
  }

  async #commitUntilStopped(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await sleep(this.#ports.clock, this.#settings.commitIntervalMs, this.#stop.signal)
      } catch {
        return
      }
      await Promise.all([...this.#brokerGroups.keys()].map((group) => this.#commit(group)))
    }
  }

  /** Commits what is new in the queues of one broker group. Never throws: what is not committed comes again. */
  async #commit(brokerGroup: string): Promise<void> {
    const state = this.#brokerGroups.get(brokerGroup)
    if (!state) return
    // Two commits at once could arrive in the wrong order.
    while (state.committing) await state.committing
    state.committing = this.#commitNow(brokerGroup, state).finally(() => {
      state.committing = null
    })
    await state.committing
  }

  async #commitNow(brokerGroup: string, state: BrokerGroupState): Promise<void> {
    const entries = this.#turns.flatMap((held) => {
      const offset = held.queue.group === brokerGroup ? held.toCommit() : null
      return offset === null ? [] : [{ held, queue: held.queue, offset }]
    })
    await this.#commitEntries(state, entries)
  }

  /**
   * A commit is all or nothing. What is refused for good is tried in halves, so that one queue, say of a topic that was
   * deleted just now, does not hold back the others.
   */
  async #commitEntries(state: BrokerGroupState, entries: readonly Progress[]): Promise<void> {
    // Of the generation that what was consumed belongs to: a later one may own queues of the same names in a new topic.
    const committer = { group: this.group, member: this.member, generation: state.generation }
    const { incarnation } = state
    const parts = entries.length > 0 ? [entries] : []
    for (let calls = 0; calls < commitCallsMax && !this.#stop.signal.aborted; calls++) {
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
    const call = { timeoutMs: this.#ports.requestTimeoutMs, signal: this.#stop.signal, seek: false }
    try {
      await commitOffsets(this.#ports, committer, entries, call)
      for (const { held, offset } of entries) held.committed = offset
      return null
    } catch (cause) {
      const error = toLedgerError(cause)
      const queues = entries.map(({ queue }) => queueKey(queue)).slice(0, 3)
      this.#ports.logger.debug('commit failed', { group: this.group, queues, error: error.message })
      if (error.code === 'ILLEGAL_GENERATION') state.member.beat()
      return error
    }
  }
}

function readSettings(options: PushConsumerOptions): Settings {
  const attemptsMax = options.attemptsMax ?? Number.POSITIVE_INFINITY
  if (attemptsMax !== Number.POSITIVE_INFINITY) checkCount('attemptsMax', attemptsMax, 1, 1_000_000)
  return {
    attemptsMax,
    concurrency: checkCount('concurrency', options.concurrency ?? 20, 1, 10_000),
    retryDelayMs: checkCount('retryDelayMs', options.retryDelayMs ?? 1_000, 1, 86_400_000),
    retryDelayMsMax: checkCount('retryDelayMsMax', options.retryDelayMsMax ?? 60_000, 1, 86_400_000),
    commitIntervalMs: checkCount('commitIntervalMs', options.commitIntervalMs ?? 1_000, 1, 86_400_000),
    sessionTimeoutMs: checkCount('sessionTimeoutMs', options.sessionTimeoutMs ?? 15_000, 1_000, 60_000),
    drainTimeoutMs: checkCount('drainTimeoutMs', options.drainTimeoutMs ?? 10_000, 0, 86_400_000),
    limits: {
      messagesMax: checkCount('messagesPerQueueMax', options.messagesPerQueueMax ?? 1_000, 1, 1_000_000),
      bytesMax: checkCount('bytesPerQueueMax', options.bytesPerQueueMax ?? 100 * 1024 * 1024, 1, 2 ** 40),
      spanMax: checkCount('spanMax', options.spanMax ?? 2_000, 1, 1_000_000),
    },
    from: options.from ?? 'last',
    readFrom: options.readFrom ?? 'leader',
  }
}
