/**
 * The 4 KiB in front of a segment's frames: what is local to this node (tables in `README.md`).
 *
 * The fixed part is written once, before the first frame. The two slots of the durable mark are written in turn, in
 * sectors of their own, so that a torn write can damage one of them only. Nothing here counts as log bytes (S2).
 */
import { crc32 } from 'node:zlib'
import { invariant } from './assert.ts'
import { isZero } from './frame.ts'
import type { Position } from './types.ts'
import { readUint64, writeUint64 } from './uint64.ts'

export const segmentHeaderBytes = 4096
/** `LMQS` in the order of the bytes on disk. */
export const segmentMagic = 0x5351_4d4c
export const segmentVersion = 1
export const markSlotBytes = 64
export const incarnationBytesMax = 64

const fixedPartBytes = 512
const checksumAt = 508
const markSlotsAt = [512, 1024] as const
const markChecksumAt = 60

/** The last entry in front of a segment, as its header names it; zeros in front of the first. */
export interface LogEnd {
  readonly index: number
  readonly term: number
  /** Header checksum of the last frame, which the next one carries. */
  readonly checksum: number
}

export interface SegmentHeader {
  readonly incarnation: string
  readonly segmentBytes: number
  readonly base: Position
  readonly previous: LogEnd
}

/** Everything before `position` was synced; `index` and `term` are those of the entry that ends there. */
export interface DurableMark {
  /** Grows with every mark; the highest one counts, wherever it lies. */
  readonly sequence: number
  readonly position: Position
  readonly index: number
  readonly term: number
}

/** `blank`: all zero, as prepared space is. `version`: intact, but of a format that this build does not know. */
export type SegmentHeaderDefect = 'blank' | 'damaged' | 'version'

export function encodeSegmentHeader(header: SegmentHeader, mark: DurableMark): Buffer {
  const bytes = Buffer.alloc(segmentHeaderBytes)
  const incarnation = Buffer.from(header.incarnation, 'utf8')
  invariant(incarnation.length <= incarnationBytesMax, 'the incarnation fits into the segment header')
  bytes.writeUInt32LE(segmentMagic, 0)
  bytes.writeUInt16LE(segmentVersion, 4)
  bytes.writeUInt16LE(incarnation.length, 6)
  writeUint64(bytes, header.segmentBytes, 8)
  writeUint64(bytes, header.base, 16)
  writeUint64(bytes, header.previous.index, 24)
  writeUint64(bytes, header.previous.term, 32)
  bytes.writeUInt32LE(header.previous.checksum, 40)
  incarnation.copy(bytes, 48)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, checksumAt)), checksumAt)
  encodeMark(mark).copy(bytes, markOffset(mark.sequence))
  return bytes
}

export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | SegmentHeaderDefect {
  if (bytes.length < segmentHeaderBytes) return isZero(bytes) ? 'blank' : 'damaged'
  const fixed = bytes.subarray(0, fixedPartBytes)
  if (isZero(fixed)) return 'blank'
  // Magic, version and the place of this checksum stay the same in all versions.
  if (bytes.readUInt32LE(0) !== segmentMagic) return 'damaged'
  if (crc32(fixed.subarray(0, checksumAt)) !== bytes.readUInt32LE(checksumAt)) return 'damaged'
  if (bytes.readUInt16LE(4) !== segmentVersion) return 'version'
  return {
    incarnation: bytes.toString('utf8', 48, 48 + Math.min(bytes.readUInt16LE(6), incarnationBytesMax)),
    segmentBytes: readUint64(bytes, 8),
    base: readUint64(bytes, 16),
    previous: { index: readUint64(bytes, 24), term: readUint64(bytes, 32), checksum: bytes.readUInt32LE(40) },
  }
}

/** Where in the file the mark with this sequence number goes. */
export function markOffset(sequence: number): number {
  return markSlotsAt[sequence % 2 === 0 ? 0 : 1]
}

export function encodeMark(mark: DurableMark): Buffer {
  const bytes = Buffer.alloc(markSlotBytes)
  writeUint64(bytes, mark.sequence, 0)
  writeUint64(bytes, mark.position, 8)
  writeUint64(bytes, mark.index, 16)
  writeUint64(bytes, mark.term, 24)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, markChecksumAt)), markChecksumAt)
  return bytes
}

/** The newer intact mark of a segment header, null when there is none: a torn write never leaves that. */
export function newestMark(header: Buffer): DurableMark | null {
  let newest: DurableMark | null = null
  for (const offset of markSlotsAt) {
    const slot = header.subarray(offset, offset + markSlotBytes)
    if (crc32(slot.subarray(0, markChecksumAt)) !== slot.readUInt32LE(markChecksumAt)) continue
    const mark = {
      sequence: readUint64(slot, 0),
      position: readUint64(slot, 8),
      index: readUint64(slot, 16),
      term: readUint64(slot, 24),
    }
    // crc32 of zeros is not zero, but a blank slot must never pass even if that changed.
    if (mark.sequence > 0 && (newest === null || mark.sequence > newest.sequence)) newest = mark
  }
  return newest
}

export function areMarksBlank(header: Buffer): boolean {
  return markSlotsAt.every((offset) => isZero(header.subarray(offset, offset + markSlotBytes)))
}
