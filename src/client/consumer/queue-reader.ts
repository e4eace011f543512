/**
 * Reads one queue ahead of its consumer: one pull in flight, the next asked for as soon as there is room. Used by the
 * pull and the push consumer.
 *
 * Its position is strictly contiguous (B2): every batch must begin where the last one ended. A gap or an overlap is an
 * error, loud and final, never something to step over. It reads from any replica; one that is behind is waited for.
 */
import type { Cancel, Clock, Random } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { readBatchHeader } from '../../message/batch.ts'
import type { PulledBatch, PullReply } from '../../rpc/envelopes.ts'
import type { BrokerNode } from '../../rpc/methods.ts'
import { fromWireStatus } from '../../rpc/status.ts'
import type { ConnectionPool } from '../connection.ts'
import type { Outcome } from '../request-stream.ts'
import type { RouteCache } from '../route-cache.ts'
import type { LeaderChange } from '../route-table.ts'
import type { StatusHub } from '../status-hub.ts'
import type { MessageQueue, ReadFrom } from '../types.ts'
import { backoffMs } from '../wait.ts'
import { ConsumedBatch, StoredBatch } from './consumed-batch.ts'
import { chooseReplica } from './read-policy.ts'
import { ReplicaFailures } from './replica-failures.ts'

/** On top of the time a broker may park a pull. */
export const pullSilenceMs = 5_000
/** While reading from a replica that the policy does not want, pulls park no longer than this. */
export const fallbackWaitMs = 1_000
const searchBackoffMs = { min: 20, max: 500 } as const
/** A queue that nothing came from, not even an empty answer, is reported after this long. */
export const readStallMs = 2_000

export interface ReaderPorts {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly status: StatusHub
}

/** Bytes read ahead by all readers of one consumer. */
export interface ReadBudget {
  bytes: number
  readonly bytesMax: number
}

export interface ReaderOptions {
  readonly queue: MessageQueue
  readonly consumerGroup: string
  readonly readFrom: ReadFrom
  readonly pullBytes: number
  readonly bytesMax: number
  readonly longPollMs: number
  readonly budget: ReadBudget
  /** Where to begin; 'first': at the oldest message there is, wherever that may be. */
  readonly start: number | 'first'
  /**
   * Of the topic that `start` was asked for, as the route told it before: when the topic is another one by now, `start`
   * is no offset of it. 0 or absent: as the route says now.
   */
  readonly topicId?: number
  /** Something to take, or an error to throw. */
  readonly onReady: () => void
  /** The topic was created again, so offsets are counted anew: the owner begins again. */
  readonly onTopicChanged: () => void
}

export class QueueReader {
  readonly queue: MessageQueue
  readonly #ports: ReaderPorts
  readonly #options: ReaderOptions
  readonly #buffer: StoredBatch[] = []
  readonly #failures = new ReplicaFailures()
  /** Addresses of the replicas that have lost the message at `#fetchOffset`. */
  readonly #lostBy = new Set<string>()
  #topicId: number
  /** Of the broker group in which the topic has that id. */
  #incarnation: string
  #fetchOffset: number
  #position: number
  /** Start at the oldest message; ends with the first answer. */
  #fromOldest: boolean
  #bufferedBytes = 0
  /** Log index that a replica must have applied to be read from. */
  #afterIndex = 0
  /** The queue was read to its end at a replica that had applied this much. */
  #endReadAt = 0
  #suggested = ''
  #target: BrokerNode | null = null
  #withdraw: (() => void) | null = null
  #cancelTimer: Cancel = () => {}
  #rounds = 0
  #lastAnswerMs: number
  #stalled = false
  #error: LedgerError | null = null
  #paused = false
  #closed = false

  constructor(ports: ReaderPorts, options: ReaderOptions) {
    this.#ports = ports
    this.#options = options
    this.queue = options.queue
    this.#fromOldest = options.start === 'first'
    this.#fetchOffset = options.start === 'first' ? 0 : options.start
    this.#position = this.#fetchOffset
    this.#topicId = options.topicId || ports.routes.table.topicId(options.queue)
    this.#incarnation = ports.routes.table.incarnation(options.queue.group)
    this.#lastAnswerMs = ports.clock.monotonicMs()
  }

  /** Offset of the next message that `take` gives. */
  get position(): number {
    return this.#position
  }

  /** Of the topic that the offsets here are counted in; 0 when nobody has told it yet. */
  get topicId(): number {
    return this.#topicId
  }

  get error(): LedgerError | null {
    return this.#error
  }

  get ready(): boolean {
    return this.#buffer.length > 0 || this.#error !== null
  }

  start(): void {
    this.#pump()
  }

  /** Reads on at a replica that has applied this log index, until `isCurrent`. */
  readAfter(index: number): void {
    this.#afterIndex = Math.max(this.#afterIndex, index)
    if (this.isCurrent) return
    // A parked pull waits at a replica that need not have got there.
    this.#abandonPull()
    this.#pump()
  }

  /** Everything up to what `readAfter` asked for was given, is here to be taken, or never will be. */
  get isCurrent(): boolean {
    return this.#isAtEnd() || this.ready
  }

  /** The next messages, at most `messagesMax` of one stored batch. Throws what stopped this queue. */
  take(messagesMax: number): ConsumedBatch | null {
    const stored = this.#buffer[0]
    if (!stored) {
      if (this.#error) throw this.#error
      return null
    }
    const end = stored.firstOffset + stored.count
    const count = Math.min(messagesMax, end - this.#position)
    const batch = new ConsumedBatch(stored, this.#position, count)
    this.#position += count
    if (this.#position === end) {
      this.#buffer.shift()
      this.#count(-stored.bytes.length)
      this.#pump()
    }
    return batch
  }

  /** There may be room in the budget again, or news of the route. */
  resume(): void {
    this.#paused = false
    // A reader that has no room asks nobody, and who consumes what it holds would commit offsets of a topic that is gone.
    if (this.#topicId !== 0 && this.#isCreatedAgain() && !this.#closed) this.#startOver()
    else this.#pump()
  }

  /** Nothing more is asked for until `resume`; what is on its way still comes in. */
  pause(): void {
    this.#paused = true
  }

  seek(offset: number | 'first'): void {
    this.#drop()
    this.#endReadAt = 0
    this.#error = null
    this.#fromOldest = offset === 'first'
    this.#fetchOffset = offset === 'first' ? 0 : offset
    this.#position = this.#fetchOffset
    this.#pump()
  }

  onLeaderChanged(change: LeaderChange): void {
    if (change.group !== this.queue.group || this.#closed) return
    this.#failures.onLeaderChanged(change.to?.address ?? null)
    this.#rounds = 0
    const { readFrom } = this.#options
    const follows = readFrom === 'leader' || (readFrom === 'suggested' && this.#suggested === '')
    // A parked pull would keep us at the old leader; one that is being answered is simply asked for again.
    if (follows && this.#target && this.#target.address !== change.to?.address) this.#abandonPull()
    if (!this.#target) this.#cancelTimer()
    this.#pump()
  }

  close(): void {
    this.#closed = true
    this.#drop()
  }

  #drop(): void {
    this.#abandonPull()
    this.#cancelTimer()
    this.#lostBy.clear()
    for (const stored of this.#buffer.splice(0)) this.#count(-stored.bytes.length)
  }

  #isAtEnd(): boolean {
    return this.#endReadAt >= this.#afterIndex
  }

  #count(bytes: number): void {
    this.#bufferedBytes += bytes
    this.#options.budget.bytes += bytes
  }

  #abandonPull(): void {
    this.#withdraw?.()
    this.#withdraw = null
    this.#target = null
    this.#cancelTimer()
  }

  /** Asks for more when nothing is in flight and there is room. */
  #pump(): void {
    if (this.#closed || this.#paused || this.#error || this.#target) return
    const { budget, bytesMax, pullBytes } = this.#options
    const roomBytes = Math.min(bytesMax - this.#bufferedBytes, budget.bytesMax - budget.bytes)
    // One batch in hand is always allowed, so that a small budget cannot stop a queue for ever.
    if (roomBytes <= 0 && this.#bufferedBytes > 0) return
    if (budget.bytes >= budget.bytesMax && this.#buffer.length > 0) return
    this.#cancelTimer()
    const route = this.#ports.routes.table.group(this.queue.group)
    const choice = route && chooseReplica(route, this.#options.readFrom, this.#choiceState())
    if (!choice) {
      this.#search()
      return
    }
    this.#pull(choice.node, choice.fallback, Math.max(1, Math.min(pullBytes, roomBytes)))
  }

  #choiceState(): Parameters<typeof chooseReplica>[2] {
    const nowMs = this.#ports.clock.monotonicMs()
    return {
      usable: (node) => this.#failures.usable(node.address, nowMs),
      doubtful: (node) => this.#failures.doubtful(node.address, nowMs),
      suggested: this.#suggested,
      spread: this.queue.queue,
    }
  }

  /** No replica to ask: look for news, and try all of them again after a pause. */
  #search(): void {
    this.#reportStall(new LedgerError('UNAVAILABLE', `no replica of ${this.queue.group} answers`))
    this.#ports.routes.refresh()
    const pauseMs = backoffMs(this.#rounds++, searchBackoffMs, this.#ports.random.next())
    this.#cancelTimer = this.#ports.clock.after(pauseMs, () => {
      this.#failures.forgetAll()
      this.#pump()
    })
  }

  #pull(target: BrokerNode, fallback: boolean, bytesMax: number): void {
    const parkMs = fallback ? Math.min(fallbackWaitMs, this.#options.longPollMs) : this.#options.longPollMs
    // Somebody waits for the answer, also for an empty one.
    const waitMs = this.#isAtEnd() ? parkMs : 0
    this.#target = target
    const fields = {
      topic: this.queue.topic,
      topicId: this.#topicId,
      queue: this.queue.queue,
      offset: this.#fetchOffset,
      bytesMax,
      waitMs,
      consumerGroup: this.#options.consumerGroup,
      afterIndex: this.#isAtEnd() ? 0 : this.#afterIndex,
    }
    const withdraw = this.#ports.pool.get(target.address).pull(this.queue.group, fields, (outcome) => {
      if (this.#withdraw === withdraw) this.#onOutcome(target, outcome)
    })
    this.#withdraw = withdraw
    this.#cancelTimer = this.#ports.clock.after(waitMs + pullSilenceMs, () => {
      this.#abandonPull()
      const text = `no answer from ${target.address} within ${waitMs + pullSilenceMs} ms`
      this.#nextReplica(target, new LedgerError('DEADLINE_EXCEEDED', text))
    })
  }

  #onOutcome(target: BrokerNode, outcome: Outcome<PullReply>): void {
    this.#withdraw = null
    this.#target = null
    this.#cancelTimer()
    if (outcome.kind === 'failed') {
      this.#onRefused(target, outcome.error)
      return
    }
    const { reply } = outcome
    if (reply.code !== 0) {
      const status = reply.status ?? { code: reply.code, message: 'the broker refused the pull', hint: '' }
      this.#onRefused(target, fromWireStatus({ ...status, code: reply.code }))
      return
    }
    try {
      this.#accept(target, reply)
    } catch (cause) {
      this.#fail(toLedgerError(cause))
      return
    }
    this.#pump()
  }

  #accept(target: BrokerNode, reply: PullReply): void {
    this.#heard(target)
    this.#lostBy.clear()
    this.#fromOldest = false
    // Empty means stay; having caught up, a reader that was sent away comes back to the leader.
    if (reply.suggestedNode !== '' || reply.batches.length === 0) this.#suggested = reply.suggestedNode
    if (reply.topicId !== 0) this.#topicId = reply.topicId
    const replica = { node: target.node, appliedIndex: reply.appliedIndex, commitIndex: reply.commitIndex }
    const hadNothing = this.#buffer.length === 0
    for (const pulled of reply.batches) {
      const stored = this.#check(pulled, replica)
      this.#fetchOffset = stored.firstOffset + stored.count
      this.#buffer.push(stored)
      this.#count(stored.bytes.length)
    }
    if (reply.nextOffset !== this.#fetchOffset)
      throw this.#gap(`the answer continues at ${reply.nextOffset}`, target.node)
    const wasAtEnd = this.#isAtEnd()
    if (reply.nextOffset >= reply.maxOffset) this.#endReadAt = Math.max(this.#endReadAt, reply.appliedIndex)
    const isNews = hadNothing && this.#buffer.length > 0
    if (isNews || (!wasAtEnd && this.#isAtEnd())) this.#options.onReady()
  }

  #check(pulled: PulledBatch, replica: StoredBatch['replica']): StoredBatch {
    const header = readBatchHeader(pulled.batch)
    const first = pulled.baseOffset + pulled.startRecord
    if (first !== this.#fetchOffset) throw this.#gap(`a batch begins at ${first}`, replica.node)
    if (pulled.startRecord >= header.recordCount || header.queue !== this.queue.queue) {
      throw this.#gap(`a batch of queue ${header.queue} with ${header.recordCount} records came`, replica.node)
    }
    return new StoredBatch({
      queue: this.queue,
      baseOffset: pulled.baseOffset,
      startRecord: pulled.startRecord,
      recordCount: header.recordCount,
      index: pulled.index,
      storeTime: pulled.storeTime,
      baseBornTime: header.baseBornTime,
      replica,
      bytes: pulled.batch,
    })
  }

  #gap(what: string, node: string): LedgerError {
    const { topic, group, queue } = this.queue
    const text = `B2: the offsets of ${topic}/${group}/${queue} must go on at ${this.#fetchOffset}, but ${what} (from ${node})`
    return new LedgerError('DATA_LOSS', text)
  }

  #onRefused(target: BrokerNode, error: LedgerError): void {
    switch (error.code) {
      case 'PULL_OFFSET_MOVED':
        this.#onOffsetMoved(target, error)
        return
      case 'TOPIC_ID_CHANGED':
        this.#onTopicChanged(error)
        return
      case 'FLOW_CONTROL':
      case 'OVERLOADED': {
        this.#heard(target)
        const pauseMs = Math.max(5, Math.min(2_000, error.facts.retryAfterMs ?? 50))
        this.#cancelTimer = this.#ports.clock.after(pauseMs, () => this.#pump())
        return
      }
      case 'TOPIC_NOT_EXIST':
      case 'INVALID_PARAMETER':
        // A follower may not know the topic or the queue yet. The leader has the last word.
        if (this.#isLeader(target)) {
          this.#fail(error)
          return
        }
        this.#nextReplica(target, error)
        return
      case 'DATA_LOSS':
        this.#onLost(target, error)
        return
      default:
        if (!error.retryable) {
          this.#fail(error)
          return
        }
        this.#nextReplica(target, error)
        return
    }
  }

  /** A replica that rotted has peers that did not. When all have lost it, waiting for it would be silence (P8). */
  #onLost(target: BrokerNode, error: LedgerError): void {
    this.#lostBy.add(target.address)
    const { readFrom } = this.#options
    const nodes = this.#ports.routes.table.group(this.queue.group)?.nodes ?? []
    const readable = typeof readFrom === 'object' ? nodes.filter(({ node }) => node === readFrom.node) : nodes
    if (readable.some(({ address }) => !this.#lostBy.has(address))) {
      this.#nextReplica(target, error)
      return
    }
    const { topic, group, queue } = this.queue
    const text = `none of the ${readable.length} replicas can read ${topic}/${group}/${queue} at offset ${this.#fetchOffset}: ${error.message}; seek behind it to go on without it`
    this.#fail(new LedgerError('DATA_LOSS', text, error.facts, { cause: error }))
  }

  #onOffsetMoved(target: BrokerNode, error: LedgerError): void {
    const { minOffset = 0, maxOffset = 0 } = error.facts
    if (this.#fetchOffset < minOffset && this.#fromOldest) {
      this.#fetchOffset = minOffset
      this.#position = minOffset
      this.#pump()
      return
    }
    // Beyond the end of a follower means that it has not come that far yet, not that anything is missing.
    if (this.#fetchOffset > maxOffset && !this.#isLeader(target)) {
      this.#nextReplica(target, error)
      return
    }
    this.#fail(error)
    return
  }

  /** Deleted and created again: every message of the new topic is new, so reading starts at its beginning. */
  #onTopicChanged(error: LedgerError): void {
    if (!this.#isCreatedAgain()) {
      this.#ports.routes.refresh()
      this.#reportStall(error)
      this.#cancelTimer = this.#ports.clock.after(searchBackoffMs.max, () => this.#pump())
      return
    }
    this.#startOver()
  }

  /**
   * The route tells another topic than the one that is read. A smaller id is one of before, from a namesrv that is
   * late, unless the group was recovered by force: that cuts the log, and ids are indexes of its entries.
   */
  #isCreatedAgain(): boolean {
    const { table } = this.#ports.routes
    const current = table.topicId(this.queue)
    if (current > this.#topicId) return true
    return current !== 0 && current !== this.#topicId && table.incarnation(this.queue.group) !== this.#incarnation
  }

  #startOver(): void {
    const { table } = this.#ports.routes
    this.#ports.logger.warn('topic was created again, reading starts over', { ...this.queue })
    this.#topicId = table.topicId(this.queue)
    this.#incarnation = table.incarnation(this.queue.group)
    this.#options.onTopicChanged()
  }

  #isLeader(node: BrokerNode): boolean {
    return this.#ports.routes.table.group(this.queue.group)?.leader?.node === node.node
  }

  #nextReplica(target: BrokerNode, error: LedgerError): void {
    this.#failures.note(target.address, error.code, this.#ports.clock.monotonicMs())
    this.#ports.logger.debug('pull failed', { ...this.queue, address: target.address, error: error.message })
    this.#reportStall(error)
    this.#pump()
  }

  #heard(target: BrokerNode): void {
    this.#lastAnswerMs = this.#ports.clock.monotonicMs()
    this.#rounds = 0
    this.#failures.forget(target.address)
    if (!this.#stalled) return
    this.#stalled = false
    this.#ports.status.emit({ kind: 'resumed', what: 'consumer', where: this.#where() })
  }

  #reportStall(reason: LedgerError): void {
    const sinceMs = this.#ports.clock.monotonicMs() - this.#lastAnswerMs
    if (this.#stalled || sinceMs < readStallMs) return
    this.#stalled = true
    this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where: this.#where(), sinceMs, reason })
  }

  #where(): string {
    return `${this.queue.topic}/${this.queue.group}/${this.queue.queue}`
  }

  #fail(error: LedgerError): void {
    this.#error = error
    this.#ports.logger.error('reading a queue stopped', { ...this.queue, error: error.message })
    this.#options.onReady()
  }
}
