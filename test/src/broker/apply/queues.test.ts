import { describe, expect, test } from 'vitest'
import { rowKinds } from '../../../../src/broker/apply/keys.ts'
import { openStateMachine } from '../../../../src/broker/apply/state-machine.ts'
import type { QueueRow } from '../../../../src/broker/contract.ts'
import type { StateStoreApi } from '../../../../store/index.ts'
import { Bench, readQueue } from './support.ts'

/** `count` batches of 1 to 5 records, a millisecond of log time apart, every second time none. */
function fill(bench: Bench, count: number): QueueRow[] {
  const rows: QueueRow[] = []
  for (let number = 0; number < count; number++) {
    if (number % 2 === 0) bench.time++
    const result = bench.send({ topic: 't', records: 1 + (number % 5) })
    if (result.kind !== 'stored') throw new Error('not stored')
    const { baseOffset, recordCount, index, storeTime } = result
    const bytes = bench.log.at(-1)?.body.length ?? 0
    rows.push({ baseOffset, recordCount, index, position: index * 4096, storeTime, bytes })
  }
  return rows
}

async function expectEveryOffset(bench: Bench, rows: readonly QueueRow[]): Promise<void> {
  for (const [number, row] of rows.entries()) {
    for (let offset = row.baseOffset; offset < row.baseOffset + row.recordCount; offset++) {
      expect(await bench.machine.findRows(1, 0, offset, 3)).toEqual(rows.slice(number, number + 3))
    }
  }
}

describe('ConsumeQueue', () => {
  test('B2: offsets are given out without gaps, whatever is refused between', async () => {
    const bench = await Bench.open()
    bench.topic('t', 2)
    const expected = [0, 0]
    for (let number = 0; number < 300; number++) {
      const queue = number % 3
      const records = 1 + (number % 7)
      const result = bench.send({ topic: number % 11 === 0 ? 'nope' : 't', queue, records })
      if (result.kind !== 'stored') continue
      expect(result.baseOffset).toBe(expected[queue])
      expected[queue] = (expected[queue] ?? 0) + records
    }
    expect([0, 1].map((queue) => bench.machine.queueRange(1, queue)?.max)).toEqual(expected)
  })

  test('rows are found in memory at once, also by an offset in the middle of a batch', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    const rows = fill(bench, 20)
    expect(Array.isArray(bench.machine.findRows(1, 0, 0, 5))).toBe(true)
    await expectEveryOffset(bench, rows)
    const max = bench.machine.queueRange(1, 0)?.max ?? 0
    expect(bench.machine.findRows(1, 0, max, 5)).toEqual([])
    expect(bench.machine.findRows(1, 0, max + 100, 5)).toEqual([])
    expect(bench.machine.findRows(1, 0, 0, 0)).toEqual([])
    expect(bench.machine.findRows(1, 7, 0, 1)).toEqual([])
    expect(bench.machine.findRows(9, 0, 0, 1)).toEqual([])
  })

  test('rows that left memory come from the store, and one answer may join both', async () => {
    const bench = await Bench.open({ tailRowsMax: 32 })
    bench.topic('t')
    const rows = fill(bench, 100)
    await bench.flush()
    rows.push(...fill(bench, 20))
    expect(bench.machine.findRows(1, 0, 0, 3)).toBeInstanceOf(Promise)
    await expectEveryOffset(bench, rows)
    expect(await bench.machine.findRows(1, 0, 0, 1000)).toEqual(rows)
    expect(await readQueue(bench.machine, 1, 0)).toEqual(rows)
  })

  test('rows that are not written yet stay in memory, however many they are', async () => {
    const bench = await Bench.open({ tailRowsMax: 32 })
    bench.topic('t')
    const rows = fill(bench, 500)
    const first = bench.take()
    rows.push(...fill(bench, 500))
    const second = bench.take()
    rows.push(...fill(bench, 10))
    expect(bench.machine.findRows(1, 0, 0, 2000)).toEqual(rows)
    if (first) await bench.write(first)
    expect(await bench.machine.findRows(1, 0, 0, 2000)).toEqual(rows)
    if (second) await bench.write(second)
    rows.push(...fill(bench, 100))
    expect(bench.machine.findRows(1, 0, 0, 1)).toBeInstanceOf(Promise)
    await expectEveryOffset(bench, rows)
  })

  test('an answer from the store is complete although apply goes on and memory moves under it', async () => {
    const bench = await Bench.open({ tailRowsMax: 32 })
    bench.topic('t')
    const rows = fill(bench, 60)
    await bench.flush()
    const pending = bench.machine.findRows(1, 0, 0, 1000)
    rows.push(...fill(bench, 200))
    const found = await pending
    expect(found.length).toBeGreaterThan(0)
    expect(found).toEqual(rows.slice(0, found.length))
  })

  test('B2: an answer that waited long while memory let rows go has no gap', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    const rows = fill(bench, 60)
    await bench.flush()
    let open = (): void => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    // The real store, whose answers about rows arrive late.
    const slow = new Proxy(bench.store, {
      get: (store, name) => {
        const member: unknown = Reflect.get(store, name, store)
        if (name !== 'range') return typeof member === 'function' ? member.bind(store) : member
        return async (range: Parameters<StateStoreApi['range']>[0]) => {
          const found = await store.range(range)
          if (range.from[0] === rowKinds.queueRow) await gate
          return found
        }
      },
    })
    bench.machine = await openStateMachine(slow, { tailRowsMax: 32 })
    const pending = bench.machine.findRows(1, 0, 0, 1000)
    rows.push(...fill(bench, 100))
    await bench.flush()
    rows.push(...fill(bench, 100))
    open()
    const found = await pending
    expect(found).toEqual(rows.slice(0, 60))
    expect(await readQueue(bench.machine, 1, 0)).toEqual(rows)
  })

  test('a read that waited while its topic was deleted answers nothing', async () => {
    const bench = await Bench.open({ tailRowsMax: 32 })
    bench.topic('t')
    fill(bench, 60)
    await bench.flush()
    fill(bench, 60)
    const pending = bench.machine.findRows(1, 0, 0, 10)
    const time = bench.machine.offsetByTime(1, 0, 1_000_005)
    bench.command({ kind: 'delete_topic', topic: 't' })
    expect(pending).toBeInstanceOf(Promise)
    expect(await pending).toEqual([])
    expect(await time).toBeGreaterThan(0)
  })

  test('after a restart all rows come from the store, new ones join them', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    const rows = fill(bench, 50)
    await bench.flush()
    const unwritten = fill(bench, 7)
    await bench.restart()
    expect(await readQueue(bench.machine, 1, 0)).toEqual([...rows, ...unwritten])
    rows.push(...unwritten, ...fill(bench, 5))
    await expectEveryOffset(bench, rows)
  })

  test.each([512, 32])(
    'the offset of a time is that of the first batch at or after it (%i rows in memory)',
    async (tailRowsMax) => {
      const bench = await Bench.open({ tailRowsMax })
      bench.topic('t')
      const before = bench.time
      expect(await bench.machine.offsetByTime(1, 0, before)).toBe(0)
      const rows = fill(bench, 150)
      await bench.flush()
      rows.push(...fill(bench, 30))
      for (let time = before - 1; time <= bench.time + 1; time++) {
        const expected = rows.find((row) => row.storeTime >= time)?.baseOffset ?? bench.machine.queueRange(1, 0)?.max
        expect(await bench.machine.offsetByTime(1, 0, time)).toBe(expected)
      }
      expect(await bench.machine.offsetByTime(1, 5, 0)).toBe(0)
    },
  )

  test('a queue that never got a message exists after a restart', async () => {
    const bench = await Bench.open()
    bench.topic('t', 3)
    await bench.flush()
    await bench.restart()
    expect(bench.machine.queueRange(1, 2)).toEqual({ min: 0, max: 0 })
    expect(bench.machine.findRows(1, 2, 0, 1)).toEqual([])
  })

  test('the counter of unwritten changes falls to zero when all is written', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    fill(bench, 10)
    const before = bench.machine.unwrittenCount
    expect(before).toBeGreaterThanOrEqual(11)
    const batch = bench.take()
    expect(bench.machine.unwrittenCount).toBe(batch ? batch.operations.length - 1 : 0)
    fill(bench, 5)
    if (batch) await bench.write(batch)
    expect(bench.machine.unwrittenCount).toBe(6)
    await bench.flush()
    expect(bench.machine.unwrittenCount).toBe(0)
    expect(bench.take()).toBeNull()
  })

  test('B2: a row that is missing in the store is noticed, never skipped', async () => {
    const bench = await Bench.open({ tailRowsMax: 32 })
    bench.topic('t')
    fill(bench, 100)
    const batch = bench.take()
    if (!batch) throw new Error('nothing taken')
    const rows = batch.operations.filter(({ key }) => key[0] === 5)
    await bench.write({ ...batch, operations: batch.operations.filter((operation) => operation !== rows[10]) })
    fill(bench, 100)
    await expect(bench.machine.findRows(1, 0, 0, 50)).rejects.toThrow(/B2/)
    await expect(bench.machine.findRows(1, 0, 29, 1)).resolves.toHaveLength(1)
    await expect(bench.machine.findRows(1, 0, 30, 1)).rejects.toThrow(/B2/)
  })
})
