/**
 * Transaction ids: how a producer names a half message to the broker group that stored it. Made by the SDK from the
 * answer to its half message and by the leader for its questions, read by the leader; opaque to everyone else.
 *
 * 40 hex digits: 01 | log index 7 | record 2 | store time 6 | CRC-32 4, big-endian. The checksum covers the name of the
 * broker group, too: an id that is brought to another group is refused there instead of naming a transaction of it. The
 * store time tells two half messages apart that got the same index because a log lost its end by force.
 */
import { crc32 } from 'node:zlib'
import { LedgerError } from '../common/errors.ts'
import type { SourceRecord } from './extensions.ts'
import { recordsPerBatchMax } from './limits.ts'

export interface TransactionName extends SourceRecord {
  /** Log time at which the half message was stored. */
  readonly storeTime: number
}

const version = 1
const bytesBefore = 16
const pattern = /^[0-9A-F]{40}$/

export function transactionIdOf(name: TransactionName, brokerGroup: string): string {
  const bytes = Buffer.alloc(bytesBefore + 4)
  bytes.writeUInt8(version, 0)
  writeUint53(bytes, name.index, 1)
  bytes.writeUInt16BE(name.record, 8)
  bytes.writeUIntBE(name.storeTime, 10, 6)
  bytes.writeUInt32BE(checksumOf(bytes, brokerGroup), bytesBefore)
  return bytes.toString('hex').toUpperCase()
}

/** Throws INVALID_PARAMETER unless it is an id that was made for this broker group. */
export function readTransactionId(id: string, brokerGroup: string): TransactionName {
  if (typeof id !== 'string' || !pattern.test(id)) throw illegal('is not one')
  const bytes = Buffer.from(id, 'hex')
  if (bytes.readUInt8(0) !== version) throw illegal(`has the unknown version ${bytes.readUInt8(0)}`)
  if (bytes.readUInt32BE(bytesBefore) !== checksumOf(bytes, brokerGroup))
    throw illegal(`is none of broker group ${brokerGroup}, or damaged`)
  const name = { index: readUint53(bytes, 1), record: bytes.readUInt16BE(8), storeTime: bytes.readUIntBE(10, 6) }
  if (!Number.isSafeInteger(name.index) || name.record >= recordsPerBatchMax) throw illegal('names no record')
  return name
}

/** `writeUIntBE` takes six bytes at most. */
function writeUint53(bytes: Buffer, value: number, at: number): void {
  bytes.writeUIntBE(Math.floor(value / 2 ** 32), at, 3)
  bytes.writeUInt32BE(value % 2 ** 32, at + 3)
}

function readUint53(bytes: Buffer, at: number): number {
  return bytes.readUIntBE(at, 3) * 2 ** 32 + bytes.readUInt32BE(at + 3)
}

function checksumOf(bytes: Buffer, brokerGroup: string): number {
  return crc32(brokerGroup, crc32(bytes.subarray(0, bytesBefore)))
}

function illegal(problem: string): LedgerError {
  return new LedgerError('INVALID_PARAMETER', `the transaction id ${problem}`)
}
