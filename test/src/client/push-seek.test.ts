/** What an operator does to a group while its members consume: seeks, pauses. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { SeekGroupReply } from '../../../src/rpc/group-messages.ts'
import { adminMethods } from '../../../src/rpc/methods.ts'
import { eventually } from '../../support/eventually.ts'
import { GroupBench } from './group-bench.ts'

let bench: GroupBench

beforeEach(async () => {
  bench = await GroupBench.open(2)
})

afterEach(async () => {
  await bench.end()
})

const options = { group: 'G', subscribe: ['Orders'], from: 'first', commitIntervalMs: 20 } as const

async function seek(to: string, fields: { offset?: number } = {}): Promise<SeekGroupReply> {
  const request = { group: 'G', topic: 'Orders', to, time: 0, offset: 0, otherGroup: '', ...fields }
  const { generation } = await bench.ask(adminMethods.seekGroup, request)
  return bench.ask(adminMethods.seekGroup, { ...request, expectedGeneration: generation })
}

async function lag(): Promise<number> {
  const { queues } = await bench.describe()
  return queues.reduce((sum, queue) => sum + queue.lag, 0)
}

test.each([false, true])(
  'members (ordered: %s) that consume follow a seek back, and do not undo it',
  async (ordered) => {
    await bench.produce(40)
    const consumer = bench.client.pushConsumer({ ...options, ordered })
    const seen: string[] = []
    const ended = consumer.run((message) => {
      seen.push(message.body.toString())
    })
    await eventually('all is consumed and committed', async () => seen.length === 40 && (await lag()) === 0)
    const { queues } = await seek('first')
    expect(queues.map(({ newOffset }) => newOffset)).toEqual([0, 0])
    await eventually('all came again and is committed', async () => seen.length >= 80 && (await lag()) === 0)
    await consumer.close()
    await ended
    expect(seen).toHaveLength(80)
    expect(new Set(seen.slice(40)).size).toBe(40)
  },
)

test('members that consume follow a seek to the end: what lies between reaches nobody', async () => {
  await bench.produce(40)
  let isOpen = false
  const waiting: (() => void)[] = []
  const consumer = bench.client.pushConsumer({ ...options, concurrency: 1, drainTimeoutMs: 50 })
  const seen: string[] = []
  const ended = consumer.run((message) => {
    seen.push(message.body.toString())
    return isOpen ? undefined : new Promise<void>((resolve) => waiting.push(resolve))
  })
  await eventually('it has begun', () => seen.length === 1)
  await seek('last')
  await bench.produce(1, 'new')
  await eventually('the member knows', async () => (await bench.describe()).generation > 1)
  // Its first listener is let go only when the member has had the time to hear of it.
  await eventually('a heartbeat later', heartbeat(consumer))
  isOpen = true
  for (const resume of waiting.splice(0)) resume()
  await eventually('the new one comes', () => seen.includes('new0'))
  await consumer.close()
  await ended
  expect(seen).toHaveLength(2)
  expect(await lag()).toBe(0)
})

test('in order, nothing begins at the new position before the listener of the old one has ended', async () => {
  await bench.produce(4)
  const consumer = bench.client.pushConsumer({ ...options, ordered: true, drainTimeoutMs: 50 })
  const running = new Map<number, number>()
  let most = 0
  let finish = (): void => {}
  const seen: string[] = []
  const ended = consumer.run(async ({ queue: { queue }, offset }, { signal }) => {
    const count = (running.get(queue) ?? 0) + 1
    running.set(queue, count)
    most = Math.max(most, count)
    seen.push(`${queue}/${offset}`)
    if (seen.length === 1) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      await new Promise<void>((resolve) => (finish = resolve))
    }
    running.set(queue, (running.get(queue) ?? 0) - 1)
  })
  await eventually('the first is consumed', () => seen.length >= 1)
  const [held, other] = seen[0] === '0/0' ? ['0', '1'] : ['1', '0']
  await eventually('the other queue is committed', async () => (await lag()) === 2)
  await seek('offset', { offset: 1 })
  await eventually('the other queue has begun anew', () => seen.filter((one) => one === `${other}/1`).length === 2)
  expect(seen).not.toContain(`${held}/1`)
  finish()
  await eventually('all is consumed anew', async () => (await lag()) === 0)
  await consumer.close()
  await ended
  expect(seen.filter((one) => one.startsWith(`${held}/`))).toEqual([`${held}/0`, `${held}/1`])
  expect(most).toBe(1)
})

test('a paused group gets nothing until it goes on, and misses nothing', async () => {
  const consumer = bench.client.pushConsumer(options)
  const seen: string[] = []
  const ended = consumer.run((message) => {
    seen.push(message.body.toString())
  })
  await eventually('it has its queues', () => consumer.assignment().length === 2)
  await bench.setGroup({ paused: true })
  await eventually('it has none', () => consumer.assignment().length === 0)
  await bench.produce(10)
  expect(seen).toEqual([])
  await bench.setGroup({ paused: false })
  await eventually('all came', () => seen.length === 10)
  await consumer.close()
  await ended
})

/** Members beat at least every three seconds. */
function heartbeat(_consumer: unknown): () => boolean {
  const { clock } = bench.cluster.brokers
  const endMs = clock.monotonicMs() + 4_000
  return () => clock.monotonicMs() > endMs
}
