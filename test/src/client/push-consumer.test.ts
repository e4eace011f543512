/** The push consumer as a member of real consumer groups on a real broker group. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Client } from '../../../src/client/client.ts'
import type { ConsumedMessage } from '../../../src/client/consumer/consumed-batch.ts'
import type { PushConsumer } from '../../../src/client/consumer/push-consumer.ts'
import type { ClientStatus } from '../../../src/client/types.ts'
import type { Transport } from '../../../src/rpc/transport.ts'
import { eventually } from '../../support/eventually.ts'
import { ClientCluster } from './client-cluster.ts'

/** For what is meant to succeed. */
const patienceMs = 60_000

let cluster: ClientCluster
let client: Client

beforeEach(async () => {
  cluster = new ClientCluster()
  await cluster.start()
  client = await cluster.connect()
  await client.admin().createTopic({ topic: 'Orders', queues: 8 })
})

afterEach(async () => {
  await cluster.end()
})

async function produce(count: number, prefix = 'm'): Promise<void> {
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  await Promise.all(
    Array.from({ length: count }, (_, index) => producer.send({ topic: 'Orders', body: `${prefix}${index}` })),
  )
  await producer.close()
}

/** What the client tells from now on. */
function hear(): readonly ClientStatus[] {
  const told: ClientStatus[] = []
  void (async () => {
    for await (const status of client.status()) told.push(status)
  })()
  return told
}

/** Holds back the calls of one method while it is shut. */
class Gate {
  readonly #method: string
  readonly #waiting: (() => void)[] = []
  #isShut = false
  #underWay = 0

  constructor(method: string) {
    this.#method = method
  }

  /** Resolves when none is under way. */
  async shut(): Promise<void> {
    this.#isShut = true
    await eventually(`no ${this.#method} is under way`, () => this.#underWay === 0)
  }

  open(): void {
    this.#isShut = false
    for (const wake of this.#waiting.splice(0)) wake()
  }

  before(transport: Transport): Transport {
    const connect: Transport['connect'] = (address, purpose) => {
      const channel = transport.connect(address, purpose)
      const call: typeof channel.call = async (method, request, options) => {
        if (method.name !== this.#method) return channel.call(method, request, options)
        if (this.#isShut) await new Promise<void>((resolve) => this.#waiting.push(resolve))
        this.#underWay++
        return channel.call(method, request, options).finally(() => {
          this.#underWay--
        })
      }
      return { ...channel, address, call, open: (...given) => channel.open(...given), close: () => channel.close() }
    }
    return { listen: (address, register) => transport.listen(address, register), connect }
  }
}

/** Runs a consumer and keeps what its listener got. */
function run(consumer: PushConsumer): { readonly seen: string[]; readonly ended: Promise<void> } {
  const seen: string[] = []
  const ended = consumer.run((message) => {
    seen.push(message.body.toString())
  })
  return { seen, ended }
}

test('every message reaches the listener, and a later member of the group goes on behind the committed ones', async () => {
  await produce(200)
  const first = client.pushConsumer({ group: 'G', subscribe: ['Orders'], from: 'first' })
  const { seen, ended } = run(first)
  await eventually('all messages were consumed', () => seen.length >= 200)
  await first.close()
  await ended
  expect(new Set(seen).size).toBe(200)
  await produce(50, 'later')
  const second = client.pushConsumer({ group: 'G', subscribe: ['Orders'], from: 'first' })
  const rest = run(second)
  await eventually('the later messages were consumed', () => rest.seen.length >= 50)
  await second.close()
  expect(rest.seen.every((body) => body.startsWith('later'))).toBe(true)
  expect(rest.seen).toHaveLength(50)
})

test('two members share the queues, and the one that leaves gives its queues to the other', async () => {
  const options = { group: 'G', subscribe: ['Orders'], from: 'first' } as const
  const a = client.pushConsumer(options)
  const b = (await cluster.connect()).pushConsumer(options)
  const consumed = [run(a), run(b)]
  await eventually('both have four queues', () => a.assignment().length === 4 && b.assignment().length === 4)
  const all = [...a.assignment(), ...b.assignment()].map((queue) => queue.queue)
  expect(new Set(all).size).toBe(8)
  await produce(100)
  await eventually('all is consumed', () => consumed[0]!.seen.length + consumed[1]!.seen.length >= 100)
  await a.close()
  await eventually('the other one has all queues', () => b.assignment().length === 8)
  await produce(100, 'later')
  await eventually(
    'the other one consumes all',
    () => consumed[1]!.seen.filter((s) => s.startsWith('later')).length >= 100,
  )
})

test('B5: over a leader kill the group goes on; repeats are only what was not committed', async () => {
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['Orders'], from: 'first', commitIntervalMs: 50 })
  const offsets = new Map<number, number[]>()
  const ended = consumer.run((message: ConsumedMessage) => {
    const known = offsets.get(message.queue.queue) ?? []
    offsets.set(message.queue.queue, [...known, message.offset])
  })
  await produce(200, 'before')
  const consumed = (): number => [...offsets.values()].reduce((sum, list) => sum + new Set(list).size, 0)
  await eventually('the first half is consumed', () => consumed() >= 200)
  const leader = await cluster.brokers.leader()
  cluster.brokers.kill(leader)
  await produce(200, 'after')
  await eventually('the second half is consumed', () => consumed() >= 400)
  await consumer.close()
  await ended
  for (const list of offsets.values()) {
    // The member never lost its queues, so nothing is delivered twice and every queue is in order.
    expect(list).toEqual([...list.keys()])
  }
})

test('a listener that throws gets the message again, and the commit waits for it', async () => {
  await produce(20)
  const consumer = client.pushConsumer({
    group: 'G',
    subscribe: ['Orders'],
    from: 'first',
    retryDelayMs: 30,
    commitIntervalMs: 20,
  })
  const attempts: number[] = []
  const ended = consumer.run((message, { attempt }) => {
    if (message.body.toString() !== 'm7') return
    attempts.push(attempt)
    if (attempt < 4) throw new Error('not yet')
  })
  await eventually('it succeeded', () => attempts.length === 4)
  await consumer.close()
  await ended
  expect(attempts).toEqual([1, 2, 3, 4])
})

test('P8: a message that is given up after attemptsMax is told, and does not hold back the others', async () => {
  const statuses = hear()
  await produce(20)
  const options = { group: 'G', subscribe: ['Orders'], from: 'first', retryDelayMs: 5, attemptsMax: 3 } as const
  const consumer = client.pushConsumer({ ...options, commitIntervalMs: 20 })
  let calls = 0
  const ended = consumer.run((message) => {
    if (message.body.toString() !== 'm7') return
    calls++
    throw new Error('poison')
  })
  await eventually('it was given up', () => statuses.some((status) => status.kind === 'messageGivenUp'))
  await consumer.close()
  await ended
  expect(calls).toBe(3)
  expect(statuses.find((status) => status.kind === 'messageGivenUp')).toMatchObject({ reason: 'poison' })
  const again = client.pushConsumer(options)
  const rest = run(again)
  await eventually('it has its queues', () => again.assignment().length === 8)
  await produce(1, 'last')
  await eventually('only the new one comes', () => rest.seen.length > 0)
  expect(rest.seen).toEqual(['last0'])
})

test('at most `concurrency` listeners run at a time, and close waits for them and commits', async () => {
  await produce(60)
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['Orders'], from: 'first', concurrency: 5 })
  let running = 0
  let most = 0
  let done = 0
  const release: (() => void)[] = []
  const ended = consumer.run(async () => {
    running++
    most = Math.max(most, running)
    await new Promise<void>((resolve) => release.push(resolve))
    running--
    done++
  })
  await eventually('five run', () => running === 5)
  const closing = consumer.close()
  for (const letGo of release.splice(0)) letGo()
  await closing
  await ended
  expect([most, done]).toEqual([5, 5])
  const rest = run(client.pushConsumer({ group: 'G', subscribe: ['Orders'], from: 'first' }))
  await eventually('the others come', () => rest.seen.length >= 55)
  expect(rest.seen.length).toBeGreaterThanOrEqual(55)
})

test('a new group starts at the end by default', async () => {
  await produce(50, 'old')
  const consumer = client.pushConsumer({ group: 'Fresh', subscribe: ['Orders'] })
  const { seen } = run(consumer)
  await eventually('it has its queues', () => consumer.assignment().length === 8)
  await produce(10, 'new')
  await eventually('the new ones come', () => seen.length >= 10)
  expect(seen.every((body) => body.startsWith('new'))).toBe(true)
})

test('a member with another subscription than its group is refused with the reason', async () => {
  await client.admin().createTopic({ topic: 'Other', queues: 2 })
  const member = client.pushConsumer({ group: 'G', subscribe: ['Orders'] })
  run(member)
  await eventually('it has its queues', () => member.assignment().length === 8)
  const stranger = client.pushConsumer({ group: 'G', subscribe: ['Other'] })
  await expect(stranger.run(() => {})).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('a member that dies before its first commit has fixed where the group began: nothing since is lost', async () => {
  const first = client.pushConsumer({
    group: 'Fresh',
    subscribe: ['Orders'],
    commitIntervalMs: 60_000,
    sessionTimeoutMs: 1_000,
  })
  const doomed = run(first)
  await eventually('it has its queues', () => first.assignment().length === 8)
  cluster.brokers.network.kill('client0')
  client = await cluster.connect()
  await produce(40, 'new')
  const second = client.pushConsumer({ group: 'Fresh', subscribe: ['Orders'] })
  const { seen } = run(second)
  await eventually('the other one has all queues', () => second.assignment().length === 8)
  await eventually('what came in between is consumed', () => new Set(seen).size === 40)
  expect(doomed.seen).toEqual([])
})

test('a topic deleted and created again is read from its beginning, and its offsets are committed', async () => {
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  const fill = (perQueue: number, prefix: string): Promise<unknown> =>
    Promise.all(
      Array.from({ length: perQueue * 8 }, (_, index) =>
        producer.send(
          { topic: 'Orders', body: `${prefix}${index}` },
          { selector: (queues) => queues[index % 8] ?? { topic: 'Orders', group: '', queue: -1 } },
        ),
      ),
    )
  await fill(10, 'old')
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['Orders'], from: 'first', commitIntervalMs: 30 })
  const { seen } = run(consumer)
  const told = hear()
  await eventually('the old ones are consumed', () => seen.length >= 80)
  await client.admin().deleteTopic('Orders')
  await client.admin().createTopic({ topic: 'Orders', queues: 8 })
  await fill(5, 'new')
  await eventually('the new ones come', () => new Set(seen.filter((body) => body.startsWith('new'))).size === 40)
  // A new count of offsets is no gap in the old one.
  expect(told.filter((status) => status.kind === 'stalled' && status.reason.code === 'SYSTEM_ERROR')).toEqual([])
  const reader = client.pullConsumer({ group: 'G' })
  const queues = await reader.assign('Orders')
  const committed = (): Promise<unknown> => Promise.all(queues.map((queue) => reader.committed(queue)))
  await expect.poll(committed, { timeout: patienceMs }).toEqual(queues.map(() => 5))
  await producer.close()
})

test('what is still held of a topic that was created again is not committed as offsets of the new one', async () => {
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  const fill = async (count: number, prefix: string, bytes: number): Promise<void> => {
    for (let index = 0; index < count; index++) {
      const body = `${prefix}${index} `.padEnd(bytes, '.')
      await producer.send({ topic: 'Orders', body }, { selector: (queues) => queues.find((one) => one.queue === 0)! })
    }
  }
  // More than is read ahead, so that the reader does not meet the new topic by itself.
  await fill(10, 'old', 200_000)
  const heartbeats = new Gate('GroupHeartbeat')
  const member = await cluster.connect({}, (transport) => heartbeats.before(transport))
  const consumer = member.pushConsumer({
    group: 'G',
    subscribe: ['Orders'],
    from: 'first',
    concurrency: 1,
    messagesPerQueueMax: 1,
    commitIntervalMs: 20,
    // It beats three times in that time.
    sessionTimeoutMs: 6_000,
    drainTimeoutMs: 100,
  })
  const seen: string[] = []
  let signal: AbortSignal | undefined
  let finish = (): void => {}
  const ended = consumer.run((message, context) => {
    seen.push(message.body.toString().split(' ')[0]!)
    signal = context.signal
    return new Promise((resolve) => {
      finish = resolve
    })
  })
  await eventually('the first one is being consumed', () => seen.length === 1)
  // A heartbeat between deletion and creation would see the queues taken away.
  await heartbeats.shut()
  await client.admin().deleteTopic('Orders')
  await client.admin().createTopic({ topic: 'Orders', queues: 8 })
  heartbeats.open()
  await fill(20, 'new', 10)
  await eventually('the old queue is given up', () => signal?.aborted === true)
  for (const count of [2, 3]) {
    finish()
    await eventually('the next one is being consumed', () => seen.length === count)
  }
  expect(seen).toEqual(['old0', 'new0', 'new1'])
  const reader = client.pullConsumer({ group: 'G' })
  const queue = { topic: 'Orders', group: consumer.assignment()[0]!.group, queue: 0 }
  await expect.poll(() => reader.committed(queue), { timeout: patienceMs }).toBe(1)
  const closing = consumer.close()
  finish()
  await closing
  await ended
  await producer.close()
})
