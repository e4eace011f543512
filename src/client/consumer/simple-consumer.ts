/**
 * The simple consumer: receives messages one by one, and says of each what became of it (RocketMQ: SimpleConsumer).
 * Made by `client.simpleConsumer()`.
 *
 * Every broker group of its topics is asked at the same time, and the first that has something answers: an idle one
 * holds nobody up. What another one grants meanwhile is kept for the next `receive`. At least once: a message that was
 * not settled in its time comes again, to whoever of the group receives next.
 */
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import { checkGroupName, checkReadableTopicName } from '../../message/names.ts'
import { parseTagFilter } from '../../message/tag-filter.ts'
import type { ReceiveReply } from '../../rpc/receive-messages.ts'
import { checkList, checkOptions, checkStart } from '../arguments.ts'
import { checkArgument, checkCount } from '../options.ts'
import type { ReceiveOptions, SimpleConsumerOptions } from '../types.ts'
import { aborted, allowManyListeners } from '../wait.ts'
import type { ReaderPorts } from './queue-reader.ts'
import { type AskFields, ReceiveSource } from './receive-source.ts'
import { invisibleMsMax, type ReceivedMessage, readReceived } from './received-message.ts'
import { SettleBatcher } from './settle-batcher.ts'

export interface SimpleConsumerPorts extends ReaderPorts {
  readonly requestTimeoutMs: number
  readonly onClosed: (consumer: SimpleConsumer) => void
}

/** Granted messages that wait for the next `receive`, and until when they are worth handing out. */
interface Kept {
  readonly messages: ReceivedMessage[]
  readonly untilMs: number
}

/** Beyond its wait, how long a receive waits for broker groups that do not answer. */
const lateAnswerMs = 3_000
const waitMsMax = 24 * 3_600_000

export class SimpleConsumer {
  readonly group: string
  readonly #ports: SimpleConsumerPorts
  /** Tag expression by topic. */
  readonly #topics: ReadonlyMap<string, string>
  readonly #settings: Pick<AskFields, 'bytesMax' | 'invisibleMs' | 'from' | 'fromTime'>
  readonly #sources = new Map<string, ReceiveSource>()
  readonly #settles: SettleBatcher
  readonly #stop = new AbortController()
  readonly #stopListening: () => void
  #kept: Kept[] = []
  #closing: Promise<void> | null = null

  constructor(ports: SimpleConsumerPorts, options: SimpleConsumerOptions) {
    checkGroupName(options.group)
    checkStart('CONFIG_INVALID', options.from)
    this.#ports = ports
    this.group = options.group
    this.#topics = readSubscriptions(options.subscribe)
    const { from } = options
    this.#settings = {
      invisibleMs: checkCount('invisibleMs', options.invisibleMs ?? 60_000, 1, invisibleMsMax),
      bytesMax: checkCount('bytesMax', options.bytesMax ?? 1024 * 1024, 1, 4 * 1024 * 1024),
      from: typeof from === 'object' ? 'time' : (from ?? ''),
      fromTime: typeof from === 'object' ? Math.floor(from.time) : 0,
    }
    this.#settles = new SettleBatcher(ports, { group: options.group, timeoutMs: ports.requestTimeoutMs })
    allowManyListeners(this.#stop.signal)
    this.#stopListening = ports.routes.listen({
      onLeaderChanged: ({ group, to }) => {
        if (to) for (const source of this.#sources.values()) if (source.brokerGroup === group) source.leaderChanged()
      },
    })
    for (const topic of this.#topics.keys()) ports.routes.want(topic)
  }

  /**
   * Messages of some queues, empty when there are none within the wait. They are with this receiver for
   * `invisibleMs`. Throws ABORTED, CLOSED, TOPIC_NOT_EXIST, INVALID_PARAMETER (the queues of the group are assigned to
   * members), and what the broker groups say when none of them could answer.
   */
  async receive(options: ReceiveOptions = {}): Promise<readonly ReceivedMessage[]> {
    this.#checkOpen()
    checkOptions(options)
    const maxMessages = checkArgument('maxMessages', options.maxMessages ?? 32, 1, 1024)
    const waitMs = checkArgument('waitMs', options.waitMs ?? 15_000, 0, waitMsMax)
    const invisibleMs = checkArgument(
      'invisibleMs',
      options.invisibleMs ?? this.#settings.invisibleMs,
      1,
      invisibleMsMax,
    )
    if (options.signal?.aborted) throw aborted('receive', options.signal)
    const kept = this.#takeKept(maxMessages)
    if (kept.length > 0) return kept
    const deadlineMs = this.#ports.clock.monotonicMs() + waitMs
    const sources = await this.#findSources(options.signal)
    const fields = { ...this.#settings, group: this.group, maxMessages, invisibleMs }
    await this.#askAll(sources, fields, deadlineMs, options.signal)
    this.#checkOpen()
    return this.#takeKept(maxMessages)
  }

  /** Ends waiting receives; messages that nobody took are given back. What is being settled is waited for. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#stopListening()
    this.#stop.abort()
    const unused = this.#takeKept(Number.POSITIVE_INFINITY)
    // Whatever fails here comes again by itself when its time is over.
    await Promise.allSettled(unused.map((message) => message.changeInvisible(0)))
    await this.#settles.idle()
    this.#ports.onClosed(this)
  }

  /** Resolves when one of them gave something, or all of them answered. What came is in `#kept`. */
  async #askAll(
    sources: readonly ReceiveSource[],
    fields: Omit<AskFields, 'expression'>,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const withdraw = new AbortController()
    allowManyListeners(withdraw.signal)
    const onAbort = (): void => withdraw.abort()
    const signals = [this.#stop.signal, ...(signal ? [allowManyListeners(signal)] : [])]
    for (const one of signals) one.addEventListener('abort', onAbort, { once: true })
    // Ended while it looked for the broker groups: nobody tells it any more.
    if (signals.some(({ aborted: ended }) => ended)) onAbort()
    const failures: LedgerError[] = []
    const timeoutMs = Math.min(lateAnswerMs, this.#ports.requestTimeoutMs)
    const asks = sources.map(async (source) => {
      const expression = this.#topics.get(source.topic) ?? '*'
      try {
        const reply = await source.ask({ ...fields, expression }, { deadlineMs, timeoutMs, signal: withdraw.signal })
        if (reply.messages.length === 0) return
        this.#keep(source, reply)
        // The others are asked again by the next receive; what they grant until they hear of it comes with it.
        withdraw.abort()
      } catch (error) {
        if (!withdraw.signal.aborted) failures.push(toLedgerError(error))
      }
    })
    try {
      await Promise.all(asks)
    } finally {
      for (const one of signals) one.removeEventListener('abort', onAbort)
    }
    if (this.#kept.length > 0) return
    if (signal?.aborted) throw aborted('receive', signal)
    const final = failures.find((failure) => !failure.retryable)
    if (final) throw final
    const [first] = failures
    if (first && failures.length === sources.length) throw first
  }

  #keep(source: ReceiveSource, reply: ReceiveReply): void {
    const { topic, brokerGroup: group } = source
    const node = this.#ports.routes.table.group(group)?.leader?.node ?? ''
    const settle = (at: string, handle: string, action: Parameters<SettleBatcher['settle']>[2]): Promise<string> =>
      this.#settles.settle(at, handle, action)
    const messages = [...readReceived(reply, { topic, group, node, settle })]
    // A third of the time is left to whoever takes them.
    this.#kept.push({ messages, untilMs: this.#ports.clock.monotonicMs() + (reply.invisibleMs * 2) / 3 })
  }

  #takeKept(maxMessages: number): readonly ReceivedMessage[] {
    const nowMs = this.#ports.clock.monotonicMs()
    const taken: ReceivedMessage[] = []
    this.#kept = this.#kept.filter(({ messages, untilMs }) => {
      // What has waited for too long comes again, to whoever receives it then.
      if (untilMs < nowMs) return false
      taken.push(...messages.splice(0, maxMessages - taken.length))
      return messages.length > 0
    })
    return taken
  }

  /** One for each topic on each broker group that has it. */
  async #findSources(signal: AbortSignal | undefined): Promise<readonly ReceiveSource[]> {
    const { routes, requestTimeoutMs } = this.#ports
    const found = new Map<string, ReceiveSource>()
    for (const topic of this.#topics.keys()) {
      const state = await routes.topic(topic, { timeoutMs: requestTimeoutMs, ...(signal ? { signal } : {}) })
      if (!state) throw new LedgerError('TOPIC_NOT_EXIST', `topic ${topic} does not exist`)
      for (const { group } of routes.table.queues(topic, 'read')) {
        const name = `${topic}/${group}`
        found.set(name, this.#sources.get(name) ?? new ReceiveSource(this.#ports, topic, group))
      }
    }
    if (found.size === 0)
      throw new LedgerError('NO_ROUTE', `no broker group lets ${[...this.#topics.keys()].join(', ')} be read`)
    for (const [name, source] of found) this.#sources.set(name, source)
    return [...found.values()]
  }

  #checkOpen(): void {
    if (this.#closing) throw new LedgerError('CLOSED', 'the consumer is closed')
  }
}

function readSubscriptions(subscribe: SimpleConsumerOptions['subscribe']): ReadonlyMap<string, string> {
  checkList('CONFIG_INVALID', 'subscribe', subscribe)
  const topics = new Map<string, string>()
  for (const entry of subscribe) {
    const { topic, tags = '*' } = typeof entry === 'string' ? { topic: entry } : entry
    checkReadableTopicName(topic)
    parseTagFilter(tags)
    topics.set(topic, tags)
  }
  if (topics.size === 0) throw new LedgerError('CONFIG_INVALID', '`subscribe` names no topic')
  return topics
}
