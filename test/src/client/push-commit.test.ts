/** What a push consumer commits, against a scripted broker: in requests that it takes, and what one refusal costs. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { encodeBatch } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

interface Commit {
  readonly offsets: readonly { readonly queue: number; readonly offset: number }[]
}

let clock: ManualClock
let transport: ScriptedTransport
let client: Client

beforeEach(async () => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
})

afterEach(async () => {
  const closing = client.close()
  await clock.advance(1_000)
  await closing
})

/** A member that owns all `count` queues, in each of which there is one message. */
async function startWith(count: number): Promise<void> {
  transport.route = routeOf({ a: {} }, { T: { a: count } })
  addBrokers(transport)
  const queues = Array.from({ length: count }, (_, queue) => ({ topic: 'T', queue }))
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('GroupHeartbeat', () => ({ generation: 1, queues, intervalMs: 3_000 }))
  leader.calls.set('LeaveGroup', () => ({}))
  leader.calls.set('FetchOffsets', (request: { readonly queues: readonly unknown[] }) => {
    if (request.queues.length > 4096) throw new LedgerError('INVALID_PARAMETER', 'too many queues')
    return { offsets: request.queues }
  })
  leader.onPull = ({ request, reply }) => {
    if (request.offset > 0) return
    const pulled = { baseOffset: 0, index: 1, storeTime: 5, startRecord: 0, batch: batchOf(request.queue) }
    reply({ batches: [pulled], nextOffset: 1, maxOffset: 1 })
  }
  client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
}

function batchOf(queue: number): Buffer {
  const { record } = buildRecord({ topic: 'T', body: 'x' }, { messageId: 'id' })
  const producer = {
    codec: 0,
    kind: 0,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
  } as const
  const born = { baseSequence: 0, baseBornTime: 1_000, bornHost: '', extensions: [] }
  return encodeBatch({ ...producer, ...born, topic: 'T', queue, records: [record] })
}

test('a queue whose commit is refused does not hold back the commits of the others', async () => {
  await startWith(5)
  const committed = new Set<number>()
  transport.brokers.get('a-n0:1')!.calls.set('CommitOffsets', ({ offsets }: Commit) => {
    if (offsets.some(({ queue }) => queue === 3)) throw new LedgerError('INVALID_PARAMETER', 'queue 3 ends at 0')
    for (const { queue } of offsets) committed.add(queue)
    return { offsets: [] }
  })
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'] })
  void consumer.run(() => {})
  for (let turn = 0; turn < 100 && committed.size < 4; turn++) await clock.advance(100)
  expect([...committed].sort()).toEqual([0, 1, 2, 4])
})

test('what is tried again in parts is committed in the generation that it was consumed in', async () => {
  await startWith(2)
  const leader = transport.brokers.get('a-n0:1')!
  const commits: { readonly generation: number; readonly queues: readonly number[] }[] = []
  let answer = (): void => {}
  leader.calls.set('CommitOffsets', async ({ generation, offsets }: Commit & { readonly generation: number }) => {
    commits.push({ generation, queues: offsets.map(({ queue }) => queue) })
    if (commits.length === 2) await new Promise<void>((resolve) => (answer = resolve))
    throw new LedgerError('INVALID_PARAMETER', 'the topic is gone')
  })
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'] })
  void consumer.run(() => {})
  for (let turn = 0; turn < 100 && commits.length < 2; turn++) await clock.advance(100)
  // Meanwhile the topic is created again, and the new one has messages at the old offsets.
  const queues = [0, 1].map((queue) => ({ topic: 'T', queue }))
  let isTaken = false
  leader.calls.set('QueryOffsets', () => {
    isTaken = true
    return { minOffset: 0, maxOffset: 9, topicId: 6 }
  })
  leader.onPull = () => {}
  leader.calls.set('GroupHeartbeat', () => ({ generation: 2, queues, intervalMs: 3_000 }))
  for (let turn = 0; turn < 100 && !isTaken; turn++) await clock.advance(100)
  await clock.advance(100)
  answer()
  for (let turn = 0; turn < 20; turn++) await clock.advance(100)
  expect(commits.slice(0, 3)).toEqual([
    { generation: 1, queues: [0, 1] },
    { generation: 1, queues: [0] },
    { generation: 1, queues: [1] },
  ])
  expect(commits.filter(({ generation }) => generation === 2)).toEqual([])
})

test('a member of more queues than a request may name takes all of them over and commits', async () => {
  await startWith(5_000)
  const committed = new Set<number>()
  transport.brokers.get('a-n0:1')!.calls.set('CommitOffsets', ({ offsets }: Commit) => {
    if (offsets.length > 4096) throw new LedgerError('INVALID_PARAMETER', 'too many queues')
    for (const { queue } of offsets) committed.add(queue)
    return { offsets: [] }
  })
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'] })
  void consumer.run(() => {})
  for (let turn = 0; turn < 100 && committed.size < 5_000; turn++) await clock.advance(100)
  expect(committed.size).toBe(5_000)
})

test('a queue that ends before what was consumed is read on from what the group has committed', async () => {
  await startWith(1)
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('CommitOffsets', () => {
    throw new LedgerError('NO_QUORUM', 'not now')
  })
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'] })
  const seen: number[] = []
  void consumer.run(({ offset }) => {
    seen.push(offset)
  })
  for (let turn = 0; turn < 20 && seen.length < 1; turn++) await clock.advance(100)
  // A recovery by force has lost the message; then another one is stored at its offset.
  const serve = leader.onPull
  let isLost = true
  leader.onPull = (pulled) => {
    if (isLost) pulled.reply(new LedgerError('PULL_OFFSET_MOVED', 'it ends at 0', { minOffset: 0, maxOffset: 0 }))
    else serve(pulled)
    isLost = false
  }
  leader.breakStreams()
  for (let turn = 0; turn < 200 && seen.length < 2; turn++) await clock.advance(100)
  expect(seen).toEqual([0, 0])
})

test('a queue that has grown again behind a recovery by force is read on from what the group has committed', async () => {
  await startWith(1)
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('CommitOffsets', () => {
    throw new LedgerError('NO_QUORUM', 'not now')
  })
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'] })
  const seen: number[] = []
  void consumer.run(({ offset }) => {
    seen.push(offset)
  })
  for (let turn = 0; turn < 20 && seen.length < 1; turn++) await clock.advance(100)
  // The message is lost, and others are stored at its offset and behind it before this member asks again.
  leader.onPull = ({ request: { offset }, reply }) => {
    if (offset > 1) return
    const pulled = { baseOffset: offset, index: 5 + offset, storeTime: 5, startRecord: 0, batch: batchOf(0) }
    reply({ batches: [pulled], nextOffset: offset + 1, maxOffset: 2 })
  }
  leader.breakStreams()
  const { groups, ...route } = transport.route
  transport.pushRoute({ ...route, groups: groups.map((group) => ({ ...group, incarnation: 'recovered', term: 2 })) })
  for (let turn = 0; turn < 50 && seen.length < 3; turn++) await clock.advance(100)
  expect(seen).toEqual([0, 0, 1])
})

test('an offset that was committed in a topic before it was created again is no start in the new one', async () => {
  await startWith(1)
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('CommitOffsets', () => ({ offsets: [] }))
  leader.calls.set('FetchOffsets', () => {
    // The answer is on its way when the topic goes and comes back.
    transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 6))
    return { offsets: [{ topic: 'T', queue: 0, offset: 3 }] }
  })
  leader.onPull = ({ request: { topicId, offset }, reply }) => {
    if (topicId !== 6) reply(new LedgerError('TOPIC_ID_CHANGED', 'it has id 6'))
    else if (offset < 5) {
      const pulled = { baseOffset: offset, index: 9 + offset, storeTime: 5, startRecord: 0, batch: batchOf(0) }
      reply({ batches: [pulled], nextOffset: offset + 1, maxOffset: 5 })
    }
  }
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'] })
  const seen: number[] = []
  void consumer.run(({ offset }) => {
    seen.push(offset)
  })
  for (let turn = 0; turn < 50 && !seen.includes(4); turn++) await clock.advance(100)
  expect(seen).toEqual([0, 1, 2, 3, 4])
})

test('a member that closes while its topic is created again commits nothing of the old one in the new one', async () => {
  await startWith(1)
  const leader = transport.brokers.get('a-n0:1')!
  const commits: number[] = []
  leader.calls.set('CommitOffsets', ({ generation }: { readonly generation: number }) => {
    commits.push(generation)
    return { offsets: [] }
  })
  leader.onPull = ({ request: { offset }, reply }) => {
    if (offset > 1) return
    const pulled = { baseOffset: offset, index: 1 + offset, storeTime: 5, startRecord: 0, batch: batchOf(0) }
    reply({ batches: [pulled], nextOffset: offset + 1, maxOffset: 2 })
  }
  const consumer = client.pushConsumer({ group: 'G', subscribe: ['T'], commitIntervalMs: 600_000 })
  let finish = (): void => {}
  const seen: number[] = []
  const ended = consumer.run(({ offset }) => {
    seen.push(offset)
    return offset === 0 ? undefined : new Promise<void>((resolve) => (finish = resolve))
  })
  for (let turn = 0; turn < 50 && seen.length < 2; turn++) await clock.advance(100)
  let tell = (): void => {}
  let isAsked = false
  leader.calls.set('QueryOffsets', async () => {
    isAsked = true
    await new Promise<void>((resolve) => (tell = resolve))
    return { minOffset: 0, maxOffset: 9, topicId: 6 }
  })
  const queues = [{ topic: 'T', queue: 0 }]
  leader.calls.set('GroupHeartbeat', () => ({ generation: 2, queues, intervalMs: 3_000 }))
  for (let turn = 0; turn < 50 && !isAsked; turn++) await clock.advance(100)
  const closing = consumer.close()
  tell()
  await clock.advance(100)
  finish()
  await clock.advance(100)
  await closing
  await ended
  expect(seen).toEqual([0, 1])
  expect(commits).toEqual([])
})
