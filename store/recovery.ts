/**
 * Opens the files of a log after whatever happened: finds its good entries, tells a torn flush from rot, and leaves
 * zeros behind the tail. Used by `openCommitLog` only, before anything else may touch the files.
 *
 * Torn or rotten is decided by the durable mark alone: what is bad beyond it was promised to nobody and is cut, what
 * is bad below it was promised, so nothing is changed and the hole is reported. Whole segments before the last begun
 * one are always below the mark, since a segment begins only after all before it was synced.
 */
import type { CommitLogOptions, LoggedConfiguration, LogOrigin, LogRecovery, RottenTail } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import { chainStart, frameBody } from './frame.ts'
import type { LogTail } from './layout.ts'
import { LogFiles } from './log-files.ts'
import { dirtyEndOf, type LogScan, type ScannedSegment, scanLog, strangeSegment } from './log-scan.ts'
import { Segment, segmentBaseOf } from './segment.ts'
import { areMarksBlank, type DurableMark, decodeSegmentHeader, newestMark } from './segment-header.ts'
import { TermRuns } from './term-runs.ts'
import { type Frame, frameTypes, type Position } from './types.ts'

export interface RecoveredLog {
  readonly files: LogFiles
  readonly origin: LogOrigin
  readonly tail: LogTail
  readonly termRuns: TermRuns
  readonly recovery: LogRecovery
  /** Makes the log end with its last good entry, when recovery left a rotten tail. */
  readonly cutTail: () => Promise<void>
}

/** Hears of the log as it is walked. */
export interface LogVisitor {
  /** Once, before all else. */
  begins(origin: LogOrigin): void
  /** Every good entry in order. */
  entry(frame: Frame): void
}

export const noOrigin: LogOrigin = { position: 0, index: 0, term: 0, checksum: chainStart }

export interface FoundSegments {
  readonly segments: readonly ScannedSegment[]
  readonly mark: DurableMark
  /** Position below which everything was synced, as far as headers tell. */
  readonly promisedEnd: Position
  /** Where the log begins. */
  readonly origin: LogOrigin
  /** What is wrong with the files as such; the walk cannot go beyond `position`. */
  readonly defect: { readonly position: Position; readonly reason: string } | null
}

export type RecoveryOptions = Pick<
  CommitLogOptions,
  'directory' | 'segmentBytes' | 'incarnation' | 'formerIncarnations' | 'origin'
>

/** Closes what it opened when it throws. */
export async function recoverLog(disk: Disk, options: CommitLogOptions, visitor: LogVisitor): Promise<RecoveredLog> {
  const opened: Segment[] = []
  try {
    return await recover(disk, options, opened, visitor)
  } catch (error) {
    await Promise.allSettled(opened.map((segment) => segment.close()))
    throw error
  }
}

async function recover(
  disk: Disk,
  options: CommitLogOptions,
  opened: Segment[],
  visitor: LogVisitor,
): Promise<RecoveredLog> {
  const found = await findSegments(disk, options, opened)
  const { scan, termRuns, configurations } = await walkLog(found, options, visitor)
  const tail = rottenTailOf(found, scan)
  const files = new LogFiles(disk, options, {
    segments: found.segments.map(({ segment }) => segment),
    strays: [],
    firstBase: found.origin.position,
    mark: found.mark,
  })
  const dirtyEnd = tail === null ? await dirtyEndOf(found.segments, scan.last.position) : scan.last.position
  if (tail === null) await settle(disk, options, { found, scan, files, dirtyEnd })
  const recovery: LogRecovery = {
    firstIndex: found.origin.index + 1,
    previousTerm: found.origin.term,
    lastIndex: scan.last.index,
    lastTerm: scan.last.term,
    configurations,
    termRuns: termRuns.all(),
    tornBytes: dirtyEnd - scan.last.position,
    holes: [],
    tail,
  }
  const cutTail = async (): Promise<void> => {
    await settle(disk, options, { found, scan, files, dirtyEnd: await dirtyEndOf(found.segments, scan.last.position) })
  }
  return { files, origin: found.origin, tail: scan.tail, termRuns, recovery, cutTail }
}

export interface WalkedLog {
  readonly scan: LogScan
  readonly termRuns: TermRuns
  readonly configurations: readonly LoggedConfiguration[]
}

export async function walkLog(found: FoundSegments, options: RecoveryOptions, visitor: LogVisitor): Promise<WalkedLog> {
  const termRuns = new TermRuns(found.origin.term)
  const configurations: LoggedConfiguration[] = []
  visitor.begins(found.origin)
  const scan = await scanLog(found, options.segmentBytes, (frame) => {
    const { index, term, type } = frame.header
    termRuns.add(index, term)
    // A copy: a view would keep the whole chunk that was read.
    if (type === frameTypes.configuration) configurations.push({ index, term, body: Buffer.from(frameBody(frame)) })
    visitor.entry(frame)
  })
  return { scan, termRuns, configurations }
}

/**
 * Opens all segment files (the caller closes what is in `opened`) and reads their headers. Throws FOREIGN_FOLDER or
 * UNKNOWN_FORMAT when the folder is not ours or not understood.
 */
export async function findSegments(disk: Disk, options: RecoveryOptions, opened: Segment[]): Promise<FoundSegments> {
  const { directory, segmentBytes } = options
  const bases = (await disk.list(directory)).flatMap((name) => segmentBaseOf(name) ?? [])
  const segments: ScannedSegment[] = []
  let origin = options.origin ?? noOrigin
  let mark: DurableMark = { sequence: 0, position: origin.position, index: origin.index, term: origin.term }
  let promisedEnd: Position = 0
  let defect: FoundSegments['defect'] = null
  let unmarked: Segment | null = null
  for (const base of bases) {
    const segment = await Segment.open(disk, { directory, base, segmentBytes, create: false })
    opened.push(segment)
    const bytes = await segment.readHeader()
    const header = decodeSegmentHeader(bytes)
    if (typeof header !== 'string') assertOurs(header, options)
    if (header === 'version') throw unknownFormat(segment)
    if (segments.length === 0 && typeof header !== 'string') origin = { position: base, ...header.previous }
    const expected = origin.position + segments.length * segmentBytes
    if (base !== expected) defect ??= { position: Math.min(base, expected), reason: `no segment at ${expected}` }
    // Without a mark in either slot the header is the torn first write of a segment that no frame went into.
    if (typeof header === 'string' || areMarksBlank(bytes)) {
      segments.push({ segment, header: null })
      continue
    }
    segment.begun = true
    segment.previous = header.previous
    segments.push({ segment, header })
    promisedEnd = Math.max(promisedEnd, base)
    const newest = newestMark(bytes)
    if (newest !== null && newest.sequence > mark.sequence) mark = newest
    unmarked = newest === null ? segment : null
  }
  // Only the last begun segment's mark counts, and a torn write damages one of its two slots, never both.
  if (unmarked !== null) defect ??= { position: unmarked.base, reason: 'both slots of the durable mark are damaged' }
  defect ??= await unbegunDefect(segments)
  return { segments, mark, origin, promisedEnd: Math.max(promisedEnd, mark.position), defect }
}

/** Segments without a header are prepared space: at the end, and all zero. Anything else has lost its header. */
async function unbegunDefect(segments: readonly ScannedSegment[]): Promise<FoundSegments['defect']> {
  const first = segments.findIndex(({ header }) => header === null)
  if (first < 0) return null
  const base = segments[first]!.segment.base
  const defect = { position: base, reason: 'segment header is damaged' }
  if (segments.slice(first).some(({ header }) => header !== null)) return defect
  return (await dirtyEndOf(segments.slice(first), base)) > base ? defect : null
}

export function rottenTailOf(found: FoundSegments, scan: LogScan): RottenTail | null {
  const fromIndex = scan.last.index + 1
  if (found.defect !== null && found.defect.position <= scan.stop) {
    return { fromIndex, position: scan.stop, reason: found.defect.reason }
  }
  if (scan.stop >= found.promisedEnd && scan.defect !== strangeSegment) return null
  return { fromIndex, position: scan.stop, reason: scan.defect ?? 'zeros below the durable mark' }
}

/**
 * Makes durable what was found, and zeros of what lies behind it. What is read now may come from the page cache of a
 * process whose sync failed or never came: frames beyond the mark are written again before the sync, because a sync
 * alone vouches for nothing that the kernel already calls clean.
 */
async function settle(
  disk: Disk,
  options: CommitLogOptions,
  state: {
    readonly found: FoundSegments
    readonly scan: LogScan
    readonly files: LogFiles
    readonly dirtyEnd: Position
  },
): Promise<void> {
  const { files, scan, found, dirtyEnd } = state
  try {
    await disk.syncDirectory(options.directory)
    if (found.segments.length > 0) {
      await files.rewrite(Math.min(found.mark.position, scan.last.position), scan.last.position)
      if (dirtyEnd > scan.last.position) await files.cut(scan.last, dirtyEnd)
      await files.writeMark(scan.last)
    }
    await files.prepare(scan.last.position + options.zeroAheadBytes)
    // A log that does not begin in front of entry 1 says so from the start.
    if (found.origin.index > 0 && !files.diskFull) await files.begin(files.firstBase, found.origin, found.origin)
  } catch (cause) {
    throw new StoreError('STORAGE_FAILED', 'recovery of the CommitLog could not write', { cause })
  }
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
