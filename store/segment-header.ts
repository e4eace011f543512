/**
 * The 4 KiB in front of a segment's frames: what is local to this node (tables in `README.md`).
 *
 * The fixed part is written before the first frame, in two copies. The two slots of the durable mark are written in turn, in
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

export const fixedPartBytes = 512
/** The fixed part lies there twice, so that a damaged sector does not take along where a log begins. */
export const fixedPartsAt = [0, 2048] as const
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
  for (const at of fixedPartsAt) encodeFixedPart(header).copy(bytes, at)
  encodeMark(mark).copy(bytes, markOffset(mark.sequence))
  return bytes
}

export function encodeFixedPart(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(fixedPartBytes)
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
  return bytes
}

/** What the first intact copy says. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | SegmentHeaderDefect {
  if (bytes.length < segmentHeaderBytes) return isZero(bytes) ? 'blank' : 'damaged'
  const [first, second] = fixedPartsAt.map((at) => decodeFixedPart(bytes.subarray(at, at + fixedPartBytes)))
  if (typeof first === 'object' || first === 'version') return first
  return second === undefined || second === 'blank' ? first! : second
}

function decodeFixedPart(fixed: Buffer): SegmentHeader | SegmentHeaderDefect {
  if (isZero(fixed)) return 'blank'
  // Magic, version and the place of this checksum stay the same in all versions.
  if (fixed.readUInt32LE(0) !== segmentMagic) return 'damaged'
  if (crc32(fixed.subarray(0, checksumAt)) !== fixed.readUInt32LE(checksumAt)) return 'damaged'
  if (fixed.readUInt16LE(4) !== segmentVersion) return 'version'
  return {
    incarnation: fixed.toString('utf8', 48, 48 + Math.min(fixed.readUInt16LE(6), incarnationBytesMax)),
    segmentBytes: readUint64(fixed, 8),
    base: readUint64(fixed, 16),
    previous: { index: readUint64(fixed, 24), term: readUint64(fixed, 32), checksum: fixed.readUInt32LE(40) },
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
