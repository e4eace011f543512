/**
 * Opens the files of a log after whatever happened: finds its good entries, tells a torn flush from rot, and leaves
 * zeros behind the tail. Used by `openCommitLog` only, before anything else may touch the files.
 *
 * Torn or rotten is decided by the durable mark alone: what is bad beyond it was promised to nobody and is cut, what
 * is bad below it was promised, so nothing is changed and the hole is reported. Whole segments before the last begun
 * one are always below the mark, since a segment begins only after all before it was synced.
 */
import type { CommitLogOptions, LogRecovery } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import type { LogTail } from './layout.ts'
import { LogFiles } from './log-files.ts'
import { dirtyEndOf, type LogScan, type ScannedSegment, scanLog, strangeSegment } from './log-scan.ts'
import { Segment, segmentBaseOf } from './segment.ts'
import { areMarksBlank, type DurableMark, decodeSegmentHeader, newestMark } from './segment-header.ts'
import { TermRuns } from './term-runs.ts'
import type { Frame, Position } from './types.ts'

export interface RecoveredLog {
  readonly files: LogFiles
  readonly tail: LogTail
  readonly termRuns: TermRuns
  readonly recovery: LogRecovery
}

export interface FoundSegments {
  readonly segments: readonly ScannedSegment[]
  readonly mark: DurableMark
  /** Position below which everything was synced, as far as headers tell. */
  readonly promisedEnd: Position
  /** What is wrong with the files as such; the walk cannot go beyond `position`. */
  readonly defect: { readonly position: Position; readonly reason: string } | null
}

export type RecoveryOptions = Pick<CommitLogOptions, 'directory' | 'segmentBytes' | 'incarnation'>

/** `onEntry` gets every good entry in order. Closes what it opened when it throws. */
export async function recoverLog(
  disk: Disk,
  options: CommitLogOptions,
  onEntry: (frame: Frame) => void,
): Promise<RecoveredLog> {
  const opened: Segment[] = []
  try {
    return await recover(disk, options, opened, onEntry)
  } catch (error) {
    await Promise.allSettled(opened.map((segment) => segment.close()))
    throw error
  }
}

async function recover(
  disk: Disk,
  options: CommitLogOptions,
  opened: Segment[],
  onEntry: (frame: Frame) => void,
): Promise<RecoveredLog> {
  const found = await findSegments(disk, options, opened)
  const termRuns = new TermRuns()
  const scan = await scanLog(found.segments, options.segmentBytes, (frame) => {
    termRuns.add(frame.header.index, frame.header.term)
    onEntry(frame)
  })
  const hole = holeOf(found, scan)
  const files = new LogFiles(
    disk,
    options,
    found.segments.map(({ segment }) => segment),
    found.mark,
  )
  const dirtyEnd = hole === null ? await dirtyEndOf(found.segments, scan.last.position) : scan.last.position
  if (hole === null) await settle(disk, options, { found, scan, files, dirtyEnd })
  const recovery: LogRecovery = {
    firstIndex: 1,
    lastIndex: scan.last.index,
    lastTerm: scan.last.term,
    termRuns: termRuns.all(),
    tornBytes: dirtyEnd - scan.last.position,
    hole,
  }
  return { files, tail: scan.tail, termRuns, recovery }
}

/**
 * Opens all segment files (the caller closes what is in `opened`) and reads their headers. Throws FOREIGN_FOLDER or
 * UNKNOWN_FORMAT when the folder is not ours or not understood.
 */
export async function findSegments(disk: Disk, options: RecoveryOptions, opened: Segment[]): Promise<FoundSegments> {
  const { directory, segmentBytes } = options
  const bases = (await disk.list(directory)).flatMap((name) => segmentBaseOf(name) ?? [])
  const segments: ScannedSegment[] = []
  let mark: DurableMark = { sequence: 0, position: 0, index: 0, term: 0 }
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
    const expected = segments.length * segmentBytes
    if (base !== expected) defect ??= { position: Math.min(base, expected), reason: `no segment at ${expected}` }
    // Without a mark in either slot the header is the torn first write of a segment that no frame went into.
    if (typeof header === 'string' || areMarksBlank(bytes)) {
      segments.push({ segment, header: null })
      continue
    }
    segment.begun = true
    segments.push({ segment, header })
    promisedEnd = Math.max(promisedEnd, base)
    const newest = newestMark(bytes)
    if (newest !== null && newest.sequence > mark.sequence) mark = newest
    unmarked = newest === null ? segment : null
  }
  // Only the last begun segment's mark counts, and a torn write damages one of its two slots, never both.
  if (unmarked !== null) defect ??= { position: unmarked.base, reason: 'both slots of the durable mark are damaged' }
  defect ??= await unbegunDefect(segments)
  return { segments, mark, promisedEnd: Math.max(promisedEnd, mark.position), defect }
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

export function holeOf(found: FoundSegments, scan: LogScan): LogRecovery['hole'] {
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
  } catch (cause) {
    throw new StoreError('STORAGE_FAILED', 'recovery of the CommitLog could not write', { cause })
  }
}

function assertOurs(
  header: { readonly incarnation: string; readonly segmentBytes: number },
  options: RecoveryOptions,
): void {
  const { directory, incarnation, segmentBytes } = options
  if (header.incarnation !== incarnation) {
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
