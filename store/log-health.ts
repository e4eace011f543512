/**
 * The damage of an open log: finds it when a read or a scrub meets it, and repairs it. Used by the CommitLog only.
 *
 * A hole is believed when a second look at the disk says so. Whatever is found or repaired changes memory in one step
 * without waiting, so that readers see a hole or an entry, never something in between.
 */
import type { LogHole, ScrubbedStretch } from './contract.ts'
import { StoreError } from './errors.ts'
import { publicHole } from './log-holes.ts'
import { outOfRange } from './log-reader.ts'
import type { FoundHole } from './log-scan.ts'
import { type ScrubbedLog, type Verified, verifyStretch } from './log-scrub.ts'
import { planRepair, type RepairPlan } from './repair-plan.ts'
import type { Frame, Position } from './types.ts'

/** How often a look at the disk is taken again because the log changed under it. */
const looksMax = 4

export interface HealthParts extends ScrubbedLog {
  /** The bytes of this range are others now, or not to be trusted. */
  forget(from: Position, to: Position): void
  /** Work on the disk whose failure is final. */
  run(work: () => Promise<void>): Promise<void>
  onRot(hole: LogHole): void
}

export class LogHealth {
  readonly #log: HealthParts
  /** Looks at the disk that found rot, one at a time. */
  #looking: Promise<unknown> = Promise.resolve()

  constructor(log: HealthParts) {
    this.#log = log
  }

  /** A read met rot at `position`: notes which entries are lost, if the disk still says so. */
  examine(position: Position): Promise<void> {
    const look = async (): Promise<void> => {
      await this.#look(position, position)
    }
    this.#looking = this.#looking.then(look, look)
    return this.#looking.then(() => undefined)
  }

  async scrub(from: Position, bytesMax: number): Promise<ScrubbedStretch> {
    const origin = this.#log.origin().position
    const start = Math.max(from, origin)
    const known = this.#log.holes.atPosition(start)
    if (known !== undefined) return this.#scrubbed(known.end, null)
    if (start >= this.#log.durable().position) return this.#scrubbed(start, null)
    const segment = this.#log.files.segmentAt(start)
    const verified = await this.#look(start, Math.min(start + bytesMax, segment.end))
    if (verified === null) return { next: from, isEnd: false, hole: null }
    const [first] = verified.holes
    return this.#scrubbed(verified.end, first === undefined ? null : publicHole(first))
  }

  async repair(frames: readonly Frame[]): Promise<void> {
    const first = frames[0]?.header.index ?? 0
    const hole = this.#log.holes.at(first)
    if (hole === undefined || hole.fromIndex !== first) throw outOfRange(first, 'no hole begins here')
    const { segmentBytes, termRuns } = this.#log
    const plan = planRepair(hole, frames, { segmentBytes, termRuns })
    const isWritten = await this.#write(plan)
    if (!isWritten || !this.#log.holes.has(hole)) throw outOfRange(first, 'the hole changed during its repair')
    this.#healed(plan)
  }

  /** Verifies from `position` to `until` and notes what is found. Null when the log changes all the time. */
  async #look(position: Position, until: Position): Promise<Verified | null> {
    for (let look = 0; look < looksMax; look++) {
      const verified = await verifyStretch(this.#log, position, until)
      if (verified === null) continue
      const holes = verified.holes.map((hole) => this.#damaged(hole))
      for (const place of verified.behind) this.#log.positions.addPlace(place)
      return { ...verified, holes }
    }
    return null
  }

  #damaged(found: FoundHole): FoundHole {
    const { holes, positions } = this.#log
    const hole = holes.add(found)
    const behind = positions.exact(hole.toIndex + 1)
    positions.forget(hole.fromIndex, hole.toIndex)
    if (behind !== undefined) positions.addPlace({ index: hole.toIndex + 1, position: behind.position })
    this.#log.forget(hole.position, hole.end)
    this.#log.onRot(publicHole(hole))
    return hole
  }

  #scrubbed(end: Position, hole: LogHole | null): ScrubbedStretch {
    const isEnd = end >= this.#log.durable().position
    return { next: isEnd ? this.#log.origin().position : end, isEnd, hole }
  }

  async #write({ hole, parts }: RepairPlan): Promise<boolean> {
    const { files, holes } = this.#log
    const isWanted = (): boolean => holes.has(hole)
    let isWritten = false
    let hasRoom = false
    await this.#log.run(async () => {
      hasRoom = await files.prepareRepair(parts, isWanted)
      if (hasRoom) isWritten = await files.repair(parts, isWanted)
    })
    if (!hasRoom) throw new StoreError('DISK_FULL', 'no space for a file of the CommitLog that was lost')
    return isWritten
  }

  #healed({ hole, tail, headers, parts }: RepairPlan): void {
    const { holes, positions, termRuns } = this.#log
    holes.fill(hole, tail)
    positions.fill(headers)
    for (const { index, term } of headers) termRuns.fill(index, term)
    this.#log.forget(hole.position, parts.at(-1)?.end ?? hole.position)
  }
}
