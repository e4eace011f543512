import { expect, test } from 'vitest'
import { makeReceiptHandle, type ReceiptScope, readReceiptHandle } from '../../../src/message/receipt-handle.ts'

const scope: ReceiptScope = { brokerGroup: 'RaftNode00', incarnation: 'i1', consumerGroup: 'g' }
const place = { topicId: 2 ** 53 - 1, queue: 2 ** 32 - 1, offset: 2 ** 40 + 1, receipt: 2 ** 33 + 7 }

test('a handle says which message by which entry, and nothing else is its text', () => {
  const handle = makeReceiptHandle(scope, place)
  expect(handle).toMatch(/^[\w-]{55}$/)
  expect(readReceiptHandle(scope, handle)).toEqual(place)
  expect(makeReceiptHandle(scope, { ...place, offset: 0 })).not.toBe(handle)
})

test('every mistyped handle is refused', () => {
  const handle = makeReceiptHandle(scope, place)
  for (let at = 0; at < handle.length; at++)
    for (const other of ['A', 'B', '_', '-', '9'].filter((letter) => letter !== handle[at]))
      expect(() => readReceiptHandle(scope, handle.slice(0, at) + other + handle.slice(at + 1))).toThrow(
        /receipt handle/,
      )
  for (const text of ['', handle.slice(1), `${handle}A`, ` ${handle}`, `${handle}=`, 'é'.repeat(55)])
    expect(() => readReceiptHandle(scope, text)).toThrow(expect.objectContaining({ code: 'INVALID_PARAMETER' }))
})

test('a handle of another consumer group, broker group or incarnation is refused', () => {
  const handle = makeReceiptHandle(scope, place)
  for (const other of [{ consumerGroup: 'h' }, { brokerGroup: 'RaftNode01' }, { incarnation: 'i2' }])
    expect(() => readReceiptHandle({ ...scope, ...other }, handle)).toThrow(/is none of group/)
})
