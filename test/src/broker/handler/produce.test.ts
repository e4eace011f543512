import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import { encodeBatch } from '../../../../src/message/batch.ts'
import { batchKinds, codecs } from '../../../../src/message/types.ts'
import { frameTypes } from '../../../../store/index.ts'
import { settle } from '../../../support/manual-clock.ts'
import { makeBatch } from '../apply/support.ts'
import { openBench } from './support.ts'

const n1 = { node: 'n1', address: 'n1:1', term: 2 }

test('a batch is stored and acknowledged with offset, index and term', async () => {
  const bench = await openBench()
  bench.topic('t')
  const produce = bench.produce()
  expect(await produce.send(makeBatch({ topic: 't', records: 3 }))).toMatchObject({
    code: 0,
    baseOffset: 0,
    index: 2,
    term: 1,
    duplicate: false,
    status: null,
  })
  expect(await produce.send(makeBatch({ topic: 't' }))).toMatchObject({ code: 0, baseOffset: 3, index: 3 })
})

test('B3: a batch that is sent again is answered with its first offset and index', async () => {
  const bench = await openBench()
  bench.topic('t')
  const produce = bench.produce()
  const batch = makeBatch({ topic: 't', producer: 7, first: true, sequence: 0 })
  const first = await produce.send(batch)
  await produce.send(makeBatch({ topic: 't' }))
  const again = await produce.send(batch)
  expect(again).toMatchObject({ code: 0, baseOffset: 0, index: first.index, duplicate: true })
  expect(bench.replica.machine.queueRange(1, 0)).toEqual({ min: 0, max: 2 })
})

test('replies that are ready in one turn leave in one message', async () => {
  const bench = await openBench()
  bench.topic('t')
  const produce = bench.produce()
  for (let count = 0; count < 50; count++) produce.start(makeBatch({ topic: 't' }))
  await produce.reply(50)
  expect(produce.replies).toHaveLength(50)
  expect(produce.log.messages.length).toBeLessThan(5)
})

test.each([
  ['a flipped byte in the body', (batch: Buffer) => batch.fill(batch[batch.length - 1]! ^ 1, batch.length - 1), 13],
  ['a wrong magic', (batch: Buffer) => batch.fill(0, 0, 1), 13],
  ['a cut end', (batch: Buffer) => batch.subarray(0, batch.length - 1), 13],
  ['nothing at all', () => Buffer.alloc(0), 13],
  ['more bytes than any message may have', () => Buffer.alloc(4 * 1024 * 1024 + 64 * 1024 + 1), 13],
])('a batch with %s is refused, nothing is proposed, the stream lives', async (_what, spoil, code) => {
  const bench = await openBench()
  bench.topic('t')
  const produce = bench.produce()
  const reply = await produce.send(spoil(makeBatch({ topic: 't' })))
  expect(reply).toMatchObject({ code, status: { code } })
  expect(bench.replica.proposals).toEqual([])
  expect(await produce.send(makeBatch({ topic: 't' }))).toMatchObject({ code: 0 })
})

test.each(['__proto__', 'constructor', 'rmq_sys_x', 'RMQ_SYS_X', 'toString'])(
  'a batch for the reserved topic %j is refused with 29',
  async (topic) => {
    const bench = await openBench()
    expect(await bench.produce().send(makeBatch({ topic }))).toMatchObject({ code: 29 })
    expect(bench.replica.proposals).toEqual([])
  },
)

test.each(['half', 'internal', 'delayed'] as const)('a batch of kind %s is not for clients to send', async (kind) => {
  const bench = await openBench()
  bench.topic('t')
  const batch = encodeBatch({
    codec: codecs.none,
    kind: batchKinds[kind],
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 0,
    topic: 't',
    queue: 0,
    bornHost: '',
    extensions: [],
    records: [
      {
        bornDelta: 0,
        messageId: 'm',
        tag: '',
        keys: [],
        messageGroup: '',
        deliveryTime: kind === 'delayed' ? 1 : 0,
        attempt: 0,
        origin: null,
        flags: 0,
        traceParent: '',
        properties: {},
        body: Buffer.from('x'),
      },
    ],
  })
  expect(await bench.produce().send(batch)).toMatchObject({ code: 13 })
  expect(bench.replica.proposals).toEqual([])
})

test('a body beyond the limit of the group is refused with 13; the limit may be set and lifted', async () => {
  const bench = await openBench()
  bench.topic('t')
  const produce = bench.produce()
  const limit = (bodyBytesMax: number): void => {
    bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'set_limits', limits: { bodyBytesMax } }))
  }
  limit(100)
  expect(await produce.send(makeBatch({ topic: 't', body: 'x'.repeat(101) }))).toMatchObject({ code: 13 })
  expect(await produce.send(makeBatch({ topic: 't', records: 3, body: 'x'.repeat(100) }))).toMatchObject({ code: 0 })
  limit(101)
  expect(await produce.send(makeBatch({ topic: 't', body: 'x'.repeat(101) }))).toMatchObject({ code: 0 })
})

test('unknown topics, missing permission and missing queues are response codes', async () => {
  const bench = await openBench()
  bench.topic('t', 2)
  bench.topic('closed', 1, 4)
  const produce = bench.produce()
  expect(await produce.send(makeBatch({ topic: 'unknown' }))).toMatchObject({ code: 17 })
  expect(await produce.send(makeBatch({ topic: 'closed' }))).toMatchObject({ code: 16 })
  expect(await produce.send(makeBatch({ topic: 't', queue: 2 }))).toMatchObject({ code: 29 })
  expect(bench.replica.proposals).toEqual([])
})

test('a follower answers NOT_LEADER with the leader and its term, whatever it knows of the topic', async () => {
  const bench = await openBench()
  bench.replica.follow(n1)
  expect(await bench.produce().send(makeBatch({ topic: 'new' }))).toMatchObject({
    code: 501,
    status: { leaderNode: 'n1', leaderAddress: 'n1:1', term: 2 },
  })
})

test('a leader that was deposed without knowing does not tell that a topic does not exist', async () => {
  const bench = await openBench()
  bench.replica.quorum = false
  expect(await bench.produce().send(makeBatch({ topic: 'new' }))).toMatchObject({ code: 12 })
})

test.each([
  ['NO_QUORUM', 12],
  ['DISK_FULL', 502],
  ['OUTCOME_UNKNOWN', 10],
  ['ROLLED_BACK', 506],
  ['DEADLINE_EXCEEDED', 607],
] as const)('%s of the replica reaches the client as code %i', async (error, code) => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.proposeError = new LedgerError(error, 'why', { retryAfterMs: 7 })
  const reply = await bench.produce().send(makeBatch({ topic: 't' }))
  expect(reply).toMatchObject({ code, status: { message: 'why', retryAfterMs: 7 } })
})

test('the time of a request is passed on, with a default and a limit', async () => {
  const bench = await openBench()
  bench.topic('t')
  const produce = bench.produce()
  for (const timeoutMs of [1234, 0, 0xffff_ffff]) await produce.send(makeBatch({ topic: 't' }), timeoutMs)
  expect(bench.replica.proposals.map(({ options }) => options.timeoutMs)).toEqual([1234, 3000, 60_000])
})

test('requests and bytes in flight are bounded: FLOW_CONTROL with a time to come back', async () => {
  const bench = await openBench({ produceRequestsMax: 3, produceBytesMax: 10_000 })
  bench.topic('t')
  bench.replica.holdProposals = true
  const produce = bench.produce()
  const held = [1, 2, 3].map(() => produce.start(makeBatch({ topic: 't' })))
  expect(await produce.send(makeBatch({ topic: 't' }))).toMatchObject({ code: 215, status: { retryAfterMs: 50 } })
  bench.replica.commitHeld()
  for (const id of held) expect(await produce.reply(id)).toMatchObject({ code: 0 })

  bench.replica.holdProposals = true
  const large = produce.start(makeBatch({ topic: 't', body: 'x'.repeat(20_000) }))
  expect(await produce.send(makeBatch({ topic: 't' }))).toMatchObject({ code: 215 })
  bench.replica.commitHeld()
  expect(await produce.reply(large)).toMatchObject({ code: 0 })
})

test('a client that does not read its replies is cut off after 30 s, others are not', async () => {
  const bench = await openBench({}, { unreadMax: 2 })
  bench.topic('t')
  const deaf = bench.produce()
  deaf.pauseReading(true)
  for (let count = 0; count < 5; count++) {
    deaf.start(makeBatch({ topic: 't' }))
    await settle()
  }
  await bench.clock.advance(29_000)
  expect(deaf.log.closed).toBe(false)
  await bench.clock.advance(1001)
  expect((await deaf.log.end())?.code).toBe('OVERLOADED')
  expect(await bench.produce().send(makeBatch({ topic: 't' }))).toMatchObject({ code: 0 })
})

test('a client that floods without reading is cut off at once', async () => {
  const bench = await openBench({ produceRequestsMax: 4 }, { unreadMax: 2 })
  const deaf = bench.produce()
  deaf.pauseReading(true)
  for (let count = 0; count < 100; count++) {
    deaf.start(Buffer.alloc(1))
    if (count < 20) await settle(1)
  }
  expect((await deaf.log.end())?.code).toBe('OVERLOADED')
})

test('replies wait for a client that pauses, and all arrive', async () => {
  const bench = await openBench({}, { unreadMax: 2 })
  bench.topic('t')
  const produce = bench.produce()
  produce.pauseReading(true)
  for (let count = 0; count < 30; count++) {
    produce.start(makeBatch({ topic: 't' }))
    await settle(1)
  }
  await bench.clock.advance(20_000)
  produce.pauseReading(false)
  await produce.reply(30)
  expect(produce.replies.map((reply) => reply.code)).toEqual(Array.from({ length: 30 }, () => 0))
})

test('a broken stream ends its waits, not what is proposed', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.holdProposals = true
  const produce = bench.produce()
  produce.start(makeBatch({ topic: 't' }))
  await settle()
  const signal = bench.replica.proposals[0]?.options.signal
  expect(signal?.aborted).toBe(false)
  produce.sink.cancel()
  await settle()
  expect(signal?.aborted).toBe(true)
})

test('a client that half-closes still gets the replies to what it sent', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.holdProposals = true
  const produce = bench.produce()
  const id = produce.start(makeBatch({ topic: 't' }))
  produce.sink.end()
  await settle()
  expect(produce.log.closed).toBe(false)
  bench.replica.commitHeld()
  expect(await produce.reply(id)).toMatchObject({ code: 0 })
  expect(await produce.log.end()).toBeUndefined()
})

test('garbage in place of an envelope ends this stream with INVALID_REQUEST', async () => {
  const bench = await openBench()
  const produce = bench.produce()
  produce.sink.write(Buffer.from('7fffffffffffffff', 'hex'))
  expect((await produce.log.end())?.code).toBe('INVALID_REQUEST')
})
