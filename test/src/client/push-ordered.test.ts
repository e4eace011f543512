/** Orderly consumption: one message of a queue at a time, in order, under its lock. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Client } from '../../../src/client/client.ts'
import type { PushConsumer } from '../../../src/client/consumer/push-consumer.ts'
import type { PushConsumerOptions } from '../../../src/client/types.ts'
import { sleep } from '../../../src/common/clock.ts'
import { eventually } from '../../support/eventually.ts'
import { GroupBench, Toll } from './group-bench.ts'

let bench: GroupBench

beforeEach(async () => {
  bench = await GroupBench.open(2)
})

afterEach(async () => {
  await bench.end()
})

const options = { group: 'G', subscribe: ['Orders'], from: 'first', commitIntervalMs: 20, ordered: true } as const

interface Call {
  readonly by: string
  readonly queue: number
  readonly offset: number
  readonly attempt: number
}

/** All calls of listeners in the order in which they began, and whether two of one queue ever ran at once. */
class Orders {
  readonly calls: Call[] = []
  readonly running = new Set<string>()
  overlaps = 0
  /** Calls by a member that does not hold the lock of the queue by the log. */
  unlocked = 0
  readonly #holder: (topic: string, queue: number) => string | null

  constructor(holder: (topic: string, queue: number) => string | null = () => null) {
    this.#holder = holder
  }

  /** `work` decides how long a message takes, and whether it fails. */
  run(consumer: PushConsumer, by: string, work: (call: Call) => Promise<void> | void = () => {}): Promise<void> {
    return consumer.run(async ({ queue: { topic, queue }, offset }, { attempt }) => {
      const key = `${topic}/${queue}`
      if (this.running.has(key)) this.overlaps++
      this.running.add(key)
      const holder = this.#holder(topic, queue)
      if (holder !== null && holder !== consumer.member) this.unlocked++
      const call = { by, queue, offset, attempt }
      this.calls.push(call)
      try {
        await new Promise((resolve) => setImmediate(resolve))
        await work(call)
      } finally {
        this.running.delete(key)
      }
    })
  }

  offsets(queue: number): readonly number[] {
    return this.calls.filter((call) => call.queue === queue).map(({ offset }) => offset)
  }

  /** Offsets that were consumed, without the repeats. */
  consumed(queue: number): readonly number[] {
    return [...new Set(this.offsets(queue))]
  }
}

/** Who holds the lock of a queue by the log; a name that nobody has for a queue that nobody holds. */
async function holders(): Promise<(topic: string, queue: number) => string> {
  const { machine } = await bench.leader()
  return (topic, queue) => {
    const at = { topicId: machine.topic(topic)?.topicId ?? 0, queue }
    return machine.locks.holder('G', at, bench.cluster.brokers.clock.wallMs())?.member ?? 'nobody'
  }
}

function consumer(fields: Partial<PushConsumerOptions> = {}, client: Client = bench.client): PushConsumer {
  return client.pushConsumer({ ...options, ...fields })
}

async function fill(perQueue: number): Promise<void> {
  await bench.produce(perQueue * 2)
}

async function ends(): Promise<readonly number[]> {
  const { queues } = await bench.describe()
  return queues.map(({ maxOffset }) => maxOffset)
}

async function lags(): Promise<number> {
  const { queues } = await bench.describe()
  return queues.reduce((sum, { lag }) => sum + lag, 0)
}

test('each queue is consumed in order, one message at a time, and several queues at once', async () => {
  await fill(30)
  const orders = new Orders()
  let together = 0
  const member = consumer()
  const ended = orders.run(member, 'a', () => {
    together = Math.max(together, orders.running.size)
  })
  await eventually('all is consumed', () => orders.calls.length >= 60)
  await eventually('all is committed', async () => (await lags()) === 0)
  await member.close()
  await ended
  const [end0, end1] = await ends()
  expect(orders.offsets(0)).toEqual(Array.from({ length: end0! }, (_, offset) => offset))
  expect(orders.offsets(1)).toEqual(Array.from({ length: end1! }, (_, offset) => offset))
  expect([orders.overlaps, together]).toEqual([0, 2])
})

test('while members come and go no queue is ever consumed by two at once, and none goes back behind a commit', async () => {
  await fill(150)
  const orders = new Orders(await holders())
  const a = consumer()
  const b = consumer({}, await bench.cluster.connect())
  const slow = (): Promise<void> => sleep(bench.cluster.brokers.clock, 5)
  const endedA = orders.run(a, 'a', slow)
  await eventually('it has begun', () => orders.calls.length > 20)
  const endedB = orders.run(b, 'b', slow)
  await eventually('the other one has its share', () => orders.calls.some(({ by }) => by === 'b'))
  await a.close()
  await endedA
  await eventually('all is consumed', () => orders.consumed(0).length + orders.consumed(1).length >= 300)
  await b.close()
  await endedB
  expect([orders.overlaps, orders.unlocked]).toEqual([0, 0])
  for (const queue of [0, 1]) {
    const consumed = orders.consumed(queue)
    expect(consumed).toEqual([...consumed.keys()])
  }
})

test('who leaves unlocks: the next owner does not wait for the end of the lease', async () => {
  await fill(5)
  const orders = new Orders()
  const a = consumer({ lockLeaseMs: 600_000 })
  const ended = orders.run(a, 'a')
  await eventually('all is consumed', () => orders.calls.length >= 10)
  await a.close()
  await ended
  await fill(5)
  const b = consumer({}, await bench.cluster.connect())
  void orders.run(b, 'b')
  await eventually('the other one goes on', () => orders.calls.filter(({ by }) => by === 'b').length >= 10)
  expect(orders.consumed(0).length + orders.consumed(1).length).toBe(20)
})

test('the queues of a member that died are consumed by another only when its lease has ended', async () => {
  const dying = await bench.cluster.connect()
  await bench.produce(200)
  const orders = new Orders(await holders())
  const { clock, network } = bench.cluster.brokers
  const a = consumer({ lockLeaseMs: 4_000, sessionTimeoutMs: 1_000 }, dying)
  void orders.run(a, 'a', () => sleep(clock, 20))
  await eventually('it has begun', () => orders.calls.length > 4)
  network.kill('client1')
  const killedMs = clock.monotonicMs()
  const b = consumer()
  void orders.run(b, 'b', () => sleep(clock, 5))
  await eventually('the other one has begun', () => orders.calls.some(({ by }) => by === 'b'))
  // Renewed at the latest a third of the lease before.
  expect(clock.monotonicMs() - killedMs).toBeGreaterThan(2_000)
  await eventually('all is consumed', () => orders.consumed(0).length + orders.consumed(1).length >= 200)
  expect(orders.calls.filter(({ by }) => by === 'b').length).toBeGreaterThan(0)
  expect([orders.overlaps, orders.unlocked]).toEqual([0, 0])
})

test('a member that cannot renew its locks stops by itself before they end, and goes on once it has them again', async () => {
  const leaseMs = 3_000
  const toll = new Toll('LockQueues')
  const cutOff = await bench.cluster.connect({}, (transport) => toll.before(transport))
  await bench.produce(400)
  const orders = new Orders()
  const { clock } = bench.cluster.brokers
  let lastMs = 0
  const a = consumer({ lockLeaseMs: leaseMs, messagesPerQueueMax: 1_000 }, cutOff)
  void orders.run(a, 'a', async () => {
    lastMs = clock.monotonicMs()
    await sleep(clock, 40)
  })
  await eventually('it has begun', () => orders.calls.length > 4)
  // Renewals fail from now on; everything else of it goes on.
  toll.isShut = true
  const shutMs = clock.monotonicMs()
  const { machine } = await bench.leader()
  const queue = { topicId: machine.topic('Orders')!.topicId, queue: 0 }
  await eventually('it hands nothing out any more', () => clock.monotonicMs() > lastMs + 500)
  expect(lastMs - shutMs).toBeLessThan((leaseMs * 2) / 3 + 100)
  // By log time its lease is still in force.
  expect(machine.locks.holder('G', queue, clock.wallMs())).not.toBeNull()
  const before = orders.calls.length
  toll.isShut = false
  await eventually('it goes on with its lock', () => orders.calls.length > before + 2)
  expect(orders.overlaps).toBe(0)
})

test('a message that fails is tried again in its place, and the messages behind it wait', async () => {
  await fill(3)
  const orders = new Orders()
  const member = consumer({ suspendMs: 50 })
  const ended = orders.run(member, 'a', ({ queue, offset, attempt }) => {
    if (queue === 0 && offset === 1 && attempt < 4) throw new Error('not yet')
  })
  await eventually('all is consumed', () => orders.calls.length >= 9)
  await member.close()
  await ended
  expect(orders.calls.filter(({ queue }) => queue === 0)).toMatchObject([
    { offset: 0, attempt: 1 },
    { offset: 1, attempt: 1 },
    { offset: 1, attempt: 2 },
    { offset: 1, attempt: 3 },
    { offset: 1, attempt: 4 },
    { offset: 2, attempt: 1 },
  ])
  expect((await bench.leader()).machine.timers.pending).toBe(0)
})

test('P8: beyond the retries of the group it is a dead letter, and its queue goes on', async () => {
  const told = bench.hear()
  await bench.setGroup({ retriesMax: 2 })
  await fill(3)
  const orders = new Orders()
  const member = consumer({ suspendMs: 20 })
  const ended = orders.run(member, 'a', ({ queue, offset }) => {
    if (queue === 0 && offset === 1) throw new Error('poison')
  })
  await eventually('its queue goes on', () => orders.offsets(0).includes(2))
  await eventually('all is committed', async () => (await lags()) === 0)
  await member.close()
  await ended
  expect(orders.offsets(0)).toEqual([0, 1, 1, 1, 2])
  expect(told.find(({ kind }) => kind === 'messageGivenUp')).toMatchObject({ offset: 1, reason: 'poison' })
  const { machine } = await bench.leader()
  expect(machine.queueRange(machine.topic('%DLQ%G')!.topicId, 0)).toEqual({ min: 0, max: 1 })
})

test('a listener that runs too long is aborted and told, and still nothing behind it begins before it has ended', async () => {
  const told = bench.hear()
  await fill(2)
  const orders = new Orders()
  let finish = (): void => {}
  const member = consumer({ consumeTimeoutMs: 50 })
  const ended = orders.run(member, 'a', async ({ queue, offset }) => {
    if (queue === 0 && offset === 0) await new Promise<void>((resolve) => (finish = resolve))
  })
  await eventually('it is told', () => told.some(({ kind }) => kind === 'listenerTimedOut'))
  await eventually('the other queue is consumed', () => orders.offsets(1).length === 2)
  expect(orders.offsets(0)).toEqual([0])
  finish()
  await eventually('the queue goes on', () => orders.offsets(0).length === 2)
  await member.close()
  await ended
  expect(orders.overlaps).toBe(0)
})

test('over a leader kill the locks hold, and every queue goes on in order without repeats', async () => {
  await fill(20)
  const orders = new Orders()
  const member = consumer()
  const ended = orders.run(member, 'a')
  await eventually('all is consumed', () => orders.calls.length >= 40)
  bench.cluster.brokers.kill(await bench.cluster.brokers.leader())
  await fill(20)
  await eventually('the rest is consumed', () => orders.calls.length >= 80)
  await member.close()
  await ended
  for (const queue of [0, 1]) expect(orders.offsets(queue)).toEqual([...orders.offsets(queue).keys()])
})
