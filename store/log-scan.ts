/**
 * Walks the segment files of a log from its first frame as far as frames are good. Reads only.
 *
 * Used by recovery and by the inspection of a stopped node. It says where and why the walk ended; whether that is a
 * torn flush or rot is decided by `recovery.ts`.
 */
import type { LogOrigin } from './contract.ts'
import { StoreError } from './errors.ts'
import { bodyMatches, type FrameDefect, frameHeaderBytes, isZero, readHeader } from './frame.ts'
import { type LogTail, placeDefect, tailAfter } from './layout.ts'
import type { EntryEnd } from './log-files.ts'
import type { Segment } from './segment.ts'
import type { LogEnd, SegmentHeader } from './segment-header.ts'
import type { Frame, FrameHeader, Position } from './types.ts'
import { frameTypes } from './types.ts'

const chunkBytes = 1024 * 1024

/** The defect of a segment that does not belong behind the one before it: never the work of a torn flush. */
export const strangeSegment = 'the segment header does not follow the segment before'

export interface ScannedSegment {
  readonly segment: Segment
  /** Null for prepared space that no frame went into yet. */
  readonly header: SegmentHeader | null
}

export interface LogScan {
  /** End of the last good entry, and what the next frame would follow. */
  readonly last: EntryEnd
  readonly tail: LogTail
  /** First position that holds no good frame. */
  readonly stop: Position
  /** Null when the walk ended at zeros, else what is wrong at `stop`. */
  readonly defect: string | null
}

/** Calls back for every good entry, in order. Unknown formats throw UNKNOWN_FORMAT. */
export async function scanLog(
  { segments, origin }: { readonly segments: readonly ScannedSegment[]; readonly origin: LogOrigin },
  segmentBytes: number,
  onEntry: (frame: Frame) => void,
): Promise<LogScan> {
  let tail: LogTail = origin
  let last: EntryEnd = { position: origin.position, index: origin.index, term: origin.term }
  let padding: FrameHeader | null = null
  const ended = (defect: string | null): LogScan => ({
    last,
    tail: {
      index: last.index,
      term: last.term,
      checksum: padding?.previousChecksum ?? tail.checksum,
      position: last.position,
    },
    stop: tail.position,
    defect,
  })
  for (const { segment, header } of segments) {
    if (header === null) break
    if (!follows(header.previous, tail)) return ended(strangeSegment)
    const window = new Window(segment)
    while (tail.position < segment.end) {
      const found = await frameAt(window, tail.position)
      if (typeof found === 'string') return ended(found === 'zero' ? null : found)
      const defect = placeDefect(tail, padding, found.header, segmentBytes)
      if (defect !== null) return ended(defect)
      tail = tailAfter(tail, found.header)
      padding = found.header.type === frameTypes.padding ? found.header : null
      if (padding !== null) continue
      last = { position: tail.position, index: tail.index, term: tail.term }
      onEntry(found)
    }
  }
  return ended(null)
}

/** End of the last byte from `from` on that is not zero, `from` when all are. */
export async function dirtyEndOf(segments: readonly ScannedSegment[], from: Position): Promise<Position> {
  let dirtyEnd = from
  for (const { segment } of segments) {
    for (let at = Math.max(from, segment.base); at < segment.preparedEnd; at += chunkBytes) {
      const bytes = await segment.read(at, Math.min(chunkBytes, segment.preparedEnd - at))
      if (!isZero(bytes)) dirtyEnd = at + bytes.findLastIndex((byte) => byte !== 0) + 1
    }
  }
  return dirtyEnd
}

function follows(previous: LogEnd, tail: LogTail): boolean {
  return previous.index === tail.index && previous.term === tail.term && previous.checksum === tail.checksum
}

async function frameAt(window: Window, position: Position): Promise<Frame | FrameDefect | 'body checksum' | 'length'> {
  const head = window.peek(position, frameHeaderBytes) ?? (await window.load(position, frameHeaderBytes))
  // The file ends here: space that was never prepared.
  if (head.length < frameHeaderBytes) return isZero(head) ? 'zero' : 'length'
  const header = readHeader(head, 0)
  if (typeof header === 'string') {
    if (header === 'zero' || header === 'magic' || header === 'header checksum') return header
    throw new StoreError('UNKNOWN_FORMAT', `the frame at ${position} is of a format that this build does not know`, {
      details: { position, field: header },
    })
  }
  if (position + header.frameLength > window.end) return 'length'
  const bytes = window.peek(position, header.frameLength) ?? (await window.load(position, header.frameLength))
  if (bytes.length < header.frameLength) return 'length'
  return bodyMatches(header, bytes) ? { header, bytes } : 'body checksum'
}

/** Reads a segment forward in large chunks; frames are views of them. */
class Window {
  readonly #segment: Segment
  #start: Position = 0
  #chunk: Buffer = Buffer.alloc(0)

  constructor(segment: Segment) {
    this.#segment = segment
  }

  get end(): Position {
    return this.#segment.end
  }

  /** Undefined when the bytes are not in memory yet. */
  peek(position: Position, length: number): Buffer | undefined {
    const offset = position - this.#start
    if (offset < 0 || offset + length > this.#chunk.length) return undefined
    return this.#chunk.subarray(offset, offset + length)
  }

  async load(position: Position, length: number): Promise<Buffer> {
    const wanted = Math.min(Math.max(length, chunkBytes), this.#segment.end - position)
    this.#chunk = await this.#segment.read(position, wanted)
    this.#start = position
    return this.#chunk.subarray(0, length)
  }
}
