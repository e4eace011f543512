/**
 * What every implementation of the key-value port must do. Run by `test/store/key-value.test.ts` on LevelDB and on
 * memory; what only one of them can show has its own file.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { KeyValue, KeyValueEngine, KeyValueOperation } from '../../store/index.ts'

export interface KeyValueFixture {
  readonly engine: KeyValueEngine
  /** Where this test may have databases. */
  readonly directory: string
  cleanUp(): Promise<void>
}

const bytes = (...values: number[]): Buffer => Buffer.from(values)
const put = (key: Buffer, value: Buffer): KeyValueOperation => ({ kind: 'put', key, value })
const remove = (key: Buffer): KeyValueOperation => ({ kind: 'delete', key })

export function keyValueSuite(name: string, createFixture: () => Promise<KeyValueFixture>): void {
  describe(`key-value port on ${name}`, () => {
    let fixture: KeyValueFixture
    let keyValue: KeyValue
    const open = (): Promise<KeyValue> => fixture.engine.open(`${fixture.directory}/database`)

    beforeEach(async () => {
      fixture = await createFixture()
      keyValue = await open()
    })
    afterEach(async () => {
      await keyValue.close()
      await fixture.cleanUp()
    })

    test('a written row is read back, a missing one is undefined', async () => {
      await keyValue.write([put(bytes(1), bytes(9, 9))], { sync: false })
      expect(await keyValue.get(bytes(1))).toEqual(bytes(9, 9))
      expect(await keyValue.get(bytes(2))).toBeUndefined()
    })

    test('the operations of a write happen in their order', async () => {
      const key = bytes(1)
      await keyValue.write([put(key, bytes(1)), remove(key), put(key, bytes(2))], { sync: true })
      expect(await keyValue.get(key)).toEqual(bytes(2))
      await keyValue.write([put(key, bytes(3)), remove(key)], { sync: false })
      expect(await keyValue.get(key)).toBeUndefined()
    })

    test('removing what is not there is no error', async () => {
      await keyValue.write([remove(bytes(7))], { sync: false })
      expect(await keyValue.get(bytes(7))).toBeUndefined()
    })

    test('values may be empty and keys may hold any byte', async () => {
      const keys = [bytes(0), bytes(0, 0), bytes(0x7f), bytes(0x80), bytes(0xc3, 0x28), bytes(0xff, 0xff)]
      await keyValue.write(
        keys.map((key) => put(key, bytes())),
        { sync: false },
      )
      for (const key of keys) expect(await keyValue.get(key)).toEqual(bytes())
    })

    test('a range is ordered by unsigned bytes, from inclusive to exclusive', async () => {
      const keys = [bytes(0xff), bytes(1), bytes(0x80), bytes(1, 0), bytes(2), bytes(0x7f, 0xff)]
      await keyValue.write(
        keys.map((key) => put(key, key)),
        { sync: false },
      )
      const rows = await keyValue.range({ from: bytes(1), to: bytes(0xff), limit: 100 })
      expect(rows.map(([key]) => [...key])).toEqual([[1], [1, 0], [2], [0x7f, 0xff], [0x80]])
      expect(rows.every(([key, value]) => key.equals(value))).toBe(true)
    })

    test('a reverse range gives the highest keys first, and the limit counts from there', async () => {
      await keyValue.write(
        [1, 2, 3, 4, 5].map((key) => put(bytes(key), bytes(key))),
        { sync: false },
      )
      const rows = await keyValue.range({ from: bytes(2), to: bytes(5), limit: 2, reverse: true })
      expect(rows.map(([key]) => key[0])).toEqual([4, 3])
    })

    test('a limit of zero and an empty or crossed range give nothing', async () => {
      await keyValue.write([put(bytes(1), bytes(1)), put(bytes(3), bytes(1))], { sync: false })
      expect(await keyValue.range({ from: bytes(0), to: bytes(9), limit: 0 })).toEqual([])
      expect(await keyValue.range({ from: bytes(1), to: bytes(1), limit: 9 })).toEqual([])
      expect(await keyValue.range({ from: bytes(3), to: bytes(1), limit: 9 })).toEqual([])
      expect(await keyValue.range({ from: bytes(2), to: bytes(3), limit: 9, reverse: true })).toEqual([])
    })

    test('a large write is there as a whole, also after the database was closed and opened', async () => {
      const operations = Array.from({ length: 5000 }, (_, at) => {
        const key = Buffer.alloc(4)
        key.writeUInt32BE(at)
        return put(key, Buffer.alloc(100, at))
      })
      await keyValue.write(operations, { sync: false })
      await keyValue.close()
      keyValue = await open()
      const rows = await keyValue.range({ from: bytes(0), to: bytes(1), limit: 10_000 })
      expect(rows).toHaveLength(5000)
      expect(rows[4999]?.[1]).toEqual(Buffer.alloc(100, 4999))
    })

    test('what a caller does to its buffers afterwards does not change the rows', async () => {
      const key = bytes(1)
      const value = bytes(1)
      await keyValue.write([put(key, value)], { sync: false })
      value[0] = 2
      key[0] = 2
      const read = await keyValue.get(bytes(1))
      expect(read).toEqual(bytes(1))
      read?.fill(3)
      expect(await keyValue.get(bytes(1))).toEqual(bytes(1))
    })

    test('a flush loses nothing and may be repeated, also on an empty database', async () => {
      await keyValue.flush()
      await keyValue.write([put(bytes(1), bytes(1))], { sync: false })
      await keyValue.flush()
      await keyValue.flush()
      const rows = await keyValue.range({ from: bytes(0), to: Buffer.alloc(70, 0xff), limit: 10 })
      expect(rows).toEqual([[bytes(1), bytes(1)]])
    })

    test('a snapshot shows the rows of its moment, whatever is written, flushed or deleted afterwards', async () => {
      await keyValue.write([put(bytes(1), bytes(1)), put(bytes(2), bytes(2))], { sync: false })
      const snapshot = await keyValue.snapshot()
      await keyValue.write([put(bytes(1), bytes(9)), remove(bytes(2)), put(bytes(3), bytes(3))], { sync: true })
      await keyValue.flush()
      const all = { from: bytes(0), to: bytes(9), limit: 10 }
      const before = [
        [bytes(1), bytes(1)],
        [bytes(2), bytes(2)],
      ]
      expect(await snapshot.range(all)).toEqual(before)
      expect(await snapshot.range({ ...all, limit: 1, reverse: true })).toEqual([[bytes(2), bytes(2)]])
      expect(await keyValue.range(all)).toEqual([
        [bytes(1), bytes(9)],
        [bytes(3), bytes(3)],
      ])
      await snapshot.close()
    })

    test('two snapshots know nothing of each other, and a closed one rejects with CLOSED', async () => {
      const empty = await keyValue.snapshot()
      await keyValue.write([put(bytes(1), bytes(1))], { sync: false })
      const later = await keyValue.snapshot()
      const all = { from: bytes(0), to: bytes(9), limit: 10 }
      expect(await empty.range(all)).toEqual([])
      await empty.close()
      await empty.close()
      expect(await later.range(all)).toEqual([[bytes(1), bytes(1)]])
      await expect(empty.range(all)).rejects.toMatchObject({ name: 'StoreError', code: 'CLOSED' })
    })

    test('closing the database closes its snapshots', async () => {
      const snapshot = await keyValue.snapshot()
      await keyValue.close()
      const read = snapshot.range({ from: bytes(0), to: bytes(9), limit: 10 })
      await expect(read).rejects.toMatchObject({ name: 'StoreError', code: 'CLOSED' })
      await snapshot.close()
    })

    test('an open database refuses a second opener with FOLDER_IN_USE and goes on working', async () => {
      await keyValue.write([put(bytes(1), bytes(1))], { sync: false })
      await expect(open()).rejects.toMatchObject({ name: 'StoreError', code: 'FOLDER_IN_USE' })
      await expect(fixture.engine.destroy(`${fixture.directory}/database`)).rejects.toMatchObject({
        code: 'FOLDER_IN_USE',
      })
      expect(await keyValue.get(bytes(1))).toEqual(bytes(1))
    })

    test('after close every call rejects with CLOSED, and closing again does nothing', async () => {
      await keyValue.close()
      await keyValue.close()
      const closed = { name: 'StoreError', code: 'CLOSED' }
      await expect(keyValue.get(bytes(1))).rejects.toMatchObject(closed)
      await expect(keyValue.range({ from: bytes(1), to: bytes(2), limit: 1 })).rejects.toMatchObject(closed)
      await expect(keyValue.write([put(bytes(1), bytes(1))], { sync: false })).rejects.toMatchObject(closed)
      await expect(keyValue.flush()).rejects.toMatchObject(closed)
      await expect(keyValue.snapshot()).rejects.toMatchObject(closed)
    })

    test('destroy removes everything, and destroying nothing is no error', async () => {
      await keyValue.write([put(bytes(1), bytes(1))], { sync: true })
      await keyValue.close()
      await fixture.engine.destroy(`${fixture.directory}/database`)
      await fixture.engine.destroy(`${fixture.directory}/database`)
      keyValue = await open()
      expect(await keyValue.get(bytes(1))).toBeUndefined()
    })

    test('two databases of one engine know nothing of each other', async () => {
      const other = await fixture.engine.open(`${fixture.directory}/other`)
      await other.write([put(bytes(1), bytes(1))], { sync: false })
      expect(await keyValue.get(bytes(1))).toBeUndefined()
      await other.close()
    })
  })
}
