/**
 * The header extensions in use: what a batch is, beyond the messages in it. Read by apply; written by the SDK
 * (`half`) and by leaders (`delivery`). All are critical: who does not know one must not store or show the batch.
 *
 * A delivery is a batch that a leader made of messages that were stored before. It names them, and apply admits each
 * once: however often it is proposed, by however many leaders, it is stored once (design section 8).
 */
import { unreachable } from '../common/assert.ts'
import { ProtobufError } from '../common/protobuf.ts'
import { messages, optionalMessage, type Schema, schema, text, uint, uints } from '../common/protobuf-schema.ts'
import { illegal } from './layout.ts'
import type { BatchHeader } from './types.ts'

/** Never reused. */
export const extensionIds = { half: 16, delivery: 17 } as const

/** One record of one entry of the log. */
export interface SourceRecord {
  readonly index: number
  readonly record: number
}

/** A pending timer, named by the entry that it first came with; ordered by time, then index, then record. */
export interface TimerKey extends SourceRecord {
  /** When it is due by log time, milliseconds since the epoch. */
  readonly time: number
}

/** Who gives back or gives up messages of a queue, and by which right. */
export interface ConsumedSource {
  readonly group: string
  readonly topicId: number
  readonly queue: number
  /** Of the records of the batch, in their order. */
  readonly offsets: readonly number[]
  /** A member of the group with its generation; empty and 0: the messages were received one by one. */
  readonly member: string
  readonly generation: number
  /** Entry by which each was received, in the order of `offsets`; empty for a member. */
  readonly receipts: readonly number[]
}

/** Timers of one queue that are due, in their order: all of them up to the last one, as of an entry of the log. */
export interface TimersDelivery {
  readonly kind: 'timers'
  readonly topicId: number
  /** Entry by which timers of this queue were delivered last, 0 before any: not earlier than that is `asOf`. */
  readonly after: number
  readonly asOf: number
  readonly sources: readonly TimerKey[]
  /** Of those that lie between them, what cannot be delivered now, because its bytes cannot be read. */
  readonly left: readonly TimerKey[]
}

export type Delivery =
  | TimersDelivery
  /** Half messages of one queue whose transaction was committed. */
  | { readonly kind: 'transaction'; readonly topicId: number; readonly sources: readonly SourceRecord[] }
  /** Messages that a consumer gave back: delayed, in the retry topic of its group. */
  | { readonly kind: 'retry'; readonly source: ConsumedSource }
  /** Messages that a group has given up, in its dead-letter topic. */
  | { readonly kind: 'dead_letters'; readonly source: ConsumedSource }
  /** Timers that are not due, stored once more because the log is given up behind them. */
  | { readonly kind: 'carried_timers'; readonly topicId: number; readonly sources: readonly TimerKey[] }
  /** Half messages, for the same reason. */
  | { readonly kind: 'carried_halves'; readonly sources: readonly SourceRecord[] }

const deliveryIds: { readonly [Kind in Delivery['kind']]: number } = {
  timers: 1,
  transaction: 2,
  retry: 3,
  dead_letters: 4,
  carried_timers: 5,
  carried_halves: 6,
}
const deliveriesById = new Map(Object.entries(deliveryIds).map(([kind, id]) => [id, kind as Delivery['kind']]))

/** All kinds in one message; what a kind does not use is absent. */
interface DeliveryFields {
  readonly kind: number
  readonly sources: readonly TimerKey[]
  readonly after: number
  readonly consumed: ConsumedSource | null
  readonly topicId: number
  readonly asOf: number
  readonly left: readonly TimerKey[]
}

const halfSchema: Schema<{ readonly producerGroup: string }> = schema({ producerGroup: text(1) })
export const timerKeySchema: Schema<TimerKey> = schema<TimerKey>({ time: uint(1), index: uint(2), record: uint(3) })
const consumedSchema: Schema<ConsumedSource> = schema<ConsumedSource>({
  group: text(1),
  topicId: uint(2),
  queue: uint(3),
  offsets: uints(4),
  member: text(5),
  generation: uint(6),
  receipts: uints(7),
})
const deliverySchema: Schema<DeliveryFields> = schema<DeliveryFields>({
  kind: uint(1),
  sources: messages(2, timerKeySchema),
  after: uint(3),
  consumed: optionalMessage(4, consumedSchema),
  topicId: uint(5),
  asOf: uint(6),
  left: messages(7, timerKeySchema),
})

/** Timers are delivered by time, then by the entry that they came with, then by their place in it. */
export function compareTimers(a: TimerKey, b: TimerKey): number {
  return a.time - b.time || a.index - b.index || a.record - b.record
}

type Extension = BatchHeader['extensions'][number]

/** Of a batch of half messages: any producer of this group may be asked what became of their transactions. */
export function halfExtension(producerGroup: string): Extension {
  return { id: extensionIds.half, critical: true, value: halfSchema.encode({ producerGroup }) }
}

export function deliveryExtension(delivery: Delivery): Extension {
  return { id: extensionIds.delivery, critical: true, value: deliverySchema.encode(fieldsOf(delivery)) }
}

/** The producer group of a batch of half messages, null for another batch. Throws MESSAGE_ILLEGAL when malformed. */
export function readHalf(header: BatchHeader): { readonly producerGroup: string } | null {
  const value = find(header, extensionIds.half)
  if (!value) return null
  const half = guarded('half', () => halfSchema.decode(value))
  if (half.producerGroup === '') throw illegal('header extension half names no producer group')
  return half
}

/** Null for a batch that a client sent. Throws MESSAGE_ILLEGAL when malformed. */
export function readDelivery(header: BatchHeader): Delivery | null {
  const value = find(header, extensionIds.delivery)
  return value && guarded('delivery', () => deliveryOf(deliverySchema.decode(value)))
}

/** Whether this build knows what the extension means. */
export function isKnownExtension(id: number): boolean {
  return id === extensionIds.half || id === extensionIds.delivery
}

function fieldsOf(delivery: Delivery): DeliveryFields {
  const nothing = { sources: [], after: 0, consumed: null, topicId: 0, asOf: 0, left: [] }
  const kind = deliveryIds[delivery.kind]
  switch (delivery.kind) {
    case 'timers':
      return { ...nothing, ...delivery, kind }
    case 'carried_timers':
      return { ...nothing, sources: delivery.sources, topicId: delivery.topicId, kind }
    case 'transaction':
      return { ...nothing, sources: delivery.sources.map(withoutTime), topicId: delivery.topicId, kind }
    case 'carried_halves':
      return { ...nothing, sources: delivery.sources.map(withoutTime), kind }
    case 'retry':
    case 'dead_letters':
      return { ...nothing, consumed: delivery.source, kind }
    default:
      return unreachable(delivery)
  }
}

function deliveryOf({ kind: id, sources, after, consumed, topicId, asOf, left }: DeliveryFields): Delivery {
  const kind = deliveriesById.get(id)
  switch (kind) {
    case 'timers':
      return { kind, topicId, after, asOf, sources, left }
    case 'carried_timers':
      return { kind, topicId, sources }
    case 'transaction':
      return { kind, topicId, sources }
    case 'carried_halves':
      return { kind, sources }
    case 'retry':
    case 'dead_letters':
      if (!consumed) throw new ProtobufError('the source is missing')
      return { kind, source: consumed }
    case undefined:
      throw new ProtobufError(`kind ${id} is unknown`)
    default:
      return unreachable(kind)
  }
}

/** A half message has no time: the field stays absent. */
function withoutTime({ index, record }: SourceRecord): TimerKey {
  return { time: 0, index, record }
}

function find(header: BatchHeader, id: number): Buffer | null {
  return header.extensions.find((extension) => extension.id === id)?.value ?? null
}

function guarded<Value>(name: string, read: () => Value): Value {
  try {
    return read()
  } catch (error) {
    if (error instanceof ProtobufError) throw illegal(`header extension ${name}: ${error.message}`, error)
    throw error
  }
}
