/**
 * The batches that the leader makes of stored half messages: to deliver one whose transaction is committed, and to store
 * some once more before the log is given up behind them. Pure: same half messages, same bytes. Apply admits a delivery
 * once.
 */
import { encodeBatch, readBatchHeader, readRecords } from '../../message/batch.ts'
import { type Delivery, deliveryExtension, type SourceRecord } from '../../message/extensions.ts'
import { illegal } from '../../message/layout.ts'
import { batchKinds } from '../../message/types.ts'
import type { Half } from '../apply/halves.ts'
import { producerIdBytes } from '../apply/keys.ts'

/** Not checked for duplicates by sequence: their sources make them unique. */
const noProducer = Buffer.alloc(producerIdBytes)

/** `stored`: the batch that holds the half message now. Throws as `batchOf` does. */
export function commitBatchOf(stored: Buffer, half: Half): Buffer {
  return batchOf(stored, [half], { kind: 'transaction', topicId: half.topicId, sources: [sourceOf(half)] })
}

/** Half messages of one stored batch. Throws as `batchOf` does. */
export function carriedBatchOf(stored: Buffer, halves: readonly Half[]): Buffer {
  return batchOf(stored, halves, { kind: 'carried_halves', sources: halves.map(sourceOf) })
}

/**
 * Messages stay what their producer sent, with the time at which they were born. Throws MESSAGE_ILLEGAL when their
 * bodies cannot be unpacked, which brokers do not try before.
 */
function batchOf(stored: Buffer, halves: readonly Half[], delivery: Delivery): Buffer {
  const { codec, baseBornTime, topic, queue, bornHost } = readBatchHeader(stored)
  const records = readRecords(stored)
  return encodeBatch({
    codec,
    kind: batchKinds.internal,
    firstOfProducer: false,
    producerId: noProducer,
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime,
    topic,
    queue,
    bornHost,
    extensions: [deliveryExtension(delivery)],
    records: halves.map(({ atRecord }) => {
      const record = records[atRecord]
      if (!record) throw illegal(`the stored batch has no record ${atRecord}`)
      return record
    }),
  })
}

function sourceOf({ index, record }: Half): SourceRecord {
  return { index, record }
}
