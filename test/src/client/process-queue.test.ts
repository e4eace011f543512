/** One queue of a push consumer: what may be committed and when it is full. */
import { expect, test } from 'vitest'
import { ConsumedBatch, StoredBatch } from '../../../src/client/consumer/consumed-batch.ts'
import { type Delivery, ProcessQueue } from '../../../src/client/consumer/process-queue.ts'
import { encodeBatch } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'

const roomy = { messagesMax: 1_000, bytesMax: 1e9, spanMax: 2_000 }

function batchAt(firstOffset: number, count: number): ConsumedBatch {
  const records = Array.from({ length: count }, (_, n) => {
    return buildRecord({ topic: 'T', body: 'x'.repeat(10) }, { messageId: `${firstOffset + n}` }).record
  })
  const bytes = encodeBatch({
    codec: 0,
    kind: 0,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 0,
    topic: 'T',
    queue: 0,
    bornHost: '',
    extensions: [],
    records,
  })
  const stored = new StoredBatch({
    queue: { topic: 'T', group: 'a', queue: 0 },
    baseOffset: firstOffset,
    startRecord: 0,
    recordCount: count,
    index: 1,
    storeTime: 1,
    baseBornTime: 0,
    replica: { node: 'n', appliedIndex: 1, commitIndex: 1 },
    bytes,
  })
  return new ConsumedBatch(stored, firstOffset, count)
}

function takeAll(queue: ProcessQueue): Delivery[] {
  const deliveries: Delivery[] = []
  for (let next = queue.next(); next; next = queue.next()) deliveries.push(next)
  return deliveries
}

test('the offset to commit is that of the lowest unfinished message', () => {
  const queue = new ProcessQueue(null, roomy)
  expect(queue.committable).toBeNull()
  queue.add(batchAt(7, 4))
  const [a, b, c, d] = takeAll(queue)
  queue.finished(b!)
  queue.finished(c!)
  expect(queue.committable).toBe(7)
  queue.finished(a!)
  expect(queue.committable).toBe(10)
  queue.finished(d!)
  expect(queue.committable).toBe(11)
})

test('a failed message holds back the commit until it succeeds, and comes before new ones', () => {
  const queue = new ProcessQueue(0, roomy)
  queue.add(batchAt(0, 3))
  const first = queue.next()!
  queue.failed()
  const second = queue.next()!
  queue.finished(second)
  expect(queue.committable).toBe(0)
  queue.retry(first)
  const again = queue.next()!
  expect(again).toMatchObject({ failures: 1 })
  expect(again.message.offset).toBe(0)
  queue.finished(again)
  expect(queue.committable).toBe(2)
})

test('full by messages, by bytes, or by the span to the first unfinished one', () => {
  const byMessages = new ProcessQueue(0, { ...roomy, messagesMax: 5 })
  byMessages.add(batchAt(0, 5))
  expect(byMessages.full).toBe(true)
  byMessages.finished(byMessages.next()!)
  expect(byMessages.full).toBe(false)

  const byBytes = new ProcessQueue(0, { ...roomy, bytesMax: 45 })
  byBytes.add(batchAt(0, 5))
  expect(byBytes.full).toBe(true)

  const bySpan = new ProcessQueue(0, { ...roomy, spanMax: 5 })
  bySpan.add(batchAt(0, 6))
  const deliveries = takeAll(bySpan)
  for (const delivery of deliveries.slice(1)) bySpan.finished(delivery)
  expect(bySpan.full).toBe(true)
  bySpan.finished(deliveries[0]!)
  expect(bySpan.full).toBe(false)
})

test('B2: messages that do not continue where the last ended are a bug', () => {
  const queue = new ProcessQueue(0, roomy)
  queue.add(batchAt(0, 2))
  expect(() => queue.add(batchAt(3, 1))).toThrow(/^B2/)
})
