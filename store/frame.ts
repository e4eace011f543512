/**
 * The frame codec: how one entry lies in the CommitLog, byte for byte (table in `README.md`).
 *
 * Used by the log, its recovery and its reader. The bytes are a pure function of the entry, its position and the
 * frame before it (S2): never put anything node-local into a frame. A decoded header is trusted only after
 * `readHeader` accepted it, a body only after `bodyMatches` did (S3).
 */
import { crc32 } from 'node:zlib'
import { invariant } from './assert.ts'
import type { Frame, FrameHeader, FrameType, LogEntry, Position } from './types.ts'
import { frameTypes } from './types.ts'
import { readUint64, writeUint64 } from './uint64.ts'

export const frameHeaderBytes = 64
/** Frames start and end at multiples of this, so that what is left of a segment always holds a padding frame. */
export const frameAlignmentBytes = 64
export const frameVersion = 1
/** `LMQF` in the order of the bytes on disk. */
export const frameMagic = 0x4651_4d4c
/** The chain starts with this in front of the very first frame. */
export const chainStart = 0

const headerChecksumAt = 60

/** Why 64 bytes are no header. `zero`: all of them are zero, as behind the tail. */
export type FrameDefect = 'zero' | 'magic' | 'version' | 'header checksum' | 'type' | 'flags' | 'reserved'

/** What a frame takes from its place in the log. */
export interface FramePlace {
  readonly position: Position
  /** Header checksum of the frame before it. */
  readonly previousChecksum: number
}

/** Length of the frame that holds a body of this length: header, body and alignment. */
export function frameLengthOf(bodyLength: number): number {
  return Math.ceil((frameHeaderBytes + bodyLength) / frameAlignmentBytes) * frameAlignmentBytes
}

export function bodyLengthOf(body: readonly Uint8Array[]): number {
  let length = 0
  for (const piece of body) length += piece.length
  return length
}

/** Lays out the entry. Its body is copied once, into the buffer that goes to disk, to followers and to readers. */
export function encodeFrame(entry: LogEntry, place: FramePlace): Frame {
  const bodyLength = bodyLengthOf(entry.body)
  const bytes = Buffer.allocUnsafe(frameLengthOf(bodyLength))
  let offset = frameHeaderBytes
  for (const piece of entry.body) {
    bytes.set(piece, offset)
    offset += piece.length
  }
  bytes.fill(0, offset)
  return seal(bytes, bodyLength, entry.type, entry, place)
}

/**
 * The frame that fills a segment to its end because `entry` does not fit there. It carries index, term and time of
 * that entry, so that it can be told apart from nothing and is cut together with it.
 */
export function encodePadding(
  entry: { readonly index: number; readonly term: number; readonly storeTime: number },
  place: FramePlace,
  frameLength: number,
): Frame {
  invariant(frameLength >= frameHeaderBytes, 'S2: a padding frame needs room for its header')
  return seal(Buffer.alloc(frameLength), frameLength - frameHeaderBytes, frameTypes.padding, entry, place)
}

function seal(
  bytes: Buffer,
  bodyLength: number,
  type: FrameType,
  entry: { readonly index: number; readonly term: number; readonly storeTime: number },
  place: FramePlace,
): Frame {
  invariant(bytes.length % frameAlignmentBytes === 0, 'S2: frames are aligned')
  const bodyChecksum = crc32(bytes.subarray(frameHeaderBytes))
  bytes.writeUInt32LE(frameMagic, 0)
  bytes[4] = frameVersion
  bytes[5] = type
  bytes.writeUInt16LE(0, 6)
  bytes.writeUInt32LE(bodyLength, 8)
  bytes.writeUInt32LE(place.previousChecksum, 12)
  writeUint64(bytes, entry.term, 16)
  writeUint64(bytes, entry.index, 24)
  writeUint64(bytes, place.position, 32)
  writeUint64(bytes, entry.storeTime, 40)
  bytes.writeUInt32LE(bodyChecksum, 48)
  bytes.fill(0, 52, headerChecksumAt)
  const headerChecksum = crc32(bytes.subarray(0, headerChecksumAt))
  bytes.writeUInt32LE(headerChecksum, headerChecksumAt)
  const header: FrameHeader = {
    type,
    flags: 0,
    bodyLength,
    term: entry.term,
    index: entry.index,
    position: place.position,
    storeTime: entry.storeTime,
    previousChecksum: place.previousChecksum,
    bodyChecksum,
    headerChecksum,
    frameLength: bytes.length,
  }
  return { header, bytes }
}

/** Decodes and checks the 64 bytes at `offset`. Says nothing about place, chain or body. */
export function readHeader(bytes: Buffer, offset: number): FrameHeader | FrameDefect {
  if (bytes.readUInt32LE(offset) !== frameMagic) {
    return isZero(bytes.subarray(offset, offset + frameHeaderBytes)) ? 'zero' : 'magic'
  }
  const headerChecksum = bytes.readUInt32LE(offset + headerChecksumAt)
  if (crc32(bytes.subarray(offset, offset + headerChecksumAt)) !== headerChecksum) return 'header checksum'
  // From here on the bytes are what somebody wrote: a strange field is a newer format or a bug, not damage.
  if (bytes[offset + 4] !== frameVersion) return 'version'
  const type = bytes[offset + 5]!
  if (!isFrameType(type)) return 'type'
  if (bytes.readUInt16LE(offset + 6) !== 0) return 'flags'
  if (bytes.readUInt32LE(offset + 52) !== 0 || bytes.readUInt32LE(offset + 56) !== 0) return 'reserved'
  const bodyLength = bytes.readUInt32LE(offset + 8)
  return {
    type,
    flags: 0,
    bodyLength,
    term: readUint64(bytes, offset + 16),
    index: readUint64(bytes, offset + 24),
    position: readUint64(bytes, offset + 32),
    storeTime: readUint64(bytes, offset + 40),
    previousChecksum: bytes.readUInt32LE(offset + 12),
    bodyChecksum: bytes.readUInt32LE(offset + 48),
    headerChecksum,
    frameLength: frameLengthOf(bodyLength),
  }
}

/** Whether body and alignment of the frame in `bytes` (from its first byte) pass their checksum (S3). */
export function bodyMatches(header: FrameHeader, bytes: Buffer): boolean {
  return crc32(bytes.subarray(frameHeaderBytes, header.frameLength)) === header.bodyChecksum
}

/** The body of a frame, without header and alignment. */
export function frameBody(frame: Frame): Buffer {
  return frame.bytes.subarray(frameHeaderBytes, frameHeaderBytes + frame.header.bodyLength)
}

const zeros = Buffer.alloc(64 * 1024)

export function isZero(bytes: Buffer): boolean {
  for (let offset = 0; offset < bytes.length; offset += zeros.length) {
    const length = Math.min(zeros.length, bytes.length - offset)
    if (bytes.compare(zeros, 0, length, offset, offset + length) !== 0) return false
  }
  return true
}

function isFrameType(type: number): type is FrameType {
  return type >= frameTypes.batch && type <= frameTypes.padding
}
