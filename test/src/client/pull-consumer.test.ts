/** The pull consumer against scripted brokers: contiguity, choice of replica, bounds, errors. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import type { PullConsumer } from '../../../src/client/consumer/pull-consumer.ts'
import type { ClientStatus, PullConsumerOptions } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { errorTable, LedgerError } from '../../../src/common/errors.ts'
import { encodeBatch } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { addBrokers, type Pulled, routeOf, type ScriptedBroker, ScriptedTransport } from './scripted-transport.ts'

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
  expect(clock.timerCount).toBe(0)
})

const queue = { topic: 'T', group: 'a', queue: 0 }

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

function addresses(pulls: readonly Pulled[]): readonly string[] {
  return pulls.filter(({ request }) => !request.cancel).map(({ address }) => address)
}

test('B2: messages come without gap or repeat, also from the middle of a batch and in small bites', async () => {
  serve('a-n0:1', 45)
  const consumer = await consumerOf()
  expect(await read(consumer, 20, 3)).toEqual(Array.from({ length: 20 }, (_, offset) => offset))
  await consumer.seek(queue, 33)
  expect(await read(consumer, 12)).toEqual(Array.from({ length: 12 }, (_, index) => 33 + index))
  expect(consumer.position(queue)).toBe(45)
})

test('messages are decoded with what the log says about them', async () => {
  serve('a-n0:1', 10)
  const consumer = await consumerOf()
  await settle(30)
  const batch = await consumer.poll()
  expect(batch).toMatchObject({ firstOffset: 0, count: 10, nextOffset: 10, storeTime: 5, queue })
  expect(batch?.replica).toEqual({ node: 'a-n0', appliedIndex: 7, commitIndex: 9 })
  expect(batch?.messages[3]).toMatchObject({ topic: 'T', offset: 3, messageId: 'id3', storeTime: 5, bornTime: 1_000 })
  expect(batch?.messages[3]?.body.toString()).toBe('message 3')
})

test('B2: a gap is a loud error and stays one until a seek', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  broker.onPull = ({ request, reply }) =>
    request.offset === 0 &&
    reply({
      batches: [{ baseOffset: 3, index: 1, storeTime: 1, startRecord: 0, batch: batchOf(2, 3) }],
      nextOffset: 5,
    })
  const consumer = await consumerOf()
  await settle(30)
  await expect(consumer.poll()).rejects.toMatchObject({ code: 'DATA_LOSS' })
  await expect(consumer.poll()).rejects.toThrow(/B2: .*must go on at 0/)
  serve('a-n0:1', 10)
  await consumer.seek(queue, 0)
  expect(await read(consumer, 10)).toHaveLength(10)
})

test('B2: a batch of another queue, or an answer that continues elsewhere, is refused', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  broker.onPull = ({ reply }) => reply({ nextOffset: 4 })
  const consumer = await consumerOf()
  await settle(30)
  await expect(consumer.poll()).rejects.toMatchObject({ code: 'DATA_LOSS' })
  broker.onPull = ({ reply }) =>
    reply({
      batches: [{ baseOffset: 0, index: 1, storeTime: 1, startRecord: 0, batch: batchOf(2, 0, 7) }],
      nextOffset: 2,
    })
  await consumer.seek(queue, 0)
  await settle(30)
  await expect(consumer.poll()).rejects.toMatchObject({ code: 'DATA_LOSS' })
})

test('P8: what one replica has lost is read from another; what all have lost is an error, until a seek', async () => {
  for (const node of ['n0', 'n1', 'n2']) serve(`a-${node}:1`, 20)
  const lose = (node: string, lost: number): void => {
    const broker = transport.brokers.get(`a-${node}:1`)!
    const { onPull } = broker
    broker.onPull = (pull) => {
      if (pull.request.offset === lost) pull.reply(new LedgerError('DATA_LOSS', 'body checksum'))
      else onPull(pull)
    }
  }
  for (const node of ['n0', 'n1']) lose(node, 0)
  for (const node of ['n0', 'n1', 'n2']) lose(node, 10)
  const consumer = await consumerOf()
  expect(await read(consumer, 10)).toHaveLength(10)
  await clock.advance(1_000)
  await expect(consumer.poll()).rejects.toMatchObject({ code: 'DATA_LOSS' })
  await expect(consumer.poll()).rejects.toThrow(/none of the 3 replicas can read T\/a\/0 at offset 10/)
  await consumer.seek(queue, 15)
  expect(await read(consumer, 5)).toEqual([15, 16, 17, 18, 19])
})

test('P8: a named replica that has lost the message is an error, for no other may be asked', async () => {
  serve('a-n0:1', 10)
  transport.brokers.get('a-n1:1')!.onPull = ({ reply }) => reply(new LedgerError('DATA_LOSS', 'body checksum'))
  const consumer = await consumerOf({ readFrom: { node: 'a-n1' } })
  await clock.advance(1_000)
  await expect(consumer.poll()).rejects.toMatchObject({ code: 'DATA_LOSS' })
})

test('the leader is gone: any replica serves, and the leader is read again when there is one', async () => {
  for (const node of ['n0', 'n1', 'n2']) serve(`a-${node}:1`, 40)
  const consumer = await consumerOf({ prefetchBytesPerQueue: 1 })
  await read(consumer, 10)
  transport.brokers.get('a-n0:1')!.up = false
  transport.brokers.get('a-n0:1')!.breakStreams()
  await settle(20)
  expect(await read(consumer, 10)).toHaveLength(10)
  expect(addresses(transport.pulled).at(-1)).toMatch(/a-n[12]:1/)
  transport.pushRoute(routeOf({ a: { term: 2, leader: 'a-n2' } }, { T: { a: 1 } }))
  await read(consumer, 20)
  expect(addresses(transport.pulled).at(-1)).toBe('a-n2:1')
  expect(consumer.position(queue)).toBe(40)
})

test('a parked pull moves to the new leader at once', async () => {
  const consumer = await consumerOf()
  await settle(30)
  expect(addresses(transport.pulled)).toEqual(['a-n0:1'])
  transport.pushRoute(routeOf({ a: { term: 2, leader: 'a-n1' } }, { T: { a: 1 } }))
  await settle(30)
  expect(addresses(transport.pulled)).toEqual(['a-n0:1', 'a-n1:1'])
  expect(transport.pulled.some(({ request, address }) => request.cancel && address === 'a-n0:1')).toBe(true)
  await consumer.close()
})

test('readFrom: followers, a named node, or whom the leader suggests', async () => {
  const suggesting = transport.brokers.get('a-n0:1')!
  serve('a-n1:1', 20)
  serve('a-n2:1', 20)
  expect(await read(await consumerOf({ readFrom: 'follower' }), 20)).toHaveLength(20)
  expect(new Set(addresses(transport.pulled))).toEqual(new Set(['a-n1:1']))
  transport.pulled.length = 0
  expect(await read(await consumerOf({ readFrom: { node: 'a-n2' } }), 20)).toHaveLength(20)
  expect(new Set(addresses(transport.pulled))).toEqual(new Set(['a-n2:1']))
  transport.pulled.length = 0
  suggesting.onPull = ({ request, reply }) =>
    reply({
      suggestedNode: 'a-n2',
      batches: [{ baseOffset: 0, index: 1, storeTime: 1, startRecord: request.offset, batch: batchOf(10, 0) }],
      nextOffset: 10,
    })
  expect(await read(await consumerOf({ readFrom: 'suggested' }), 20)).toHaveLength(20)
  expect(addresses(transport.pulled).slice(0, 2)).toEqual(['a-n0:1', 'a-n2:1'])
})

test('starting at the first message: an offset below the minimum jumps to it, but only at the start', async () => {
  let minOffset = 20
  transport.brokers.get('a-n0:1')!.onPull = ({ request, reply }) => {
    if (request.offset < minOffset) reply(new LedgerError('PULL_OFFSET_MOVED', 'gone', { minOffset, maxOffset: 30 }))
    else if (request.offset < 30)
      reply({
        batches: [{ baseOffset: 20, index: 1, storeTime: 1, startRecord: 0, batch: batchOf(10, 20) }],
        nextOffset: 30,
      })
  }
  const consumer = await consumerOf()
  expect(await read(consumer, 10)).toEqual(Array.from({ length: 10 }, (_, index) => 20 + index))
  minOffset = 50
  await consumer.seek(queue, 25)
  await settle(30)
  await expect(consumer.poll()).rejects.toMatchObject({ code: 'PULL_OFFSET_MOVED', facts: { minOffset: 50 } })
})

test('reading ahead is bounded per queue and in all', async () => {
  serve('a-n0:1', 1_000)
  await consumerOf({ prefetchBytesPerQueue: 2_000 })
  await settle(200)
  const pulls = transport.pulled.length
  expect(pulls).toBeLessThan(8)
  await settle(50)
  expect(transport.pulled.length).toBe(pulls)
})

test('P8: a queue that nobody serves is reported, and reported again when it goes on', async () => {
  const statuses: ClientStatus[] = []
  const stop = new AbortController()
  const watching = (async () => {
    for await (const status of client.status({ signal: stop.signal })) statuses.push(status)
  })()
  for (const broker of transport.brokers.values()) broker.up = false
  const consumer = await consumerOf()
  await clock.advance(5_000)
  expect(statuses.filter(({ kind }) => kind === 'stalled')).toMatchObject([{ what: 'consumer', where: 'T/a/0' }])
  for (const broker of transport.brokers.values()) broker.up = true
  serve('a-n0:1', 10)
  expect(await read(consumer, 10)).toHaveLength(10)
  expect(statuses.some(({ kind }) => kind === 'resumed')).toBe(true)
  stop.abort()
  await watching
})

test('commit sends positions to the leader of each group, and a seek back says so', async () => {
  const commits: unknown[] = []
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('FetchOffsets', () => ({ offsets: [{ topic: 'T', queue: 0, offset: 10 }] }))
  leader.calls.set('CommitOffsets', (request) => {
    commits.push(request)
    return { offsets: [] }
  })
  serve('a-n0:1', 30)
  const consumer = await consumerOf({ group: 'G' })
  expect(consumer.position(queue)).toBe(10)
  await read(consumer, 10)
  await consumer.commit()
  await consumer.commit()
  await consumer.seek(queue, 5)
  await consumer.commit()
  const shared = { group: 'G', member: '', generation: 0 }
  expect(commits).toEqual([
    { ...shared, seek: false, offsets: [{ topic: 'T', queue: 0, offset: 20 }] },
    { ...shared, seek: true, offsets: [{ topic: 'T', queue: 0, offset: 5 }] },
  ])
})

test('B5: a seek during a commit is still a seek for the next commit, also when that fails once', async () => {
  const seeks: boolean[] = []
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('FetchOffsets', () => ({ offsets: [{ topic: 'T', queue: 0, offset: 10 }] }))
  serve('a-n0:1', 30)
  const consumer = await consumerOf({ group: 'G' })
  leader.calls.set('CommitOffsets', (request) => {
    seeks.push((request as { readonly seek: boolean }).seek)
    if (seeks.length === 1) void consumer.seek(queue, 5)
    if (seeks.length === 2) throw new LedgerError('INVALID_PARAMETER', 'refused once')
    return { offsets: [] }
  })
  await read(consumer, 10)
  await consumer.commit()
  await expect(consumer.commit()).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await consumer.commit()
  await read(consumer, 5)
  await consumer.commit()
  expect(seeks).toEqual([false, true, true, false])
})

test('batches() ends without an error when the signal aborts, poll() throws', async () => {
  const consumer = await consumerOf()
  const stop = new AbortController()
  const loop = (async () => {
    for await (const batch of consumer.batches({ signal: stop.signal })) void batch
  })()
  const poll = consumer.poll({ waitMs: 60_000, signal: stop.signal })
  poll.catch(() => {})
  await settle(10)
  stop.abort()
  await loop
  await expect(poll).rejects.toMatchObject({ code: 'ABORTED' })
})

test('a topic that was deleted and created again is read from its beginning', async () => {
  serve('a-n0:1', 20)
  const consumer = await consumerOf()
  await read(consumer, 20)
  const broker = transport.brokers.get('a-n0:1')!
  broker.breakStreams()
  const old = broker.onPull
  broker.onPull = (pulled) =>
    pulled.request.topicId === 5 ? pulled.reply(new LedgerError('TOPIC_ID_CHANGED', 'it is 8 now')) : old(pulled)
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 8))
  expect(await read(consumer, 20)).toEqual(Array.from({ length: 20 }, (_, offset) => offset))
})

test('a topic that was created again under a smaller id, behind a recovery by force, is read from its beginning', async () => {
  serve('a-n0:1', 20)
  const consumer = await consumerOf()
  await read(consumer, 20)
  const broker = transport.brokers.get('a-n0:1')!
  const serveNew = broker.onPull
  broker.onPull = (pulled) =>
    pulled.request.topicId === 5 ? pulled.reply(new LedgerError('TOPIC_ID_CHANGED', 'it is 4 now')) : serveNew(pulled)
  broker.breakStreams()
  // Told late by a namesrv, a smaller id of the same incarnation is that of a topic before.
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 4))
  expect(await consumer.poll({ waitMs: 0 })).toBe(null)
  const { topics, groups } = routeOf({ a: {} }, { T: { a: 1 } }, 4)
  transport.pushRoute({ version: 2, topics, groups: groups.map((group) => ({ ...group, incarnation: 'recovered' })) })
  expect(await read(consumer, 20)).toEqual(Array.from({ length: 20 }, (_, offset) => offset))
})

/** A replica that has applied `appliedIndex` and has `total` messages. Counts nothing else. */
function replicaAt(address: string, state: { appliedIndex: number; total: number }): void {
  const broker = transport.brokers.get(address)
  if (!broker) throw new Error(`no broker at ${address}`)
  broker.onPull = ({ request, reply }) => {
    if (request.afterIndex > state.appliedIndex) {
      reply({ code: errorTable.REPLICA_BEHIND.number })
      return
    }
    const { appliedIndex, total } = state
    const end = { appliedIndex, nextOffset: Math.max(request.offset, total), maxOffset: total }
    if (request.offset >= total) {
      if (request.waitMs === 0) reply({ ...end, batches: [] })
      return
    }
    const pulled = { baseOffset: request.offset, index: 1, storeTime: 5, startRecord: 0 }
    reply({ ...end, batches: [{ ...pulled, batch: batchOf(total - request.offset, request.offset) }] })
  }
}

test('a poll after an own write is not answered from a replica that has not applied it', async () => {
  replicaAt('a-n0:1', { appliedIndex: 20, total: 3 })
  const follower = { appliedIndex: 10, total: 2 }
  replicaAt('a-n1:1', follower)
  replicaAt('a-n2:1', follower)
  const consumer = await consumerOf({ readFrom: 'follower' })
  expect(await read(consumer, 2)).toEqual([0, 1])
  expect(await consumer.poll()).toBeNull()

  const polled = consumer.poll({ after: { queue, index: 20 } })
  await clock.advance(50)

  expect((await polled)?.messages.map((message) => message.offset)).toEqual([2])
})

test('a poll after an own write says "nothing" as soon as the queue was read to its end', async () => {
  const leader = { appliedIndex: 10, total: 0 }
  replicaAt('a-n0:1', leader)
  const consumer = await consumerOf()
  await settle(30)
  leader.appliedIndex = 20
  const polled = consumer.poll({ after: [{ queue, index: 20 }] })
  await settle(30)
  expect(await polled).toBeNull()
})

test('a write that no replica has applied in time is an error, not an empty answer', async () => {
  for (const address of ['a-n0:1', 'a-n1:1', 'a-n2:1']) replicaAt(address, { appliedIndex: 10, total: 0 })
  const consumer = await consumerOf()
  const polled = consumer.poll({ after: { queue, index: 11 } })
  const failure = expect(polled).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  for (let step = 0; step < 110; step++) await clock.advance(100)
  await failure
})

test('polls after an own write go on to the end of the queue, however small the answers', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  broker.onPull = ({ request, reply }) => {
    const base = { appliedIndex: 20, maxOffset: 3 }
    if (request.offset === 3) return request.waitMs === 0 && reply({ ...base, nextOffset: 3, batches: [] })
    const pulled = { baseOffset: request.offset, index: 1, storeTime: 5, startRecord: 0 }
    reply({ ...base, nextOffset: request.offset + 1, batches: [{ ...pulled, batch: batchOf(1, request.offset) }] })
  }
  const consumer = await consumerOf()
  const offsets: number[] = []
  const after = { queue, index: 20 }
  for (let batch = await consumer.poll({ after }); batch; batch = await consumer.poll({ after })) {
    offsets.push(batch.firstOffset)
  }
  expect(offsets).toEqual([0, 1, 2])
})

test('a queue that becomes known later goes on behind what the group has committed there', async () => {
  serve('a-n0:1', 10)
  const fetched = (offset: number) => () => ({ offsets: [{ topic: 'T', queue: 0, offset }] })
  transport.brokers.get('a-n0:1')!.calls.set('FetchOffsets', fetched(10))
  const consumer = await consumerOf({ group: 'G' })
  transport.route = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } })
  addBrokers(transport)
  serve('b-n0:1', 30)
  let refusals = 1
  transport.brokers.get('b-n0:1')!.calls.set('FetchOffsets', () => {
    if (refusals-- > 0) throw new LedgerError('SUBSCRIPTION_GROUP_NOT_EXIST', 'not yet')
    return fetched(20)()
  })
  transport.pushRoute(transport.route)
  transport.pushRoute(transport.route)
  expect(await read(consumer, 10)).toEqual(Array.from({ length: 10 }, (_, index) => 20 + index))
  expect(consumer.assignment()).toHaveLength(2)
})

/** Nothing is committed yet; what is from now on is noted. */
function noteCommits(broker: ScriptedBroker): readonly unknown[] {
  const commits: unknown[] = []
  broker.calls.set('FetchOffsets', () => ({ offsets: [{ topic: 'T', queue: 0 }] }))
  broker.calls.set('CommitOffsets', (request) => {
    commits.push((request as { readonly offsets: unknown }).offsets)
    return { offsets: [] }
  })
  return commits
}

test('B5: the offset committed last in a deleted topic is committed in the one created again, too', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  const commits = noteCommits(broker)
  serve('a-n0:1', 20)
  const consumer = await consumerOf({ group: 'G' })
  await read(consumer, 20)
  await consumer.commit()
  const old = broker.onPull
  broker.onPull = (pulled) =>
    pulled.request.topicId === 5 ? pulled.reply(new LedgerError('TOPIC_ID_CHANGED', 'it is 8 now')) : old(pulled)
  broker.breakStreams()
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 8))
  await read(consumer, 20)
  await consumer.commit()
  expect(commits).toEqual([[{ topic: 'T', queue: 0, offset: 20 }], [{ topic: 'T', queue: 0, offset: 20 }]])
})

test('B5: what was read ahead of a deleted topic is not committed in the one created again', async () => {
  const commits = noteCommits(transport.brokers.get('a-n0:1')!)
  serve('a-n0:1', 30)
  // With one batch in hand it asks for no more.
  const consumer = await consumerOf({ group: 'G', prefetchBytesPerQueue: 1 })
  await read(consumer, 10)
  await consumer.commit()
  await settle(10)
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 8))
  await consumer.poll()
  await consumer.commit()
  expect(commits).toEqual([[{ topic: 'T', queue: 0, offset: 10 }]])
  expect(await read(consumer, 30)).toEqual(Array.from({ length: 30 }, (_, offset) => offset))
})

test('an offset that was committed in a topic before it was created again is no start in the new one', async () => {
  const broker = transport.brokers.get('a-n0:1')!
  broker.calls.set('FetchOffsets', () => {
    // The answer is on its way when the topic goes and comes back.
    transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 } }, 6))
    return { offsets: [{ topic: 'T', queue: 0, offset: 10 }] }
  })
  serve('a-n0:1', 20)
  const serveNew = broker.onPull
  broker.onPull = (pulled) => {
    if (pulled.request.topicId === 6) serveNew(pulled)
    else pulled.reply(new LedgerError('TOPIC_ID_CHANGED', 'it has id 6'))
  }
  const consumer = await consumerOf({ group: 'G' })
  expect(await read(consumer, 20)).toEqual(Array.from({ length: 20 }, (_, index) => index))
})

test('a topic that is gone when its queues become known does not hold back those of another one', async () => {
  transport.pushRoute(routeOf({ a: {} }, { T: { a: 1 }, U: { a: 1 } }))
  const offsetsOf = ({ queues }: { readonly queues: readonly { readonly topic: string }[] }): unknown => {
    if (queues.some(({ topic }) => topic === 'U')) throw new LedgerError('TOPIC_NOT_EXIST', 'topic U does not exist')
    return { offsets: [] }
  }
  transport.brokers.get('a-n0:1')!.calls.set('FetchOffsets', () => ({ offsets: [] }))
  const consumer = client.pullConsumer({ group: 'G' })
  await consumer.assign(['T', 'U'])
  transport.route = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 }, U: { a: 1, b: 1 } })
  addBrokers(transport)
  serve('b-n0:1', 10)
  transport.brokers.get('b-n0:1')!.calls.set('FetchOffsets', offsetsOf)
  transport.pushRoute(transport.route)
  expect(await read(consumer, 10)).toHaveLength(10)
})

test('queues that are gone before they could be taken up do not hold back those that are left', async () => {
  transport.brokers.get('a-n0:1')!.calls.set('FetchOffsets', () => ({ offsets: [] }))
  const consumer = await consumerOf({ group: 'G' })
  transport.route = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 8 } })
  addBrokers(transport)
  serve('b-n0:1', 10)
  transport.brokers.get('b-n0:1')!.calls.set('FetchOffsets', ({ queues }: { readonly queues: readonly unknown[] }) => {
    if (queues.length > 1) throw new LedgerError('INVALID_PARAMETER', 'queue 7 does not exist')
    return { offsets: [] }
  })
  transport.pushRoute(transport.route)
  expect(await read(consumer, 1)).toEqual([])
  // Deleted, and created again with fewer queues.
  transport.pushRoute(routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } }))
  expect(await read(consumer, 10)).toHaveLength(10)
})
