/** What a listener could not handle: it comes again through the broker, to whoever is there, or ends as a dead letter. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ConsumedMessage } from '../../../src/client/consumer/consumed-batch.ts'
import { delayLevelsMs } from '../../../src/message/delay-levels.ts'
import { eventually } from '../../support/eventually.ts'
import { seededNumbers } from '../../support/seeded-numbers.ts'
import { GroupBench, Toll } from './group-bench.ts'

let bench: GroupBench

beforeEach(async () => {
  bench = await GroupBench.open()
})

afterEach(async () => {
  await bench.end()
})

const options = { group: 'G', subscribe: ['Orders'], from: 'first', commitIntervalMs: 20 } as const

/** Looks again and again. */
function reached(what: string, probe: () => boolean): Promise<true> {
  return eventually(what, async () => {
    return probe()
  })
}

/** Offset that the group has committed in the queue of the topic. */
async function committed(): Promise<number | undefined> {
  const { machine } = await bench.leader()
  return machine.committedOffset('G', machine.topic('Orders')!.topicId, 0)
}

async function pendingTimers(): Promise<number> {
  return (await bench.leader()).machine.timers.pending
}

test('a message that fails comes again with the truth about its attempts, over a failover, and holds up nobody', async () => {
  await bench.setGroup({ retriesMax: 5 })
  await bench.produce(6)
  const calls: { attempt: number; message: ConsumedMessage }[] = []
  const seen: string[] = []
  const consumer = bench.client.pushConsumer(options)
  const ended = consumer.run((message, { attempt }) => {
    const body = message.body.toString()
    seen.push(body)
    if (body !== 'm2') return
    calls.push({ attempt, message })
    if (attempt < 4) throw new Error('not yet')
  })
  await reached('it was tried twice', () => calls.length >= 2)
  await eventually('the others are committed', async () => (await committed()) === 6)
  bench.cluster.brokers.kill(await bench.cluster.brokers.leader())
  await reached('it succeeded', () => calls.length >= 4)
  await consumer.close()
  await ended
  expect(calls.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4])
  const [first, ...again] = calls.map(({ message }) => message)
  expect([first!.attempt, first!.origin, first!.queue.topic]).toEqual([0, null, 'Orders'])
  for (const [at, message] of again.entries()) {
    expect(message).toMatchObject({ attempt: at + 1, topic: 'Orders', queue: { topic: '%RETRY%G', queue: 0 } })
    expect(message.origin).toEqual({ topic: 'Orders', queue: 0, offset: first!.offset })
    expect(message.messageId).toBe(first!.messageId)
  }
  expect(seen.filter((body) => body !== 'm2').sort()).toEqual(['m0', 'm1', 'm3', 'm4', 'm5'])
})

test('P8: after the retries of the group a message is told and lies in the dead letters, which can be read', async () => {
  const told = bench.hear()
  await bench.setGroup({ retriesMax: 1 })
  await bench.produce(3)
  let calls = 0
  const consumer = bench.client.pushConsumer(options)
  const ended = consumer.run((message) => {
    if (message.body.toString() !== 'm1') return
    calls++
    throw new Error('poison')
  })
  await reached('it was given up', () => told.some(({ kind }) => kind === 'messageGivenUp'))
  await consumer.close()
  await ended
  expect(calls).toBe(2)
  const reader = bench.client.pullConsumer({ from: 'first' })
  await reader.assign('%DLQ%G')
  const batch = await eventually('the dead letter can be read', () => reader.poll())
  expect(batch.messages.map(({ body }) => body.toString())).toEqual(['m1'])
  expect(batch.messages[0]!.origin).toEqual({ topic: 'Orders', queue: 0, offset: 1 })
})

test('attemptsMax makes a dead letter of a message before the group does', async () => {
  const told = bench.hear()
  await bench.produce(1)
  const consumer = bench.client.pushConsumer({ ...options, attemptsMax: 1 })
  void consumer.run(() => {
    throw new Error('poison')
  })
  await reached('it was given up', () => told.some(({ kind }) => kind === 'messageGivenUp'))
  const { machine } = await bench.leader()
  expect(machine.queueRange(machine.topic('%DLQ%G')!.topicId, 0)).toEqual({ min: 0, max: 1 })
  expect(machine.timers.pending).toBe(0)
})

test('a listener that asks for later says how much later', async () => {
  await bench.produce(2)
  const consumer = bench.client.pushConsumer(options)
  void consumer.run(async (message) => (message.body.toString() === 'm0' ? { later: 5 } : 'later'))
  await eventually('both were given back', async () => (await pendingTimers()) === 2)
  const { machine } = await bench.leader()
  const { rows } = await machine.timers.rows.due(Number.MAX_SAFE_INTEGER - 1, 10)
  const lateByMs = rows.map(({ key }) => key.time - machine.appliedTime)
  // The group's first delay is that of level 3.
  for (const [at, level] of [3, 5].entries()) {
    expect(lateByMs[at]).toBeGreaterThan(delayLevelsMs[level - 1]! - 9_000)
    expect(lateByMs[at]).toBeLessThanOrEqual(delayLevelsMs[level - 1]! + 1_000)
  }
})

test('a listener that runs too long is aborted and told, its message comes again, and what it says later does not count', async () => {
  const told = bench.hear()
  await bench.setGroup({})
  await bench.produce(2)
  const consumer = bench.client.pushConsumer({ ...options, concurrency: 1, consumeTimeoutMs: 100 })
  const attempts: number[] = []
  let finish = (): void => {}
  let aborted = false
  const ended = consumer.run((message, { attempt, signal }) => {
    if (message.body.toString() !== 'm0') return
    attempts.push(attempt)
    if (attempt > 1) return
    signal.addEventListener('abort', () => (aborted = true))
    return new Promise<void>((resolve) => (finish = resolve))
  })
  await reached('it came again', () => attempts.length >= 2)
  finish()
  await eventually('all is committed', async () => (await committed()) === 2)
  await consumer.close()
  await ended
  expect(attempts).toEqual([1, 2])
  expect(aborted).toBe(true)
  expect(told.filter(({ kind }) => kind === 'listenerTimedOut')).toMatchObject([{ offset: 0, afterMs: 100 }])
})

test('an answer that got lost is asked for again, and the message is stored once', async () => {
  const toll = new Toll('GiveBack')
  toll.lose = 1
  const client = await bench.cluster.connect({}, (transport) => toll.before(transport))
  await bench.produce(1)
  const consumer = client.pushConsumer(options)
  void consumer.run(() => {
    throw new Error('not now')
  })
  await eventually('the message is done with', async () => (await committed()) === 1)
  expect(toll.passed).toBeGreaterThanOrEqual(2)
  expect(await pendingTimers()).toBe(1)
})

test('while the broker takes nothing back a message is tried again here', async () => {
  const toll = new Toll('GiveBack')
  toll.isShut = true
  const client = await bench.cluster.connect({ requestTimeoutMs: 200 }, (transport) => toll.before(transport))
  await bench.produce(1)
  const consumer = client.pushConsumer({ ...options, retryDelayMs: 10 })
  const attempts: number[] = []
  const ended = consumer.run((_message, { attempt }) => {
    attempts.push(attempt)
    if (attempt < 3) throw new Error('not now')
  })
  await eventually('it succeeded', () => attempts.length >= 3)
  await eventually('it is committed', async () => (await committed()) === 1)
  await consumer.close()
  await ended
  expect(attempts).toEqual([1, 2, 3])
  expect(await pendingTimers()).toBe(0)
})

test('retry local keeps the message here, and a wrong choice is refused by name', async () => {
  await bench.produce(1)
  const consumer = bench.client.pushConsumer({ ...options, retry: 'local', retryDelayMs: 10 })
  const attempts: number[] = []
  const ended = consumer.run((_message, { attempt }) => {
    attempts.push(attempt)
    return attempt < 3 ? 'later' : undefined
  })
  await eventually('it succeeded', () => attempts.length >= 3)
  await consumer.close()
  await ended
  expect(await pendingTimers()).toBe(0)
  const wrong = { ...options, retry: 'never' as never }
  expect(() => bench.client.pushConsumer(wrong)).toThrow('retry')
  expect(() => bench.client.pushConsumer({ ...options, ordered: true, retry: 'broker' })).toThrow('ordered')
})

test.each([1, 2])(
  'seed %i: every message succeeds or is one dead letter, with every attempt in between, over a failover',
  async (seed) => {
    const random = seededNumbers(seed)
    const count = 40
    await bench.setGroup({ retriesMax: 3 })
    const members = [bench.client, await bench.cluster.connect()].map((client) => client.pushConsumer(options))
    const fate = Array.from({ length: count }, () => Math.floor(random() * 6))
    const attempts = new Map<string, number[]>()
    const done = new Set<string>()
    const runs = members.map((member) =>
      member.run(({ body }, { attempt }) => {
        const name = body.toString()
        attempts.set(name, [...(attempts.get(name) ?? []), attempt])
        // Succeeds in this attempt; from 5 on never.
        if (attempt < fate[Number(name.slice(1))]! + 1) throw new Error('not yet')
        done.add(name)
      }),
    )
    await eventually('both are members', async () => (await bench.describe()).members.length === 2)
    await bench.produce(count)
    await reached('some came again', () => [...attempts.values()].some((list) => list.length > 1))
    bench.cluster.brokers.kill(await bench.cluster.brokers.leader())
    const poison = fate.filter((failures) => failures > 3).length
    await reached('all that can has succeeded', () => done.size === count - poison)
    const deadLetters = async (): Promise<number> => {
      const { machine } = await bench.leader()
      const topic = machine.topic('%DLQ%G')
      return topic ? machine.queueRange(topic.topicId, 0)!.max : 0
    }
    await eventually('the others are dead letters', async () => {
      return (await deadLetters()) >= poison && (await pendingTimers()) === 0
    })
    await Promise.all(members.map((member) => member.close()))
    await Promise.all(runs)
    expect(await deadLetters()).toBe(poison)
    for (const [name, list] of attempts) {
      const last = Math.min(fate[Number(name.slice(1))]!, 3) + 1
      expect([...new Set(list)]).toEqual(Array.from({ length: last }, (_, at) => at + 1))
    }
  },
)
