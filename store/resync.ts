/**
 * Finds the place behind damaged bytes from which the log can be followed again. Used by `log-scan.ts` only.
 *
 * It looks as far as the next place that is known for certain: the start of a segment whose header is intact, or else
 * the promised end. What lies beyond that end was promised to nobody and proves nothing: a cut that a crash
 * interrupted leaves frames there that do not belong to the log any more.
 */
import { type Chain, ChainSearch, isPlausible, tailBefore } from './chain-search.ts'
import type { FoundSegment, FoundSegments } from './find-segments.ts'
import { bodyMatches, frameAlignmentBytes } from './frame.ts'
import { type LogTail, placeDefect } from './layout.ts'
import { offerHeaders, SegmentWindow } from './segment-window.ts'
import type { UnreadablePages } from './tolerant-read.ts'
import type { FrameHeader, Position } from './types.ts'

interface Damage {
  readonly segmentBytes: number
  readonly unreadable: UnreadablePages
  /** The last that is known: what comes next lies behind it. */
  readonly before: LogTail
  /** Frames are looked for behind it. */
  readonly from: Position
  /** Where the damage was met; only what lies behind it counts as known. */
  readonly damagedAt: Position
}

export interface WayOn {
  /** What the next good frame follows, its term a lower bound. */
  readonly tail: LogTail
  /** True when nothing but entries lies between here and there: no padding that belongs to the next one. */
  readonly isBehindEntry: boolean
}

/**
 * Null when nothing behind the damage can be trusted; `strange` when what stands there contradicts what was walked
 * before it.
 */
export async function findWayOn(found: FoundSegments, damage: Damage): Promise<WayOn | 'strange' | null> {
  const next = found.begun.find(({ base, previous }) => base > damage.damagedAt && previous !== null)
  const goal = next?.base ?? found.promisedEnd
  if (next === undefined && found.endUnknown !== null) return null
  const search = new ChainSearch(damage.before, damage.segmentBytes)
  for (const { segment, base, end } of found.begun) {
    if (segment === null || end <= damage.from || base >= goal) continue
    const window = new SegmentWindow(segment, damage.unreadable)
    const stretch = { from: Math.max(base, damage.from + frameAlignmentBytes), to: Math.min(end, goal) }
    await offerHeaders(window, stretch, (header) => search.offer(header))
  }
  const arriving = search.arriving(goal)
  const known = next?.previous ? { ...next.previous, position: next.base } : found.knownEnd
  if (known === null) return wayAtPromisedEnd(found, damage, arriving)
  const chain = arriving.find(({ tail }) => isSame(tail, known))
  if (chain !== undefined) return wayTo(tailBefore(chain.start, damage.before.term), damage)
  if (!canFollow(damage.before, known)) return 'strange'
  return { tail: known, isBehindEntry: next === undefined }
}

function wayTo(tail: LogTail, { segmentBytes }: Damage): WayOn {
  return { tail, isBehindEntry: tail.position % segmentBytes !== 0 }
}

/** Whether the log can have gone on from `before` to `known`. */
export function canFollow(before: LogTail, known: LogTail): boolean {
  const lost = known.index - before.index
  // One index and two terms are two entries: what was walked is of another time.
  if (lost === 0 && known.term !== before.term) return false
  return lost >= 0 && known.term >= before.term && lost * frameAlignmentBytes <= known.position - before.position
}

/**
 * No header follows. The durable mark names the entry that ends there; at the start of a last segment that lost its
 * header there is no mark, but the frame there, since no message reaches across the start of a segment.
 */
async function wayAtPromisedEnd(
  { begun, mark, promisedEnd }: FoundSegments,
  damage: Damage,
  arriving: readonly Chain[],
): Promise<WayOn | null> {
  const { term } = damage.before
  const isMarked = mark.position === promisedEnd
  const first = await wholeFrameAt(begun, promisedEnd, damage.unreadable)
  const chain = arriving.find(({ tail, padding }) =>
    isMarked
      ? tail.index === mark.index && tail.term === mark.term
      : first !== null && placeDefect(tail, padding, first, damage.segmentBytes) === null,
  )
  if (chain !== undefined) return wayTo(tailBefore(chain.start, term), damage)
  if (first === null || !isPlausible(damage.before, first, damage.segmentBytes)) return null
  if (isMarked && (first.index !== mark.index + 1 || first.term < mark.term)) return null
  return wayTo(tailBefore(first, isMarked ? mark.term : term), damage)
}

async function wholeFrameAt(
  begun: readonly FoundSegment[],
  position: Position,
  unreadable: UnreadablePages,
): Promise<FrameHeader | null> {
  const segment = begun.find(({ base, end }) => base <= position && position < end)?.segment
  if (segment === undefined || segment === null) return null
  const window = new SegmentWindow(segment, unreadable)
  const header = await window.headerAt(position)
  if (typeof header === 'string' || header.position !== position) return null
  const bytes = await window.bytesAt(position, header.frameLength)
  return bytes.length === header.frameLength && bodyMatches(header, bytes) ? header : null
}

function isSame(one: LogTail, other: LogTail): boolean {
  return one.index === other.index && one.term === other.term && one.checksum === other.checksum
}
