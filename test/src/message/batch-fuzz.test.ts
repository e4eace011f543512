/** Batches with random damage: refused with MESSAGE_ILLEGAL or read, never anything else, never beyond their bytes. */
import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { LedgerError } from '../../../src/common/errors.ts'
import { checkBatch, encodeBatch, readBatchHeader, readRecords } from '../../../src/message/batch.ts'
import { headerAt, headerFixedBytes } from '../../../src/message/layout.ts'
import { codecs } from '../../../src/message/types.ts'
import { seededNumbers } from '../../support/seeded-numbers.ts'
import { completeBatch, completeRecord, sampleBatch, sampleRecord } from './sample-batches.ts'

const runs = 30_000
const seeds = [1, 2, 3]

/** Bytes that are none of the batch's: whoever returns them has read outside. */
const outside = 0xa5
const margin = 64

const valid: readonly Buffer[] = [
  encodeBatch(sampleBatch()),
  encodeBatch(completeBatch),
  encodeBatch(sampleBatch({ records: Array.from({ length: 20 }, () => completeRecord) })),
  encodeBatch(sampleBatch({ codec: codecs.zlib, records: [sampleRecord({ body: Buffer.alloc(2000, 'z') })] })),
]

const interesting = [0, 1, 2, 0x7f, 0x80, 0xc0, 0xed, 0xf5, 0xfe, 0xff]

/** One to four changes, mostly in header and heads, sealed with a right checksum in most runs. */
function damage(batch: Buffer, random: () => number): Buffer {
  const below = (limit: number): number => Math.floor(random() * limit)
  let bytes = Buffer.from(batch)
  for (let changes = 1 + below(4); changes > 0; changes--) {
    const at = random() < 0.5 ? below(Math.min(bytes.length, headerFixedBytes + 60)) : below(bytes.length)
    const kind = random()
    if (kind < 0.4) bytes[at] = interesting[below(interesting.length)]!
    else if (kind < 0.7) bytes[at]! ^= 1 << below(8)
    else if (kind < 0.8) bytes.fill(below(256), at, Math.min(bytes.length, at + below(16)))
    else if (kind < 0.9) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + below(20))])
    else bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(below(20), below(256)), bytes.subarray(at)])
    if (bytes.length === 0) break
  }
  if (bytes.length >= headerFixedBytes && random() < 0.95) {
    bytes.writeUInt32LE(0x42514d4c, headerAt.magic)
    bytes.writeUInt32LE(bytes.length, headerAt.totalLength)
    bytes[headerAt.version] = 1
    bytes.writeUInt32LE(crc32(bytes.subarray(headerAt.version)), headerAt.checksum)
  }
  return bytes
}

test.each(seeds)(
  'damaged batches never throw anything but MESSAGE_ILLEGAL and never read outside (seed %d)',
  (seed) => {
    const random = seededNumbers(seed)
    let passed = 0
    for (let run = 0; run < runs / seeds.length; run++) {
      const bytes = damage(valid[run % valid.length]!, random)
      const field = Buffer.alloc(bytes.length + 2 * margin, outside)
      field.set(bytes, margin)
      const batch = field.subarray(margin, margin + bytes.length)
      const verdict = judge(() => checkBatch(batch))
      judge(() => readBatchHeader(batch))
      const reading = judge(() => {
        for (const { body } of readRecords(batch)) if (body.buffer === field.buffer) expectInside(body, batch)
      })
      if (verdict === 'fine') {
        passed++
        if (reading === 'refused' && readBatchHeader(batch).codec === codecs.none)
          throw new Error('checked but unreadable')
      }
      // Nothing was written into the batch or beside it.
      if (run % 50 === 0) expect(batch.equals(bytes) && field[margin - 1] === outside).toBe(true)
    }
    // Damage of free bytes such as a body is no damage to the format; most must be refused.
    expect(passed).toBeGreaterThan(0)
    expect(passed).toBeLessThan(runs / seeds.length / 2)
  },
)

function judge(run: () => unknown): 'fine' | 'refused' {
  try {
    run()
    return 'fine'
  } catch (error) {
    if (error instanceof LedgerError && error.code === 'MESSAGE_ILLEGAL') return 'refused'
    throw error
  }
}

function expectInside(body: Buffer, batch: Buffer): void {
  const from = body.byteOffset - batch.byteOffset
  // Not by `expect`, which is too slow for a million calls.
  if (from < headerFixedBytes || from + body.length > batch.length) throw new Error(`body at ${from} lies outside`)
}

test('what passes the check encodes to the same bytes again', () => {
  const random = seededNumbers(9)
  let same = 0
  for (let run = 0; run < 10_000; run++) {
    const batch = damage(valid[run % 3]!, random)
    if (judge(() => checkBatch(batch)) === 'refused' || readBatchHeader(batch).codec !== codecs.none) continue
    same++
    expect(encodeBatch({ ...readBatchHeader(batch), records: readRecords(batch) }).equals(batch)).toBe(true)
  }
  expect(same).toBeGreaterThan(100)
})
