/**
 * The handle by which a delayed message is taken back before it is delivered. Made by the SDK from what the produce
 * reply tells it, read by brokers. To anybody else it is an opaque string.
 *
 * base64url of: version (1 byte), time, index (8 bytes each), record (4), CRC-32 (4) of all that with queue and topic.
 * A handle that was mistyped, cut, or is used with another topic or queue is refused, and never means another message.
 */
import { crc32 } from 'node:zlib'
import { LedgerError } from '../common/errors.ts'
import { dueTime } from './delay-levels.ts'
import type { TimerKey } from './extensions.ts'

const version = 1
const at = { version: 0, time: 1, index: 9, record: 17, checksum: 21 } as const
const bytesLength = 25

export interface RecallTarget {
  readonly topic: string
  readonly queue: number
}

/** What the reply to a delayed batch says of one of its records, besides where it is stored. */
export interface StoredDelay {
  /** As it was sent: a time or a level. */
  readonly deliveryTime: number
  /** Log time, index: of the reply. */
  readonly storeTime: number
  readonly index: number
  /** Which record of the batch, from 0. */
  readonly record: number
}

/** The timer that this message became. */
export function timerOf({ deliveryTime, storeTime, index, record }: StoredDelay): TimerKey {
  return { time: dueTime(deliveryTime, storeTime), index, record }
}

export function makeRecallHandle(target: RecallTarget, { time, index, record }: TimerKey): string {
  const bytes = Buffer.alloc(bytesLength)
  bytes.writeUInt8(version, at.version)
  bytes.writeBigUInt64BE(BigInt(time), at.time)
  bytes.writeBigUInt64BE(BigInt(index), at.index)
  bytes.writeUInt32BE(record, at.record)
  bytes.writeUInt32BE(checksumOf(bytes, target), at.checksum)
  return bytes.toString('base64url')
}

/** Throws INVALID_PARAMETER for anything that was not made for this topic and queue. */
export function readRecallHandle(handle: string, target: RecallTarget): TimerKey {
  const bytes = Buffer.from(handle, 'base64url')
  // Decoding forgives other alphabets and ends: only the one spelling counts.
  if (bytes.length !== bytesLength || bytes.toString('base64url') !== handle) throw invalid('is none')
  if (bytes.readUInt8(at.version) !== version) throw invalid('has an unknown version')
  if (bytes.readUInt32BE(at.checksum) !== checksumOf(bytes, target))
    throw invalid(`was not made for queue ${target.queue} of this topic, or is mistyped`)
  const [time, index] = [Number(bytes.readBigUInt64BE(at.time)), Number(bytes.readBigUInt64BE(at.index))]
  if (!Number.isSafeInteger(time) || !Number.isSafeInteger(index)) throw invalid('names no message')
  return { time, index, record: bytes.readUInt32BE(at.record) }
}

function checksumOf(bytes: Buffer, { topic, queue }: RecallTarget): number {
  return crc32(`${queue}/${topic}`, crc32(bytes.subarray(0, at.checksum)))
}

function invalid(problem: string): LedgerError {
  return new LedgerError('INVALID_PARAMETER', `the recall handle ${problem}`)
}
