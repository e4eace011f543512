/**
 * Receipt handles: what a consumer shows to settle a message that it received. The broker makes and reads them; for
 * everyone else they are opaque text, to be kept as it is.
 *
 * A handle settles one message for one consumer group on one broker group. Any other text is INVALID_PARAMETER: it
 * must never name another message. It is no secret: who may settle is the business of permissions.
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { LedgerError } from '../common/errors.ts'

/** Whose handles are meant: they mean nothing elsewhere. */
export interface ReceiptScope {
  readonly brokerGroup: string
  /** Of the broker group: indexes of another one say something else. */
  readonly incarnation: string
  readonly consumerGroup: string
}

export interface ReceivedPlace {
  readonly topicId: number
  readonly queue: number
  readonly offset: number
  /** Entry by which it was received. */
  readonly receipt: number
}

/** Version 1, topic id 8, queue 4, offset 8, receipt 8, scope 8, checksum 4; big-endian. */
const handleAt = { topicId: 1, queue: 9, offset: 13, receipt: 21, scope: 29, checksum: 37 } as const
const handleBytes = 41
const handleVersion = 1
const handleLength = Math.ceil((handleBytes * 4) / 3)
const twoTo32 = 0x1_0000_0000

export function makeReceiptHandle(scope: ReceiptScope, { topicId, queue, offset, receipt }: ReceivedPlace): string {
  const bytes = Buffer.allocUnsafe(handleBytes)
  bytes.writeUInt8(handleVersion, 0)
  writeNumber(bytes, topicId, handleAt.topicId)
  bytes.writeUInt32BE(queue, handleAt.queue)
  writeNumber(bytes, offset, handleAt.offset)
  writeNumber(bytes, receipt, handleAt.receipt)
  scopeHash(scope).copy(bytes, handleAt.scope)
  bytes.writeUInt32BE(crc32(bytes.subarray(0, handleAt.checksum)), handleAt.checksum)
  return bytes.toString('base64url')
}

/** Throws INVALID_PARAMETER for everything that is no handle of this scope. */
export function readReceiptHandle(scope: ReceiptScope, handle: string): ReceivedPlace {
  const bytes = Buffer.from(handle, 'base64url')
  // Decoding passes over what is no base64: only the text that was made is taken.
  if (handle.length !== handleLength || bytes.length !== handleBytes || bytes.toString('base64url') !== handle)
    throw wrong('is no receipt handle')
  if (bytes.readUInt8(0) !== handleVersion) throw wrong(`has version ${bytes.readUInt8(0)}, which is not known`)
  if (bytes.readUInt32BE(handleAt.checksum) !== crc32(bytes.subarray(0, handleAt.checksum)))
    throw wrong('has a wrong checksum')
  if (!scopeHash(scope).equals(bytes.subarray(handleAt.scope, handleAt.checksum)))
    throw wrong(`is none of group ${scope.consumerGroup} on broker group ${scope.brokerGroup}`)
  return {
    topicId: readNumber(bytes, handleAt.topicId),
    queue: bytes.readUInt32BE(handleAt.queue),
    offset: readNumber(bytes, handleAt.offset),
    receipt: readNumber(bytes, handleAt.receipt),
  }
}

function scopeHash({ brokerGroup, incarnation, consumerGroup }: ReceiptScope): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([brokerGroup, incarnation, consumerGroup]))
    .digest()
    .subarray(0, 8)
}

function writeNumber(target: Buffer, value: number, at: number): void {
  target.writeUInt32BE(Math.floor(value / twoTo32), at)
  target.writeUInt32BE(value % twoTo32, at + 4)
}

function readNumber(source: Buffer, at: number): number {
  const value = source.readUInt32BE(at) * twoTo32 + source.readUInt32BE(at + 4)
  if (!Number.isSafeInteger(value)) throw wrong('holds a number that is too large')
  return value
}

function wrong(problem: string): LedgerError {
  return new LedgerError('INVALID_PARAMETER', `the receipt handle ${problem}`)
}
