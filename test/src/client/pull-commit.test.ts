/** What a pull consumer takes for committed when topics are created again and queues become known late. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import type { PullConsumer } from '../../../src/client/consumer/pull-consumer.ts'
import type { PullConsumerOptions } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { encodeBatch } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

let clock: ManualClock
let transport: ScriptedTransport
let client: Client

beforeEach(async () => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
  transport.route = routeOf({ a: {} }, { T: { a: 1 } })
  addBrokers(transport)
  client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
})

afterEach(async () => {
  await client.close()
})

function batchOf(count: number, first: number, queueId = 0): Buffer {
  const records = Array.from({ length: count }, (_, index) => {
    const { record } = buildRecord(
      { topic: 'T', body: `message ${first + index}` },
      { messageId: `id${first + index}` },
    )
    return record
  })
  return encodeBatch({
    codec: 0,
    kind: 0,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 1_000,
    topic: 'T',
    queue: queueId,
    bornHost: '',
    extensions: [],
    records,
  })
}

/** Serves `total` messages in batches of ten, one batch an answer; parks at the end. */
function serve(address: string, total: number): void {
  const broker = transport.brokers.get(address)
  if (!broker) throw new Error(`no broker at ${address}`)
  broker.onPull = ({ request, reply }) => {
    if (request.offset >= total) return
    const base = Math.floor(request.offset / 10) * 10
    const pulled = { baseOffset: base, index: base + 1, storeTime: 5, startRecord: request.offset - base }
    const nextOffset = Math.min(total, base + 10)
    reply({
      batches: [{ ...pulled, batch: batchOf(nextOffset - base, base) }],
      nextOffset,
      maxOffset: total,
    })
  }
}

async function consumerOf(options: PullConsumerOptions = {}): Promise<PullConsumer> {
  const consumer = client.pullConsumer(options)
  await consumer.assign('T')
  return consumer
}

/** Reads until `count` messages came; time passes when nothing comes. */
async function read(consumer: PullConsumer, count: number, maxMessages = 1_000): Promise<readonly number[]> {
  const offsets: number[] = []
  for (let turn = 0; turn < 500 && offsets.length < count; turn++) {
    const batch = await consumer.poll({ maxMessages })
    if (batch) offsets.push(...batch.messages.map((message) => message.offset))
    else await clock.advance(20)
  }
  return offsets
}

/** Keeps what is committed on this broker, and answers nothing before `wait` is over. */
function keepCommits(address: string, wait: () => Promise<void> = async () => {}): readonly object[] {
  const kept: object[] = []
  transport.brokers.get(address)!.calls.set('CommitOffsets', async ({ seek, offsets }: Committed) => {
    kept.push(...offsets.map(({ offset }) => ({ offset, seek })))
    await wait()
    return { offsets: [] }
  })
  return kept
}

interface Committed {
  readonly seek: boolean
  readonly offsets: readonly { readonly offset: number }[]
}

test('a commit that is answered behind the end of its topic is none of the new one', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  broker.calls.set('FetchOffsets', () => ({ offsets: [] }))
  serve('a-n0:1', 10)
  let answer = (): void => {}
  const commits = keepCommits('a-n0:1', () => new Promise((resolve) => (answer = resolve)))
  const consumer = await consumerOf({ group: 'G' })
  expect(await read(consumer, 10)).toHaveLength(10)
  const committing = consumer.commit()
  await settle(30)
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 6))
  answer()
  await committing
  expect(await read(consumer, 10)).toHaveLength(10)
  const again = consumer.commit()
  await settle(30)
  answer()
  await again
  expect(commits).toEqual([
    { offset: 10, seek: false },
    { offset: 10, seek: true },
  ])
})

test('B5: a commit that came too late for its topic, and counted in the new one, is taken back by the next', async () => {
  transport.brokers.get('a-n0:1')!.calls.set('FetchOffsets', () => ({ offsets: [] }))
  serve('a-n0:1', 30)
  const commits = keepCommits('a-n0:1')
  const consumer = await consumerOf({ group: 'G' })
  expect(await read(consumer, 20)).toHaveLength(20)
  // The topic is another one by now, with as many messages, and nobody has told this consumer.
  await consumer.commit()
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 6))
  expect(await read(consumer, 10)).toHaveLength(10)
  await consumer.commit()
  expect(commits).toEqual([
    { offset: 20, seek: false },
    { offset: 10, seek: true },
  ])
})

test('what was committed in a queue before its topic was deleted is no commit when the queue comes back', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  broker.calls.set('FetchOffsets', () => ({ offsets: [] }))
  serve('a-n0:1', 10)
  const commits = keepCommits('a-n0:1')
  const consumer = await consumerOf({ group: 'G' })
  expect(await read(consumer, 10)).toHaveLength(10)
  await consumer.commit()
  // While it reads something else, the topic is created again: on another group first.
  const both = routeOf({ a: {}, b: {} }, { T: { b: 1 }, U: { b: 1 } }, 6)
  transport.route = both
  addBrokers(transport)
  for (const address of ['a-n0:1', 'b-n0:1'])
    transport.brokers.get(address)!.calls.set('FetchOffsets', () => ({ offsets: [] }))
  transport.pushRoute(both)
  await consumer.assign(['U'])
  await consumer.assign(['T'])
  serve('a-n0:1', 10)
  const later = keepCommits('a-n0:1')
  transport.pushRoute(routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 }, U: { b: 1 } }, 6))
  expect(await read(consumer, 10)).toHaveLength(10)
  await consumer.commit()
  await clock.advance(100)
  expect([...commits, ...later]).toEqual([
    { offset: 10, seek: false },
    { offset: 10, seek: false },
  ])
})

test('B5: a queue that becomes known during a replay may be moved back by it, too', async () => {
  transport.brokers.get('a-n0:1')!.calls.set('FetchOffsets', () => ({ offsets: [] }))
  const consumer = client.pullConsumer({ group: 'G' })
  await consumer.assign('T', { from: 'first' })
  transport.route = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } })
  addBrokers(transport)
  serve('b-n0:1', 10)
  const commits = keepCommits('b-n0:1')
  transport.pushRoute(transport.route)
  expect(await read(consumer, 10)).toHaveLength(10)
  await consumer.commit()
  expect(commits).toEqual([{ offset: 10, seek: true }])
})

test('an offset that was asked for before the topic was created again is no place to seek to in the new one', async () => {
  serve('a-n0:1', 30)
  let answer = (): void => {}
  const broker = transport.brokers.get('a-n0:1')!
  const consumer = await consumerOf()
  expect(await read(consumer, 10)).toHaveLength(10)
  broker.calls.set('QueryOffsets', async () => {
    await new Promise<void>((resolve) => (answer = resolve))
    return { minOffset: 0, maxOffset: 30, offset: 30 }
  })
  const seeking = consumer.seek(consumer.assignment()[0]!, 'end')
  await settle(30)
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 6))
  await settle(30)
  answer()
  await seeking
  expect((await read(consumer, 10)).slice(0, 1)).toEqual([0])
})
