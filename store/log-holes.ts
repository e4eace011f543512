/**
 * The damaged ranges of an open log. Used by the CommitLog, its repair and its scrubbing; in memory only, since every
 * start finds them again.
 *
 * A hole is replaced, never changed: who waits for the disk sees by identity whether it is still the one it knew.
 */
import type { LogHole } from './contract.ts'
import type { LogTail } from './layout.ts'
import type { FoundHole } from './log-scan.ts'
import type { Position } from './types.ts'

export class LogHoles {
  /** Ascending; no two of them touch. */
  #holes: readonly FoundHole[]
  #told: readonly LogHole[] | null = null

  constructor(holes: readonly FoundHole[]) {
    this.#holes = holes
  }

  /** The same array until something changes. */
  all(): readonly LogHole[] {
    this.#told ??= this.#holes.map(publicHole)
    return this.#told
  }

  /** The hole that this entry lies in. */
  at(index: number): FoundHole | undefined {
    return this.#holes.find(({ fromIndex, toIndex }) => fromIndex <= index && index <= toIndex)
  }

  atPosition(place: Position): FoundHole | undefined {
    return this.#holes.find(({ position, end }) => position <= place && place < end)
  }

  /** The last one that ends at or before `place`. */
  before(place: Position): FoundHole | undefined {
    return this.#holes.findLast(({ end }) => end <= place)
  }

  /** The first one that begins at or behind `place`. */
  behind(place: Position): FoundHole | undefined {
    return this.#holes.find(({ position }) => position >= place)
  }

  has(hole: FoundHole): boolean {
    return this.#holes.includes(hole)
  }

  /** Adds what was found; with those it touches it becomes one. */
  add(hole: FoundHole): FoundHole {
    const touching = this.#holes.filter(({ position, end }) => position <= hole.end && hole.position <= end)
    const all = [...touching, hole]
    const first = all.reduce((one, other) => (other.position < one.position ? other : one))
    const last = all.reduce((one, other) => (other.end > one.end ? other : one))
    const merged: FoundHole = {
      fromIndex: first.fromIndex,
      toIndex: last.toIndex,
      position: first.position,
      end: last.end,
      reason: first.reason,
      termsKnown: all.every(({ termsKnown }) => termsKnown),
      before: first.before,
      endChecksum: last.endChecksum,
      endTerm: last.endTerm,
    }
    const others = this.#holes.filter((other) => !touching.includes(other))
    this.#set([...others, merged].sort((one, other) => one.position - other.position))
    return merged
  }

  /** The first entries of the hole are there again, up to what `tail` stands behind. */
  fill(hole: FoundHole, tail: LogTail): void {
    const left = { ...hole, fromIndex: tail.index + 1, position: tail.position, before: tail }
    this.#set(
      tail.index === hole.toIndex
        ? this.#holes.filter((other) => other !== hole)
        : this.#holes.map((other) => (other === hole ? left : other)),
    )
  }

  /** Forgets those in the cut range; none begins before `index` and ends in it. */
  truncate(index: number): void {
    this.#set(this.#holes.filter(({ fromIndex }) => fromIndex < index))
  }

  /** The log begins behind `origin` now. */
  trim(origin: LogTail): void {
    const { index, position } = origin
    this.#set(
      this.#holes
        .filter(({ toIndex }) => toIndex > index)
        .map((hole) =>
          hole.position >= position ? hole : { ...hole, fromIndex: index + 1, position, before: origin },
        ),
    )
  }

  #set(holes: readonly FoundHole[]): void {
    if (holes.length === this.#holes.length && holes.every((hole, at) => hole === this.#holes[at])) return
    this.#holes = holes
    this.#told = null
  }
}

/** Without what only the store needs. */
export function publicHole({ fromIndex, toIndex, position, end, reason, termsKnown }: FoundHole): LogHole {
  return { fromIndex, toIndex, position, end, reason, termsKnown }
}
