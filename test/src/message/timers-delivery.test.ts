/** What batches that leaders make of delayed messages say of them: the bytes, which lie in the log for ever. */
import { expect, test } from 'vitest'
import { encodeBatch, readBatchHeader } from '../../../src/message/batch.ts'
import { type Delivery, deliveryExtension, readDelivery } from '../../../src/message/extensions.ts'
import { sampleBatch } from './sample-batches.ts'

const first = { time: 1_700_000_000_000, index: 41, record: 0 }
const second = { ...first, record: 1 }
const third = { ...first, record: 2 }

test.each<readonly [string, Delivery, string]>([
  [
    'delivered',
    { kind: 'timers', topicId: 7, after: 40, asOf: 50, sources: [first, third], left: [second] },
    '080112090880d095ffbc311029120b0880d095ffbc31102918021828280730323a0b0880d095ffbc3110291801',
  ],
  ['carried', { kind: 'carried_timers', topicId: 7, sources: [first] }, '080512090880d095ffbc3110292807'],
])('timers that are %s are these bytes, and read as they were', (_what, delivery, golden) => {
  const extension = deliveryExtension(delivery)
  expect(extension).toMatchObject({ id: 17, critical: true })
  expect(extension.value.toString('hex')).toBe(golden)
  expect(readDelivery(readBatchHeader(encodeBatch(sampleBatch({ extensions: [extension] }))))).toEqual(delivery)
})

test('a list of timers as long as a batch is read whole, every time', () => {
  const sources = Array.from({ length: 1024 }, (_, record) => ({ ...first, record }))
  const delivery = { kind: 'timers', topicId: 7, after: 0, asOf: 50, sources, left: [] } as const
  const header = readBatchHeader(encodeBatch(sampleBatch({ extensions: [deliveryExtension(delivery)] })))
  expect(readDelivery(header)).toEqual(delivery)
  // Reading it again gives lists of its own.
  expect(readDelivery(header)).toEqual(delivery)
})
