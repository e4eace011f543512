/**
 * A batch made of records that were stored before, for one queue: their bytes as they are, their born times kept. Used
 * by the timer service and by what carries messages forward. Pure.
 */
import { recordBytes } from '../../message/batch.ts'
import { encodeBatch } from '../../message/batch-encoder.ts'
import { type Delivery, deliveryExtension } from '../../message/extensions.ts'
import { batchBytesTarget, recordsPerBatchMax } from '../../message/limits.ts'
import { batchKinds } from '../../message/types.ts'
import type { StoredRecord } from './stored-records.ts'

/** What the sources of a record take of the header extension and its fields, at most. */
const sourceBytesMax = 32
const bornDeltaMax = 0x7fff_ffff
const noProducer = Buffer.alloc(16)

export interface CopyLimits {
  readonly recordsMax: number
  /** One record always fits. */
  readonly bytesMax: number
}

export const copyLimits: CopyLimits = { recordsMax: recordsPerBatchMax, bytesMax: batchBytesTarget }

/** An entry lies in one segment of the log, and small ones, as tests have them, should hold a few. */
export function copyLimitsFor(segmentBytes: number | undefined): CopyLimits {
  if (segmentBytes === undefined) return copyLimits
  return { ...copyLimits, bytesMax: Math.min(copyLimits.bytesMax, segmentBytes / 4) }
}

export class CopiedBatch {
  readonly #limits: CopyLimits
  readonly #records: StoredRecord[] = []
  #bytes = 0

  constructor(limits: CopyLimits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#records.length
  }

  /** False: it belongs into the next batch. */
  add(stored: StoredRecord): boolean {
    const bytes = recordBytes(stored.record) + sourceBytesMax
    const [first] = this.#records
    if (first) {
      const { recordsMax, bytesMax } = this.#limits
      if (this.#records.length >= recordsMax || this.#bytes + bytes > bytesMax) return false
      // Born weeks apart, two records have no base in common.
      if (Math.abs(stored.bornTime - first.bornTime) > bornDeltaMax) return false
    }
    this.#records.push(stored)
    this.#bytes += bytes
    return true
  }

  /** `delivery` names the sources of the records, in their order. */
  encode(target: { readonly topic: string; readonly queue: number }, delivery: Delivery): Buffer {
    const [first] = this.#records as [StoredRecord]
    const baseBornTime = first.bornTime
    const { bornHost } = first.header
    return encodeBatch({
      codec: first.header.codec,
      kind: batchKinds.internal,
      firstOfProducer: false,
      producerId: noProducer,
      producerEpoch: 0,
      baseSequence: 0,
      baseBornTime,
      topic: target.topic,
      queue: target.queue,
      // There is one for all of a batch: none is better than that of another producer.
      bornHost: this.#records.every(({ header }) => header.bornHost === bornHost) ? bornHost : '',
      extensions: [deliveryExtension(delivery)],
      records: this.#records.map(({ record, bornTime }) => ({ ...record, bornDelta: bornTime - baseBornTime })),
    })
  }
}
