/**
 * Opens the files of a log after whatever happened: tells a torn flush from rot, keeps the index space over holes, and
 * leaves zeros behind the tail. Used by `openCommitLog` only, before anything else may touch the files.
 *
 * Torn or rotten is decided by the durable mark alone: what is bad beyond it was promised to nobody and is cut, what
 * is bad below it was promised and stays as it is until it is repaired. With a rotten tail nothing is written at all.
 */
import type { CommitLogOptions, LoggedConfiguration, LogOrigin, LogRecovery } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import { dirtyEndOf, type FoundSegments, findSegments, type RecoveryOptions } from './find-segments.ts'
import { frameBody } from './frame.ts'
import type { LogTail } from './layout.ts'
import { LogFiles } from './log-files.ts'
import { publicHole } from './log-holes.ts'
import { type FoundHole, type LogScan, type ScanVisitor, scanLog } from './log-scan.ts'
import { Segment } from './segment.ts'
import { TermRuns } from './term-runs.ts'
import type { UnreadablePages } from './tolerant-read.ts'
import { type Frame, frameTypes } from './types.ts'

export interface RecoveredLog {
  readonly files: LogFiles
  readonly origin: LogOrigin
  readonly tail: LogTail
  readonly termRuns: TermRuns
  readonly holes: readonly FoundHole[]
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
  /** All entries from the last one to `toIndex` are lost. */
  hole(toIndex: number): void
  /** The entries from `index` on are not in the log after all. */
  rewind(index: number): void
}

/** Closes what it opened when it throws. */
export async function recoverLog(disk: Disk, options: CommitLogOptions, visitor: LogVisitor): Promise<RecoveredLog> {
  const opened: Segment[] = []
  try {
    return await recover(disk, options, { opened, unreadable: { count: 0 } }, visitor)
  } catch (error) {
    await Promise.allSettled(opened.map((segment) => segment.close()))
    throw error
  }
}

async function recover(
  disk: Disk,
  options: CommitLogOptions,
  state: { readonly opened: Segment[]; readonly unreadable: UnreadablePages },
  visitor: LogVisitor,
): Promise<RecoveredLog> {
  const { unreadable } = state
  const found = await findSegments(disk, options, state)
  const walked = await walkLog(found, { segmentBytes: options.segmentBytes, unreadable }, visitor)
  const { tail, holes, rottenTail } = walked.scan
  const segments = await existing(disk, options, { found, opened: state.opened })
  const { strays, mark, origin } = found
  const files = new LogFiles(disk, options, { segments, strays, firstBase: origin.position, mark })
  const makeUsable = (): Promise<number> => settle(disk, options, { found, scan: walked.scan, files, unreadable })
  const tornBytes = rottenTail === null ? await makeUsable() : 0
  return {
    files,
    origin,
    tail,
    termRuns: walked.termRuns,
    holes,
    recovery: recoveryOf(found, walked, tornBytes),
    cutTail: async () => {
      await makeUsable()
      if (files.segments[0]?.begun) await files.writeMark(tail, { always: true })
    },
  }
}

export interface WalkedLog {
  readonly scan: LogScan
  readonly termRuns: TermRuns
  readonly configurations: readonly LoggedConfiguration[]
}

export async function walkLog(
  found: FoundSegments,
  options: Pick<RecoveryOptions, 'segmentBytes'> & { readonly unreadable: UnreadablePages },
  visitor: LogVisitor,
): Promise<WalkedLog> {
  const termRuns = new TermRuns(found.origin.index + 1, found.origin.term)
  let configurations: readonly LoggedConfiguration[] = []
  const scanVisitor: ScanVisitor = {
    entry: (frame) => {
      const { index, term, type } = frame.header
      termRuns.add(index, term)
      // A copy: a view would keep the whole chunk that was read.
      if (type === frameTypes.configuration)
        configurations = [...configurations, { index, term, body: Buffer.from(frameBody(frame)) }]
      visitor.entry(frame)
    },
    lost: ({ index, term }) => termRuns.add(index, term),
    hole: ({ toIndex }) => visitor.hole(toIndex),
    rewind: (index) => {
      termRuns.truncate(index)
      configurations = configurations.filter((configuration) => configuration.index < index)
      visitor.rewind(index)
    },
  }
  visitor.begins(found.origin)
  const scan = await scanLog(found, options, scanVisitor)
  return { scan, termRuns, configurations }
}

export function recoveryOf(
  { origin }: FoundSegments,
  { scan, termRuns, configurations }: WalkedLog,
  tornBytes: number,
): LogRecovery {
  return {
    firstIndex: origin.index + 1,
    previousTerm: origin.term,
    lastIndex: scan.tail.index,
    lastTerm: scan.tail.term,
    configurations,
    termRuns: termRuns.all(),
    tornBytes,
    holes: scan.holes.map(publicHole),
    tail: scan.rottenTail,
  }
}

/** All segments of the log; those whose file is missing get an empty one. */
async function existing(
  disk: Disk,
  options: CommitLogOptions,
  { found, opened }: { readonly found: FoundSegments; readonly opened: Segment[] },
): Promise<readonly Segment[]> {
  const { directory, segmentBytes } = options
  const segments: Segment[] = []
  for (const { segment, base } of found.begun) {
    if (segment === null) {
      const empty = await Segment.open(disk, { directory, base, segmentBytes, create: true })
      opened.push(empty)
      empty.begun = true
      segments.push(empty)
    } else segments.push(segment)
  }
  return [...segments, ...found.prepared]
}

/** What is not rotten there now; rot may have come into the middle of what was written. */
async function rewriteDoubtful({ doubtful = [] }: CommitLogOptions, scan: LogScan, files: LogFiles): Promise<void> {
  for (const { position, end } of doubtful) {
    let from = Math.max(position, files.firstBase)
    for (const hole of [...scan.holes, { position: scan.tail.position, end }]) {
      const to = Math.min(end, hole.position)
      if (from < to) await files.rewrite(from, to)
      from = Math.max(from, hole.end)
    }
  }
}

/**
 * Makes durable what was found, and zeros of what lies behind it. What is read now may come from the page cache of a
 * process whose sync failed or never came: frames beyond the promised end are written again before the sync, because
 * a sync alone vouches for nothing that the kernel already calls clean. Returns how many bytes were cut.
 */
async function settle(
  disk: Disk,
  options: CommitLogOptions,
  state: {
    readonly found: FoundSegments
    readonly scan: LogScan
    readonly files: LogFiles
    readonly unreadable: UnreadablePages
  },
): Promise<number> {
  const { found, files, unreadable } = state
  const { tail, brokenHeaders } = state.scan
  const { origin } = found
  try {
    const dirtyEnd = await dirtyEndOf(files.segments, tail.position, unreadable)
    await disk.syncDirectory(options.directory)
    await files.restoreHeaders(brokenHeaders)
    if (found.begun.length > 0) {
      await files.rewrite(Math.min(found.promisedEnd, tail.position), tail.position)
      await rewriteDoubtful(options, state.scan, files)
      if (dirtyEnd > tail.position || found.strays.length > 0) await files.cut(tail, dirtyEnd)
      await files.writeMark(tail)
    } else if (found.strays.length > 0) await files.cut(tail, dirtyEnd)
    if (options.growthBytesMax !== undefined) return Math.max(0, dirtyEnd - tail.position)
    await files.prepare(tail.position + options.zeroAheadBytes)
    // A log that does not begin in front of entry 1 says so from the start.
    if (origin.index > 0 && !files.diskFull) await files.begin(files.firstBase, origin, origin)
    return Math.max(0, dirtyEnd - tail.position)
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    throw new StoreError('STORAGE_FAILED', 'recovery of the CommitLog could not write', { cause })
  }
}
