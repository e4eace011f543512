/**
 * Witnesses for the tests of consumer groups: what members were answered on the wire, what the group's committed
 * offsets are at any moment, and which message was delivered how often. They only look on.
 */
import { expect } from 'vitest'
import type { Session } from '../../src/cli/fast-try/session.ts'
import { type Client, openClient } from '../../src/client/client.ts'
import type { ConsumedMessage, MessageQueue, PullConsumer } from '../../src/client/mod.ts'
import { sleep, systemClock, systemRandom } from '../../src/common/clock.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { createGrpcTransport } from '../../src/rpc/grpc-transport.ts'
import { brokerMethods, type CommitOffsetsReply } from '../../src/rpc/methods.ts'
import type { Channel, Transport } from '../../src/rpc/transport.ts'

const sampleIntervalMs = 25

export function queueName(queue: { readonly topic: string; readonly queue: number }): string {
  return `${queue.topic}/${queue.queue}`
}

/** Offsets that brokers have answered as committed, by queue. */
export class AnsweredCommits {
  readonly offsets = new Map<string, number>()

  /** A client of its own connection whose commits are noted the moment their answer arrives. */
  async connect({ plan }: Session): Promise<Client> {
    const transport = this.#watch(createGrpcTransport({ clock: systemClock, logger: silentLogger }))
    const namesrv = plan.namesrvs.map(({ port }) => `127.0.0.1:${port}`)
    return openClient({ transport, clock: systemClock, random: systemRandom }, { namesrv })
  }

  of(queue: MessageQueue): number {
    return this.offsets.get(queueName(queue)) ?? 0
  }

  #watch(transport: Transport): Transport {
    return {
      listen: (address, register) => transport.listen(address, register),
      connect: (address, purpose) => this.#watchChannel(transport.connect(address, purpose)),
    }
  }

  #watchChannel(channel: Channel): Channel {
    return {
      address: channel.address,
      open: (method, handlers) => channel.open(method, handlers),
      close: () => channel.close(),
      call: async (method, request, options) => {
        const answer = await channel.call(method, request, options)
        if (method.name === brokerMethods.commitOffsets.name) this.#note(answer as CommitOffsetsReply)
        return answer
      },
    }
  }

  #note({ offsets }: CommitOffsetsReply): void {
    for (const entry of offsets) {
      const name = queueName(entry)
      this.offsets.set(name, Math.max(entry.offset, this.offsets.get(name) ?? 0))
    }
  }
}

/** Asks a group's committed offsets again and again, one question after the other, over every change of leader. */
export class OffsetSampler {
  readonly #consumer: PullConsumer
  readonly #queues: readonly MessageQueue[]
  readonly #stop = new AbortController()
  readonly #ended: Promise<void>
  readonly #last = new Map<string, number>()
  /** Offsets that went back; must stay empty. */
  readonly setbacks: string[] = []
  samples = 0

  constructor(client: Client, group: string, queues: readonly MessageQueue[]) {
    this.#consumer = client.pullConsumer({ group })
    this.#queues = queues
    this.#ended = this.#run()
  }

  /** What was answered last; 0 where the group has committed nothing. */
  committed(queue: { readonly topic: string; readonly queue: number }): number {
    return this.#last.get(queueName(queue)) ?? 0
  }

  /** Messages below the committed offsets of all queues. */
  get total(): number {
    return [...this.#last.values()].reduce((sum, offset) => sum + offset, 0)
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#ended
    await this.#consumer.close()
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      await Promise.all(this.#queues.map((queue) => this.#sample(queue)))
      await sleep(systemClock, sampleIntervalMs, signal).catch(() => {})
    }
  }

  async #sample(queue: MessageQueue): Promise<void> {
    const name = queueName(queue)
    const offset = await this.#consumer.committed(queue).catch(() => null)
    if (offset === null) return
    this.samples++
    const before = this.#last.get(name)
    if (before !== undefined && (offset ?? -1) < before) this.setbacks.push(`${name}: ${offset} after ${before}`)
    if (offset !== undefined) this.#last.set(name, offset)
  }
}

interface Delivered {
  calls: number
  returned: boolean
}

/** What the listeners of a group were called with. */
export class Deliveries {
  readonly #messages = new Map<string, Delivered>()
  /** Deliveries of what had been answered as committed before; must stay empty. */
  readonly afterCommit: string[] = []
  /** Deliveries of a message after a listener had returned for it. */
  readonly afterReturn: string[] = []

  get distinct(): number {
    return this.#messages.size
  }

  /** Messages that were delivered more than once. */
  get repeated(): number {
    return [...this.#messages.values()].filter(({ calls }) => calls > 1).length
  }

  begin(message: ConsumedMessage | { readonly queue: MessageQueue; readonly offset: number }, committed: number): void {
    const place = `${queueName(message.queue)}/${message.offset}`
    const known = this.#messages.get(place)
    if (message.offset < committed) this.afterCommit.push(`${place}, ${committed} was committed`)
    if (known?.returned) this.afterReturn.push(place)
    if (known) known.calls++
    else this.#messages.set(place, { calls: 1, returned: false })
  }

  returned(message: { readonly queue: MessageQueue; readonly offset: number }): void {
    const known = this.#messages.get(`${queueName(message.queue)}/${message.offset}`)
    if (known) known.returned = true
  }

  /** Every one of these places was delivered to a listener that returned. */
  expectAll(places: readonly { readonly topic: string; readonly queue: number; readonly offset: number }[]): void {
    const missing = places.filter((at) => !this.#messages.get(`${queueName(at)}/${at.offset}`)?.returned)
    expect(missing.slice(0, 10)).toEqual([])
  }
}
