/**
 * Where frames go and what may follow what: the rules that make the log a pure function of its entries (S2).
 *
 * Used when the leader lays an entry out, when a follower checks a frame, and when recovery walks the files, so that
 * the three cannot disagree.
 */
import type { FrameHeader, Position } from './types.ts'
import { frameTypes } from './types.ts'

/** What the next frame has to fit to. */
export interface LogTail {
  /** Index and term of the last entry, zeros before the first. */
  readonly index: number
  readonly term: number
  /** Header checksum of the last frame, padding included. */
  readonly checksum: number
  /** End of the last frame. */
  readonly position: Position
}

/** Length of the padding frame that an entry's frame of this length needs before it, 0 for none. */
export function paddingBefore(position: Position, frameLength: number, segmentBytes: number): number {
  const left = segmentBytes - (position % segmentBytes)
  return frameLength <= left ? 0 : left
}

/** The tail behind an accepted frame. A padding frame moves the place, not the entry. */
export function tailAfter(tail: LogTail, header: FrameHeader): LogTail {
  const end = { checksum: header.headerChecksum, position: header.position + header.frameLength }
  return header.type === frameTypes.padding
    ? { index: tail.index, term: tail.term, ...end }
    : { index: header.index, term: header.term, ...end }
}

/**
 * Why this frame cannot follow `tail`, null when it can. `padding` is the padding frame directly before it, if the
 * last frame was one.
 */
export function placeDefect(
  tail: LogTail,
  padding: FrameHeader | null,
  header: FrameHeader,
  segmentBytes: number,
): string | null {
  if (header.position !== tail.position) return 'position'
  if (header.index !== tail.index + 1) return 'index'
  if (header.term < tail.term) return 'term'
  if (header.previousChecksum !== tail.checksum) return 'chain'
  if (!Number.isSafeInteger(header.term) || !Number.isSafeInteger(header.storeTime)) return 'number'
  const left = segmentBytes - (tail.position % segmentBytes)
  if (header.frameLength > left) return 'length'
  if (header.type === frameTypes.padding) {
    return padding === null && left < segmentBytes && header.frameLength === left ? null : 'padding'
  }
  if (padding === null) return null
  const belongs =
    padding.index === header.index && padding.term === header.term && padding.storeTime === header.storeTime
  return belongs && header.frameLength > padding.frameLength ? null : 'padding'
}
