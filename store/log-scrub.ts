/**
 * Verifies parts of the open log straight from the disk and finds out exactly which entries are damaged. Used by the
 * CommitLog when a read meets rot, and by its scrubbing.
 *
 * The log goes on meanwhile. Only what was durable at the start is looked at, and what is found counts only if that
 * part of the log was neither cut nor deleted nor repaired until the end.
 */

import type { LogTail } from './layout.ts'
import type { EntryEnd, LogFiles } from './log-files.ts'
import type { LogHoles } from './log-holes.ts'
import { type FoundHole, type LogScan, scanLog } from './log-scan.ts'
import type { KnownPlace, PositionIndex } from './position-index.ts'
import type { TermRuns } from './term-runs.ts'
import type { Position } from './types.ts'

export interface ScrubbedLog {
  readonly files: LogFiles
  readonly positions: PositionIndex
  readonly termRuns: TermRuns
  readonly holes: LogHoles
  readonly segmentBytes: number
  origin(): LogTail
  durable(): EntryEnd
  /** Changes whenever the log is cut. */
  epoch(): number
}

/** A stretch between two places that are known. */
interface Stretch {
  readonly start: LogTail
  readonly end: KnownPlace
  /** What the frame at the end follows, if that is known without asking the disk. */
  readonly knownEnd: LogTail | null
}

export interface Verified {
  /** Everything up to here is good or known to be damaged. */
  readonly end: Position
  readonly holes: readonly FoundHole[]
  /** The good entries that stand right behind them: nobody can walk there from before. */
  readonly behind: readonly KnownPlace[]
}

/**
 * Verifies the log around `position` and at least up to `until`. Null when the log changed meanwhile: ask again.
 * A position in a hole, or outside the durable log, has nothing to verify.
 */
export async function verifyStretch(log: ScrubbedLog, position: Position, until: Position): Promise<Verified | null> {
  const isUnchanged = unchanged(log)
  let stretch: Stretch | null = await stretchAround(log, position, until)
  try {
    while (stretch !== null) {
      const { holes, rottenTail, behind } = await scanStretch(log, stretch)
      if (!isUnchanged()) return null
      const end = stretch.end.position
      if (rottenTail === null) return { end, holes: holes.map((hole) => withTerms(log, hole)), behind }
      // The disk contradicts what is known here to the very end: nothing of it counts.
      if (stretch.knownEnd !== null) {
        return { end, holes: [wholly(log, stretch.start, stretch.knownEnd, rottenTail.reason)], behind: [] }
      }
      // Its end is damaged, too: go on to a place that needs no proof from the disk.
      stretch = endAt(log, stretch.start, stretch.end.position + 1)
    }
  } catch (error) {
    if (isUnchanged()) throw error
    return null
  }
  return { end: position, holes: [], behind: [] }
}

function wholly(log: ScrubbedLog, before: LogTail, end: LogTail, reason: string): FoundHole {
  return withTerms(log, {
    fromIndex: before.index + 1,
    toIndex: end.index,
    position: before.position,
    end: end.position,
    reason,
    termsKnown: true,
    before,
    endChecksum: end.checksum,
    endTerm: end.term,
  })
}

function unchanged(log: ScrubbedLog): () => boolean {
  const [epoch, origin, holes] = [log.epoch(), log.origin(), log.holes.all()]
  return () => epoch === log.epoch() && origin === log.origin() && holes === log.holes.all()
}

/** The running log knows all its terms, however little is left on disk. */
function withTerms(log: ScrubbedLog, hole: FoundHole): FoundHole {
  return { ...hole, termsKnown: true, endTerm: log.termRuns.termAt(hole.toIndex) }
}

async function stretchAround(log: ScrubbedLog, position: Position, until: Position): Promise<Stretch | null> {
  if (position < log.origin().position || position >= log.durable().position) return null
  if (log.holes.atPosition(position) !== undefined) return null
  return endAt(log, await startBefore(log, position), Math.max(until, position + 1))
}

/** The nearest place at or before `position` where it is known what the next frame follows. */
async function startBefore(log: ScrubbedLog, position: Position): Promise<LogTail> {
  const origin = log.origin()
  const hole = log.holes.before(position)
  const behindHole: LogTail | null =
    hole === undefined
      ? null
      : { index: hole.toIndex, term: hole.endTerm, checksum: hole.endChecksum, position: hole.end }
  const first = behindHole ?? origin
  for (let at = position; at > first.position; ) {
    const { before } = log.positions.around(at)
    if (before === undefined || before.position <= first.position) break
    const checksum = await checksumBefore(log, before)
    const { index } = before
    if (checksum !== null)
      return { index: index - 1, term: log.termRuns.termAt(index - 1), checksum, position: before.position }
    at = before.position - 1
  }
  return first
}

/** Header checksum of the frame before the entry that begins here. */
async function checksumBefore(log: ScrubbedLog, { index, position }: KnownPlace): Promise<number | null> {
  if (position % log.segmentBytes === 0) return log.files.segmentAt(position).previous?.checksum ?? null
  return log.positions.exact(index - 1)?.checksum ?? (await checksumOnDisk(log, { index, position }))
}

async function checksumOnDisk(log: ScrubbedLog, { index, position }: KnownPlace): Promise<number | null> {
  const header = await log.files.headerAt(position)
  return header?.index === index && header.position === position ? header.previousChecksum : null
}

/** Never at the start of a segment, where padding of the entry behind it would be left out. */
function endAt(log: ScrubbedLog, start: LogTail, from: Position): Stretch {
  const { index, term, position } = log.durable()
  const hole = log.holes.behind(start.position)
  const last: LogTail | null =
    hole !== undefined && hole.position < position
      ? hole.before
      : { index, term, position, checksum: log.positions.exact(index)?.checksum ?? log.origin().checksum }
  const place = placeFrom(log, from)
  if (place === null || place.position >= last.position) {
    return { start, end: { index: last.index + 1, position: last.position }, knownEnd: last }
  }
  const checksum = log.positions.exact(place.index - 1)?.checksum
  const before = { index: place.index - 1, term: log.termRuns.termAt(place.index - 1), position: place.position }
  return { start, end: place, knownEnd: checksum === undefined ? null : { ...before, checksum } }
}

function placeFrom(log: ScrubbedLog, from: Position): KnownPlace | null {
  let { behind } = log.positions.around(from - 1)
  while (behind !== undefined && behind.position % log.segmentBytes === 0) {
    behind = log.positions.around(behind.position).behind
  }
  return behind ?? null
}

async function scanStretch(
  log: ScrubbedLog,
  { start, end, knownEnd }: Stretch,
): Promise<Pick<LogScan, 'holes' | 'rottenTail'> & Pick<Verified, 'behind'>> {
  const begun = log.files.segments
    .filter((segment) => segment.end > start.position && segment.base < end.position)
    .map((segment) => {
      const { base, previous } = segment
      return { base, end: segment.end, segment, previous, isHeaderWhole: true }
    })
  const index = end.index - 1
  const mark = { sequence: 0, position: end.position, index, term: log.termRuns.termAt(index) }
  let behind: KnownPlace[] = []
  let isBehindHole = false
  const { holes, rottenTail } = await scanLog(
    { origin: start, begun, prepared: [], strays: [], mark, promisedEnd: end.position, knownEnd, endUnknown: null },
    { segmentBytes: log.segmentBytes, unreadable: { count: 0 }, stopAt: end.position },
    {
      entry: ({ header }) => {
        if (isBehindHole) behind.push({ index: header.index, position: header.position })
        isBehindHole = false
      },
      lost: () => {},
      hole: () => {
        isBehindHole = true
      },
      rewind: (from) => {
        behind = behind.filter((place) => place.index < from)
      },
    },
  )
  return { holes, rottenTail, behind }
}
