/** Batches of records that were stored before: what stays as it was, and where a new batch begins. */
import { expect, test } from 'vitest'
import { CopiedBatch, copyLimits } from '../../../../src/broker/timers/copied-batch.ts'
import type { StoredRecord } from '../../../../src/broker/timers/stored-records.ts'
import { checkBatch, readBatchHeader, readRecords } from '../../../../src/message/batch.ts'
import { readDelivery } from '../../../../src/message/extensions.ts'
import { codecs, type RecordFields } from '../../../../src/message/types.ts'
import { makeBatch } from '../apply/support.ts'

const target = { topic: 't', queue: 3 }
const dayMs = 24 * 60 * 60 * 1000

function stored(fields: Partial<RecordFields> = {}, born: { time?: number; host?: string } = {}): StoredRecord {
  const batch = makeBatch({ topic: 't' })
  const [record] = readRecords(batch)
  const header = { ...readBatchHeader(batch), bornHost: born.host ?? 'h:1' }
  return { record: { ...(record as RecordFields), ...fields }, bornTime: born.time ?? 1000 * dayMs, header }
}

function encode(batch: CopiedBatch): Buffer {
  const sources = Array.from({ length: batch.count }, (_, record) => ({ time: 5, index: 2, record }))
  return batch.encode(target, { kind: 'timers', topicId: 1, after: 0, asOf: 9, sources, left: [] })
}

test('records are kept as they were, with their born times, and the sources are named', () => {
  const origin = { topic: 'from', queue: 1, offset: 7 }
  const rich = { tag: 'a', keys: ['k', 'l'], messageGroup: 'g', attempt: 3, origin, flags: 9, deliveryTime: 77 }
  const records = [
    stored({ ...rich, properties: { p: 'q' }, body: Buffer.from('one') }),
    stored({ messageId: 'two' }, { time: 1000 * dayMs - 5000 }),
    stored({ messageId: 'three' }, { time: 1000 * dayMs + 20 * dayMs }),
  ]
  const batch = new CopiedBatch(copyLimits)
  for (const record of records) expect(batch.add(record)).toBe(true)
  const body = encode(batch)
  const header = checkBatch(body)
  expect(header).toMatchObject({ topic: 't', queue: 3, recordCount: 3, bornHost: 'h:1', baseSequence: 0 })
  expect(readDelivery(header)).toMatchObject({ kind: 'timers', asOf: 9, sources: { length: 3 } })
  const read = readRecords(body)
  expect(read.map(({ bornDelta }) => header.baseBornTime + bornDelta)).toEqual(records.map(({ bornTime }) => bornTime))
  expect(read.map((record) => ({ ...record, bornDelta: 0 }))).toEqual(records.map(({ record }) => record))
})

test('records that were born too far apart, or are too many or too large, begin another batch', () => {
  const apart = new CopiedBatch(copyLimits)
  expect(apart.add(stored())).toBe(true)
  expect(apart.add(stored({}, { time: 1025 * dayMs }))).toBe(false)
  expect(apart.add(stored({}, { time: 975 * dayMs }))).toBe(false)
  const many = new CopiedBatch({ recordsMax: 2, bytesMax: 1000 })
  expect([many.add(stored()), many.add(stored()), many.add(stored())]).toEqual([true, true, false])
  const large = new CopiedBatch({ recordsMax: 9, bytesMax: 1000 })
  expect([large.add(stored()), large.add(stored({ body: Buffer.alloc(1000, 1) }))]).toEqual([true, false])
})

test('one record is taken whatever its size, up to the largest that a producer may send', () => {
  const largest = stored({ body: Buffer.alloc(4 * 1024 * 1024, 1), properties: { p: 'x'.repeat(32_000) } })
  const batch = new CopiedBatch({ recordsMax: 1, bytesMax: 1 })
  expect(batch.add(largest)).toBe(true)
  expect(readRecords(encode(batch))[0]?.body.equals(largest.record.body)).toBe(true)
})

test('1024 sources fit, with the largest numbers', () => {
  const batch = new CopiedBatch(copyLimits)
  for (let count = 0; count < 1024; count++) expect(batch.add(stored())).toBe(true)
  const sources = Array.from({ length: 1024 }, (_, record) => ({ time: 2 ** 53 - 1, index: 2 ** 53 - 1, record }))
  const asOf = 2 ** 53 - 1
  const body = batch.encode(target, { kind: 'timers', topicId: asOf, after: asOf, asOf, sources, left: [] })
  expect(readDelivery(checkBatch(body))).toMatchObject({ sources })
})

test('packed messages stay packed, and a host that is not that of all is left out', () => {
  const packed = stored({ body: Buffer.alloc(50_000, 7) })
  const batch = new CopiedBatch(copyLimits)
  batch.add({ ...packed, header: { ...packed.header, codec: codecs.zlib } })
  batch.add(stored({}, { host: 'h:2' }))
  const body = encode(batch)
  expect(body.length).toBeLessThan(5000)
  expect(readBatchHeader(body)).toMatchObject({ codec: codecs.zlib, bornHost: '' })
})
