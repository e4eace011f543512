import { describe, expect, test } from 'vitest'
import { recordBytes } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import type { Message } from '../../../src/message/types.ts'

const facts = { messageId: '0100112233445566778899AABBCCDDEEFF' }

function build(changes: Partial<Record<keyof Message, unknown>> = {}) {
  return buildRecord({ topic: 'orders', body: 'x', ...changes } as Message, facts)
}

describe('a record built from a message', () => {
  test('has the fields of the message and tells its size', () => {
    const message = { topic: 'orders', body: 'käse', tag: 'TagA', keys: ['k 1'], properties: { a: '1' } }
    const { record, bytes } = buildRecord(message, {
      ...facts,
      bornDelta: 5,
      messageGroup: 'g',
      deliveryTime: 7,
      flags: 1,
      traceParent: 't',
    })
    expect(record).toEqual({
      ...facts,
      bornDelta: 5,
      tag: 'TagA',
      keys: ['k 1'],
      messageGroup: 'g',
      deliveryTime: 7,
      attempt: 0,
      origin: null,
      flags: 1,
      traceParent: 't',
      properties: { a: '1' },
      body: Buffer.from('käse'),
    })
    expect(bytes).toBe(recordBytes(record))
  })

  test('views the bytes of its body, also inside a larger array', () => {
    const array = new Uint8Array([1, 2, 3, 4])
    const { body } = build({ body: array.subarray(1, 3) }).record
    expect([...body]).toEqual([2, 3])
    expect(body.buffer).toBe(array.buffer)
  })

  test.each([
    ['../x', /may only contain/],
    ['', /is empty/],
    ['t'.repeat(128), /128 characters/],
    ['__proto__', /is reserved/],
    ['rmq_sys_trace', /reserved for the system/],
    ['%RETRY%group', /may only contain/],
  ])('is refused with INVALID_PARAMETER for the topic %j', (topic, text) => {
    expect(() => build({ topic })).toThrow(text)
    expect(() => build({ topic })).toThrow(expect.objectContaining({ code: 'INVALID_PARAMETER' }))
  })

  test.each<[string, Partial<Record<keyof Message, unknown>>]>([
    ['topic must be a string', { topic: 7 }],
    ['body is empty', { body: '' }],
    ['body is empty', { body: new Uint8Array(0) }],
    ['body of 4194305 bytes', { body: new Uint8Array(4_194_305) }],
    ['body must be a Uint8Array or a string', { body: { text: 'x' } }],
    ['body must be a Uint8Array or a string', { body: undefined }],
    ['tag must be a string', { tag: 1 }],
    ['tag must not hold |', { tag: 'a||b' }],
    ['tag must not hold control characters', { tag: 'a\nb' }],
    ['tag must not begin or end with white space', { tag: ' a' }],
    ['tag of 256 bytes', { tag: 't'.repeat(256) }],
    ['keys must be an array', { keys: 'k' }],
    ['key must be a string', { keys: [1] }],
    ['key is blank', { keys: [' '] }],
    ['key must not hold control characters', { keys: ['a\u0000'] }],
    ['65 keys', { keys: Array.from({ length: 65 }, () => 'k') }],
    ['properties must be an object', { properties: 'p' }],
    ['property "a" must be a string', { properties: { a: 1 } }],
    ['property "KEYS" has a reserved name', { properties: { KEYS: 'x' } }],
    ['must not hold control characters in its name', { properties: { 'a\u0001': 'x' } }],
    ['property value of 40000 bytes', { properties: { a: 'x'.repeat(40_000) } }],
    ['129 properties', { properties: Object.fromEntries(Array.from({ length: 129 }, (_, at) => [`p${at}`, ''])) }],
  ])('is refused with MESSAGE_ILLEGAL: %s', (text, changes) => {
    expect(() => build(changes)).toThrow(text)
    expect(() => build(changes)).toThrow(expect.objectContaining({ code: 'MESSAGE_ILLEGAL' }))
  })
})
