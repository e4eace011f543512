/**
 * Finds the segment files of a log and reads what stands in front of their frames: where the log begins, which
 * segments have begun, and how far it was promised. Reads only; the frames are walked by `log-scan.ts`.
 */
import type { CommitLogOptions, LogOrigin } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import { chainStart, isZero } from './frame.ts'
import type { LogTail } from './layout.ts'
import { Segment, segmentBaseOf } from './segment.ts'
import {
  areMarksBlank,
  type DurableMark,
  decodeSegmentHeader,
  encodeFixedPart,
  fixedPartBytes,
  fixedPartsAt,
  type LogEnd,
  newestMark,
  type SegmentHeader,
  segmentHeaderBytes,
} from './segment-header.ts'
import { readTolerantly, type UnreadablePages } from './tolerant-read.ts'
import type { Position } from './types.ts'

export interface FoundSegment {
  readonly base: Position
  readonly end: Position
  /** Null when the file is missing, though later segments have begun. */
  readonly segment: Segment | null
  /** What the header says of the log before; null when the header is lost. */
  readonly previous: LogEnd | null
  /** False when the header is lost or one of its copies is. */
  readonly isHeaderWhole: boolean
}

export interface FoundSegments {
  readonly origin: LogOrigin
  /** All that have begun, contiguous from the origin on. */
  readonly begun: readonly FoundSegment[]
  /** Prepared space behind them that no frame went into yet, contiguous. */
  readonly prepared: readonly Segment[]
  /** Files that follow nothing. */
  readonly strays: readonly Segment[]
  readonly mark: DurableMark
  /** Everything before it was synced, as far as headers and marks tell. */
  readonly promisedEnd: Position
  /** What the frame at `promisedEnd` follows, when that is known without asking the disk. */
  readonly knownEnd: LogTail | null
  /** Why more may have been promised than `promisedEnd` says, null when it tells all. */
  readonly endUnknown: string | null
}

export type RecoveryOptions = Pick<
  CommitLogOptions,
  'directory' | 'segmentBytes' | 'incarnation' | 'formerIncarnations' | 'origin'
>

export const noOrigin: LogOrigin = { position: 0, index: 0, term: 0, checksum: chainStart }
const noMark: DurableMark = { sequence: 0, position: 0, index: 0, term: 0 }

interface ReadSegment {
  readonly segment: Segment
  /** Intact and of this place, else null. */
  readonly header: SegmentHeader | null
  readonly isHeaderWhole: boolean
  readonly mark: DurableMark | null
  /** Header and mark are there, so that it has begun for certain. */
  readonly isMarked: boolean
}

/**
 * Opens all segment files; the caller closes what is in `opened`. Throws FOREIGN_FOLDER or UNKNOWN_FORMAT when the
 * folder is not ours or not understood.
 */
export async function findSegments(
  disk: Disk,
  options: RecoveryOptions,
  { opened, unreadable }: { readonly opened: Segment[]; readonly unreadable: UnreadablePages },
): Promise<FoundSegments> {
  const { directory, segmentBytes } = options
  const read: ReadSegment[] = []
  for (const name of await disk.list(directory)) {
    const base = segmentBaseOf(name)
    if (base === undefined) continue
    const segment = await Segment.open(disk, { directory, base, segmentBytes, create: false })
    opened.push(segment)
    read.push(await readSegment(segment, options, unreadable))
  }
  let mark = noMark
  for (const one of read) if (one.mark !== null && one.mark.sequence > mark.sequence) mark = one.mark
  const last = await lastBegunOf(read, mark, unreadable)
  return arrange(read, { last, mark, options })
}

async function readSegment(
  segment: Segment,
  options: RecoveryOptions,
  unreadable: UnreadablePages,
): Promise<ReadSegment> {
  const whole = { position: 0, length: segmentHeaderBytes }
  const bytes = await readTolerantly((at, length) => segment.readHeader(at, length), whole, unreadable)
  const header = decodeSegmentHeader(bytes)
  if (header === 'version') throw unknownFormat(segment)
  if (typeof header === 'string') {
    return { segment, header: null, isHeaderWhole: false, mark: intactMark(bytes), isMarked: false }
  }
  assertOurs(header, options)
  // The file of another segment: its frames are not those of this place, but its mark is of this log.
  const isHere = header.base === segment.base
  const fixed = encodeFixedPart(header)
  return {
    segment,
    header: isHere ? header : null,
    isHeaderWhole: isHere && fixedPartsAt.every((at) => bytes.subarray(at, at + fixedPartBytes).equals(fixed)),
    mark: newestMark(bytes),
    // Without a mark in either slot the header may be the torn first write of a segment that no frame went into.
    isMarked: isHere && !areMarksBlank(bytes),
  }
}

function intactMark(bytes: Buffer): DurableMark | null {
  return bytes.length < segmentHeaderBytes ? null : newestMark(bytes)
}

/** Number of the last segment that has begun, -1 for none: frames went into it, or its header is complete. */
async function lastBegunOf(
  read: readonly ReadSegment[],
  mark: DurableMark,
  unreadable: UnreadablePages,
): Promise<number> {
  for (let at = read.length - 1; at >= 0; at--) {
    const { segment, isMarked } = read[at]!
    if (isMarked || mark.position > segment.base || !(await holdsZerosOnly(segment, unreadable))) return at
  }
  return -1
}

function arrange(
  read: readonly ReadSegment[],
  { last, mark, options }: { readonly last: number; readonly mark: DurableMark; readonly options: RecoveryOptions },
): FoundSegments {
  const files = read.map(({ segment }) => segment)
  const origin = originOf(read[0], options)
  if (origin === null) {
    const empty = options.origin ?? noOrigin
    const reason = `the log does not begin at ${empty.position}, and its first segment does not say where`
    const lost = { origin: empty, begun: [], prepared: [], strays: files, promisedEnd: empty.position, knownEnd: null }
    return { ...lost, mark: { ...markAt(empty), sequence: mark.sequence }, endUnknown: reason }
  }
  const begun = begunSegments(read.slice(0, last + 1), options.segmentBytes)
  let end = begun.at(-1)?.end ?? origin.position
  const prepared: Segment[] = []
  for (const { segment } of read.slice(last + 1)) {
    if (segment.base !== end) break
    prepared.push(segment)
    end = segment.end
  }
  const strays = files.slice(last + 1 + prepared.length)
  const isUnmarked = last >= 0 && read[last]!.mark === null
  const lastBase = begun.at(-1)?.base ?? origin.position
  return {
    origin,
    begun,
    prepared,
    strays,
    mark: mark.sequence > 0 ? mark : markAt(origin),
    promisedEnd: Math.max(lastBase, mark.position),
    knownEnd: null,
    // A torn write damages one of the two slots of the last begun segment, never both; and segments are prepared in
    // their order, so that prepared space behind a gap had a segment before it that was in use.
    endUnknown: isUnmarked
      ? 'both slots of the durable mark are damaged'
      : strays.length > 0
        ? `no segment at ${end}`
        : null,
  }
}

function markAt({ position, index, term }: LogOrigin): DurableMark {
  return { sequence: 0, position, index, term }
}

/** Null when it cannot be known. A missing first segment does not show here: the next one says where it begins. */
function originOf(first: ReadSegment | undefined, options: RecoveryOptions): LogOrigin | null {
  if (first === undefined) return options.origin ?? noOrigin
  const { segment, header } = first
  if (header !== null) return { position: segment.base, ...header.previous }
  return [options.origin ?? noOrigin, noOrigin].find(({ position }) => position === segment.base) ?? null
}

/** With an empty place for every file that is missing between two of them. */
function begunSegments(read: readonly ReadSegment[], segmentBytes: number): readonly FoundSegment[] {
  const begun: FoundSegment[] = []
  for (const { segment, header, isHeaderWhole } of read) {
    for (let base = begun.at(-1)?.end ?? segment.base; base < segment.base; base += segmentBytes) {
      begun.push({ base, end: base + segmentBytes, segment: null, previous: null, isHeaderWhole: false })
    }
    segment.begun = true
    segment.previous = header?.previous ?? null
    begun.push({ base: segment.base, end: segment.end, segment, previous: segment.previous, isHeaderWhole })
  }
  return begun
}

async function holdsZerosOnly(segment: Segment, unreadable: UnreadablePages): Promise<boolean> {
  return (await dirtyEndOf([segment], segment.base, unreadable)) === segment.base
}

const chunkBytes = 1024 * 1024

/** End of the last byte from `from` on that is not zero, `from` when all are. */
export async function dirtyEndOf(
  segments: readonly Segment[],
  from: Position,
  unreadable: UnreadablePages,
): Promise<Position> {
  let dirtyEnd = from
  for (const segment of segments) {
    for (let at = Math.max(from, segment.base); at < segment.preparedEnd; at += chunkBytes) {
      const stretch = { position: at, length: Math.min(chunkBytes, segment.preparedEnd - at) }
      const bytes = await readTolerantly((start, length) => segment.read(start, length), stretch, unreadable)
      if (!isZero(bytes)) dirtyEnd = at + bytes.findLastIndex((byte) => byte !== 0) + 1
    }
  }
  return dirtyEnd
}

function assertOurs(
  header: { readonly incarnation: string; readonly segmentBytes: number },
  options: RecoveryOptions,
): void {
  const { directory, incarnation, formerIncarnations = [], segmentBytes } = options
  if (header.incarnation !== incarnation && !formerIncarnations.includes(header.incarnation)) {
    throw new StoreError('FOREIGN_FOLDER', `the log in ${directory} is of incarnation ${header.incarnation}`, {
      details: { directory, found: header.incarnation, expected: incarnation },
    })
  }
  if (header.segmentBytes === segmentBytes) return
  throw new StoreError('FOREIGN_FOLDER', `the log in ${directory} has segments of ${header.segmentBytes} bytes`, {
    details: { directory, found: header.segmentBytes, expected: segmentBytes },
  })
}

function unknownFormat(segment: Segment): StoreError {
  return new StoreError('UNKNOWN_FORMAT', `${segment.path} is of a format that this build does not know`, {
    details: { path: segment.path },
  })
}
