/** Batches of half messages, and the batches that leaders make of them, for the tests of transactions. */
import { encodeBatch } from '../../../../src/message/batch.ts'
import {
  type Delivery,
  deliveryExtension,
  halfExtension,
  type SourceRecord,
} from '../../../../src/message/extensions.ts'
import { type BatchHeader, type BatchKind, batchKinds, type Codec, codecs } from '../../../../src/message/types.ts'
import { producerId } from './support.ts'

export interface HalfOptions {
  readonly topic?: string
  readonly queue?: number
  readonly bodies?: readonly string[]
  readonly group?: string
  readonly producer?: number
  readonly sequence?: number
  readonly codec?: Codec
  readonly deliveryTime?: number
}

export function halfBatch(options: HalfOptions = {}): Buffer {
  return batch(options, batchKinds.half, [halfExtension(options.group ?? 'pg')])
}

/** A batch of the leader that delivers these half messages. */
export function commitBatch(topicId: number, sources: readonly SourceRecord[], options: HalfOptions = {}): Buffer {
  return madeBy({ kind: 'transaction', topicId, sources }, options)
}

export function carriedBatch(sources: readonly SourceRecord[], options: HalfOptions = {}): Buffer {
  return madeBy({ kind: 'carried_halves', sources }, options)
}

function madeBy(delivery: Extract<Delivery, { readonly sources: unknown }>, options: HalfOptions): Buffer {
  const bodies = options.bodies ?? delivery.sources.map((source) => `m${source.index}/${source.record}`)
  return batch({ ...options, bodies }, batchKinds.internal, [deliveryExtension(delivery)])
}

function batch(options: HalfOptions, kind: BatchKind, extensions: BatchHeader['extensions']): Buffer {
  return encodeBatch({
    codec: options.codec ?? codecs.none,
    kind,
    firstOfProducer: (options.producer ?? 0) > 0 && (options.sequence ?? 0) === 0,
    producerId: producerId(options.producer ?? 0),
    producerEpoch: 0,
    baseSequence: options.sequence ?? 0,
    baseBornTime: 1_700_000_000_000,
    topic: options.topic ?? 't',
    queue: options.queue ?? 0,
    bornHost: 'host-a',
    extensions,
    records: (options.bodies ?? ['x']).map((body, number) => ({
      bornDelta: number * 10,
      messageId: `M${number}`,
      tag: 'paid',
      keys: ['k'],
      messageGroup: '',
      deliveryTime: options.deliveryTime ?? 0,
      attempt: 0,
      origin: null,
      flags: 7,
      traceParent: '',
      properties: { region: 'eu' },
      body: Buffer.from(body),
    })),
  })
}
