import { describe, expect, test } from 'vitest'
import { Bench } from './support.ts'

const dayMs = 24 * 60 * 60 * 1000
const first = { topic: 't', producer: 1, first: true, records: 3 } as const
const next = { topic: 't', producer: 1, records: 2 } as const

async function benchWithTopic(): Promise<Bench> {
  const bench = await Bench.open()
  bench.topic('t', 4)
  return bench
}

describe('producer sequences', () => {
  test('B3: the same batch again is answered with the original offset, index and store time', async () => {
    const bench = await benchWithTopic()
    bench.send({ topic: 't', records: 10 })
    const original = bench.send(first)
    expect(original).toMatchObject({ kind: 'stored', baseOffset: 10, index: 3, duplicate: false })
    bench.send({ topic: 't', records: 5 })
    bench.time += 1000
    bench.term = 2
    expect(bench.send(first)).toEqual({ ...original, duplicate: true })
    expect(bench.machine.queueRange(1, 0)).toEqual({ min: 0, max: 18 })
  })

  test('B3: a duplicate is recognised after a restart, from rows and from replay', async () => {
    const bench = await benchWithTopic()
    const original = bench.send(first)
    await bench.flush()
    const replayed = bench.send({ ...next, sequence: 3 })
    await bench.restart()
    expect(bench.send({ ...next, sequence: 3 })).toEqual({ ...replayed, duplicate: true })
    expect(bench.send(first)).toMatchObject({ code: 'SEQUENCE_TOO_OLD' })
    expect(original).toMatchObject({ baseOffset: 0 })
  })

  test('B3: every newer sequence reaches the rows, not only the first', async () => {
    const bench = await benchWithTopic()
    bench.send(first)
    await bench.flush()
    for (const sequence of [3, 5, 7]) {
      const stored = bench.send({ ...next, sequence })
      await bench.flush()
      await bench.restart()
      expect(bench.send({ ...next, sequence })).toEqual({ ...stored, duplicate: true })
    }
  })

  test('a higher sequence is stored, with or without a gap', async () => {
    const bench = await benchWithTopic()
    bench.send(first)
    expect(bench.send({ ...next, sequence: 3 })).toMatchObject({ baseOffset: 3, duplicate: false })
    expect(bench.send({ ...next, sequence: 900 })).toMatchObject({ baseOffset: 5, duplicate: false })
  })

  test.each([
    ['a lower sequence', { sequence: 2, records: 1 }],
    ['a batch that overlaps the stored one from inside', { sequence: 5, records: 4 }],
    ['a batch that overlaps the stored one from below', { sequence: 3, records: 2 }],
    ['the stored sequence with another count', { sequence: 4, records: 2 }],
    ['the stored sequence with other bytes', { sequence: 4, records: 3, body: 'other' }],
  ])('B3: %s is SEQUENCE_TOO_OLD, never success', async (_, other) => {
    const bench = await benchWithTopic()
    bench.send({ ...first, sequence: 4 })
    expect(bench.send({ topic: 't', producer: 1, ...other })).toMatchObject({ code: 'SEQUENCE_TOO_OLD' })
    expect(bench.machine.queueRange(1, 0)?.max).toBe(3)
  })

  test('the scope is producer, topic and queue', async () => {
    const bench = await benchWithTopic()
    bench.topic('u')
    bench.send(first)
    expect(bench.send({ ...first, queue: 1 })).toMatchObject({ duplicate: false })
    expect(bench.send({ ...first, topic: 'u' })).toMatchObject({ duplicate: false })
    expect(bench.send({ ...first, producer: 2 })).toMatchObject({ duplicate: false })
    expect(bench.machine.producerCount).toBe(2)
  })

  test('an unknown producer must send its first batch first, per queue', async () => {
    const bench = await benchWithTopic()
    expect(bench.send({ ...next, sequence: 7 })).toMatchObject({ code: 'UNKNOWN_PRODUCER' })
    bench.send(first)
    expect(bench.send({ ...next, queue: 2 })).toMatchObject({ code: 'UNKNOWN_PRODUCER' })
    expect(bench.machine.producerCount).toBe(1)
    expect(bench.machine.queueRange(1, 2)?.max).toBe(0)
  })

  test('a lower epoch is refused; a higher one starts anew, with its first batch', async () => {
    const bench = await benchWithTopic()
    bench.send({ ...first, epoch: 2, sequence: 50 })
    expect(bench.send({ ...first, epoch: 1, sequence: 99 })).toMatchObject({ code: 'SEQUENCE_TOO_OLD' })
    expect(bench.send({ ...next, epoch: 3, sequence: 60 })).toMatchObject({ code: 'UNKNOWN_PRODUCER' })
    expect(bench.send({ ...first, epoch: 3, sequence: 0 })).toMatchObject({ baseOffset: 3, duplicate: false })
    expect(bench.send({ ...first, epoch: 2, sequence: 50 })).toMatchObject({ code: 'SEQUENCE_TOO_OLD' })
  })

  test('a zero producer id is not checked and not remembered', async () => {
    const bench = await benchWithTopic()
    for (let round = 0; round < 3; round++) {
      expect(bench.send({ topic: 't', records: 2 })).toMatchObject({ duplicate: false, baseOffset: round * 2 })
    }
    expect(bench.machine.producerCount).toBe(0)
  })

  test('refused batches leave no trace of their producer', async () => {
    const bench = await benchWithTopic()
    bench.send({ ...first, topic: 'nope' })
    bench.send({ ...first, queue: 4 })
    expect(bench.machine.producerCount).toBe(0)
  })

  test('nothing expires by itself, however much log time passes', async () => {
    const bench = await benchWithTopic()
    const original = bench.send(first)
    bench.time += 30 * dayMs
    expect(bench.machine.producerExpiryDue(bench.time)).toBe(true)
    expect(bench.send(first)).toEqual({ ...original, duplicate: true })
  })

  test('expire_producers removes those idle for 24 h of log time, whatever the leader asks for', async () => {
    const bench = await benchWithTopic()
    bench.send(first)
    bench.time += dayMs
    bench.send({ ...first, producer: 2 })
    bench.command({ kind: 'expire_producers', idleBefore: bench.time * 2, removeMax: 100 })
    expect(bench.machine.producerCount).toBe(2)
    bench.time += 1
    expect(bench.machine.producerExpiryDue(bench.time)).toBe(true)
    bench.command({ kind: 'expire_producers', idleBefore: bench.time * 2, removeMax: 100 })
    expect(bench.machine.producerCount).toBe(1)
    expect(bench.machine.producerExpiryDue(bench.time)).toBe(false)
    expect(bench.send({ ...next, sequence: 3 })).toMatchObject({ code: 'UNKNOWN_PRODUCER' })
    expect(bench.send({ ...next, producer: 2, sequence: 3 })).toMatchObject({ kind: 'stored' })
    await bench.flush()
    await bench.restart()
    expect(bench.machine.producerCount).toBe(1)
  })

  test('beyond the limit the oldest go first, at most as many as the command says', async () => {
    const bench = await benchWithTopic()
    bench.command({ kind: 'set_limits', limits: { producersMax: 10 } })
    for (let producer = 1; producer <= 16; producer++) bench.send({ ...first, producer })
    bench.send({ ...next, producer: 1, sequence: 3 })
    expect(bench.machine.producerExpiryDue(bench.time)).toBe(true)
    bench.command({ kind: 'expire_producers', idleBefore: 0, removeMax: 4 })
    expect(bench.machine.producerCount).toBe(12)
    bench.command({ kind: 'expire_producers', idleBefore: 0, removeMax: 100 })
    expect(bench.machine.producerCount).toBe(10)
    const known = (producer: number): boolean => bench.send({ ...next, producer, sequence: 1000 }).kind === 'stored'
    expect([1, 2, 7, 8, 16].map(known)).toEqual([true, false, false, true, true])
  })

  test('B1: the age of a producer is that of its newest queue, also after a restart', async () => {
    const bench = await benchWithTopic()
    bench.command({ kind: 'set_limits', limits: { producersMax: 1 } })
    bench.send({ ...first, producer: 1, queue: 3 })
    bench.send({ ...first, producer: 2, queue: 0 })
    bench.send({ ...first, producer: 1, queue: 0 })
    bench.send({ ...first, producer: 2, queue: 3 })
    bench.send({ ...first, producer: 1, queue: 1 })
    await bench.flush()
    await bench.restart()
    bench.command({ kind: 'expire_producers', idleBefore: 0, removeMax: 1 })
    expect(bench.send({ ...next, producer: 1, queue: 3, sequence: 3 })).toMatchObject({ kind: 'stored' })
    expect(bench.send({ ...next, producer: 2, queue: 3, sequence: 3 })).toMatchObject({ code: 'UNKNOWN_PRODUCER' })
  })

  test('twice the limit is the end: new producers are refused until old ones are expired', async () => {
    const bench = await benchWithTopic()
    bench.command({ kind: 'set_limits', limits: { producersMax: 2 } })
    for (let producer = 1; producer <= 4; producer++) bench.send({ ...first, producer })
    expect(bench.send({ ...first, producer: 5 })).toMatchObject({ code: 'FLOW_CONTROL' })
    expect(bench.send({ ...first, producer: 4, queue: 1 })).toMatchObject({ kind: 'stored' })
    bench.command({ kind: 'expire_producers', idleBefore: 0, removeMax: 10 })
    expect(bench.send({ ...first, producer: 5 })).toMatchObject({ kind: 'stored' })
  })

  test('B1: expired places are used again without mixing up producers, before and after a restart', async () => {
    const bench = await benchWithTopic()
    bench.command({ kind: 'set_limits', limits: { producersMax: 20 } })
    for (let producer = 1; producer <= 200; producer++) {
      bench.send({ ...first, producer, queue: producer % 4 })
      if (producer % 30 === 0) bench.command({ kind: 'expire_producers', idleBefore: 0, removeMax: 25 })
      if (producer % 70 === 0) await bench.flush()
    }
    const twin = await bench.twin()
    await bench.restart()
    for (let producer = 1; producer <= 200; producer++) {
      const again = { ...first, producer, queue: producer % 4, first: false }
      expect(bench.send(again)).toEqual(twin.send(again))
    }
    expect(bench.machine.hash).toBe(twin.machine.hash)
    const kept = bench.machine.producerCount
    await bench.flush()
    const rows = await bench.store.range({ from: Buffer.of(8), to: Buffer.of(9), limit: 1000 })
    expect(rows).toHaveLength(kept)
  })
})
