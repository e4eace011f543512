/**
 * Decides whether frames from a peer may fill a hole, and what is to be written where. Pure; `CommitLog.repair` does
 * it. Peers send entries only, so the padding between them is made here, as the layout demands (S2).
 */
import { StoreError } from './errors.ts'
import { encodePadding, frameAlignmentBytes } from './frame.ts'
import { badFrame, checkedPeerFrame } from './frame-check.ts'
import { type LogTail, paddingBefore, placeDefect, tailAfter } from './layout.ts'
import type { FoundHole } from './log-scan.ts'
import type { LogEnd } from './segment-header.ts'
import type { TermRuns } from './term-runs.ts'
import type { Frame, FrameHeader, Position } from './types.ts'
import { frameTypes } from './types.ts'

/** Bytes for one segment. */
export interface RepairPart {
  readonly position: Position
  readonly end: Position
  readonly buffers: readonly Buffer[]
  /** Set when the part begins its segment: what the segment's header must say. */
  readonly previous: LogEnd | null
}

export interface RepairPlan {
  readonly hole: FoundHole
  /** Behind the last frame that is put back. */
  readonly tail: LogTail
  readonly headers: readonly FrameHeader[]
  readonly parts: readonly RepairPart[]
}

/**
 * Throws BAD_FRAME when the frames do not fit. Those of a branch that was never committed may fit in front of a hole;
 * the chain behind it tells only with its last frame, `termRuns` with each one, as far as they are known.
 */
export function planRepair(
  hole: FoundHole,
  frames: readonly Frame[],
  options: { readonly segmentBytes: number; readonly termRuns: Pick<TermRuns, 'allows' | 'termAt'> },
): RepairPlan {
  const { segmentBytes, termRuns } = options
  const termMax = termRuns.termAt(hole.toIndex + 1)
  const parts: RepairPart[] = []
  let tail = hole.before
  for (const { bytes } of frames) {
    const header = checkedPeerFrame(bytes, segmentBytes)
    const { index, term } = header
    if (index > hole.toIndex || term > termMax) throw badFrame(header, 'it lies behind the hole')
    const isOfTerm = hole.termsKnown ? term === termRuns.termAt(index) : termRuns.allows(index, term)
    if (!isOfTerm) throw badFrame(header, 'the entry that was lost was of another term')
    const length = paddingBefore(tail.position, header.frameLength, segmentBytes)
    const place = { position: tail.position, previousChecksum: tail.checksum }
    const padding = length === 0 ? null : encodePadding(header, place, length)
    for (const frame of padding === null ? [{ header, bytes }] : [padding, { header, bytes }]) {
      const defect = placeDefect(
        tail,
        frame.header === header ? (padding?.header ?? null) : null,
        frame.header,
        segmentBytes,
      )
      if (defect !== null) throw badFrame(header, defect)
      addPiece(parts, tail, frame.bytes, segmentBytes)
      tail = tailAfter(tail, frame.header)
    }
  }
  const defect = endDefect(hole, tail)
  if (defect !== null) throw new StoreError('BAD_FRAME', `the frames do not fill the hole: ${defect}`)
  const headers = frames.map(({ header }) => header).filter(({ type }) => type !== frameTypes.padding)
  return { hole, tail, headers, parts }
}

function addPiece(parts: RepairPart[], tail: LogTail, bytes: Buffer, segmentBytes: number): void {
  const { position } = tail
  const end = position + bytes.length
  const isStart = position % segmentBytes === 0
  const last = parts.at(-1)
  if (last === undefined || isStart) {
    const { index, term, checksum } = tail
    parts.push({ position, end, buffers: [bytes], previous: isStart ? { index, term, checksum } : null })
  } else parts[parts.length - 1] = { ...last, end, buffers: [...last.buffers, bytes] }
}

/** Why what stands behind the hole does not follow, or why the entries left would have no room. */
function endDefect(hole: FoundHole, tail: LogTail): string | null {
  const left = hole.toIndex - tail.index
  if (left > 0) return tail.position + left * frameAlignmentBytes <= hole.end ? null : 'no room is left for the rest'
  if (tail.position !== hole.end) return 'position'
  if (tail.checksum !== hole.endChecksum) return 'chain'
  return hole.termsKnown && tail.term !== hole.endTerm ? 'term' : null
}
