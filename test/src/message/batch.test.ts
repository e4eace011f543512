/** The batch format: what goes in comes out, and every bad byte is refused by name. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { LedgerError } from '../../../src/common/errors.ts'
import {
  type BatchFields,
  checkBatch,
  encodeBatch,
  readBatchHeader,
  readRecords,
  recordBytes,
  tagHash,
} from '../../../src/message/batch.ts'
import { headAt, headerAt, headerFixedBytes } from '../../../src/message/layout.ts'
import { batchKinds, codecs, type RecordFields } from '../../../src/message/types.ts'
import { completeBatch, completeRecord, sampleBatch, sampleRecord } from './sample-batches.ts'

/** Puts the checksum right after the bytes were tampered with. */
function sealed(batch: Buffer): Buffer {
  batch.writeUInt32LE(crc32(batch.subarray(headerAt.version)), headerAt.checksum)
  return batch
}

function patched(fields: BatchFields, patch: (batch: Buffer, headsFrom: number) => void): Buffer {
  const batch = encodeBatch(fields)
  patch(batch, headerFixedBytes + fields.topic.length + fields.bornHost.length)
  return sealed(batch)
}

function expectIllegal(run: () => unknown, text: RegExp | string): void {
  let thrown: unknown
  try {
    run()
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(LedgerError)
  expect(thrown).toMatchObject({ code: 'MESSAGE_ILLEGAL' })
  expect((thrown as LedgerError).message).toMatch(text)
}

/** With plain properties and bodies, so that records compare by content. */
function plain(records: readonly RecordFields[]): unknown {
  return records.map((record) => ({
    ...record,
    properties: Object.entries(record.properties).sort(),
    body: record.body.toString('latin1'),
  }))
}

describe('a batch that was encoded', () => {
  test.each([
    ['minimal', sampleBatch()],
    ['complete', completeBatch],
    ['of 1024 records', sampleBatch({ records: Array.from({ length: 1024 }, () => sampleRecord()) })],
    ['of the largest body', sampleBatch({ records: [sampleRecord({ body: Buffer.alloc(4 * 1024 * 1024, 1) })] })],
  ])('comes back as it went in: %s', (_name, fields) => {
    const batch = encodeBatch(fields)
    const { records, ...header } = fields
    expect(checkBatch(batch)).toEqual({
      ...header,
      version: 1,
      totalLength: batch.length,
      recordCount: records.length,
    })
    expect(readBatchHeader(batch)).toEqual(checkBatch(batch))
    expect(plain(readRecords(batch))).toEqual(plain(records))
  })

  test('is byte for byte the same when it is encoded again from what was read', () => {
    const batch = encodeBatch(completeBatch)
    const header = readBatchHeader(batch)
    expect(encodeBatch({ ...header, records: readRecords(batch) })).toEqual(batch)
  })

  test('does not depend on the order in which properties were set', () => {
    const names = ['b', 'a', 'ä', '\u{1f600}', '\ufb01', 'aa']
    const forward = Object.fromEntries(names.map((name) => [name, 'x']))
    const backward = Object.fromEntries(names.toReversed().map((name) => [name, 'x']))
    const encode = (properties: Record<string, string>): Buffer =>
      encodeBatch(sampleBatch({ records: [sampleRecord({ properties })] }))
    expect(encode(forward)).toEqual(encode(backward))
    expect(Object.keys(readRecords(encode(forward))[0]!.properties)).toEqual([
      'a',
      'aa',
      'b',
      'ä',
      '\ufb01',
      '\u{1f600}',
    ])
  })

  test('holds as many bytes as recordBytes announced', () => {
    const bytes = (records: readonly RecordFields[]): number => encodeBatch(sampleBatch({ records })).length
    const one = bytes([sampleRecord()])
    expect(bytes([sampleRecord(), completeRecord]) - one).toBe(recordBytes(completeRecord))
  })

  test('gives bodies as views of itself and records from a start on', () => {
    const batch = encodeBatch(
      sampleBatch({ records: ['a', 'b', 'c'].map((body) => sampleRecord({ body: Buffer.from(body) })) }),
    )
    const [, last] = readRecords(batch, 1)
    expect(last?.body.toString()).toBe('c')
    expect(last?.body.buffer).toBe(batch.buffer)
    expect(readRecords(batch, 3)).toEqual([])
    expect(readRecords(batch, 99)).toEqual([])
  })

  test('may lie anywhere in a larger buffer', () => {
    const batch = encodeBatch(completeBatch)
    const inside = Buffer.concat([Buffer.alloc(13, 0xff), batch, Buffer.alloc(7, 0xff)]).subarray(13, 13 + batch.length)
    expect(checkBatch(inside)).toEqual(checkBatch(batch))
    expect(readRecords(inside)).toEqual(readRecords(batch))
  })

  test('keeps unknown header extensions and refuses unknown critical ones', () => {
    expect(checkBatch(encodeBatch(completeBatch)).extensions).toEqual(completeBatch.extensions)
    const batch = encodeBatch(sampleBatch({ extensions: [{ id: 9, critical: true, value: Buffer.from('x') }] }))
    expect(readBatchHeader(batch).extensions[0]).toMatchObject({ id: 9, critical: true })
    expectIllegal(() => checkBatch(batch), 'header extension 9 is critical and unknown')
    expectIllegal(() => readRecords(batch), 'header extension 9 is critical and unknown')
  })

  test('has properties that are nothing but properties, whatever their names', () => {
    const properties = readRecords(encodeBatch(completeBatch))[0]!.properties
    expect(Object.getPrototypeOf(properties)).toBeNull()
    expect(Object.entries(properties)).toContainEqual(['__proto__', 'polluted?'])
    expect(({} as Record<string, unknown>)['polluted?']).toBeUndefined()
    const none = readRecords(encodeBatch(sampleBatch()))[0]!.properties
    expect(Object.isFrozen(none) && Object.getPrototypeOf(none) === null).toBe(true)
  })
})

describe('compressed bodies', () => {
  const bodies = ['a', 'b'].map((letter) => Buffer.alloc(10_000, letter))
  const fields = sampleBatch({ codec: codecs.zlib, records: bodies.map((body) => sampleRecord({ body, tag: 'big' })) })

  test('come back as they went in and take less room', () => {
    const batch = encodeBatch(fields)
    expect(batch.length).toBeLessThan(1000)
    expect(checkBatch(batch).codec).toBe(codecs.zlib)
    expect(readRecords(batch).map((record) => record.body)).toEqual(bodies)
    expect(readRecords(batch, 1)[0]?.body).toEqual(bodies[1])
  })

  test('stay as they are when packing gains nothing', () => {
    const batch = encodeBatch(sampleBatch({ codec: codecs.zlib }))
    expect(checkBatch(batch).codec).toBe(codecs.none)
  })

  test('that cannot be unpacked or have another length are refused on reading', () => {
    const broken = encodeBatch(fields)
    broken[broken.length - 20]! ^= 0xff
    expectIllegal(() => checkBatch(broken), /^checksum is/)
    expectIllegal(() => readRecords(sealed(broken)), 'bodies cannot be unpacked')
    for (const change of [-1, 1]) {
      const wrong = patched(fields, (batch, headsFrom) => {
        batch.writeUInt32LE(20_000 + change, headerAt.bodiesLength)
        batch.writeUInt32LE(10_000 + change, headsFrom + headAt.bodyLength)
      })
      expectIllegal(
        () => readRecords(wrong),
        /bodies (cannot be unpacked|unpack to 20000 bytes, the header says 20001)/,
      )
    }
  })

  test.each([codecs.lz4, codecs.zstd])('by codec %d are refused as not supported yet', (codec) => {
    expectIllegal(() => encodeBatch(sampleBatch({ codec })), `codec ${codec} is not supported yet`)
    const batch = patched(sampleBatch(), (bytes) => bytes.writeUInt16LE(codec, headerAt.attributes))
    // Its bodies have the unpacked length by chance; the codec alone decides.
    expectIllegal(() => checkBatch(batch), `codec ${codec} is not supported yet`)
    expectIllegal(() => readRecords(batch), `codec ${codec} is not supported yet`)
  })
})

describe('a batch beyond a limit is not encoded', () => {
  const record = (changes: Partial<RecordFields>): BatchFields => sampleBatch({ records: [sampleRecord(changes)] })
  const many = (count: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [`p${at}`, '']))
  test.each<[string, BatchFields]>([
    ['body is empty', record({ body: Buffer.alloc(0) })],
    ['body of 4194305 bytes: at most 4194304 are allowed', record({ body: Buffer.alloc(4_194_305) })],
    ['message id is empty', record({ messageId: '' })],
    ['message id of 35 bytes: at most 34', record({ messageId: 'x'.repeat(35) })],
    ['tag of 256 bytes: at most 255', record({ tag: 'ä'.repeat(128) })],
    ['tag holds half of a surrogate pair', record({ tag: 'x\ud800' })],
    ['65 keys, at most 64', record({ keys: Array.from({ length: 65 }, () => 'k') })],
    ['key is empty', record({ keys: [''] })],
    ['key of 256 bytes: at most 255', record({ keys: ['k'.repeat(256)] })],
    ['message group of 65 bytes: at most 64', record({ messageGroup: 'g'.repeat(65) })],
    ['trace parent of 65 bytes: at most 64', record({ traceParent: '0'.repeat(65) })],
    ['129 properties, at most 128', record({ properties: many(129) })],
    ['properties of 32768 bytes: at most 32767', record({ properties: { a: 'x'.repeat(32_763) } })],
    ['property name is empty', record({ properties: { '': 'x' } })],
    ['property value holds half of a surrogate pair', record({ properties: { a: '\udfff' } })],
    ['attempt 65536 does not fit', record({ attempt: 65_536 })],
    ['flags -1 do not fit', record({ flags: -1 })],
    ['delivery time -1 is no time', record({ deliveryTime: -1 })],
    ['delivery time NaN is no time', record({ deliveryTime: Number.NaN })],
    ['born-time delta 2147483648 does not fit', record({ bornDelta: 2 ** 31 })],
    ['origin topic is empty', record({ origin: { topic: '', queue: 0, offset: 0 } })],
    ['origin topic of 128 bytes', record({ origin: { topic: 't'.repeat(128), queue: 0, offset: 0 } })],
    ['origin offset -1 is no offset', record({ origin: { topic: 't', queue: 0, offset: -1 } })],
    ['origin queue 4294967296 does not fit', record({ origin: { topic: 't', queue: 2 ** 32, offset: 0 } })],
    ['batch has no records', sampleBatch({ records: [] })],
    ['1025 records, at most 1024', sampleBatch({ records: Array.from({ length: 1025 }, () => sampleRecord()) })],
    ['topic is empty', sampleBatch({ topic: '' })],
    ['topic of 128 bytes', sampleBatch({ topic: 't'.repeat(128) })],
    ['born host of 256 bytes', sampleBatch({ bornHost: 'h'.repeat(256) })],
    ['queue -1 does not fit', sampleBatch({ queue: -1 })],
    ['producer id has 15 bytes, not 16', sampleBatch({ producerId: Buffer.alloc(15) })],
    ['producer epoch 4294967296 does not fit', sampleBatch({ producerEpoch: 2 ** 32 })],
    ['base sequence 1.5 is no sequence', sampleBatch({ baseSequence: 1.5 })],
    [
      'base sequence 9007199254740991 is no sequence',
      sampleBatch({ baseSequence: 2 ** 53 - 1, records: [sampleRecord(), sampleRecord()] }),
    ],
    ['born time -1 is no time', sampleBatch({ baseBornTime: -1 })],
    ['kind 5 is unknown', sampleBatch({ kind: 5 as never })],
    [
      'at most 4259840 are allowed',
      sampleBatch({ records: [0, 1].map(() => sampleRecord({ body: Buffer.alloc(3_000_000) })) }),
    ],
    [
      '17 header extensions, at most 16',
      sampleBatch({
        extensions: Array.from({ length: 17 }, (_, id) => ({ id, critical: false, value: Buffer.alloc(0) })),
      }),
    ],
    [
      'header extensions are not in ascending order',
      sampleBatch({ extensions: [1, 1].map((id) => ({ id, critical: false, value: Buffer.alloc(0) })) }),
    ],
    [
      'header extensions of 65536 bytes',
      sampleBatch({ extensions: [{ id: 1, critical: false, value: Buffer.alloc(65_532) }] }),
    ],
    [
      'header extension id 32768',
      sampleBatch({ extensions: [{ id: 0x8000, critical: false, value: Buffer.alloc(0) }] }),
    ],
  ])('%s', (text, fields) => {
    expectIllegal(() => encodeBatch(fields), text)
  })

  test('a message with the largest of everything still fits', () => {
    const largest = record({
      body: Buffer.alloc(4 * 1024 * 1024, 1),
      tag: 't'.repeat(255),
      keys: Array.from({ length: 64 }, () => 'k'.repeat(255)),
      messageGroup: 'g'.repeat(64),
      traceParent: '0'.repeat(64),
      origin: { topic: 't'.repeat(127), queue: 1, offset: 1 },
      properties: { a: 'x'.repeat(32_762) },
    })
    const batch = encodeBatch({ ...largest, topic: 't'.repeat(127), bornHost: 'h'.repeat(255) })
    expect(checkBatch(batch).recordCount).toBe(1)
  })
})

describe('bytes that are no batch are refused', () => {
  const setHeader = (at: number, value: number, bytes = 4) =>
    patched(completeBatch, (batch) => batch.writeUIntLE(value, at, bytes))
  const setHead = (at: number, value: number, bytes: number) =>
    patched(
      sampleBatch({ records: [sampleRecord({ tag: 'tag', keys: ['k'], properties: { a: 'x' } })] }),
      (batch, from) => {
        batch.writeUIntLE(value, from + at, bytes)
      },
    )

  test('cut at every length: never read to the end, always refused', () => {
    const batch = encodeBatch(completeBatch)
    for (let length = 0; length < batch.length; length++) {
      // A copy of exactly this length: a read beyond it would throw something else.
      const cut = Buffer.from(new Uint8Array(batch.subarray(0, length)))
      expectIllegal(() => checkBatch(cut), /header is cut|total length/)
      if (length < headerFixedBytes) continue
      cut.writeUInt32LE(length, headerAt.totalLength)
      expectIllegal(() => checkBatch(sealed(cut)), /cut|does not fit|is not that of the batch/)
      expectIllegal(() => readRecords(cut), /cut|does not fit|is not that of the batch/)
    }
  })

  test('with anything behind their end', () => {
    const longer = Buffer.concat([encodeBatch(completeBatch), Buffer.from([0])])
    expectIllegal(() => checkBatch(longer), /total length is/)
    longer.writeUInt32LE(longer.length, headerAt.totalLength)
    expectIllegal(() => checkBatch(sealed(longer)), 'is not that of the batch')
  })

  test('with any single bit flipped', () => {
    const batch = encodeBatch(completeBatch)
    for (let at = 0; at < batch.length * 8; at++) {
      batch[at >> 3]! ^= 1 << (at & 7)
      expectIllegal(() => checkBatch(batch), /./)
      batch[at >> 3]! ^= 1 << (at & 7)
    }
    expect(checkBatch(batch).topic).toBe('orders')
  })

  test.each<[RegExp, () => Buffer]>([
    [/^magic is not that of a batch/, () => setHeader(headerAt.magic, 0)],
    [/^format version 2 is unknown/, () => setHeader(headerAt.version, 2, 1)],
    [/^attributes 0x200 have unknown bits/, () => setHeader(headerAt.attributes, 0x0200, 2)],
    [/^codec 4 is unknown/, () => setHeader(headerAt.attributes, 4, 2)],
    [/^kind 5 is unknown/, () => setHeader(headerAt.attributes, 0x50, 2)],
    [/^reserved byte/, () => setHeader(headerAt.reserved, 1, 1)],
    [/^topic is empty/, () => setHeader(headerAt.topicLength, 0, 1)],
    [/^topic of 128 bytes/, () => setHeader(headerAt.topicLength, 128, 1)],
    [/^record count is zero/, () => setHeader(headerAt.recordCount, 0)],
    [/^record count is 1025/, () => setHeader(headerAt.recordCount, 1025)],
    [/^heads length \d+ is too short for record count 1024/, () => setHeader(headerAt.recordCount, 1024)],
    [/^record count 1 leaves \d+ bytes of heads/, () => setHeader(headerAt.recordCount, 1)],
    [/^record 2: head is cut/, () => setHeader(headerAt.recordCount, 3)],
    [/^heads length 4294967295 does not fit/, () => setHeader(headerAt.headsLength, 0xffffffff)],
    [/^bodies length is 4294967295, at most/, () => setHeader(headerAt.bodiesLength, 0xffffffff)],
    [/^bodies length 9 is not that of the batch, 10/, () => setHeader(headerAt.bodiesLength, 9)],
    [/^base sequence is above/, () => setHeader(headerAt.baseSequence + 4, 0x200000)],
    [/^last sequence is above/, () => setHeader(headerAt.baseSequence, 0xffffffff)],
    [/^base born time is above/, () => setHeader(headerAt.baseBornTime + 4, 0xffffffff)],
    [/^header extension is cut/, () => setHeader(headerFixedBytes + 6 + 14 + 2, 0xffff, 2)],
    [/^header extensions are not in ascending order/, () => setHeader(headerFixedBytes + 6 + 14 + 7, 1, 2)],
    [/^topic, born host or header extensions are cut/, () => setHeader(headerAt.extensionsLength, 0xffff, 2)],
    [/^record 0: head length 39 does not fit/, () => setHead(headAt.headLength, 39, 4)],
    [/^record 0: head length 4294967295 does not fit/, () => setHead(headAt.headLength, 0xffffffff, 4)],
    [/^record 0: head length 84 is not that of its parts, 85/, () => setHead(headAt.headLength, 84, 4)],
    [/^record 0: body is empty/, () => setHead(headAt.bodyLength, 0, 4)],
    [/^record 0: body of 4194305 bytes/, () => setHead(headAt.bodyLength, 4194305, 4)],
    [/^bodies have 5 bytes, their heads say 6/, () => setHead(headAt.bodyLength, 6, 4)],
    [/^record 0: tag hash 1 is not that of the tag/, () => setHead(headAt.tagHash, 1, 4)],
    [/^record 0: delivery time is above/, () => setHead(headAt.deliveryTime + 4, 0x200000, 4)],
    [/^record 0: message id is empty/, () => setHead(headAt.messageIdLength, 0, 1)],
    [/^record 0: message id of 35 bytes/, () => setHead(headAt.messageIdLength, 35, 1)],
    [/^record 0: message id, tag, message group or trace parent is cut/, () => setHead(headAt.tagLength, 255, 1)],
    [/^record 0: message group of 65 bytes/, () => setHead(headAt.messageGroupLength, 65, 1)],
    [/^record 0: trace parent of 65 bytes/, () => setHead(headAt.traceParentLength, 65, 1)],
    [/^record 0: 65 keys/, () => setHead(headAt.keysCount, 65, 1)],
    [/^record 0: key is (cut|empty)/, () => setHead(headAt.keysCount, 64, 1)],
    [/^record 0: origin topic of 128 bytes/, () => setHead(headAt.originTopicLength, 128, 1)],
    [/^record 0: origin is cut/, () => setHead(headAt.originTopicLength, 20, 1)],
    [/^record 0: 129 properties/, () => setHead(headAt.propertiesCount, 129, 2)],
    [/^record 0: property is cut/, () => setHead(headAt.propertiesCount, 2, 2)],
    [/^record 0: properties have 6 bytes that belong to none/, () => setHead(headAt.propertiesCount, 0, 2)],
    [/^record 0: properties of 32768 bytes/, () => setHead(headAt.propertiesLength, 32768, 2)],
    [/^record 0: head length 85 is not that of its parts, 84/, () => setHead(headAt.propertiesLength, 5, 2)],
    [/^record 0: key is empty/, () => setHead(40 + 34 + 3, 0, 1)],
    [/^record 0: property is cut/, () => setHead(40 + 34 + 3 + 2, 3, 2)],
    [/^record 0: property name is empty/, () => setHead(40 + 34 + 3 + 2, 0, 2)],
  ])('%s', (text, build) => {
    expectIllegal(() => checkBatch(build()), text)
  })

  test.each<[string, Partial<BatchFields> | Partial<RecordFields>]>([
    ['topic', { topic: 'ORDERS~~' }],
    ['born host', { bornHost: '~~' }],
    ['message id', { messageId: '~~' }],
    ['tag', { tag: '~~' }],
    ['message group', { messageGroup: '~~' }],
    ['trace parent', { traceParent: '~~' }],
    ['key', { keys: ['~~'] }],
    ['origin topic', { origin: { topic: '~~', queue: 0, offset: 0 } }],
    ['property name', { properties: { '~~': '' } }],
    ['property value', { properties: { a: '~~' } }],
  ])('with a %s that is not UTF-8', (field, changes) => {
    const inHeader = 'topic' in changes || 'bornHost' in changes
    const fields = inHeader
      ? sampleBatch(changes)
      : sampleBatch({ records: [sampleRecord(changes as Partial<RecordFields>)] })
    const batch = encodeBatch(fields)
    // An overlong encoding of "/".
    batch.set([0xc0, 0xaf], batch.indexOf('~~'))
    expectIllegal(() => checkBatch(sealed(batch)), `${field} is not UTF-8`)
    expectIllegal(() => readRecords(batch), `${field} is not UTF-8`)
  })

  test('with property names that are out of order or come twice', () => {
    for (const [first, second] of ['ba', 'aa']) {
      const batch = encodeBatch(sampleBatch({ records: [sampleRecord({ properties: { '1': '', '2': '' } })] }))
      const at = batch.indexOf('1', batch.length - 15)
      batch.write(first!, at)
      batch.write(second!, at + 5)
      expectIllegal(() => checkBatch(sealed(batch)), 'property names are not in ascending order or one comes twice')
    }
  })
})

describe('the hash of a tag', () => {
  test.each([
    ['', 0],
    ['TagA', 2598919],
    ['polygenelubricants', -2147483648],
    ['größer', -1233337215],
  ])('of %j is what Java says', (tag, hash) => {
    expect(tagHash(tag)).toBe(hash)
  })
})

describe('golden files', () => {
  const golden = new URL('./golden/', import.meta.url)
  const samples: Readonly<Record<string, BatchFields>> = {
    'v1-minimal': sampleBatch(),
    'v1-complete': completeBatch,
    'v1-delayed-retry': sampleBatch({
      kind: batchKinds.delayed,
      records: [
        sampleRecord({
          deliveryTime: 1_700_000_600_000,
          attempt: 2,
          origin: { topic: 'orders', queue: 3, offset: 41 },
        }),
      ],
    }),
    'v1-zlib': sampleBatch({ codec: codecs.zlib, records: [sampleRecord({ body: Buffer.alloc(1000, 'z') })] }),
  }

  test.each(Object.entries(samples))('%s is read as it was written', async (name, fields) => {
    const path = new URL(`${name}.hex`, golden)
    if (process.env['LEDGERMQ_WRITE_GOLDEN']) await writeFile(path, toHexLines(encodeBatch(fields)), { flag: 'wx' })
    const stored = Buffer.from((await readFile(path, 'utf8')).replaceAll(/\s/g, ''), 'hex')
    expect(checkBatch(stored)).toMatchObject({ topic: fields.topic, kind: fields.kind, codec: fields.codec })
    expect(plain(readRecords(stored))).toEqual(plain(fields.records))
    // Packed bytes depend on the version of zlib, all others must never change.
    if (fields.codec === codecs.none) expect(toHexLines(encodeBatch(fields))).toBe(toHexLines(stored))
  })

  test('none is without its sample', async () => {
    const names = (await readdir(golden)).filter((name) => name.endsWith('.hex')).sort()
    expect(names).toEqual(
      Object.keys(samples)
        .map((name) => `${name}.hex`)
        .sort(),
    )
  })
})

/** 16 bytes a line, so that a difference can be seen in a diff. */
function toHexLines(bytes: Buffer): string {
  return `${(bytes.toString('hex').match(/.{1,32}/g) ?? []).join('\n')}\n`
}
