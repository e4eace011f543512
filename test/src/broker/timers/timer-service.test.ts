/** The leader delivers what is due: on time, all of it, and whatever stands in the way. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import { frameTypes } from '../../../../store/index.ts'
import { settle } from '../../../support/manual-clock.ts'
import { TimerBench } from './support.ts'

let bench: TimerBench
let topicId: number

beforeEach(async () => {
  bench = await TimerBench.open()
  topicId = bench.topic('t', 8)
})

afterEach(() => bench.service.close())

function bodies(records: readonly { readonly record: { readonly body: Buffer } }[]): readonly string[] {
  return records.map(({ record }) => record.body.toString())
}

describe('on time', () => {
  test('each message goes within 100 ms of its time, never before, and looks as it was sent', async () => {
    bench.service.start()
    const index = bench.delay([500, 40, 1730], { body: 'hello' })
    await bench.pass(2000)
    const delivered = await bench.delivered(topicId)
    expect(delivered.map(({ record }) => record.messageId)).toEqual(['M1', 'M0', 'M2'])
    for (const { record, at, bornTime } of delivered) {
      expect(record.deliveryTime).toBeLessThanOrEqual(at)
      expect(at - record.deliveryTime).toBeLessThanOrEqual(100)
      expect(record.body.toString()).toBe('hello')
      expect(bornTime).toBe(1_700_000_000_000)
    }
    expect(index).toBe(2)
    expect(bench.replica.machine.timers.pending).toBe(0)
  })

  test('a message that is due before all others is not kept waiting by them', async () => {
    bench.service.start()
    bench.delay([60_000])
    await bench.pass(300)
    bench.delay([50], { body: 'sooner' })
    await bench.pass(70)
    expect(bodies(await bench.delivered(topicId))).toEqual(['sooner'])
  })

  test('what is due already goes at once, without time passing', async () => {
    bench.service.start()
    bench.delay([-1000], { queue: 3 })
    await bench.clock.advance(1)
    expect(await bench.delivered(topicId, 3)).toHaveLength(1)
  })

  test('nothing is read or proposed while nothing is due', async () => {
    bench.service.start()
    bench.delay([3_600_000])
    await bench.pass(500)
    const { readCount } = bench.replica.tinyLog
    await bench.pass(3000)
    expect(bench.replica.proposals).toEqual([])
    expect(bench.replica.tinyLog.readCount).toBe(readCount)
    for (const timer of [{ time: 0, index: 0, record: 0 }]) expect(await bench.delivered(timer.index)).toEqual([])
  })
})

describe('a new leader', () => {
  test('delivers all that is overdue, and a queue with little does not wait for one with much', async () => {
    bench.replica.follow({ node: 'n1', address: 'n1:1', term: 1 })
    bench.service.start()
    for (let number = 0; number < 6; number++)
      bench.delay(
        Array.from({ length: 1000 }, () => 1),
        { body: `many${number}` },
      )
    bench.delay([2], { queue: 1, body: 'one' })
    await bench.pass(5000)
    expect(bench.replica.proposals).toEqual([])
    bench.replica.lead(2)
    for (let round = 0; (await bench.delivered(topicId, 1)).length === 0; round++) {
      expect(round).toBeLessThan(10)
      await bench.clock.advance(1)
    }
    await bench.clock.advance(50)
    const delivered = await bench.delivered(topicId)
    expect(delivered).toHaveLength(6000)
    expect(new Set(bodies(delivered)).size).toBe(6)
    expect(bench.replica.machine.timers.pending).toBe(0)
  })

  test('that is deposed while it reads proposes nothing, and its successor delivers', async () => {
    bench.replica.follow({ node: 'n1', address: 'n1:1', term: 1 })
    bench.service.start()
    bench.delay([1])
    for (const position of bench.replica.tinyLog.frames.keys()) bench.replica.tinyLog.cold.add(position)
    bench.replica.passedMs += 100
    bench.replica.lead(2)
    const { tinyLog } = bench.replica
    const before = tinyLog.readCount
    const advancing = bench.clock.advance(1)
    while (tinyLog.readCount === before) await new Promise((resolve) => setImmediate(resolve))
    bench.replica.follow({ node: 'n2', address: 'n2:1', term: 3 })
    await advancing
    await bench.pass(500)
    expect(bench.replica.proposals).toEqual([])
    bench.replica.lead(4)
    await bench.clock.advance(5)
    expect(await bench.delivered(topicId)).toHaveLength(1)
  })

  test('that was closed does nothing any more', async () => {
    bench.service.start()
    bench.delay([50])
    bench.service.close()
    await bench.pass(200)
    bench.delay([0])
    bench.replica.lead(2)
    await bench.pass(200)
    expect(bench.replica.proposals).toEqual([])
  })
})

describe('in the way', () => {
  test('messages of an entry that cannot be read wait until it can; others go, also of their queue', async () => {
    const { tinyLog } = bench.replica
    bench.delay([10], { body: 'before' })
    bench.delay(Array(1024).fill(20), { body: 'rotten' })
    const position = [...tinyLog.frames.keys()].at(-1) ?? 0
    tinyLog.cold.add(position)
    tinyLog.rotten.add(position)
    bench.delay([30], { body: 'behind' })
    bench.delay([40], { body: 'other', queue: 1 })
    bench.service.start()
    await bench.pass(1000)
    expect(bodies(await bench.delivered(topicId, 0))).toEqual(['before', 'behind'])
    expect(bodies(await bench.delivered(topicId, 1))).toEqual(['other'])
    bench.delay([100], { body: 'later' })
    await bench.pass(300)
    const reads = tinyLog.readCount
    await bench.pass(5000)
    expect(tinyLog.readCount - reads).toBeLessThan(10)
    expect(bodies(await bench.delivered(topicId))).toEqual(['before', 'behind', 'later'])
    tinyLog.rotten.clear()
    await bench.pass(6000)
    const all = bodies(await bench.delivered(topicId, 0))
    expect(all.slice(0, 4)).toEqual(['before', 'behind', 'later', 'rotten'])
    expect(all).toHaveLength(1027)
    expect(bench.replica.machine.timers.pending).toBe(0)
  })

  test('a message behind one that was unreadable for long is on time all the same', async () => {
    const { tinyLog } = bench.replica
    bench.delay([10], { body: 'rotten' })
    const position = [...tinyLog.frames.keys()].at(-1) ?? 0
    tinyLog.cold.add(position)
    tinyLog.rotten.add(position)
    bench.service.start()
    await bench.pass(12_000)
    bench.delay([50], { body: 'behind' })
    await bench.pass(150)
    expect(bodies(await bench.delivered(topicId))).toEqual(['behind'])
  })

  test.each([
    new LedgerError('FLOW_CONTROL', 'full', { retryAfterMs: 200 }),
    new LedgerError('DISK_FULL', 'full'),
    new LedgerError('NO_QUORUM', 'alone'),
  ])('$code: it waits, and goes on when it is over', async (error) => {
    bench.service.start()
    bench.replica.proposeError = error
    bench.delay([1, 2], {})
    bench.delay([3], { queue: 1 })
    await bench.pass(2000)
    const tried = bench.replica.proposals.length
    expect(tried).toBeGreaterThan(2)
    expect(tried).toBeLessThan(30)
    bench.replica.proposeError = null
    await bench.pass(300)
    expect(await bench.delivered(topicId, 0)).toHaveLength(2)
    expect(await bench.delivered(topicId, 1)).toHaveLength(1)
  })

  test('a delivery that comes behind a recall is refused, and made again without the recalled one', async () => {
    bench.service.start()
    bench.replica.holdProposals = true
    const index = bench.delay([1, 1, 1])
    const time = bench.replica.logTime + 1
    await bench.pass(20)
    expect(bench.replica.proposals).toHaveLength(1)
    expect(bench.recall(topicId, { time, index, record: 1 })).toBe(true)
    bench.replica.commitHeld()
    await bench.pass(100)
    const delivered = await bench.delivered(topicId)
    expect(delivered.map(({ record }) => record.messageId)).toEqual(['M0', 'M2'])
  })

  test('one delivery of a queue is under way at a time, those of others beside it', async () => {
    bench.service.start()
    bench.replica.holdProposals = true
    for (let queue = 0; queue < 4; queue++) bench.delay([1], { queue })
    await bench.pass(50)
    bench.delay([1], { queue: 0 })
    await bench.pass(500)
    expect(bench.replica.proposals).toHaveLength(4)
    bench.replica.commitHeld()
    await bench.pass(50)
    expect(bench.replica.proposals).toHaveLength(5)
    expect(await bench.delivered(topicId, 0)).toHaveLength(2)
  })

  test('what a deleted topic has left is dropped, and the others go', async () => {
    const other = bench.topic('other')
    bench.delay([10, 10, 10], { topic: 'other' })
    bench.delay([20])
    const command = { kind: 'delete_topic', topic: 'other', topicId: other } as const
    bench.replica.commit(frameTypes.command, encodeCommand(command))
    bench.service.start()
    await bench.pass(200)
    expect(await bench.delivered(topicId)).toHaveLength(1)
    expect(await bench.replica.machine.timers.rows.first()).toBe(null)
  })

  test('a batch that is longer than a segment of the log is made of fewer messages', async () => {
    const propose = bench.replica.propose.bind(bench.replica)
    let refused = 0
    bench.replica.propose = (type, body, options) => {
      const bytes = body.reduce((sum, piece) => sum + piece.length, 0)
      if (bytes <= 4000) return propose(type, body, options)
      refused++
      return Promise.reject(new LedgerError('MESSAGE_ILLEGAL', `${bytes} bytes`))
    }
    bench.delay(
      Array.from({ length: 100 }, () => 1),
      { body: 'x'.repeat(100) },
    )
    bench.service.start()
    await bench.pass(5000)
    expect(refused).toBeGreaterThan(0)
    expect(await bench.delivered(topicId)).toHaveLength(100)
    await settle()
  })
})
