import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { leaderAbsenceMs } from '../../../../src/broker/handler/leader-absence.ts'
import { behindWaitMsMax } from '../../../../src/broker/handler/pull.ts'
import { errorTable, LedgerError } from '../../../../src/common/errors.ts'
import { readRecords } from '../../../../src/message/batch.ts'
import type { PullReply } from '../../../../src/rpc/envelopes.ts'
import { frameTypes, StoreError } from '../../../../store/index.ts'
import { settle } from '../../../support/manual-clock.ts'
import { makeBatch } from '../apply/support.ts'
import { openBench } from './support.ts'

const n1 = { node: 'n1', address: 'n1:1', term: 2 }

function bodies(reply: PullReply): readonly string[] {
  return reply.batches.flatMap(({ batch, startRecord }) =>
    readRecords(batch, startRecord).map((record) => record.body.toString()),
  )
}

test('a pull returns the stored batches as they lie, with how far this replica is', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  bench.send({ topic: 't', records: 3, body: 'a' })
  bench.send({ topic: 't', queue: 1, body: 'other queue' })
  bench.send({ topic: 't', records: 2, body: 'b' })

  const reply = await bench.pull().pull({ topicId })

  expect(bodies(reply)).toEqual(['a', 'a', 'a', 'b', 'b'])
  expect(reply).toMatchObject({ code: 0, nextOffset: 5, minOffset: 0, maxOffset: 5, topicId, suggestedNode: '' })
  expect(reply).toMatchObject({ appliedIndex: 4, commitIndex: 4, appliedTime: bench.replica.machine.appliedTime })
  expect(reply.batches.map(({ baseOffset, index }) => [baseOffset, index])).toEqual([
    [0, 2],
    [3, 4],
  ])
})

test('a pull into the middle of a batch returns it whole with the record to start at', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't', records: 3 })
  const reply = await bench.pull().pull({ offset: 2 })
  expect(reply.batches).toMatchObject([{ baseOffset: 0, startRecord: 2 }])
  expect(reply.nextOffset).toBe(3)
})

test('the answer ends at the bytes asked for, but holds at least one batch', async () => {
  const bench = await openBench()
  bench.topic('t')
  for (let count = 0; count < 3; count++) bench.send({ topic: 't', body: 'x'.repeat(1000) })
  const pull = bench.pull()
  expect((await pull.pull({ bytesMax: 0 })).batches).toHaveLength(1)
  expect((await pull.pull({ bytesMax: 2500 })).batches).toHaveLength(2)
  expect((await pull.pull({ bytesMax: 0xffff_ffff })).batches).toHaveLength(3)
})

test('one answer never holds more than its limit of batches and bytes', async () => {
  const bench = await openBench()
  bench.topic('t')
  for (let count = 0; count < 1100; count++) bench.send({ topic: 't' })
  for (let count = 0; count < 6; count++) bench.send({ topic: 't', queue: 1, body: 'x'.repeat(1024 * 1024) })
  const pull = bench.pull()
  expect((await pull.pull({ bytesMax: 0xffff_ffff })).batches).toHaveLength(1024)
  expect((await pull.pull({ bytesMax: 0xffff_ffff, queue: 1 })).batches).toHaveLength(3)
})

test.each(['leader', 'follower'])('a parked pull on a %s is woken by apply and answered once', async (role) => {
  const bench = await openBench()
  bench.topic('t')
  if (role === 'follower') bench.replica.follow(n1)
  const pull = bench.pull()
  const id = pull.start({ waitMs: 15_000 })
  const other = pull.start({ queue: 1, waitMs: 15_000 })
  await settle()
  expect(pull.replies).toEqual([])

  bench.send({ topic: 't', body: 'one' })
  bench.send({ topic: 't', body: 'two' })

  expect(bodies(await pull.reply(id))).toEqual(['one', 'two'])
  expect(pull.answer(other)).toBeUndefined()
  await bench.clock.advance(15_000)
  expect(pull.replies).toHaveLength(2)
})

test('a parked pull is answered empty when its wait is over, and no wait is longer than 30 s', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't' })
  const pull = bench.pull()
  const short = pull.start({ offset: 1, waitMs: 5000 })
  const long = pull.start({ offset: 1, waitMs: 0xffff_ffff })
  await bench.clock.advance(4999)
  expect(pull.replies).toEqual([])
  await bench.clock.advance(1)
  expect(await pull.reply(short)).toMatchObject({ code: 0, nextOffset: 1, maxOffset: 1, batches: [] })
  await bench.clock.advance(25_000)
  expect(pull.answer(long)).toMatchObject({ code: 0, batches: [] })
})

test('a pull that waits for nothing is answered at once', async () => {
  const bench = await openBench()
  bench.topic('t')
  expect(await bench.pull().pull({ waitMs: 0 })).toMatchObject({ code: 0, nextOffset: 0, batches: [] })
})

test('a withdrawn pull is never answered, and its id may be used again', async () => {
  const bench = await openBench()
  bench.topic('t')
  const timers = bench.clock.timerCount
  const pull = bench.pull()
  const id = pull.start({ waitMs: 15_000 })
  await settle()
  expect(bench.clock.timerCount).toBe(timers + 1)
  pull.cancel(id)
  pull.cancel(999)
  await settle()
  expect(bench.clock.timerCount).toBe(timers)
  bench.send({ topic: 't' })
  await bench.clock.advance(20_000)
  expect(pull.replies).toEqual([])
  expect((await pull.pull({ requestId: id })).batches).toHaveLength(1)
})

test('B4: a follower serves what it has applied, not what it knows to be committed', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't', body: 'applied' })
  bench.replica.follow(n1)
  bench.replica.holdApply = true
  bench.send({ topic: 't', body: 'committed' })
  const pull = bench.pull()
  const reply = await pull.pull({})
  expect(bodies(reply)).toEqual(['applied'])
  expect(reply).toMatchObject({ maxOffset: 1, appliedIndex: 2, commitIndex: 3 })

  const waiting = pull.start({ offset: 1, waitMs: 1000 })
  await settle()
  bench.replica.applyHeld()
  expect(bodies(await pull.reply(waiting))).toEqual(['committed'])
})

test('an offset below the queue is moved, beyond its end too when a quorum confirms the leader', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't' })
  const reply = await bench.pull().pull({ offset: 7, waitMs: 10_000 })
  expect(reply).toMatchObject({ code: 21, minOffset: 0, maxOffset: 1, status: { minOffset: 0, maxOffset: 1 } })
  expect(bench.replica.quorumRounds).toBe(1)
})

test('beyond its end a follower waits, then answers empty with how far it is', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.follow(n1)
  const pull = bench.pull()
  const id = pull.start({ offset: 2, waitMs: 3000 })
  await settle()
  bench.send({ topic: 't' })
  await bench.clock.advance(2999)
  expect(pull.replies).toEqual([])
  await bench.clock.advance(1)
  expect(await pull.reply(id)).toMatchObject({ code: 0, batches: [], nextOffset: 2, maxOffset: 1 })
})

test('P8: a replica that follows no leader for long sends those away who wait there for messages', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  bench.send({ topic: 't' })
  bench.replica.follow(n1)
  const pull = bench.pull()
  const parked = pull.start({ topicId, offset: 1, waitMs: 20_000 })
  bench.replica.follow(null)
  await bench.clock.advance(leaderAbsenceMs - 1)
  // An election in time is no reason to go.
  bench.replica.follow(n1)
  bench.replica.follow(null)
  await bench.clock.advance(leaderAbsenceMs - 1)
  expect(pull.replies).toEqual([])
  await bench.clock.advance(1)
  const refused = { code: errorTable.NOT_LEADER.number, status: { message: expect.stringContaining('no leader') } }
  expect(pull.replies).toMatchObject([{ requestId: parked, ...refused }])
  // What it has it gives; who comes later waits no longer than for a replica that is behind.
  expect((await pull.pull({ topicId })).nextOffset).toBe(1)
  const late = pull.start({ topicId, offset: 1, waitMs: 20_000 })
  await bench.clock.advance(behindWaitMsMax - 1)
  expect(pull.replies).toHaveLength(2)
  await bench.clock.advance(1)
  expect(pull.replies.at(-1)).toMatchObject({ requestId: late, ...refused })
  bench.replica.follow(n1)
  pull.start({ topicId, offset: 1, waitMs: 2000 })
  await bench.clock.advance(2000)
  expect(pull.replies.at(-1)).toMatchObject({ code: 0, nextOffset: 1 })
})

test('a leader that was deposed without knowing tells nobody that messages or topics do not exist', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.quorum = false
  const pull = bench.pull()
  expect(await pull.pull({ offset: 5, waitMs: 0 })).toMatchObject({ code: 0, nextOffset: 5, batches: [] })
  expect(await pull.pull({ topic: 'new' })).toMatchObject({ code: 12 })
})

test('what is applied while a leader asks in vain for its quorum is not slept over', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.readCurrent = async () => {
    for (const body of ['one', 'two']) bench.send({ topic: 't', body })
    throw new LedgerError('NO_QUORUM', 'no majority answers')
  }
  const pull = bench.pull()
  expect(bodies(await pull.pull({ offset: 1, waitMs: 15_000 }))).toEqual(['two'])
})

test('a follower that has not come to the topic yet sends the reader to the leader', async () => {
  const bench = await openBench()
  bench.replica.follow(n1)
  const pull = bench.pull()
  expect(await pull.pull({ topic: 'new', topicId: 99 })).toMatchObject({
    code: 501,
    status: { leaderNode: 'n1', leaderAddress: 'n1:1' },
  })
  expect(await pull.pull({ topic: 'new' })).toMatchObject({ code: 17 })
})

test('what a topic allows is not for a replica to say that may be behind: a queue that it does not know may be new', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.topic('closed', 1, 2)
  bench.replica.follow(n1)
  const pull = bench.pull()
  const elsewhere = { code: 501, status: { leaderNode: 'n1' } }
  expect(await pull.pull({ queue: 2 })).toMatchObject(elsewhere)
  expect(await pull.pull({ topic: 'closed' })).toMatchObject(elsewhere)
})

test('a leader that was deposed without knowing does not speak of queues and permissions', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.topic('closed', 1, 2)
  bench.replica.quorum = false
  const pull = bench.pull()
  expect(await pull.pull({ queue: 2 })).toMatchObject({ code: 12 })
  expect(await pull.pull({ topic: 'closed' })).toMatchObject({ code: 12 })
})

test('unknown topics, other ids, missing permission and missing queues are response codes', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  bench.topic('closed', 1, 2)
  const pull = bench.pull()
  expect(await pull.pull({ topic: 'unknown' })).toMatchObject({ code: 17 })
  expect(await pull.pull({ topicId: topicId + 1000 })).toMatchObject({ code: 508 })
  expect(await pull.pull({ topic: 'closed' })).toMatchObject({ code: 16 })
  expect(await pull.pull({ queue: 2 })).toMatchObject({ code: 29 })
  expect(pull.log.closed).toBe(false)
})

test.each(['../x', '', 'x'.repeat(128), '__proto__', 'constructor', 'rmq_sys_x', '%RETRY%g', 'a\u0000b'])(
  'a pull of the illegal topic %j is refused with 29',
  async (topic) => {
    const bench = await openBench()
    expect(await bench.pull().pull({ topic })).toMatchObject({ code: 29 })
  },
)

test('a topic deleted and created again is another one for those who wait for it', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  const pull = bench.pull()
  const id = pull.start({ topicId, waitMs: 10_000 })
  await settle()
  bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'delete_topic', topic: 't' }))
  bench.topic('t')
  expect(await pull.reply(id)).toMatchObject({ code: 508 })
})

test('S3: rot is answered with DATA_LOSS, never with bytes; what lies before it is served', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't', body: 'good' })
  const rotten = bench.replica.tinyLog.endPosition
  bench.send({ topic: 't', body: 'rotten' })
  bench.replica.tinyLog.cold.add(rotten)
  bench.replica.tinyLog.rotten.add(rotten)
  const pull = bench.pull()
  expect(bodies(await pull.pull({}))).toEqual(['good'])
  expect(await pull.pull({ offset: 1 })).toMatchObject({ code: 507, batches: [] })
})

test('P8: what lies before the log of a replica, which was copied from behind lost entries, is told as lost there', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't', body: 'before' })
  const { tinyLog } = bench.replica
  const position = tinyLog.endPosition
  bench.send({ topic: 't', body: 'behind' })
  for (const before of tinyLog.frames.keys()) if (before < position) tinyLog.cold.add(before)
  tinyLog.origin = { position, index: 2, term: 1 }
  const pull = bench.pull()
  expect(await pull.pull({ offset: 0 })).toMatchObject({ code: errorTable.DATA_LOSS.number, batches: [] })
  expect(bodies(await pull.pull({ offset: 1 }))).toEqual(['behind'])
})

test('a read that is overtaken by a trim is answered with where the queue begins now', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  const { tinyLog } = bench.replica
  tinyLog.cold.add(tinyLog.endPosition)
  bench.send({ topic: 't', body: 'old' })
  bench.send({ topic: 't', body: 'new' })
  const queues = [{ topicId, queue: 0, minOffset: 1 }]
  tinyLog.readAt = async () => {
    bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'trim', firstIndex: 3, queues }))
    throw new StoreError('OUT_OF_RANGE', 'position 0 was trimmed')
  }
  const pull = bench.pull()

  const moved = await pull.pull({ offset: 0 })

  expect(moved).toMatchObject({ code: errorTable.PULL_OFFSET_MOVED.number, minOffset: 1, maxOffset: 2 })
  expect(bodies(await pull.pull({ offset: 1 }))).toEqual(['new'])
})

test('a reader far behind is sent to a follower that has caught up, on the leader only', async () => {
  const bench = await openBench({ tailCacheBytes: 10_000 })
  bench.topic('t')
  for (let count = 0; count < 8; count++) bench.send({ topic: 't', body: 'x'.repeat(1000) })
  const peer = { raftAddress: '', state: 'replicate' }
  bench.peers.push(
    { ...peer, node: 'n1', matchIndex: 0, connected: true },
    { ...peer, node: 'n2', matchIndex: bench.replica.commitIndex, connected: true },
    { ...peer, node: 'n3', matchIndex: bench.replica.commitIndex, connected: false },
  )
  const pull = bench.pull()
  expect((await pull.pull({ bytesMax: 0 })).suggestedNode).toBe('n2')
  expect((await pull.pull({ offset: 7 })).suggestedNode).toBe('')
  bench.replica.tinyLog.cold.add([...bench.replica.tinyLog.frames.keys()].at(-1) ?? 0)
  expect((await pull.pull({ offset: 7 })).suggestedNode).toBe('n2')
  bench.replica.follow(n1)
  expect((await pull.pull({ bytesMax: 0 })).suggestedNode).toBe('')
})

test('pulls beyond the limit of a stream get FLOW_CONTROL, the others go on', async () => {
  const bench = await openBench({ pullsPerStreamMax: 3 })
  bench.topic('t')
  const pull = bench.pull()
  const parked = [1, 2, 3].map(() => pull.start({ waitMs: 10_000 }))
  const refused = await pull.pull({ waitMs: 10_000 })
  expect(refused).toMatchObject({ code: 215, status: { retryAfterMs: 50 } })
  bench.send({ topic: 't' })
  for (const id of parked) expect((await pull.reply(id)).batches).toHaveLength(1)
})

test('pulls that wait are limited over all streams', async () => {
  const bench = await openBench({ parkedPullsMax: 2 })
  bench.topic('t')
  bench.pull().start({ waitMs: 10_000 })
  const second = bench.pull()
  second.start({ waitMs: 10_000 })
  expect(await second.pull({ waitMs: 10_000 })).toMatchObject({ code: 215 })
  expect(await second.pull({ waitMs: 0 })).toMatchObject({ code: 0 })
})

test('a request id that is still in flight is refused', async () => {
  const bench = await openBench()
  bench.topic('t')
  const pull = bench.pull()
  pull.start({ requestId: 5, waitMs: 10_000 })
  expect(await pull.pull({ requestId: 5, waitMs: 10_000 })).toMatchObject({ code: 29 })
})

test('a client that does not read is served no further and cut off after 30 s', async () => {
  const bench = await openBench({}, { unreadMax: 3 })
  bench.topic('t')
  bench.send({ topic: 't' })
  bench.replica.tinyLog.cold.add([...bench.replica.tinyLog.frames.keys()].at(-1) ?? 0)
  const pull = bench.pull()
  const honest = bench.pull()
  pull.pauseReading(true)
  for (let count = 0; count < 200; count++) pull.start({})
  await bench.clock.advance(29_000)
  expect(bench.replica.tinyLog.readCount).toBeLessThan(10)
  expect((await honest.pull({})).batches).toHaveLength(1)
  expect(pull.log.closed).toBe(false)
  await bench.clock.advance(1001)
  expect((await pull.log.end())?.code).toBe('OVERLOADED')
  expect(honest.log.closed).toBe(false)
})

test('a client that reads again after a pause gets everything', async () => {
  const bench = await openBench({}, { unreadMax: 3 })
  bench.topic('t')
  bench.send({ topic: 't' })
  const pull = bench.pull()
  pull.pauseReading(true)
  const ids = Array.from({ length: 50 }, () => pull.start({}))
  await bench.clock.advance(10_000)
  pull.pauseReading(false)
  for (const id of ids) await pull.reply(id)
  await bench.clock.advance(60_000)
  expect(pull.log.closed).toBe(false)
  expect(pull.replies).toHaveLength(50)
})

test('a client that floods without reading is cut off at once', async () => {
  const bench = await openBench({ pullsPerStreamMax: 2 }, { unreadMax: 3 })
  bench.topic('t')
  const pull = bench.pull()
  pull.pauseReading(true)
  for (let count = 0; count < 3000; count++) pull.start({ waitMs: 10_000 })
  expect((await pull.log.end())?.code).toBe('OVERLOADED')
})

test.each([
  ['topicId', 4],
  ['queue', 5],
  ['offset', 6],
  ['bytesMax', 7],
  ['waitMs', 8],
])('a negative %s, as other clients encode it, is refused with 29 and the stream lives', async (field, number) => {
  const bench = await openBench()
  bench.topic('t')
  const pull = bench.pull()
  const minusOne = Buffer.from('ffffffffffffffffff01', 'hex')
  pull.sink.write(Buffer.concat([Buffer.from([8, 77, 0x1a, 1, 0x74, number * 8]), minusOne]))
  const reply = await pull.reply(77)
  expect(reply).toMatchObject({ code: 29 })
  expect(reply.status?.message).toContain(field)
  expect(await pull.pull({})).toMatchObject({ code: 0 })
})

test('garbage in place of an envelope ends this stream with INVALID_REQUEST, and no other', async () => {
  const bench = await openBench()
  bench.topic('t')
  const pull = bench.pull()
  const honest = bench.pull()
  honest.start({ waitMs: 10_000 })
  pull.sink.write(Buffer.from('ffffffffffffff', 'hex'))
  expect((await pull.log.end())?.code).toBe('INVALID_REQUEST')
  bench.send({ topic: 't' })
  expect((await honest.reply(1)).batches).toHaveLength(1)
})

test('a stream that ends takes its waiting pulls along', async () => {
  const bench = await openBench()
  bench.topic('t')
  const before = bench.clock.timerCount
  const ended = bench.pull()
  const broken = bench.pull()
  for (const pull of [ended, broken]) for (let count = 0; count < 5; count++) pull.start({ waitMs: 10_000 })
  await settle()
  expect(bench.clock.timerCount).toBe(before + 10)
  ended.sink.end()
  broken.sink.cancel()
  expect(await ended.log.end()).toBeUndefined()
  await settle()
  expect(bench.clock.timerCount).toBe(before)
})

test('a pull that must see a write waits until this replica has applied it', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.follow(n1)
  const pull = bench.pull()
  const write = bench.replica.appliedIndex + 2
  const id = pull.start({ afterIndex: write })
  bench.send({ topic: 't', body: 'older' })
  await settle()
  expect(pull.answer(id)).toBeUndefined()

  bench.send({ topic: 't', body: 'own' })

  expect(bodies(await pull.reply(id))).toEqual(['older', 'own'])
  expect(pull.answer(id)?.appliedIndex).toBe(write)
})

test('a pull that must see a write looks again when a replica answers that has come further by a copy', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.follow(n1)
  const pull = bench.pull()
  const { machine, tinyLog } = bench.replica
  const index = machine.appliedIndex + 1
  const id = pull.start({ afterIndex: index })
  await settle()
  const body = makeBatch({ topic: 't', body: 'copied' })
  const entry = { index, term: 1, type: frameTypes.batch, storeTime: machine.appliedTime, body }
  const { position } = tinyLog.append(entry).header
  // Nobody is told of entries that came with a state.
  machine.apply({ ...entry, position })
  expect(pull.answer(id)).toBeUndefined()

  bench.handlers.renewed?.()

  expect(bodies(await pull.reply(id))).toEqual(['copied'])
})

test('P8: a replica that has ended, and that nothing new comes to, sends its readers away', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.follow(n1)
  const pull = bench.pull()
  const parked = pull.start({ waitMs: 30_000 })
  await settle()
  expect(pull.answer(parked)).toBeUndefined()

  bench.replica.end()

  const code = errorTable.SERVICE_NOT_AVAILABLE.number
  expect(await pull.reply(parked)).toMatchObject({ code, batches: [] })
  expect(await pull.pull({ waitMs: 30_000 })).toMatchObject({ code, batches: [] })
})

test('P8: a replica that ends while a quorum is asked about a pull does not keep it', async () => {
  const bench = await openBench()
  bench.topic('t')
  const pull = bench.pull()
  bench.replica.readCurrent = async () => {
    bench.replica.end()
    throw new LedgerError('SERVICE_NOT_AVAILABLE', 'this replica stopped')
  }
  const id = pull.start({ offset: 7, waitMs: 30_000 })
  expect(await pull.reply(id)).toMatchObject({ code: errorTable.SERVICE_NOT_AVAILABLE.number })
})

test('P8: a topic that is created again while a quorum is asked about a pull does not keep it', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  const pull = bench.pull()
  bench.replica.readCurrent = async () => {
    bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'delete_topic', topic: 't' }))
    bench.topic('t')
    throw new LedgerError('NO_QUORUM', 'no majority answers')
  }
  const id = pull.start({ topicId, offset: 7, waitMs: 30_000 })
  expect(await pull.reply(id)).toMatchObject({ code: errorTable.TOPIC_ID_CHANGED.number })
})

test('a replica that stays behind says so after its wait, and never answers with less', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't', body: 'older' })
  const pull = bench.pull()
  const id = pull.start({ afterIndex: 1000, waitMs: 30_000 })
  await bench.clock.advance(behindWaitMsMax - 1)
  expect(pull.replies).toEqual([])

  await bench.clock.advance(1)

  const reply = await pull.reply(id)
  expect(reply).toMatchObject({ code: errorTable.REPLICA_BEHIND.number, batches: [] })
  expect(reply.status?.message).toContain('has applied 2, the reader asks for 1000')
})

test('a withdrawn pull that waited for a write is never answered', async () => {
  const bench = await openBench()
  bench.topic('t')
  const pull = bench.pull()
  const id = pull.start({ afterIndex: bench.replica.appliedIndex + 1 })
  await settle()
  pull.cancel(id)
  await settle()
  bench.send({ topic: 't' })
  await bench.clock.advance(2 * behindWaitMsMax)
  expect(pull.replies).toEqual([])
})
