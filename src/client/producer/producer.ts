/**
 * The producer: checks a message, gives it an id, and hands it to the sender of its topic. Made by `client.producer()`.
 *
 * A send that resolves is on the fsynced disks of a majority. A send that rejects says by `error.stored` whether the
 * message is definitely not stored or unknown. See `send-rules.ts` for what exactly-once means here.
 */
import { type Clock, type Random, sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { buildRecord } from '../../message/build-record.ts'
import { batchBytesMax, queuesPerTopicMax, recordsPerBatchMax } from '../../message/limits.ts'
import { createMessageIds, type MessageIdSource } from '../../message/message-id.ts'
import { checkGroupName } from '../../message/names.ts'
import type { Message } from '../../message/types.ts'
import { checkFunction, checkList, checkOptions } from '../arguments.ts'
import type { ConnectionPool } from '../connection.ts'
import { FaultDetector } from '../fault-detector.ts'
import { FaultStrategy } from '../fault-strategy.ts'
import { checkCount } from '../options.ts'
import type { RouteCache } from '../route-cache.ts'
import type { StatusHub } from '../status-hub.ts'
import type { MessageQueue, ProducerOptions, SendOptions, SendResult } from '../types.ts'
import { aborted, allowManyListeners, withSignal } from '../wait.ts'
import type { Unit } from './accumulator.ts'
import { anonymousProducer } from './lane.ts'
import { SendBuffer, type SendCallback, type SendItem, settle } from './send-item.ts'
import { TopicSender } from './topic-sender.ts'

export interface ProducerPorts {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly status: StatusHub
  /** Creates the topic on the leaders of all broker groups; resolves when at least one has it. */
  readonly createTopic: (topic: string, queues: number) => Promise<void>
  readonly onClosed: (producer: Producer) => void
}

interface Settings {
  readonly sendTimeoutMs: number
  readonly retries: number
  readonly attemptTimeoutMsMin: number
  readonly autoCreateTopics: boolean
  readonly queuesPerTopic: number
  readonly bufferBytesMax: number
  readonly eagerBatches: number
}

/** Sends messages. Safe to share; one per process is enough. */
export class Producer {
  readonly #ports: ProducerPorts
  readonly #settings: Settings
  readonly #producerId: Buffer
  readonly #ids: MessageIdSource
  readonly #faults: FaultStrategy
  readonly #detector: FaultDetector
  readonly #topics = new Map<string, TopicSender>()
  readonly #stopListening: () => void
  readonly #idleWaiters: (() => void)[] = []
  readonly #buffer: SendBuffer
  #state: 'open' | 'closing' | 'closed' = 'open'
  #closing: Promise<void> | null = null

  constructor(ports: ProducerPorts, options: ProducerOptions) {
    if (options.group !== undefined) checkGroupName(options.group)
    this.#ports = ports
    this.#settings = readSettings(options)
    this.#buffer = new SendBuffer(this.#settings.bufferBytesMax)
    this.#producerId = (options.idempotent ?? true) ? ports.random.bytes(16) : anonymousProducer
    this.#ids = createMessageIds(ports.clock, ports.random)
    const enabled = options.faultStrategy ?? true
    this.#faults = new FaultStrategy({ enabled, table: options.faultTable ?? '5.x', detector: true })
    this.#detector = new FaultDetector({ ...ports, routes: ports.routes.table, faults: this.#faults })
    this.#stopListening = ports.routes.listen({
      onRouteChanged: () => {
        for (const topic of this.#topics.values()) topic.onRouteChanged()
      },
      onLeaderChanged: (change) => {
        if (change.to) this.#faults.forget(change.group)
        for (const topic of this.#topics.values()) topic.onLeaderChanged(change)
      },
    })
  }

  /** Bytes of messages that wait or are in flight. */
  get bufferedBytes(): number {
    return this.#buffer.bytes
  }

  /**
   * Stores one message. Rejects with a LedgerError: MESSAGE_ILLEGAL or INVALID_PARAMETER at once for what nobody
   * could store, BUFFER_FULL when too much is in flight, else what the broker or the deadline said.
   */
  send(message: Message, options: SendOptions = {}): Promise<SendResult> {
    return new Promise((resolve, reject) => {
      this.#send(message, options, (error, result) => {
        if (result) resolve(result)
        else reject(error)
      })
    })
  }

  /** RocketMQ's callback form of `send`. The callback is called once, never before this returns. */
  sendAsync(
    message: Message,
    callback: (error: LedgerError | null, result: SendResult | null) => void,
    options: SendOptions = {},
  ): void {
    checkFunction('INVALID_PARAMETER', 'callback', callback)
    this.send(message, options).then(
      (result) => callback(null, result),
      (error: unknown) => callback(toLedgerError(error), null),
    )
  }

  /**
   * Sends without telling what became of it; it is retried all the same. False: not accepted, because the buffer is
   * full or the producer closed. Throws only for a message that nobody could store, never later.
   */
  sendOneway(message: Message): boolean {
    const refusal: { error: LedgerError | null } = { error: null }
    this.#send(message, {}, (error) => {
      refusal.error = error
      if (error) this.#ports.logger.warn('one-way message lost', { topic: message?.topic, error: error.message })
    })
    const { error } = refusal
    if (error && error.code !== 'BUFFER_FULL' && error.code !== 'CLOSED') throw error
    return error === null
  }

  /**
   * Stores messages of one topic as one batch: all or none, next to each other in one queue. One result per message,
   * in order. At most 1024 messages and 4 MiB in all.
   */
  async sendBatch(messages: readonly Message[], options: SendOptions = {}): Promise<readonly SendResult[]> {
    checkOptions(options)
    checkList('INVALID_PARAMETER', 'messages', messages)
    const [first] = messages
    if (!first) throw new LedgerError('INVALID_PARAMETER', 'sendBatch needs at least one message')
    if (messages.length > recordsPerBatchMax) {
      const text = `${messages.length} messages in one batch, at most ${recordsPerBatchMax} are allowed`
      throw new LedgerError('MESSAGE_ILLEGAL', text)
    }
    const drafts = messages.map((message) => this.#draft(message, options))
    const other = messages.find((message) => message.topic !== first.topic)
    if (other) {
      const text = `a batch has one topic, not ${JSON.stringify(first.topic)} and ${JSON.stringify(other.topic)}`
      throw new LedgerError('MESSAGE_ILLEGAL', text)
    }
    const bytes = drafts.reduce((sum, draft) => sum + draft.bytes, 0)
    if (bytes > batchBytesMax) {
      throw new LedgerError('MESSAGE_ILLEGAL', `the batch has ${bytes} bytes, at most ${batchBytesMax} are allowed`)
    }
    return await new Promise((resolve, reject) => {
      const results: SendResult[] = []
      // One deadline for all: a part that times out before the rest would leave the rest to be sent without it.
      const deadlineMs = drafts[0]?.deadlineMs ?? 0
      const unit = drafts.map((draft, position) => {
        const done: SendCallback = (error, result) => {
          if (result) results[position] = result
          if (error) reject(error)
          else if (position === drafts.length - 1) resolve(results)
        }
        return { ...draft, deadlineMs, endsUnit: position === drafts.length - 1, done }
      })
      this.#accept(first, unit, options)
    })
  }

  /** Resolves when the buffer has room again: for streaming as fast as backpressure lets it. */
  async ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    checkOptions(options)
    while (!this.#buffer.hasRoom && this.#state === 'open') {
      const room = new Promise<void>((resolve) => this.#buffer.onRoom(resolve))
      await withSignal(room, options.signal, 'waiting for the producer')
    }
  }

  /** Resolves when everything accepted so far is answered. */
  async flush(): Promise<void> {
    while (![...this.#topics.values()].every((topic) => topic.idle)) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve))
    }
  }

  /** Finishes what is in flight (at most the send timeout), then closes. A second call waits for the same end. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#state !== 'open') return
    this.#state = 'closing'
    const limit = new AbortController()
    const timeout = sleep(this.#ports.clock, this.#settings.sendTimeoutMs, limit.signal).catch(() => {})
    await Promise.race([this.flush(), timeout])
    limit.abort()
    this.abandon(new LedgerError('CLOSED', 'the producer was closed'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Ends at once; what waits is refused. Used when the whole client is torn down. */
  abandon(error: LedgerError): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    for (const topic of this.#topics.values()) topic.abandon(error)
    this.#detector.close()
    this.#stopListening()
    this.#wakeAll(this.#idleWaiters)
    this.#buffer.wake()
    this.#ports.onClosed(this)
  }

  #send(message: Message, options: SendOptions, done: SendCallback): void {
    try {
      checkOptions(options)
      if (options.selector !== undefined) checkFunction('INVALID_PARAMETER', 'selector', options.selector)
      this.#accept(message, [{ ...this.#draft(message, options), endsUnit: true, done }], options)
    } catch (cause) {
      done(toLedgerError(cause), null)
    }
  }

  #draft(message: Message, options: SendOptions): Omit<SendItem, 'done' | 'endsUnit'> {
    const { clock } = this.#ports
    const { record, bytes } = buildRecord(message, { messageId: this.#ids.next() })
    const deadlineMs = clock.monotonicMs() + (options.timeoutMs ?? this.#settings.sendTimeoutMs)
    return { record, bornTime: clock.wallMs(), bytes, deadlineMs, buffer: this.#buffer }
  }

  /** Settles the items itself when it refuses them. */
  #accept(message: Message, items: readonly SendItem[], options: SendOptions): void {
    let bytes = 0
    for (const item of items) bytes += item.bytes
    const refusal = this.#findRefusal(bytes, options)
    if (refusal) {
      for (const item of items) item.done?.(refusal, null)
      return
    }
    this.#buffer.take(bytes)
    const topic = this.#topic(message.topic)
    if (options.signal) this.#abortBy(options.signal, topic, items)
    const { selector, selectorArg } = options
    if (selector) {
      topic.addSelected(items, (queues) => checkChoice(queues, selector(queues, message, selectorArg), message.topic))
    } else topic.add(items)
  }

  #findRefusal(bytes: number, options: SendOptions): LedgerError | null {
    if (this.#state !== 'open') return new LedgerError('CLOSED', 'the producer is closed')
    if (options.signal?.aborted) return aborted('send', options.signal)
    if (this.#buffer.bytes + bytes <= this.#buffer.bytesMax) return null
    const text = `${this.#buffer.bytes} bytes are in flight, at most ${this.#buffer.bytesMax} are allowed`
    return new LedgerError('BUFFER_FULL', text)
  }

  #abortBy(signal: AbortSignal, topic: TopicSender, items: Unit): void {
    const onAbort = (): void => {
      for (const item of items) if (item.done) settle(item, aborted('send', signal), null)
      topic.onAborted(items)
    }
    allowManyListeners(signal).addEventListener('abort', onAbort, { once: true })
    const [first] = items
    if (!first) return
    const { done } = first
    first.done = (error, result) => {
      signal.removeEventListener('abort', onAbort)
      done?.(error, result)
    }
  }

  #topic(name: string): TopicSender {
    const known = this.#topics.get(name)
    if (known) return known
    const { queuesPerTopic, autoCreateTopics, retries } = this.#settings
    const topic = new TopicSender({
      ...this.#ports,
      ...this.#settings,
      topic: name,
      faults: this.#faults,
      producerId: this.#producerId,
      attemptsPlanned: retries + 1,
      createTopic: autoCreateTopics ? () => this.#ports.createTopic(name, queuesPerTopic) : null,
      onFault: () => this.#detector.wake(),
      onIdle: () => {
        if (this.#idleWaiters.length > 0) this.#wakeAll(this.#idleWaiters)
      },
    })
    this.#ports.routes.want(name)
    this.#topics.set(name, topic)
    return topic
  }

  #wakeAll(waiters: (() => void)[]): void {
    for (const wake of waiters.splice(0)) wake()
  }
}

/** The queue that a selector chose, unless it is none of those that it was given. */
function checkChoice(queues: readonly MessageQueue[], chosen: MessageQueue, topic: string): MessageQueue {
  const known = queues.find((queue) => isSame(queue, chosen))
  if (known) return known
  const text = `the selector chose ${JSON.stringify(chosen)}, which is no writable queue of ${topic}`
  throw new LedgerError('INVALID_PARAMETER', text)
}

function isSame(a: MessageQueue, b: MessageQueue): boolean {
  return a.topic === b.topic && a.group === b.group && a.queue === b.queue
}

function readSettings(options: ProducerOptions): Settings {
  return {
    sendTimeoutMs: checkCount('sendTimeoutMs', options.sendTimeoutMs ?? 10_000, 1, 86_400_000),
    retries: checkCount('retries', options.retries ?? 2, 0, 1_000),
    attemptTimeoutMsMin: checkCount('attemptTimeoutMsMin', options.attemptTimeoutMsMin ?? 500, 1, 86_400_000),
    autoCreateTopics: options.autoCreateTopics ?? true,
    queuesPerTopic: checkCount('queuesPerTopic', options.queuesPerTopic ?? 8, 1, queuesPerTopicMax),
    bufferBytesMax: checkCount('bufferBytesMax', options.bufferBytesMax ?? 64 * 1024 * 1024, 1, 2 ** 40),
    eagerBatches: checkCount('eagerBatches', options.eagerBatches ?? 4, 1, 1024),
  }
}
