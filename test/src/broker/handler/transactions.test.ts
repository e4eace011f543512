import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { checkBatch, readRecords } from '../../../../src/message/batch.ts'
import { readDelivery } from '../../../../src/message/extensions.ts'
import { transactionIdOf } from '../../../../src/message/transaction-id.ts'
import { codecs } from '../../../../src/message/types.ts'
import { brokerMethods } from '../../../../src/rpc/methods.ts'
import type { TransactionQuestion } from '../../../../src/rpc/transaction-messages.ts'
import { frameTypes } from '../../../../store/index.ts'
import type { TestSink } from '../../../support/memory-transport.ts'
import { StreamLog } from '../../../support/stream-log.ts'
import { carriedBatch, type HalfOptions, halfBatch } from '../apply/half-batches.ts'
import { type HandlerBench, openBench } from './support.ts'

const n1 = { node: 'n1', address: 'n1:1', term: 2 }

/** Stores a half batch behind the handlers' back. Returns the transaction ids. */
function half(bench: HandlerBench, options: HalfOptions = {}): readonly [string, ...string[]] {
  const applied = bench.replica.commit(frameTypes.batch, halfBatch(options))
  if (applied?.result.kind !== 'pending') throw new Error(`not stored: ${JSON.stringify(applied?.result)}`)
  const { index, storeTime } = applied.result
  const ids = (options.bodies ?? ['x']).map((_, record) => transactionIdOf({ index, record, storeTime }, 'g'))
  return ids as [string, ...string[]]
}

function end(bench: HandlerBench, transactionId: string, resolution: string, producerGroup = 'pg') {
  return bench.call(brokerMethods.endTransaction, { producerGroup, transactionId, resolution, fromCheck: false })
}

function delivered(bench: HandlerBench): number {
  return bench.replica.machine.queueRange(1, 0)?.max ?? 0
}

async function pulled(bench: HandlerBench) {
  const { batches } = await bench.pull().pull({ offset: 0 })
  return batches
}

async function openWithTopic(settings = {}, transport = {}): Promise<HandlerBench> {
  const bench = await openBench(settings, transport)
  bench.topic('t')
  return bench
}

test('a committed message comes to its queue as its producer sent it', async () => {
  const bench = await openWithTopic()
  const [, second] = half(bench, { bodies: ['a', 'b'.repeat(500), 'c'], codec: codecs.zlib })
  expect(await end(bench, second ?? '', 'commit')).toEqual({ outcome: 'committed' })
  const [batch] = await pulled(bench)
  if (!batch) throw new Error('nothing was delivered')
  const header = checkBatch(batch.batch)
  expect(header).toMatchObject({ topic: 't', queue: 0, recordCount: 1, bornHost: 'host-a', codec: codecs.zlib })
  expect(readDelivery(header)).toMatchObject({ kind: 'transaction', topicId: 1, sources: [{ index: 2, record: 1 }] })
  const [record] = readRecords(batch.batch)
  expect(record?.body.toString()).toBe('b'.repeat(500))
  expect(header.baseBornTime + (record?.bornDelta ?? 0)).toBe(1_700_000_000_010)
  expect(record).toMatchObject({ messageId: 'M1', tag: 'paid', keys: ['k'], flags: 7, properties: { region: 'eu' } })
  expect(bench.replica.machine.halves.pendingCount).toBe(2)
})

test('B3: a commit that is asked for again is a success and delivers nothing twice', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  await end(bench, id, 'commit')
  expect(await end(bench, id, 'commit')).toEqual({ outcome: 'committed' })
  expect(delivered(bench)).toBe(1)
  await expect(end(bench, id, 'rollback')).rejects.toMatchObject({ code: 'TRANSACTION_RESOLVED' })
})

test('a rollback is final and may be repeated', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  expect(await end(bench, id, 'rollback')).toEqual({ outcome: 'rolled_back' })
  expect(await end(bench, id, 'rollback')).toEqual({ outcome: 'rolled_back' })
  await expect(end(bench, id, 'commit')).rejects.toMatchObject({ code: 'TRANSACTION_RESOLVED' })
  expect(delivered(bench)).toBe(0)
})

test('another producer group ends nothing', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  await expect(end(bench, id, 'commit', 'other')).rejects.toMatchObject({ code: 'NO_PERMISSION' })
  await expect(end(bench, id, 'rollback', 'other')).rejects.toMatchObject({ code: 'NO_PERMISSION' })
  expect(bench.replica.machine.halves.pendingCount).toBe(1)
})

test('what is no transaction of this broker group is told apart', async () => {
  const bench = await openWithTopic()
  half(bench)
  const at = { index: 2, record: 0, storeTime: 1_000_003 }
  const found = bench.replica.machine.halves.find(at)
  expect(found?.storeTime).toBe(at.storeTime)
  const code = (expected: string) => ({ code: expected })
  await expect(end(bench, transactionIdOf(at, 'h'), 'commit')).rejects.toMatchObject(code('INVALID_PARAMETER'))
  await expect(end(bench, 'x', 'commit')).rejects.toMatchObject(code('INVALID_PARAMETER'))
  await expect(end(bench, transactionIdOf(at, 'g'), 'perhaps')).rejects.toMatchObject(code('INVALID_PARAMETER'))
  await expect(end(bench, transactionIdOf(at, 'g'), 'commit', '')).rejects.toMatchObject(code('INVALID_PARAMETER'))
  for (const other of [
    { ...at, index: 9 },
    { ...at, record: 5 },
    // The same index, but another half message: the end of the log was lost by force.
    { ...at, storeTime: at.storeTime + 1 },
  ])
    await expect(end(bench, transactionIdOf(other, 'g'), 'commit')).rejects.toMatchObject(code('TRANSACTION_NOT_FOUND'))
  expect(bench.replica.machine.halves.pendingCount).toBe(1)
})

test('that a transaction is unknown is said only by a leader that a quorum confirms', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  const unknown = transactionIdOf({ index: 99, record: 0, storeTime: 1 }, 'g')
  bench.replica.quorum = false
  await expect(end(bench, unknown, 'commit')).rejects.toMatchObject({ code: 'NO_QUORUM' })
  bench.replica.quorum = true
  bench.replica.follow(n1)
  await expect(end(bench, unknown, 'commit')).rejects.toMatchObject({ code: 'NOT_LEADER' })
  await expect(end(bench, id, 'commit')).rejects.toMatchObject({ code: 'NOT_LEADER' })
})

test('B3: of a commit and a rollback at the same time one wins, and the other is told', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  bench.replica.holdProposals = true
  const both = Promise.allSettled([end(bench, id, 'rollback'), end(bench, id, 'commit')])
  await new Promise((resolve) => setImmediate(resolve))
  bench.replica.commitHeld()
  const [rolledBack, committed] = await both
  expect(rolledBack).toMatchObject({ status: 'fulfilled', value: { outcome: 'rolled_back' } })
  expect(committed).toMatchObject({ status: 'rejected', reason: { code: 'TRANSACTION_RESOLVED' } })
  expect(delivered(bench)).toBe(0)
})

test('a topic that is deleted while its transaction is committed has rolled it back', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  bench.replica.holdProposals = true
  const committing = end(bench, id, 'commit')
  await new Promise((resolve) => setImmediate(resolve))
  bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'delete_topic', topic: 't' }))
  bench.replica.commitHeld()
  await expect(committing).rejects.toMatchObject({ code: 'TRANSACTION_RESOLVED' })
})

test('a half message is found where it was carried to, also while it is read', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench, { bodies: ['a'] })
  const { tinyLog } = bench.replica
  const at = bench.replica.machine.halves.find({ index: 2, record: 0 })?.atPosition ?? 0
  tinyLog.cold.add(at)
  const readAt = tinyLog.readAt.bind(tinyLog)
  tinyLog.readAt = (position) => {
    tinyLog.readAt = readAt
    const reading = readAt(position)
    // The read is under way: now its place is given up.
    bench.replica.commit(frameTypes.batch, carriedBatch([{ index: 2, record: 0 }], { bodies: ['a'] }))
    tinyLog.origin = { ...tinyLog.origin, position: at + 1 }
    return reading
  }
  expect(await end(bench, id, 'commit')).toEqual({ outcome: 'committed' })
  expect(tinyLog.readCount).toBe(1)
  expect(readRecords((await pulled(bench))[0]?.batch ?? Buffer.alloc(0))[0]?.body.toString()).toBe('a')
})

test('a half message that rotted on this replica is DATA_LOSS, and stays open', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  const at = bench.replica.machine.halves.find({ index: 2, record: 0 })?.atPosition ?? 0
  bench.replica.tinyLog.cold.add(at)
  bench.replica.tinyLog.rotten.add(at)
  await expect(end(bench, id, 'commit')).rejects.toMatchObject({ code: 'DATA_LOSS' })
  expect(bench.replica.machine.halves.pendingCount).toBe(1)
  expect(await end(bench, id, 'rollback')).toEqual({ outcome: 'rolled_back' })
})

test('a half message that lies before the beginning of the log is DATA_LOSS', async () => {
  const bench = await openWithTopic()
  const [id] = half(bench)
  const { tinyLog } = bench.replica
  const at = bench.replica.machine.halves.find({ index: 2, record: 0 })?.atPosition ?? 0
  tinyLog.cold.add(at)
  tinyLog.origin = { ...tinyLog.origin, position: at + 1 }
  await expect(end(bench, id, 'commit')).rejects.toMatchObject({ code: 'DATA_LOSS' })
})

test('a half message is acknowledged without an offset, and one with a delivery time is refused', async () => {
  const bench = await openWithTopic()
  const produce = bench.produce()
  expect(await produce.send(halfBatch({ producer: 1 }))).toMatchObject({ code: 0, index: 2, baseOffset: 0 })
  expect(await produce.send(halfBatch({ producer: 1 }))).toMatchObject({ code: 0, index: 2, duplicate: true })
  expect(await produce.send(halfBatch({ deliveryTime: 5 }))).toMatchObject({ code: 13 })
  expect(await produce.send(halfBatch({ group: 'a b' }))).toMatchObject({ code: 29 })
  expect(delivered(bench)).toBe(0)
})

class Watch {
  readonly log = new StreamLog<TransactionQuestion>()
  readonly sink: TestSink<{ producerGroup: string; clientId: string }>

  constructor(bench: HandlerBench, producerGroup = 'pg', clientId = 'c') {
    this.sink = bench.channel.open(brokerMethods.watchTransactions, this.log) as typeof this.sink
    this.sink.write({ producerGroup, clientId })
  }

  get ids(): readonly string[] {
    return this.log.messages.flatMap(({ transactions }) => transactions.map(({ transactionId }) => transactionId))
  }
}

/** Lets time pass for the leader's clock and for the log. */
async function pass(bench: HandlerBench, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1000) {
    bench.replica.passedMs += Math.min(1000, left)
    await bench.clock.advance(Math.min(1000, left))
  }
}

test('a producer is asked once a transaction is too old, and again after the interval', async () => {
  const bench = await openWithTopic()
  const watch = new Watch(bench)
  const stored = halfBatch({ bodies: ['a', 'b'] })
  const ids = half(bench, { bodies: ['a', 'b'] })
  await pass(bench, 5000)
  expect(watch.log.messages).toEqual([])
  await pass(bench, 3000)
  expect(watch.log.messages).toHaveLength(1)
  expect(watch.log.last).toMatchObject({
    topic: 't',
    queue: 0,
    transactions: [
      { transactionId: ids[0], record: 0, checks: 1 },
      { transactionId: ids[1], record: 1, checks: 1 },
    ],
  })
  expect(watch.log.last?.batch.equals(stored)).toBe(true)
  await end(bench, ids[0], 'commit')
  await pass(bench, 25_000)
  expect(watch.log.messages).toHaveLength(1)
  await pass(bench, 7000)
  expect(watch.log.messages).toHaveLength(2)
  expect(watch.log.last?.transactions).toEqual([{ transactionId: ids[1], record: 1, checks: 2 }])
})

test('the producers of a group are asked in turn, those of other groups never', async () => {
  const bench = await openWithTopic()
  const watches = [new Watch(bench), new Watch(bench), new Watch(bench, 'other')]
  for (let count = 0; count < 4; count++) half(bench)
  await pass(bench, 8000)
  expect(watches.map((watch) => watch.ids.length)).toEqual([2, 2, 0])
  expect(new Set(watches.flatMap((watch) => watch.ids)).size).toBe(4)
})

test('a producer that went away, or does not read, is not asked', async () => {
  const bench = await openWithTopic({ unreadMsMax: 600_000 }, { unreadMax: 1 })
  const gone = new Watch(bench)
  const deaf = new Watch(bench)
  const live = new Watch(bench)
  await pass(bench, 1000)
  gone.sink.cancel()
  deaf.sink.pauseReading(true)
  for (let count = 0; count < 6; count++) {
    half(bench)
    await pass(bench, 2000)
  }
  await pass(bench, 8000)
  expect(gone.ids).toEqual([])
  deaf.sink.pauseReading(false)
  await pass(bench, 1000)
  expect(deaf.ids).toHaveLength(1)
  expect(live.ids).toHaveLength(5)
})

test('a producer that does not read for too long is dropped', async () => {
  const bench = await openWithTopic({ unreadMsMax: 5000 }, { unreadMax: 1 })
  const deaf = new Watch(bench)
  await pass(bench, 1000)
  deaf.sink.pauseReading(true)
  for (let count = 0; count < 3; count++) half(bench)
  await pass(bench, 20_000)
  expect(await deaf.log.end()).toMatchObject({ code: 'OVERLOADED' })
})

test('a transaction that nobody answers for is rolled back after the last check, with an event', async () => {
  const transactions = { timeOutMs: 6000, checkIntervalMs: 10_000, checkMax: 3, watchersMax: 10 }
  const bench = await openWithTopic({ transactions })
  const watch = new Watch(bench)
  const [id] = half(bench)
  await pass(bench, 36_000)
  expect(watch.ids).toEqual([id, id, id])
  expect(bench.replica.machine.halves.pendingCount).toBe(1)
  await pass(bench, 4000)
  expect(bench.replica.machine.halves.pendingCount).toBe(0)
  const [event] = bench.events.since(0).filter(({ kind }) => kind === 'transactions_given_up')
  expect(event?.details).toEqual({
    producerGroup: 'pg',
    topic: 't',
    queue: '0',
    transactionId: id,
    checks: '3',
    count: '1',
  })
  await expect(end(bench, id, 'commit')).rejects.toMatchObject({ code: 'TRANSACTION_RESOLVED' })
  expect(delivered(bench)).toBe(0)
})

test('a transaction whose producers are all gone comes to its end, too', async () => {
  const transactions = { timeOutMs: 6000, checkIntervalMs: 10_000, checkMax: 3, watchersMax: 10 }
  const bench = await openWithTopic({ transactions })
  half(bench)
  await pass(bench, 40_000)
  expect(bench.replica.machine.halves.pendingCount).toBe(0)
})

test('a replica that does not lead asks nobody, and sends its producers to the leader', async () => {
  const bench = await openWithTopic()
  const watch = new Watch(bench)
  await pass(bench, 1000)
  half(bench)
  bench.replica.follow(n1)
  expect(await watch.log.end()).toMatchObject({ code: 'NOT_LEADER', facts: { leader: { node: 'n1' } } })
  expect(await new Watch(bench).log.end()).toMatchObject({ code: 'NOT_LEADER' })
  const { length } = bench.replica.proposals
  await pass(bench, 60_000)
  expect(bench.replica.proposals).toHaveLength(length)
  // A new leader begins from the state, with the count that is there.
  bench.replica.lead(3)
  const again = new Watch(bench)
  await pass(bench, 2000)
  expect(again.ids).toHaveLength(1)
})

test('a watch that is wrong, or one too many, is refused', async () => {
  const transactions = { timeOutMs: 6000, checkIntervalMs: 10_000, checkMax: 3, watchersMax: 1 }
  const bench = await openWithTopic({ transactions })
  expect(await new Watch(bench, 'a b').log.end()).toMatchObject({ code: 'INVALID_PARAMETER' })
  expect(await new Watch(bench, 'pg', 'x'.repeat(256)).log.end()).toMatchObject({ code: 'INVALID_PARAMETER' })
  const first = new Watch(bench)
  expect(await new Watch(bench).log.end()).toMatchObject({ code: 'OVERLOADED' })
  first.sink.write({ producerGroup: 'pg', clientId: 'c' })
  expect(await first.log.end()).toMatchObject({ code: 'INVALID_REQUEST' })
  const next = new Watch(bench)
  await pass(bench, 1000)
  expect(next.log.closed).toBe(false)
})
