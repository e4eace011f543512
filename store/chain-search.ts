/**
 * Finds where the log is good again behind damaged bytes: the earliest run of frames that continues without a break
 * to a place that is known for certain. Pure; fed by `resync.ts` and `log-scrub.ts` with every frame header that lies
 * in the stretch at its own position with a good checksum.
 *
 * That alone proves nothing: a message body may hold bytes that look like frames, placed where they lie by somebody
 * who guessed well. So every candidate begins a chain of its own, and only one that arrives, frame by frame and
 * checksum by checksum, at what a segment header, the durable mark or a known entry says is believed.
 */
import { frameAlignmentBytes } from './frame.ts'
import { type LogTail, placeDefect, tailAfter } from './layout.ts'
import type { FrameHeader, Position } from './types.ts'
import { frameTypes } from './types.ts'

/** Most chains alive at a time. Real logs have one; beyond it later candidates are not followed, so less is found. */
const chainsMax = 4096

export interface Chain {
  /** First frame of it, padding counts. */
  readonly start: FrameHeader
  /** Behind its last frame so far. */
  readonly tail: LogTail
  readonly padding: FrameHeader | null
}

export class ChainSearch {
  /** The last thing known to be good before the damage. */
  readonly #before: LogTail
  readonly #segmentBytes: number
  /** By the position where the next frame must be; the earliest start first. */
  readonly #live = new Map<Position, Chain[]>()
  #count = 0

  constructor(before: LogTail, segmentBytes: number) {
    this.#before = before
    this.#segmentBytes = segmentBytes
  }

  /** The next header of the stretch; `header.position` is where it was found. */
  offer(header: FrameHeader): void {
    const waiting = this.#live.get(header.position) ?? []
    this.#live.delete(header.position)
    this.#count -= waiting.length
    for (const chain of waiting) {
      if (placeDefect(chain.tail, chain.padding, header, this.#segmentBytes) === null) this.#follow(chain, header)
    }
    if (isPlausible(this.#before, header, this.#segmentBytes)) this.#follow(null, header)
  }

  /** The chains that end at `position`, the one with the earliest start first. */
  arriving(position: Position): readonly Chain[] {
    return this.#live.get(position) ?? []
  }

  #follow(chain: Chain | null, header: FrameHeader): void {
    if (this.#count >= chainsMax) this.#dropPassed(header.position)
    if (this.#count >= chainsMax) return
    const tail = tailAfter(chain?.tail ?? tailBefore(header, this.#before.term), header)
    const padding = header.type === frameTypes.padding ? header : null
    const next: Chain = { start: chain?.start ?? header, tail, padding }
    const others = this.#live.get(tail.position) ?? []
    this.#live.set(
      tail.position,
      [...others, next].sort((one, other) => one.start.position - other.start.position),
    )
    this.#count++
  }

  #dropPassed(position: Position): void {
    for (const [expected, chains] of this.#live) {
      if (expected > position) continue
      this.#live.delete(expected)
      this.#count -= chains.length
    }
  }
}

/** The tail that a frame in the middle of nowhere says it follows. Its true term is not below `termMin`. */
export function tailBefore(header: FrameHeader, termMin: number): LogTail {
  const { index, previousChecksum, position } = header
  return { index: index - 1, term: termMin, checksum: previousChecksum, position }
}

/** Whether a frame found behind `before` can be one of the same log, with at least one entry lost between them. */
export function isPlausible(before: LogTail, header: FrameHeader, segmentBytes: number): boolean {
  const lost = header.index - 1 - before.index
  // At the start of a segment it may be the padding of this very entry that is lost.
  const isFirstOfSegment = header.position % segmentBytes === 0
  return (
    lost >= (isFirstOfSegment ? 0 : 1) &&
    lost * frameAlignmentBytes <= header.position - before.position &&
    placeDefect(tailBefore(header, before.term), null, header, segmentBytes) === null
  )
}
