/**
 * A user that reads what somebody else was told to be stored: from leaders, followers and suggested replicas, by the
 * token of the acknowledgement (read-your-writes). An empty answer must mean that the message was passed, not that
 * this replica has not heard of it. Started by the workload, with a view of its own of who leads.
 */
import type { Client } from '../../src/client/client.ts'
import type { ConsumedBatch } from '../../src/client/consumer/consumed-batch.ts'
import type { PullConsumer } from '../../src/client/consumer/pull-consumer.ts'
import type { MessageQueue } from '../../src/client/types.ts'
import { sleep } from '../../src/common/clock.ts'
import type { LedgerError } from '../../src/common/errors.ts'
import type { Judge } from './judge.ts'
import type { SimRandom } from './random.ts'
import type { SimProcess } from './sim-process.ts'
import type { Acknowledged, Told, ToldBefore } from './told.ts'

export interface TokenReaderPorts {
  readonly process: SimProcess
  readonly client: Client
  readonly random: SimRandom
  readonly judge: Judge
  readonly told: Told
  readonly topic: string
  /** Counts an error that users may see; throws any other. */
  note(error: unknown): LedgerError
  onBatch(batch: ConsumedBatch): void
  stopping(): boolean
}

const pauseMeanMs = 50
const roundsMax = 12

export class TokenReader {
  readonly #ports: TokenReaderPorts
  /** Tokens whose message was seen. */
  seen = 0

  constructor(ports: TokenReaderPorts) {
    this.#ports = ports
  }

  async run(): Promise<void> {
    const { process, client, random, told } = this.#ports
    while (!this.#ports.stopping()) {
      await sleep(process, random.around(pauseMeanMs))
      if (told.newest === null) continue
      const consumer = client.pullConsumer({
        readFrom: random.pick(['leader', 'follower', 'suggested']),
        longPollMs: 300,
        pullBytes: 2048,
        prefetchBytesPerQueue: 1,
      })
      if (await this.#assign(consumer)) await this.#readRounds(consumer)
      await consumer.close()
    }
  }

  async #readRounds(consumer: PullConsumer): Promise<void> {
    const { process, random, told } = this.#ports
    for (let round = 1 + random.below(roundsMax); round > 0 && !this.#ports.stopping(); round--) {
      await sleep(process, random.around(pauseMeanMs))
      const token = told.newest
      const queue = token && consumer.assignment().find((candidate) => candidate.queue === token.queue)
      if (!queue) continue
      if (random.chance(0.7)) await consumer.seek(queue, this.#near(token))
      try {
        await this.#readUpTo(consumer, queue, token)
      } catch (error) {
        // The token was trimmed meanwhile, or no replica got there in time: begin anew.
        this.#onError(this.#ports.note(error), queue, token)
        return
      }
    }
  }

  /** Starts at the end of every queue, as the leader tells it: behind all that was acknowledged before. */
  async #assign(consumer: PullConsumer): Promise<boolean> {
    const before = this.#ports.told.before()
    try {
      for (const queue of await consumer.assign(this.#ports.topic, { from: 'last' })) {
        this.#checkStart(consumer.position(queue), queue, before)
      }
      return true
    } catch (error) {
      this.#ports.note(error)
      return false
    }
  }

  #checkStart(start: number, { queue }: MessageQueue, before: ToldBefore): void {
    const { judge } = this.#ports
    const end = before.ends[queue] ?? 0
    judge.check(start >= end, () => `P1: the end of queue ${queue} was said to be ${start}, ${end} was acknowledged`)
  }

  /** A few messages before the token, so that the queue is read and not only asked for its end. */
  #near({ queue, offset }: Acknowledged): number {
    const from = offset - this.#ports.random.below(3)
    return Math.min(offset, Math.max(from, this.#ports.judge.messages.minOffset(queue)))
  }

  async #readUpTo(consumer: PullConsumer, queue: MessageQueue, token: Acknowledged): Promise<void> {
    const { judge } = this.#ports
    while (consumer.position(queue) <= token.offset) {
      const at = consumer.position(queue)
      const batch = await consumer.poll({ after: { queue, index: token.index } })
      if (batch === null) {
        judge.fail(`P5: ${queue.queue}/${token.offset} was acknowledged, a reader with its token sees nothing at ${at}`)
        return
      }
      if (batch.queue.queue === queue.queue) {
        judge.check(
          batch.firstOffset === at || this.#isTrimmedUpTo(batch, at),
          () => `B2: the reader got ${queue.queue}/${batch.firstOffset} after ${at}`,
        )
      }
      this.#ports.onBatch(batch)
    }
    this.seen++
  }

  /** A queue that came while it was reading is read from its oldest message on, and trims may have been first. */
  #isTrimmedUpTo({ queue, firstOffset }: ConsumedBatch, at: number): boolean {
    return at === 0 && firstOffset <= this.#ports.judge.messages.minOffset(queue.queue)
  }

  #onError(error: LedgerError, { queue }: MessageQueue, token: Acknowledged): void {
    if (error.code !== 'PULL_OFFSET_MOVED') return
    const { judge } = this.#ports
    judge.check(
      judge.messages.queues.some((_, at) => judge.messages.minOffset(at) > 0),
      () => `P1: nothing is trimmed, but ${queue}/${token.offset} is said to be: ${error.message}`,
    )
  }
}
