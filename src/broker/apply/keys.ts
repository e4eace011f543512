/**
 * Keys of all rows that the state machine keeps in the state store. The table with the values is in `README.md`.
 *
 * Numbers are big-endian so that ranges of keys are ranges of numbers. Names are bytes behind their length: whatever
 * a client calls a topic or group, it can neither leave its range nor become a file name.
 */
import { invariant } from '../../common/assert.ts'

/** First byte of a key. Never reused for something else. */
export const rowKinds = {
  meta: 1,
  limits: 2,
  topic: 3,
  queue: 4,
  queueRow: 5,
  groupOffsets: 6,
  assignment: 7,
  producer: 8,
  deadTopic: 9,
  membership: 10,
  trim: 11,
} as const
export type RowKind = (typeof rowKinds)[keyof typeof rowKinds]

export const producerIdBytes: number = 16
const twoTo32 = 0x1_0000_0000
const nameBytesMax = 255

export function writeUint64(target: Buffer, value: number, at: number): void {
  target.writeUInt32BE(Math.floor(value / twoTo32), at)
  target.writeUInt32BE(value % twoTo32, at + 4)
}

/** Values beyond 2^53 were never written: they are refused as a broken row. */
export function readUint64(source: Buffer, at: number): number {
  const value = source.readUInt32BE(at) * twoTo32 + source.readUInt32BE(at + 4)
  invariant(Number.isSafeInteger(value), 'S4: a number in a state row is beyond 2^53')
  return value
}

/** Start of the rows of this kind; the start of the next kind is the end (exclusive). */
export function kindStart(kind: number): Buffer {
  return Buffer.of(kind)
}

export const metaKey: Buffer = Buffer.of(rowKinds.meta)
export const limitsKey: Buffer = Buffer.of(rowKinds.limits)
export const trimKey: Buffer = Buffer.of(rowKinds.trim)
export const membershipKey: Buffer = Buffer.of(rowKinds.membership)

export function topicKey(topicId: number): Buffer {
  return kindAndId(rowKinds.topic, topicId)
}

export function deadTopicKey(topicId: number): Buffer {
  return kindAndId(rowKinds.deadTopic, topicId)
}

export function queueKey(topicId: number, queue: number): Buffer {
  const key = Buffer.allocUnsafe(13)
  key[0] = rowKinds.queue
  writeUint64(key, topicId, 1)
  key.writeUInt32BE(queue, 9)
  return key
}

/**
 * Rows of a queue lie under the offset of their *last* record, so that one forward range from any offset starts with
 * the row that holds it. Beyond the last offset of the queue this is also the exclusive end of its rows.
 */
export function queueRowKey(topicId: number, queue: number, lastOffset: number): Buffer {
  const key = Buffer.allocUnsafe(21)
  writeQueueRowKey(key, topicId, queue, lastOffset)
  return key
}

/** Start of the rows of all queues of a topic; that of the next id is the end (exclusive). */
export function topicRowsStart(topicId: number): Buffer {
  return kindAndId(rowKinds.queueRow, topicId)
}

export function writeQueueRowKey(target: Buffer, topicId: number, queue: number, lastOffset: number): void {
  target[0] = rowKinds.queueRow
  writeUint64(target, topicId, 1)
  target.writeUInt32BE(queue, 9)
  writeUint64(target, lastOffset, 13)
}

export function groupOffsetsKey(group: string, topicId: number): Buffer {
  const id = Buffer.allocUnsafe(8)
  writeUint64(id, topicId, 0)
  return Buffer.concat([kindAndName(rowKinds.groupOffsets, group), id])
}

export function assignmentKey(group: string): Buffer {
  return kindAndName(rowKinds.assignment, group)
}

/** Name in a key made by `groupOffsetsKey` or `assignmentKey`. */
export function nameInKey(key: Buffer): string {
  return key.toString('utf8', 2, 2 + key.readUInt8(1))
}

/** Topic id behind the name in a key made by `groupOffsetsKey`. */
export function topicIdBehindName(key: Buffer): number {
  return readUint64(key, 2 + key.readUInt8(1))
}

function kindAndId(kind: RowKind, id: number): Buffer {
  const key = Buffer.allocUnsafe(9)
  key[0] = kind
  writeUint64(key, id, 1)
  return key
}

function kindAndName(kind: RowKind, name: string): Buffer {
  const bytes = Buffer.from(name, 'utf8')
  invariant(bytes.length <= nameBytesMax, 'S4: a name is too long for a key')
  return Buffer.concat([Buffer.of(kind, bytes.length), bytes])
}
