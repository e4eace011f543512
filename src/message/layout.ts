/**
 * Where the fields of a batch lie, and the error for bytes that are no batch. Used by the other files of the format
 * only. The table for humans is in `README.md`; a change here changes a format that can never be migrated.
 */
import { LedgerError } from '../common/errors.ts'

/** The bytes `LMQB`. */
export const batchMagic = 0x42514d4c
export const batchVersion = 1

/** Offsets in the batch header. The first three and the version stay where they are in every later version. */
export const headerAt = {
  magic: 0,
  totalLength: 4,
  checksum: 8,
  version: 12,
  topicLength: 13,
  attributes: 14,
  producerId: 16,
  producerEpoch: 32,
  queue: 36,
  baseSequence: 40,
  baseBornTime: 48,
  recordCount: 56,
  headsLength: 60,
  bodiesLength: 64,
  extensionsLength: 68,
  bornHostLength: 70,
  reserved: 71,
} as const
export const headerFixedBytes = 72
/** The checksum covers everything from here to the end of the batch. */
export const checksumFrom = 12

export const producerIdBytes = 16
export const codecMask = 0x000f
export const kindShift = 4
export const kindMask = 0x00f0
export const firstOfProducerBit = 0x0100
export const attributesKnown = 0x01ff

/** An extension: id and critical bit in 16 bits, length of the value in 16 bits, value. */
export const extensionHeadBytes = 4
export const extensionCriticalBit = 0x8000
export const extensionIdMax = 0x7fff

/** Offsets in a record head. */
export const headAt = {
  headLength: 0,
  bodyLength: 4,
  bornDelta: 8,
  tagHash: 12,
  deliveryTime: 16,
  flags: 24,
  attempt: 28,
  messageIdLength: 30,
  tagLength: 31,
  messageGroupLength: 32,
  traceParentLength: 33,
  keysCount: 34,
  originTopicLength: 35,
  propertiesCount: 36,
  propertiesLength: 38,
} as const
export const headFixedBytes = 40
/** Queue (4) and offset (8) before the topic of an origin. */
export const originFixedBytes = 12
/** Two lengths of 16 bits before name and value of a property. */
export const propertyHeadBytes = 4

export const uint32Max = 0xffff_ffff

/** Bytes or fields that may never be stored. The message names the field. */
export function illegal(message: string, cause?: unknown): LedgerError {
  return new LedgerError('MESSAGE_ILLEGAL', message, {}, cause === undefined ? undefined : { cause })
}

/** Names the field that is above its limit. */
export function tooLong(field: string, bytes: number, bytesMax: number): LedgerError {
  return illegal(`${field} of ${bytes} bytes: at most ${bytesMax} are allowed`)
}

/** For what is checked once a batch: the message is built in any case. */
export function assertLegal(condition: boolean, message: string): asserts condition {
  if (!condition) throw illegal(message)
}

export function isUint53(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

/** A 64-bit field, as two halves: numbers beyond 2^53 - 1 are refused, since none is exact. */
export function readUint53(view: DataView, at: number, field: string): number {
  const value = view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true)
  if (value > Number.MAX_SAFE_INTEGER) throw illegal(`${field} is above 2^53 - 1`)
  return value
}

export function writeUint53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true)
}

export function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
