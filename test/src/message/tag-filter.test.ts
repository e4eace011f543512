import { expect, test } from 'vitest'
import { encodeBatch, readRecordHeads, readRecords } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import { matchesTag, parseTagFilter, tagsPerFilterMax } from '../../../src/message/tag-filter.ts'
import { tagHash } from '../../../src/message/tag-hash.ts'

function record(tag: string): { readonly tagHash: number; readTag(): string } {
  return { tagHash: tagHash(tag), readTag: () => tag }
}

function passes(expression: string, tag: string): boolean {
  return matchesTag(parseTagFilter(expression), record(tag))
}

test('everything passes * and an empty expression, also what has no tag', () => {
  for (const expression of ['*', ' * ', '', '  '])
    expect([passes(expression, 'a'), passes(expression, '')]).toEqual([true, true])
})

test('one of the named tags passes, white space around them means nothing', () => {
  expect(passes('a||b', 'b')).toBe(true)
  expect(passes(' a ||  b c ||', 'b c')).toBe(true)
  expect(passes('a || b', 'c')).toBe(false)
  expect(passes('a || b', '')).toBe(false)
})

test('a tag that only shares the hash does not pass', () => {
  expect(tagHash('Aa')).toBe(tagHash('BB'))
  expect(passes('Aa', 'BB')).toBe(false)
  expect(passes('Aa || BB', 'BB')).toBe(true)
})

test('an expression that can mean nothing is refused with the reason', () => {
  const many = Array.from({ length: tagsPerFilterMax + 1 }, (_, at) => `t${at}`).join('||')
  for (const expression of ['||', 'a | b', 'a || *', 'x'.repeat(256), many])
    expect(() => parseTagFilter(expression)).toThrow(expect.objectContaining({ code: 'INVALID_PARAMETER' }))
})

test('heads of records say what whole records say', () => {
  const tags = ['', 'a', 'ü', 'x'.repeat(255)]
  const records = tags.map(
    (tag, at) =>
      buildRecord(
        { topic: 't', body: 'b'.repeat(at + 1), tag },
        { messageId: `m${at}`, messageGroup: `g${tag.slice(0, 5)}` },
      ).record,
  )
  const header = { codec: 0, kind: 0, firstOfProducer: false, producerId: Buffer.alloc(16), producerEpoch: 0 } as const
  const batch = encodeBatch({
    ...header,
    baseSequence: 0,
    baseBornTime: 1,
    topic: 't',
    queue: 0,
    bornHost: '',
    extensions: [],
    records,
  })
  const heads = readRecordHeads(batch)
  expect(heads.map((head) => [head.readTag(), head.messageGroup, head.bodyBytes])).toEqual(
    readRecords(batch).map(({ tag, messageGroup, body }) => [tag, messageGroup, body.length]),
  )
  expect(heads.map((head) => head.tagHash)).toEqual(tags.map(tagHash))
})
