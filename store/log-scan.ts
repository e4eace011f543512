/**
 * Walks the segment files of a log from its first frame to its end, over whatever is damaged. Reads only.
 *
 * Used by recovery and by the inspection of a stopped node. What is bad below the promised end is a hole when the log
 * can be followed again behind it, and the end of the log, a rotten tail, when it cannot. What is bad beyond it was
 * promised to nobody: a torn flush. No frame counts because it looks like one: it continues the chain from the frame
 * before it, or, behind a hole, belongs to a chain that arrives at a place known for certain (`resync.ts`).
 */
import { invariant } from './assert.ts'
import type { LogHole, RottenTail } from './contract.ts'
import type { FoundSegment, FoundSegments } from './find-segments.ts'
import { bodyMatches } from './frame.ts'
import { type LogTail, placeDefect, tailAfter } from './layout.ts'
import { canFollow, findWayOn, type WayOn } from './resync.ts'
import type { LogEnd } from './segment-header.ts'
import { SegmentWindow } from './segment-window.ts'
import type { UnreadablePages } from './tolerant-read.ts'
import type { Frame, FrameHeader, Position } from './types.ts'
import { frameTypes } from './types.ts'

/** Intact, at its own place, and yet not what follows: one of the two is of another time. */
const strangeFrame = 'a frame does not continue the one before it'
const strangeMark = 'the durable mark names another entry'

/** A hole with what is needed to put its frames back. */
export interface FoundHole extends LogHole {
  /** What its first frame follows. */
  readonly before: LogTail
  /** Header checksum of its last frame, which the frame behind it carries. */
  readonly endChecksum: number
  /** Term of its last entry; a guess unless `termsKnown`. */
  readonly endTerm: number
}

export interface LogScan {
  /** Behind the last entry of the log, lost or not: what the next frame follows. Padding without its entry is not in. */
  readonly tail: LogTail
  readonly holes: readonly FoundHole[]
  readonly rottenTail: RottenTail | null
  /** Segments whose header has to be written again, and what it must say. */
  readonly brokenHeaders: readonly { readonly base: Position; readonly previous: LogEnd }[]
}

/** Hears of the log as it is walked, in its order. */
export interface ScanVisitor {
  entry(frame: Frame): void
  /** An entry that is lost but whose header is not. */
  lost(header: FrameHeader): void
  /** All between the last entry and the next one. */
  hole(hole: FoundHole): void
  /** Everything from `index` on was said in error: it contradicts what stands behind it. */
  rewind(index: number): void
}

/** What was damaged since the last good entry. */
interface Gap {
  readonly before: LogTail
  readonly reason: string
  termsKnown: boolean
}

export interface ScanOptions {
  readonly segmentBytes: number
  readonly unreadable: UnreadablePages
  /** Where to stop, by default at the end of the log. */
  readonly stopAt?: Position
}

export function scanLog(found: FoundSegments, options: ScanOptions, visitor: ScanVisitor): Promise<LogScan> {
  return new LogWalk(found, options, visitor).run()
}

class LogWalk {
  readonly #found: FoundSegments
  readonly #segmentBytes: number
  readonly #unreadable: UnreadablePages
  readonly #stopAt: Position
  readonly #visitor: ScanVisitor
  readonly #brokenHeaders = new Map<Position, LogEnd>()
  #holes: FoundHole[] = []
  /** Behind the last frame that counts. */
  #tail: LogTail
  /** Behind the last entry that counts, lost or not, before its padding. */
  #last: LogTail
  /** The last frame, if it was padding. */
  #padding: FrameHeader | null = null
  #gap: Gap | null = null
  /** The padding of the next entry may be lost, so that the entry has to be put back with it. */
  #owesEntry = false
  /** Nothing behind the damage can be trusted. */
  #isStuck = false
  /** The last place where a segment header agreed with what was walked. */
  #anchor: LogTail
  #window: { readonly base: Position; readonly bytes: SegmentWindow } | null = null

  constructor(found: FoundSegments, options: ScanOptions, visitor: ScanVisitor) {
    this.#found = found
    this.#segmentBytes = options.segmentBytes
    this.#unreadable = options.unreadable
    this.#stopAt = options.stopAt ?? Number.POSITIVE_INFINITY
    this.#visitor = visitor
    this.#tail = found.origin
    this.#last = found.origin
    this.#anchor = found.origin
  }

  async run(): Promise<LogScan> {
    for (;;) {
      const { position } = this.#tail
      if (position >= this.#stopAt && !this.#owesEntry) return this.#end()
      const segment = this.#segmentAt(position)
      if (segment?.base === position && !this.#enter(segment)) return this.#end()
      const defect = segment === undefined ? 'the log ends here' : await this.#step(segment)
      if (defect === null) continue
      if (position >= this.#found.promisedEnd && defect !== strangeMark) return this.#end()
      if (defect === strangeFrame || defect === strangeMark) this.#rewind(defect)
      else this.#damaged(defect === 'zero' ? 'zeros below the durable mark' : defect)
      if (defect === strangeMark || !(await this.#resync(position))) {
        this.#isStuck = true
        return this.#end()
      }
    }
  }

  /** Compares what was walked with what the header of the next segment says. False when nothing fits any more. */
  #enter({ base, previous, isHeaderWhole }: FoundSegment): boolean {
    const { index, term, checksum } = this.#tail
    if (previous === null) {
      // Behind a hole with unknown end it is the repair that knows what to write.
      if (!this.#owesEntry) this.#brokenHeaders.set(base, { index, term, checksum })
      return true
    }
    if (!isHeaderWhole) this.#brokenHeaders.set(base, previous)
    if (previous.index === index && previous.term === term && previous.checksum === checksum) {
      if (this.#gap === null) this.#anchor = this.#tail
      return true
    }
    // Two intact records contradict each other, as when an old file was put back. What lies between the last header
    // that agreed and this one hangs in the air.
    this.#rewind('the segment header does not follow the segment before')
    this.#isStuck = !canFollow(this.#anchor, { ...previous, position: base })
    if (!this.#isStuck) this.#jumpTo({ tail: { ...previous, position: base }, isBehindEntry: false })
    return !this.#isStuck
  }

  /** Takes the next frame. Returns why there is none to take. */
  async #step({ segment, base }: FoundSegment): Promise<string | null> {
    if (segment === null) return 'the segment file is missing'
    if (this.#window?.base !== base) this.#window = { base, bytes: new SegmentWindow(segment, this.#unreadable) }
    const { position } = this.#tail
    const header = await this.#window.bytes.headerAt(position)
    if (typeof header === 'string') return header
    const defect = placeDefect(this.#tail, this.#padding, header, this.#segmentBytes)
    if (defect !== null) return header.position === position ? strangeFrame : defect
    const bytes = await this.#window.bytes.bytesAt(position, header.frameLength)
    const isWhole = bytes.length === header.frameLength && bodyMatches(header, bytes)
    if (!isWhole && position >= this.#found.promisedEnd) return 'body checksum'
    const before = this.#last.position
    this.#take(header, isWhole ? bytes : null)
    return this.#contradictsMark(before) ? strangeMark : null
  }

  /** `bytes` is null when the body is damaged; the header and its place are good. */
  #take(header: FrameHeader, bytes: Buffer | null): void {
    const isPadding = header.type === frameTypes.padding
    if (bytes === null) this.#damaged('body checksum')
    if (isPadding) {
      this.#tail = tailAfter(this.#tail, header)
      this.#padding = header
      if (bytes === null) this.#owesEntry = true
      return
    }
    const isLost = bytes === null || this.#owesEntry
    if (!isLost && this.#gap !== null) this.#closeGap(this.#gap, header.term)
    this.#tail = tailAfter(this.#tail, header)
    this.#last = this.#tail
    this.#padding = null
    this.#owesEntry = false
    if (isLost) this.#visitor.lost(header)
    else this.#visitor.entry({ header, bytes })
  }

  /** Whether the entry that reached the mark is not the one that it names: its segment came from elsewhere. */
  #contradictsMark(before: Position): boolean {
    const { mark } = this.#found
    const { position, index, term } = this.#last
    if (before >= mark.position || position < mark.position) return false
    return position !== mark.position || index !== mark.index || term !== mark.term
  }

  #damaged(reason: string): void {
    this.#gap ??= { before: this.#last, reason, termsKnown: true }
  }

  /** Goes on behind the damage that was met at `position`, if anything can be trusted there. */
  async #resync(position: Position): Promise<boolean> {
    let way = await this.#wayOn(position)
    if (way === 'strange') {
      this.#rewind(this.#gap?.reason ?? strangeFrame)
      way = await this.#wayOn(position)
    }
    if (way === null || way === 'strange') return false
    this.#jumpTo(way)
    return true
  }

  #wayOn(damagedAt: Position): ReturnType<typeof findWayOn> {
    return findWayOn(this.#found, {
      segmentBytes: this.#segmentBytes,
      unreadable: this.#unreadable,
      before: this.#last,
      from: this.#tail.position,
      damagedAt,
    })
  }

  #jumpTo({ tail, isBehindEntry }: WayOn): void {
    invariant(this.#gap !== null, 'S3: nothing is left out but damage')
    this.#gap.termsKnown = false
    this.#tail = tail
    this.#last = tail
    this.#padding = null
    this.#owesEntry = !isBehindEntry
  }

  #rewind(reason: string): void {
    const { index, position } = this.#anchor
    this.#holes = this.#holes.filter((hole) => hole.end <= position)
    for (const base of this.#brokenHeaders.keys()) if (base > position) this.#brokenHeaders.delete(base)
    this.#visitor.rewind(index + 1)
    this.#tail = this.#anchor
    this.#last = this.#anchor
    this.#padding = null
    this.#owesEntry = false
    this.#gap = { before: this.#anchor, reason, termsKnown: false }
  }

  /** `nextTerm` is that of the entry behind the gap. */
  #closeGap({ before, reason, termsKnown }: Gap, nextTerm: number): void {
    const { index, term, checksum, position } = this.#last
    invariant(index > before.index, 'S3: a hole holds an entry')
    const hole: FoundHole = {
      fromIndex: before.index + 1,
      toIndex: index,
      position: before.position,
      end: position,
      reason,
      termsKnown: termsKnown || before.term === nextTerm,
      before,
      endChecksum: checksum,
      endTerm: term,
    }
    this.#gap = null
    this.#holes.push(hole)
    this.#visitor.hole(hole)
  }

  #end(): LogScan {
    const gap = this.#gap
    const { endUnknown } = this.#found
    // Behind a hole at the very end the header of the last lost entry is there, or the log could not go on.
    if (
      gap !== null &&
      !this.#isStuck &&
      !this.#owesEntry &&
      endUnknown === null &&
      this.#last.index > gap.before.index
    )
      this.#closeGap(gap, this.#last.term)
    const lost = this.#gap
    if (lost !== null) this.#visitor.rewind(lost.before.index + 1)
    const tail = lost?.before ?? this.#last
    const reason = lost?.reason ?? endUnknown
    const { index, position } = tail
    return {
      tail,
      holes: this.#holes,
      rottenTail: reason === null ? null : { fromIndex: index + 1, position, reason },
      brokenHeaders: [...this.#brokenHeaders]
        .filter(([base]) => base < position)
        .map(([base, previous]) => ({ base, previous })),
    }
  }

  #segmentAt(position: Position): FoundSegment | undefined {
    const { begun } = this.#found
    return begun[Math.floor((position - (begun[0]?.base ?? 0)) / this.#segmentBytes)]
  }
}
