/**
 * Messages that a consumer could not handle, as batches of the retry topic or the dead letters of its group (RocketMQ:
 * CONSUMER_SEND_MSG_BACK). Pure; called by `give-back.ts`, which reads them before and proposes them afterwards.
 */
import { invariant } from '../../common/assert.ts'
import { encodeBatch, recordBytes } from '../../message/batch.ts'
import { type ConsumedSource, deliveryExtension } from '../../message/extensions.ts'
import { deadLetterTopicOf, retryTopicOf } from '../../message/system-topics.ts'
import { batchKinds, codecs, type Origin, type RecordFields } from '../../message/types.ts'
import type { GroupSettings } from '../apply/group-config.ts'

/** A stored message as it was consumed. */
export interface ConsumedRecord {
  readonly offset: number
  readonly record: RecordFields
  readonly bornTime: number
  readonly bornHost: string
}

export interface Wish {
  /** 0: by the back-off of the group. */
  readonly delayLevel: number
  readonly deadLetter: boolean
}

export type Fate = { readonly kind: 'retry'; readonly deliveryTime: number } | { readonly kind: 'dead_letter' }

/** Larger ones go one after the other. */
const bytesMax = 1024 * 1024
/** The attempt is stored in 16 bits. */
const attemptMax = 0xffff
const bornDeltaMsMax = 2 ** 31 - 1
const noProducer = Buffer.alloc(16)

/** `nowMs`: log time as far as the leader knows it. */
export function fateOf(
  { attempt }: Pick<RecordFields, 'attempt'>,
  { delayLevel, deadLetter }: Wish,
  { retriesMax, retryDelaysMs }: Pick<GroupSettings, 'retriesMax' | 'retryDelaysMs'>,
  nowMs: number,
): Fate {
  if (deadLetter || attempt >= Math.min(retriesMax, attemptMax)) return { kind: 'dead_letter' }
  if (delayLevel > 0) return { kind: 'retry', deliveryTime: delayLevel }
  const delayMs = retryDelaysMs[Math.min(attempt, retryDelaysMs.length - 1)] ?? 0
  return { kind: 'retry', deliveryTime: nowMs + delayMs }
}

/** What lies side by side in one batch: of one producer host, of about one time, and not too much. */
export function splitForBatches(records: readonly ConsumedRecord[]): readonly (readonly ConsumedRecord[])[] {
  const parts: ConsumedRecord[][] = []
  let bytes = 0
  for (const one of records) {
    const part = parts.at(-1)
    const first = part?.[0]
    bytes += recordBytes(one.record)
    const fits =
      first?.bornHost === one.bornHost && Math.abs(one.bornTime - first.bornTime) <= bornDeltaMsMax && bytes <= bytesMax
    if (part && fits) part.push(one)
    else {
      parts.push([one])
      bytes = recordBytes(one.record)
    }
  }
  return parts
}

/** One part of `splitForBatches`, all of one fate. `topic`: where they were consumed. */
export function makeGivenBackBatch(
  source: Omit<ConsumedSource, 'offsets'> & { readonly topic: string },
  records: readonly (ConsumedRecord & { readonly fate: Fate })[],
): Buffer {
  const first = records[0]
  invariant(first !== undefined, 'B3: a batch of messages given back has messages')
  const isRetry = first.fate.kind === 'retry'
  invariant(
    records.every(({ fate }) => fate.kind === first.fate.kind),
    'B3: a batch goes to one topic',
  )
  const { topic: consumedTopic, ...rest } = source
  const offsets = records.map(({ offset }) => offset)
  const delivery = { kind: isRetry ? 'retry' : 'dead_letters', source: { ...rest, offsets } } as const
  return encodeBatch({
    codec: codecs.none,
    kind: isRetry ? batchKinds.delayed : batchKinds.internal,
    firstOfProducer: false,
    producerId: noProducer,
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: first.bornTime,
    topic: isRetry ? retryTopicOf(source.group) : deadLetterTopicOf(source.group),
    queue: 0,
    bornHost: first.bornHost,
    extensions: [deliveryExtension(delivery)],
    records: records.map(({ offset, record, bornTime, fate }) => ({
      ...record,
      bornDelta: bornTime - first.bornTime,
      deliveryTime: fate.kind === 'retry' ? fate.deliveryTime : 0,
      attempt: fate.kind === 'retry' ? record.attempt + 1 : record.attempt,
      origin: record.origin ?? firstOrigin(consumedTopic, source.queue, offset),
    })),
  })
}

/** Where the message was delivered first: kept through all retries. */
function firstOrigin(topic: string, queue: number, offset: number): Origin {
  return { topic, queue, offset }
}
