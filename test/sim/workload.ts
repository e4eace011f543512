/**
 * What the users of a run do, with the production SDK: senders that wait for every acknowledgement, a reader that
 * follows all queues, and a consumer group that commits, goes away and comes back. Others, in files of their own, read
 * what they must see by now.
 *
 * Everything that they are told goes to the judge. An error that no user should ever see fails the run.
 */
import { type Client, openClient } from '../../src/client/client.ts'
import type { ConsumedBatch } from '../../src/client/consumer/consumed-batch.ts'
import type { PullConsumer } from '../../src/client/consumer/pull-consumer.ts'
import type { Producer } from '../../src/client/producer/producer.ts'
import type { MessageQueue, SendResult } from '../../src/client/types.ts'
import { sleep } from '../../src/common/clock.ts'
import { LedgerError, toLedgerError } from '../../src/common/errors.ts'
import type { SimConfiguration } from './configuration.ts'
import type { Judge } from './judge.ts'
import { filling, valueIn } from './message-history.ts'
import { Prober } from './prober.ts'
import type { SimRandom } from './random.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimNode } from './sim-node.ts'
import type { SimProcess } from './sim-process.ts'
import { TokenReader } from './token-reader.ts'
import { type Acknowledged, Told } from './told.ts'
import { TopicChanger } from './topic-changer.ts'

export const topic = 'sim'
export const consumerGroup = 'sim-group'
export const namesrvAddress = 'ns:9876'

/** Sends that have less time than their neighbours in the same batch. */
const hastyShare = 0.2

/** What a client that asks for what is right is never answered with, whatever breaks. */
const wrongCodes: ReadonlySet<string> = new Set([
  'DATA_LOSS',
  'SYSTEM_ERROR',
  'INVALID_PARAMETER',
  'INVALID_REQUEST',
  'UNIMPLEMENTED',
  'SEQUENCE_TOO_OLD',
  'UNKNOWN_PRODUCER',
  'NO_PERMISSION',
  'WRONG_CLUSTER',
  'FOREIGN_GROUP',
])

export class Workload {
  readonly acknowledged: Acknowledged[] = []
  /** Sends whose error said that nothing was stored. */
  readonly refused: { readonly value: string; readonly error: LedgerError }[] = []
  unknown = 0
  consumed = 0
  commits = 0
  readonly #process: SimProcess
  readonly #second: SimProcess
  readonly #network: SimNetwork
  readonly #random: SimRandom
  readonly #configuration: SimConfiguration
  readonly #judge: Judge
  readonly #errors = new Map<string, number>()
  readonly #told = new Told()
  readonly #nodes: readonly SimNode[]
  /** By queue: how far the reader has come. */
  readonly #position = new Map<number, number>()
  readonly #filling = filling.toString('latin1')
  #prober: Prober | null = null
  #tokenReader: TokenReader | null = null
  #topicChanger: TopicChanger | null = null
  #client: Client | null = null
  #producer: Producer | null = null
  #sent = 0
  /** Users that may still write something. */
  #busy = 0
  #stopping = false

  constructor(parts: {
    readonly process: SimProcess
    /** A machine of its own for the second member of the group, with its own view of who leads. */
    readonly second: SimProcess
    readonly network: SimNetwork
    readonly random: SimRandom
    readonly configuration: SimConfiguration
    readonly judge: Judge
    readonly nodes: readonly SimNode[]
  }) {
    this.#process = parts.process
    this.#second = parts.second
    this.#network = parts.network
    this.#random = parts.random
    this.#configuration = parts.configuration
    this.#judge = parts.judge
    this.#nodes = parts.nodes
  }

  /** Errors that senders and consumers got, by code. */
  get errors(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#errors)
  }

  /** Answers that had to be current. */
  get reads(): number {
    return (this.#prober?.answers ?? 0) + (this.#tokenReader?.seen ?? 0)
  }

  /** Acknowledged. */
  get topicChanges(): number {
    return this.#topicChanger?.acknowledged ?? 0
  }

  get started(): boolean {
    return this.#producer !== null
  }

  /** After `stop`: whether everything that was sent has been answered. */
  get idle(): boolean {
    return this.#busy === 0
  }

  /** Whether the reader has seen everything that is committed. */
  get caughtUp(): boolean {
    return this.#judge.messages.queues.every((messages, queue) => {
      const position = Math.max(this.#position.get(queue) ?? 0, this.#judge.messages.minOffset(queue))
      return position === (messages?.length ?? 0)
    })
  }

  async start(): Promise<void> {
    this.#client = await this.#connect(this.#process)
    const { sendTimeoutMs, queues, senders, groupMembers } = this.#configuration
    this.#producer = this.#client.producer({ queuesPerTopic: queues, sendTimeoutMs })
    this.#busy = senders + groupMembers
    for (let sender = 0; sender < senders; sender++) this.#guard(this.#runSender(sender))
    this.#guard(this.#runReader())
    for (let member = 0; member < groupMembers; member++) this.#guard(this.#startMember(member))
    this.#guard(this.#startOthers())
  }

  /** Senders finish what they have begun. */
  stop(): void {
    this.#stopping = true
  }

  /** A few more messages, each of which must be acknowledged. */
  async sendLast(count: number): Promise<void> {
    while (!this.#producer) await sleep(this.#process, 50)
    let left = count
    while (left > 0) if (await this.#send([`last${this.#sent++}`], 5000)) left--
  }

  /** Every acknowledged message lies where the producer was told; nothing that was refused is there. */
  checkAcknowledged(nodes: readonly SimNode[]): void {
    this.#topicChanger?.check(nodes)
    for (const { value, queue, offset, index } of this.acknowledged) {
      this.#judge.onAcknowledged(value, { queue, offset, index })
    }
    for (const { value, error } of this.refused) {
      const isStored = this.#judge.messages.isStored(value)
      this.#judge.check(!isStored, () => `P3: ${value} is stored, but its sender was told: ${describe(error)}`)
    }
    for (const [queue, offset] of this.#told.committed) {
      const now = this.#judge.messages.groupOffset(queue) ?? 0
      this.#judge.check(now >= offset, () => `B5: offset ${offset} of queue ${queue} was committed, now it is ${now}`)
    }
  }

  async #connect(process: SimProcess, name: string = process.name): Promise<Client> {
    const random = this.#random.fork(`sdk.${name}`)
    const ports = { transport: this.#network.endpoint(process), clock: process, random }
    for (;;) {
      try {
        return await openClient(ports, { namesrv: namesrvAddress })
      } catch (error) {
        this.#note(error)
        await sleep(process, 50)
      }
    }
  }

  async #startMember(member: number): Promise<void> {
    if (member === 0) return this.#runGroup(member, this.#client as Client)
    return this.#runGroup(member, await this.#connect(this.#second))
  }

  /** Those who read what they must see by now, and who changes topics. */
  async #startOthers(): Promise<void> {
    const client = await this.#connect(this.#second, 'others')
    const { topicChangeMeanMs, queues } = this.#configuration
    const ports = {
      process: this.#second,
      network: this.#network,
      nodes: this.#nodes,
      client,
      judge: this.#judge,
      told: this.#told,
      topic,
      group: consumerGroup,
      note: (error: unknown) => this.#note(error),
      onBatch: (batch: ConsumedBatch) => this.#onBatch(batch),
      stopping: () => this.#stopping,
    }
    this.#prober = new Prober({ ...ports, random: this.#random.fork('prober') })
    this.#guard(this.#prober.run())
    this.#tokenReader = new TokenReader({ ...ports, random: this.#random.fork('token reader') })
    this.#guard(this.#tokenReader.run())
    if (topicChangeMeanMs === undefined) return
    const random = this.#random.fork('topic changer')
    const target = { queues: queues + random.below(3), pauseMeanMs: topicChangeMeanMs }
    this.#topicChanger = new TopicChanger({ ...ports, ...target, random })
    this.#guard(this.#topicChanger.run())
  }

  async #runSender(sender: number): Promise<void> {
    const random = this.#random.fork(`sender.${sender}`)
    const { thinkMeanMs, batchShare, messagesMax, sendTimeoutMs } = this.#configuration
    while (!this.#stopping && this.#sent < messagesMax) {
      await sleep(this.#process, random.around(thinkMeanMs))
      const count = random.chance(batchShare) ? 1 + random.below(8) : 1
      const values = Array.from({ length: count }, () => `m${this.#sent++}`)
      const isHasty = random.chance(hastyShare)
      await this.#send(values, isHasty ? random.between(50, sendTimeoutMs) : sendTimeoutMs, random)
    }
    this.#busy--
  }

  async #send(values: readonly string[], timeoutMs: number, random?: SimRandom): Promise<boolean> {
    const producer = this.#producer as Producer
    const messages = values.map((value) => ({ topic, body: this.#body(value, random) }))
    try {
      const results = await producer.sendBatch(messages, { timeoutMs })
      for (const [at, result] of results.entries()) this.#onResult(values[at] ?? '', result)
      return true
    } catch (error) {
      const failure = this.#note(error)
      if (failure.stored === 'unknown') this.unknown += values.length
      else for (const value of values) this.refused.push({ value, error: failure })
      return false
    }
  }

  #body(value: string, random: SimRandom | undefined): string {
    const length = random ? random.below(this.#configuration.bodyBytesMax) : 0
    return `${value} ${this.#filling.slice(0, length)}`
  }

  #onResult(value: string, result: SendResult): void {
    const entry = { value, queue: result.queue.queue, offset: result.offset, index: result.index }
    this.acknowledged.push(entry)
    this.#told.sent(entry)
    this.#judge.onAcknowledged(value, entry)
  }

  /** Follows all queues from their beginning to the end of the run. */
  async #runReader(): Promise<void> {
    const reader = open(this.#client as Client, { readFrom: this.#configuration.readFrom, longPollMs: 300 })
    await this.#assign(reader)
    for (;;) {
      const batch = await this.#poll(reader, { waitMs: 1000 })
      if (batch === null || batch === 'moved') continue
      this.#onBatch(batch)
      const next = this.#position.get(batch.queue.queue) ?? 0
      this.#judge.check(
        batch.firstOffset === next || this.#isTrimmedUpTo(batch, next),
        () => `B2: the reader got ${batch.queue.queue}/${batch.firstOffset} after ${next}`,
      )
      this.#position.set(batch.queue.queue, batch.nextOffset)
    }
  }

  /** What was skipped is what the group has given up, no more. */
  #isTrimmedUpTo({ queue, firstOffset }: ConsumedBatch, from: number): boolean {
    return from < firstOffset && firstOffset <= this.#judge.messages.minOffset(queue.queue)
  }

  /** `moved`: messages that were to come next have been trimmed, and reading goes on behind them. */
  async #poll(
    consumer: PullConsumer,
    options: { readonly waitMs: number; readonly maxMessages?: number },
  ): Promise<ConsumedBatch | 'moved' | null> {
    try {
      return await consumer.poll(options)
    } catch (error) {
      if (!(error instanceof LedgerError) || error.code !== 'PULL_OFFSET_MOVED') throw error
      this.#note(error)
      const behind = consumer
        .assignment()
        .filter((queue) => consumer.position(queue) < this.#judge.messages.minOffset(queue.queue))
      this.#judge.check(behind.length > 0, () => `P1: nothing that was to come is trimmed, but: ${describe(error)}`)
      for (const queue of behind) await consumer.seek(queue, this.#judge.messages.minOffset(queue.queue))
      return 'moved'
    }
  }

  /**
   * A member that reads, commits, and now and then is replaced by another. A second one that knows nothing of the
   * first commits older offsets, which must move nothing.
   */
  async #runGroup(member: number, client: Client): Promise<void> {
    const random = this.#random.fork(`group.${member}`)
    while (!this.#stopping) {
      const consumer = open(client, { group: consumerGroup, longPollMs: 300 })
      // A read that begins now must see at least what was committed by now, whatever replica leads (thesis 6.4).
      const before = this.#told.before().committed
      const queues = await this.#assign(consumer)
      let mayCommit = true
      for (const queue of queues) this.#checkStart(consumer, queue, before.get(queue.queue) ?? 0)
      for (let round = random.below(30); round > 0 && !this.#stopping; round--) {
        const batch = await this.#poll(consumer, { waitMs: 200, maxMessages: 1 + random.below(10) })
        // A commit after a seek may move the group back, behind what another member has committed.
        if (batch === 'moved') mayCommit = false
        else if (batch) this.#onBatch(batch)
        if (mayCommit && random.chance(0.4)) await this.#commit(consumer, queues)
      }
      await consumer.close()
    }
    this.#busy--
  }

  async #assign(consumer: PullConsumer): Promise<readonly MessageQueue[]> {
    for (;;) {
      try {
        return await consumer.assign(topic)
      } catch (error) {
        this.#note(error)
        await sleep(this.#process, 100)
      }
    }
  }

  #checkStart(consumer: PullConsumer, queue: MessageQueue, committed: number): void {
    const start = consumer.position(queue)
    this.#judge.check(
      start >= committed,
      () => `B5: the group starts queue ${queue.queue} at ${start}, not ${committed}`,
    )
  }

  async #commit(consumer: PullConsumer, queues: readonly MessageQueue[]): Promise<void> {
    const positions = queues.map((queue) => [queue.queue, consumer.position(queue)] as const)
    try {
      await consumer.commit()
    } catch (error) {
      this.#note(error)
      return
    }
    this.commits++
    for (const [queue, offset] of positions) this.#told.commit(queue, offset)
  }

  #onBatch(batch: ConsumedBatch): void {
    for (const message of batch.messages) {
      this.consumed++
      const place = { queue: message.queue.queue, offset: message.offset, index: batch.index }
      this.#judge.onConsumed(valueIn(message.body), place)
    }
  }

  #note(error: unknown): LedgerError {
    if (!(error instanceof LedgerError)) throw error
    const failure = toLedgerError(error)
    this.#errors.set(failure.code, (this.#errors.get(failure.code) ?? 0) + 1)
    if (wrongCodes.has(failure.code)) this.#judge.fail(`P8: a client was told: ${failure.code} ${failure.message}`)
    return failure
  }

  /** Whatever ends one of the users is a bug of the SDK. */
  #guard(running: Promise<void>): void {
    running.catch((error: unknown) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
      this.#judge.fail(`P8: a user of the SDK got what no user should see: ${text}`)
    })
  }
}

function open(client: Client, options: Parameters<Client['pullConsumer']>[0]): PullConsumer {
  return client.pullConsumer({ pullBytes: 8 * 1024, prefetchBytesPerQueue: 16 * 1024, ...options })
}

function describe(error: LedgerError): string {
  return `${error.code} ${error.message} ${JSON.stringify(error.facts)}`
}
