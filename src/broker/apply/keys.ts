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
  groupSettings: 12,
  timer: 13,
  timerQueue: 14,
  recalledTimer: 15,
  carriedTimers: 16,
  half: 17,
  resolvedHalf: 18,
  givenBack: 19,
  lock: 20,
  received: 21,
  receiveCursor: 22,
  messageKey: 23,
  keyBucket: 24,
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
  return idAndNumber(rowKinds.queue, topicId, queue)
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

export function groupSettingsKey(group: string): Buffer {
  return kindAndName(rowKinds.groupSettings, group)
}

/** Timers lie in the order in which they are due. */
export function timerKey(time: number, index: number, record: number): Buffer {
  return timerLike(rowKinds.timer, time, index, record)
}

export function recalledTimerKey(time: number, index: number, record: number): Buffer {
  return timerLike(rowKinds.recalledTimer, time, index, record)
}

/** Time, index and record of a key made by `timerKey` or `recalledTimerKey`. */
export function timerInKey(key: Buffer): { readonly time: number; readonly index: number; readonly record: number } {
  return { time: readUint64(key, 1), index: readUint64(key, 9), record: key.readUInt32BE(17) }
}

export function timerQueueKey(topicId: number, queue: number): Buffer {
  return idAndNumber(rowKinds.timerQueue, topicId, queue)
}

export const carriedTimersKey: Buffer = Buffer.of(rowKinds.carriedTimers)

/** Index and record that a half message was first stored under. */
export function halfKey(index: number, record: number): Buffer {
  return idAndNumber(rowKinds.half, index, record)
}

export function resolvedHalfKey(index: number, record: number): Buffer {
  return idAndNumber(rowKinds.resolvedHalf, index, record)
}

/** The two numbers of a key of an id and a number. */
export function idAndNumberInKey(key: Buffer): readonly [id: number, number: number] {
  return [readUint64(key, 1), key.readUInt32BE(9)]
}

/** Rows of a group about one message of a queue. */
export function groupMessageKey(
  kind: typeof rowKinds.givenBack | typeof rowKinds.received,
  group: string,
  queue: { readonly topicId: number; readonly queue: number },
  offset: number,
): Buffer {
  const end = Buffer.allocUnsafe(20)
  writeUint64(end, queue.topicId, 0)
  end.writeUInt32BE(queue.queue, 8)
  writeUint64(end, offset, 12)
  return Buffer.concat([kindAndName(kind, group), end])
}

/** Rows of a group about a queue. */
export function groupQueueKey(
  kind: typeof rowKinds.lock | typeof rowKinds.receiveCursor,
  group: string,
  queue: { readonly topicId: number; readonly queue: number },
): Buffer {
  const end = Buffer.allocUnsafe(12)
  writeUint64(end, queue.topicId, 0)
  end.writeUInt32BE(queue.queue, 8)
  return Buffer.concat([kindAndName(kind, group), end])
}

/** Group, queue and, for a message, offset of such a key. */
export function groupQueueInKey(key: Buffer): {
  readonly group: string
  readonly topicId: number
  readonly queue: number
  readonly offset: number
} {
  const at = 2 + key.readUInt8(1)
  const offset = key.length > at + 12 ? readUint64(key, at + 12) : 0
  return { group: nameInKey(key), topicId: readUint64(key, at), queue: key.readUInt32BE(at + 8), offset }
}

/** Name in a key made by `groupOffsetsKey` or `assignmentKey`. */
export function nameInKey(key: Buffer): string {
  return key.toString('utf8', 2, 2 + key.readUInt8(1))
}

/** Topic id behind the name in a key made by `groupOffsetsKey`. */
export function topicIdBehindName(key: Buffer): number {
  return readUint64(key, 2 + key.readUInt8(1))
}

function timerLike(kind: RowKind, time: number, index: number, record: number): Buffer {
  const key = Buffer.allocUnsafe(21)
  key[0] = kind
  writeUint64(key, time, 1)
  writeUint64(key, index, 9)
  key.writeUInt32BE(record, 17)
  return key
}

function idAndNumber(kind: RowKind, id: number, number: number): Buffer {
  const key = Buffer.allocUnsafe(13)
  key[0] = kind
  writeUint64(key, id, 1)
  key.writeUInt32BE(number, 9)
  return key
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
