/**
 * The pull consumer: queues are assigned by its user, messages come in batches, offsets are committed when asked
 * (RocketMQ: DefaultLitePullConsumer with assign and seek). Made by `client.pullConsumer()`.
 *
 * Reads ahead of its user within bounds; gives every queue its turn; never skips, never repeats (B2).
 */
import { sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import { checkGroupName, checkTopicName } from '../../message/names.ts'
import { checkAfter, checkList, checkOptions, checkQueue, checkReadFrom, checkStart, checkWait } from '../arguments.ts'
import { checkArgument, checkCount } from '../options.ts'
import type { MessageQueue, PollOptions, PullConsumerOptions, ReadFrom, StartFrom } from '../types.ts'
import { aborted, allowManyListeners } from '../wait.ts'
import type { ConsumedBatch } from './consumed-batch.ts'
import { byBrokerGroup, commitOffsets, fetchOffsets, type OffsetOfQueue, queueKey, resolveStart } from './offsets.ts'
import { QueueReader, type ReadBudget, type ReaderOptions, type ReaderPorts } from './queue-reader.ts'

export interface PullConsumerPorts extends ReaderPorts {
  readonly requestTimeoutMs: number
  readonly onClosed: (consumer: PullConsumer) => void
}

export interface AssignOptions {
  /** Start here, whatever the group has committed. `'first'` works also while there is no leader. */
  readonly from?: StartFrom
  readonly signal?: AbortSignal
}

type Start = Pick<ReaderOptions, 'start' | 'topicId'>

/** Before the committed offset of a queue that came later is asked for again. */
const troubleRetryMs = 1_000

/** Reads assigned queues. Not safe for two `poll` loops over the same queues that both commit. */
export class PullConsumer {
  readonly #ports: PullConsumerPorts
  readonly #group: string
  readonly #readFrom: ReadFrom
  readonly #from: StartFrom
  readonly #limits: { readonly pullBytes: number; readonly bytesMax: number; readonly longPollMs: number }
  readonly #budget: ReadBudget
  readonly #readers = new Map<string, QueueReader>()
  /** In the order of their turns. */
  #turns: QueueReader[] = []
  /** Topics assigned by name: their later queues are read too. */
  readonly #topics = new Set<string>()
  /** What was committed last, and queues whose next commit may go back. */
  readonly #committed = new Map<string, number>()
  readonly #sought = new Set<string>()
  /** Queues of these topics that became known later, while their committed offset is asked for. */
  #joining = new Set<string>()
  /** The last `assign` said where to start, whatever is committed. */
  #isReplay = false
  readonly #stop = new AbortController()
  readonly #stopListening: () => void
  readonly #wake = new Set<() => void>()
  #closed = false

  constructor(ports: PullConsumerPorts, options: PullConsumerOptions) {
    if (options.group !== undefined) checkGroupName(options.group)
    checkReadFrom(options.readFrom)
    checkStart('CONFIG_INVALID', options.from)
    this.#ports = ports
    this.#group = options.group ?? ''
    this.#readFrom = options.readFrom ?? 'leader'
    this.#from = options.from ?? 'first'
    this.#limits = {
      pullBytes: checkCount('pullBytes', options.pullBytes ?? 1024 * 1024, 1, 4 * 1024 * 1024),
      bytesMax: checkCount('prefetchBytesPerQueue', options.prefetchBytesPerQueue ?? 4 * 1024 * 1024, 1, 2 ** 40),
      longPollMs: checkCount('longPollMs', options.longPollMs ?? 15_000, 0, 30_000),
    }
    const bytesMax = checkCount('prefetchBytesMax', options.prefetchBytesMax ?? 64 * 1024 * 1024, 1, 2 ** 40)
    this.#budget = { bytes: 0, bytesMax }
    allowManyListeners(this.#stop.signal)
    this.#stopListening = ports.routes.listen({
      onRouteChanged: () => this.#addNewQueues(),
      onLeaderChanged: (change) => {
        for (const reader of this.#turns) reader.onLeaderChanged(change)
      },
    })
  }

  /**
   * Reads these queues from now on, and no others. A topic's name stands for all its readable queues, also those that
   * it gets later. Starts at the committed offset if the consumer has a group that committed, else at `from`. Throws
   * TOPIC_NOT_EXIST, NO_ROUTE, or what the leader says when it is needed for the offset. Returns the queues.
   */
  async assign(
    what: string | readonly (MessageQueue | string)[],
    options: AssignOptions = {},
  ): Promise<readonly MessageQueue[]> {
    this.#checkOpen()
    checkOptions(options)
    checkStart('INVALID_PARAMETER', options.from)
    const given = typeof what === 'string' ? [what] : what
    checkList('INVALID_PARAMETER', 'what', given)
    for (const entry of given) {
      if (typeof entry === 'string') checkTopicName(entry)
      else checkQueue(entry)
    }
    const queues = new Map<string, MessageQueue>()
    for (const entry of given) {
      const topic = typeof entry === 'string' ? entry : entry.topic
      const known = await this.#queuesOf(topic, options.signal)
      for (const queue of typeof entry === 'string' ? known : [entry]) queues.set(queueKey(queue), queue)
    }
    const starts = await this.#starts([...queues.values()], options)
    this.#checkOpen()
    for (const reader of this.#readers.values()) reader.close()
    this.#readers.clear()
    this.#turns = []
    this.#topics.clear()
    this.#joining = new Set()
    this.#isReplay = options.from !== undefined
    for (const entry of given) if (typeof entry === 'string') this.#topics.add(entry)
    for (const [key, queue] of queues) {
      if (options.from !== undefined) this.#sought.add(key)
      this.#add(queue, starts.get(key) ?? { start: 'first' })
    }
    return this.assignment()
  }

  assignment(): readonly MessageQueue[] {
    return this.#turns.map((reader) => reader.queue)
  }

  /** Reads on from there. The next commit of this queue may move the group's offset back. */
  async seek(queue: MessageQueue, to: number | 'start' | 'end' | { readonly time: number }): Promise<void> {
    const reader = this.#reader(queue)
    const { topicId } = reader
    if (typeof to !== 'number' && to !== 'start' && to !== 'end') checkStart('INVALID_PARAMETER', to)
    const offset =
      typeof to === 'number'
        ? checkArgument('offset', to, 0, Number.MAX_SAFE_INTEGER)
        : await resolveStart(this.#ports, queue, to === 'start' ? 'first' : to === 'end' ? 'last' : to, this.#call())
    // Created again while it was asked for: it may be an offset of the old topic, and the new one begins at its first.
    const isOfOldTopic = topicId !== 0 && reader.topicId !== topicId
    if (!isOfOldTopic) reader.seek(offset)
    this.#sought.add(queueKey(queue))
  }

  /** Offset of the next message of this queue that `poll` will give. */
  position(queue: MessageQueue): number {
    return this.#reader(queue).position
  }

  /** What the consumer's group has committed; undefined when it never did. */
  async committed(queue: MessageQueue): Promise<number | undefined> {
    checkQueue(queue)
    const found = await fetchOffsets(this.#ports, this.#needGroup(), [queue], this.#call())
    return found.get(queueKey(queue))
  }

  /**
   * The next messages of some queue, or null after `waitMs` (default 0). Throws what stopped a queue: PULL_OFFSET_MOVED,
   * DATA_LOSS, TOPIC_NOT_EXIST; `seek` or `assign` clears it. DEADLINE_EXCEEDED: see `PollOptions.after`.
   */
  async poll(options: PollOptions = {}): Promise<ConsumedBatch | null> {
    checkPoll(options)
    const nowMs = this.#ports.clock.monotonicMs()
    const [deadlineMs, afterMs] = [nowMs + (options.waitMs ?? 0), nowMs + this.#ports.requestTimeoutMs]
    const demanding = this.#demand(options.after)
    while (true) {
      this.#checkOpen()
      if (options.signal?.aborted) throw aborted('poll', options.signal)
      const batch = this.#take(options.maxMessages ?? Number.POSITIVE_INFINITY)
      if (batch) return batch
      const late = demanding.find((reader) => !reader.isCurrent)
      const remainingMs = (late ? Math.max(deadlineMs, afterMs) : deadlineMs) - this.#ports.clock.monotonicMs()
      if (remainingMs <= 0 && late) throw notSeen(late.queue)
      if (remainingMs <= 0) return null
      await this.#wait(remainingMs, options.signal)
    }
  }

  /** Batches until the signal aborts or the consumer closes; ends without an error then. Throws as `poll` does. */
  async *batches(options: Omit<PollOptions, 'after'> = {}): AsyncGenerator<ConsumedBatch, void, undefined> {
    checkPoll(options)
    const waitMs = options.waitMs ?? Number.POSITIVE_INFINITY
    while (!this.#closed && !options.signal?.aborted) {
      const batch = this.#take(options.maxMessages ?? Number.POSITIVE_INFINITY)
      if (batch) yield batch
      else if (!(await this.#next(waitMs, options.signal))) return
    }
  }

  /** Commits the position of every queue that moved since the last commit: everything given by `poll` so far. */
  async commit(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#checkOpen()
    checkOptions(options)
    const group = this.#needGroup()
    const moved = this.#turns
      .map((reader) => ({ queue: reader.queue, offset: reader.position }))
      .filter(({ queue, offset }) => this.#committed.get(queueKey(queue)) !== offset)
    const parts = [...byBrokerGroup(moved, (entry) => entry.queue).values()].flatMap((entries) => [
      { seek: true, entries: entries.filter(({ queue }) => this.#sought.has(queueKey(queue))) },
      { seek: false, entries: entries.filter(({ queue }) => !this.#sought.has(queueKey(queue))) },
    ])
    await Promise.all(parts.map(({ seek, entries }) => this.#commitPart(group, entries, seek, options.signal)))
  }

  /** Stops reading. Does not commit. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#stop.abort()
    this.#stopListening()
    for (const reader of this.#turns) reader.close()
    this.#wakeAll()
    this.#ports.onClosed(this)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #commitPart(
    group: string,
    entries: readonly OffsetOfQueue[],
    seek: boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (entries.length === 0) return
    const committer = { group, member: '', generation: 0 }
    const keys = seek ? entries.map(({ queue }) => queueKey(queue)) : []
    const topicIds = entries.map(({ queue }) => this.#readers.get(queueKey(queue))?.topicId)
    // Taken before the call: a seek while it is under way is one for the next commit.
    for (const key of keys) this.#sought.delete(key)
    try {
      await commitOffsets(this.#ports, committer, entries, { ...this.#call(signal), seek })
    } catch (error) {
      for (const key of keys) this.#sought.add(key)
      throw error
    }
    for (const [position, { queue, offset }] of entries.entries()) {
      const key = queueKey(queue)
      // In a topic that was created again meanwhile nothing is committed.
      if (this.#readers.get(key)?.topicId === topicIds[position]) this.#committed.set(key, offset)
    }
  }

  async #starts(queues: readonly MessageQueue[], options: AssignOptions): Promise<ReadonlyMap<string, Start>> {
    const call = this.#call(options.signal)
    const topicIds = this.#topicIds(queues)
    const useCommitted = this.#group !== '' && options.from === undefined && queues.length > 0
    const committed = useCommitted ? await fetchOffsets(this.#ports, this.#group, queues, call) : new Map()
    const starts = new Map<string, Start>()
    await Promise.all(
      queues.map(async (queue) => {
        const key = queueKey(queue)
        const known = committed.get(key)
        if (known !== undefined) this.#committed.set(key, known)
        else if (useCommitted) this.#committed.delete(key)
        const start = known ?? (await resolveStart(this.#ports, queue, options.from ?? this.#from, call))
        starts.set(key, { start, topicId: topicIds.get(key) ?? 0 })
      }),
    )
    return starts
  }

  /** Taken before offsets are asked for: a topic may be created again before they are used. */
  #topicIds(queues: readonly MessageQueue[]): ReadonlyMap<string, number> {
    const { table } = this.#ports.routes
    return new Map(queues.map((queue) => [queueKey(queue), table.topicId(queue)]))
  }

  async #queuesOf(topic: string, signal?: AbortSignal): Promise<readonly MessageQueue[]> {
    const { routes, requestTimeoutMs } = this.#ports
    const state = await routes.topic(topic, { timeoutMs: requestTimeoutMs, ...(signal ? { signal } : {}) })
    if (!state) throw new LedgerError('TOPIC_NOT_EXIST', `topic ${topic} does not exist`)
    return routes.table.queues(topic, 'read')
  }

  #addNewQueues(): void {
    if (this.#closed) return
    const { table } = this.#ports.routes
    for (const topic of this.#topics) {
      const queues = table.queues(topic, 'read')
      const fresh = queues.filter((queue) => !this.#readers.has(queueKey(queue)) && !this.#joining.has(queueKey(queue)))
      // A queue that is new is read from its first message on, whatever `from` says: nobody has seen any of it.
      if (this.#group === '' || this.#isReplay) for (const queue of fresh) this.#addReplayed(queue)
      // Topic by topic: one that was deleted just now is refused, and the others must not wait for it.
      else for (const part of byBrokerGroup(fresh, (queue) => queue).values()) void this.#join(part)
    }
    for (const reader of this.#turns) reader.resume()
  }

  /** As of any other queue of a replay, its next commit may move the group's offset back. */
  #addReplayed(queue: MessageQueue): void {
    this.#sought.add(queueKey(queue))
    this.#add(queue, { start: 'first' })
  }

  /**
   * A queue that this client did not know need not be new: a namesrv that just started knows only the broker groups
   * that have registered. What the group has committed there says how much of it was seen.
   */
  async #join(queues: readonly MessageQueue[]): Promise<void> {
    const joining = this.#joining
    for (const queue of queues) joining.add(queueKey(queue))
    const { clock, logger } = this.#ports
    let wanted = queues
    while (wanted.length > 0 && joining === this.#joining && !this.#closed) {
      const topicIds = this.#topicIds(wanted)
      try {
        const committed = await fetchOffsets(this.#ports, this.#group, wanted, this.#call(this.#stop.signal))
        if (joining !== this.#joining || this.#closed) return
        for (const queue of wanted) {
          const key = queueKey(queue)
          this.#joinAt(queue, committed.get(key), topicIds.get(key) ?? 0)
        }
        return
      } catch (cause) {
        if (this.#closed) return
        logger.warn('taking up queues failed', { group: this.#group, error: toLedgerError(cause).message })
        await sleep(clock, troubleRetryMs, this.#stop.signal).catch(() => {})
        wanted = this.#stillTold(wanted, joining)
      }
    }
  }

  /** Those that the route still tells: one that is gone would be refused for ever, and the others with it. */
  #stillTold(queues: readonly MessageQueue[], joining: Set<string>): readonly MessageQueue[] {
    const { table } = this.#ports.routes
    const topics = new Set(queues.map(({ topic }) => topic))
    const told = new Set([...topics].flatMap((topic) => table.queues(topic, 'read')).map(queueKey))
    for (const queue of queues) if (!told.has(queueKey(queue))) joining.delete(queueKey(queue))
    return queues.filter((queue) => told.has(queueKey(queue)))
  }

  #joinAt(queue: MessageQueue, committed: number | undefined, topicId: number): void {
    const key = queueKey(queue)
    this.#joining.delete(key)
    // Without an offset of the group, what was committed last was an offset of a topic that is gone.
    this.#committed.set(key, committed ?? 0)
    this.#add(queue, { start: committed ?? 'first', topicId })
  }

  #add(queue: MessageQueue, start: Start): void {
    const reader: QueueReader = new QueueReader(this.#ports, {
      ...this.#limits,
      queue,
      ...start,
      consumerGroup: this.#group,
      readFrom: this.#readFrom,
      budget: this.#budget,
      onReady: () => this.#wakeAll(),
      onTopicChanged: () => {
        // What was committed was an offset of the old topic: the same one of the new topic is news.
        this.#committed.set(queueKey(queue), 0)
        // A commit that names an offset of the old topic may have counted in the new one: the next one moves it back.
        this.#sought.add(queueKey(queue))
        reader.seek('first')
      },
    })
    // Nothing read yet and no offset asked for: nothing to commit.
    if (start.start === 'first' && !this.#committed.has(queueKey(queue))) this.#committed.set(queueKey(queue), 0)
    this.#readers.set(queueKey(queue), reader)
    this.#turns.push(reader)
    reader.start()
  }

  /** The readers of the broker groups of these writes, told what they must see. */
  #demand(after: PollOptions['after']): readonly QueueReader[] {
    const demanding = new Set<QueueReader>()
    for (const { queue, index } of checkAfter(after)) {
      for (const reader of this.#turns.filter((candidate) => candidate.queue.group === queue.group)) {
        reader.readAfter(index)
        demanding.add(reader)
      }
    }
    return [...demanding]
  }

  #take(messagesMax: number): ConsumedBatch | null {
    const wasFull = this.#budget.bytes >= this.#budget.bytesMax
    for (let step = 0; step < this.#turns.length; step++) {
      const reader = this.#turns[step]
      if (!reader?.ready) continue
      // Behind all others for its next turn, also when it throws.
      this.#turns.push(...this.#turns.splice(step, 1))
      const batch = reader.take(messagesMax)
      if (wasFull) for (const other of this.#turns) other.resume()
      return batch
    }
    return null
  }

  async #next(waitMs: number, signal?: AbortSignal): Promise<boolean> {
    const before = this.#ports.clock.monotonicMs()
    await this.#wait(waitMs, signal)
    return this.#ports.clock.monotonicMs() - before < waitMs || this.#turns.some((reader) => reader.ready)
  }

  #wait(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const cancel = Number.isFinite(ms) ? this.#ports.clock.after(ms, () => wake()) : (): void => {}
      const wake = (): void => {
        cancel()
        this.#wake.delete(wake)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      if (signal) allowManyListeners(signal).addEventListener('abort', wake, { once: true })
      this.#wake.add(wake)
    })
  }

  #wakeAll(): void {
    for (const wake of [...this.#wake]) wake()
  }

  #reader(queue: MessageQueue): QueueReader {
    this.#checkOpen()
    checkQueue(queue)
    const reader = this.#readers.get(queueKey(queue))
    if (reader) return reader
    throw new LedgerError('INVALID_PARAMETER', `queue ${queueKey(queue)} is not assigned to this consumer`)
  }

  #needGroup(): string {
    if (this.#group !== '') return this.#group
    throw new LedgerError('INVALID_PARAMETER', 'offsets belong to a consumer group: give pullConsumer a `group`')
  }

  #checkOpen(): void {
    if (this.#closed) throw new LedgerError('CLOSED', 'the consumer is closed')
  }

  #call(signal?: AbortSignal): { readonly timeoutMs: number; readonly signal?: AbortSignal } {
    return { timeoutMs: this.#ports.requestTimeoutMs, ...(signal ? { signal } : {}) }
  }
}

function checkPoll(options: PollOptions): void {
  checkOptions(options)
  const { maxMessages, waitMs } = options
  if (waitMs !== undefined) checkWait('waitMs', waitMs)
  if (maxMessages === undefined || maxMessages === Number.POSITIVE_INFINITY) return
  checkArgument('maxMessages', maxMessages, 1, Number.MAX_SAFE_INTEGER)
}

function notSeen({ topic, group, queue }: MessageQueue): LedgerError {
  const text = `no replica of ${group} that has applied the write could be read: ${topic}/${group}/${queue}`
  return new LedgerError('DEADLINE_EXCEEDED', text)
}
