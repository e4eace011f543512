/**
 * The ordered segment files of a log with their prepared space and their durable mark: everything of the CommitLog
 * that touches the disk, in the order that a power cut demands. Driven by `log-writer.ts` and `recovery.ts`.
 *
 * It knows positions, not entries. A rejected call (other than a lack of space, which `prepare` reports through
 * `diskFull`) leaves it in an unknown state: the caller must never use it for writing again.
 */
import { invariant } from './assert.ts'
import type { CommitLogOptions } from './contract.ts'
import type { Disk } from './disk.ts'
import { isOutOfSpace } from './disk-error.ts'
import { frameHeaderBytes, readHeader } from './frame.ts'
import type { RepairPart } from './repair-plan.ts'
import { Segment } from './segment.ts'
import type { DurableMark, LogEnd } from './segment-header.ts'
import { readTolerantly } from './tolerant-read.ts'
import type { FrameHeader, Position } from './types.ts'

/** The end of an entry in the log: what the durable mark says. */
export interface EntryEnd {
  readonly position: Position
  readonly index: number
  readonly term: number
}

export interface FoundFiles {
  /** Contiguous from `firstBase` on. */
  readonly segments: readonly Segment[]
  readonly strays: readonly Segment[]
  readonly firstBase: Position
  /** The newest one on disk. */
  readonly mark: DurableMark
}

/** Most bytes in memory while frames are written again. */
const rewriteBytesMax = 1024 * 1024

export class LogFiles {
  readonly #disk: Disk
  readonly #options: CommitLogOptions
  readonly #segments: Segment[]
  /** Files behind a gap, which belong to nothing; a cut removes them. */
  readonly #strays: Segment[]
  #firstBase: Position
  #mark: DurableMark
  /** Of the space behind the end, or the cut of it. */
  #preparing: Promise<void> | null = null
  #repairing: Promise<void> | null = null
  #diskFull = false
  #unsyncedDirectory = false

  /** The segments and their mark as recovery found them. */
  constructor(disk: Disk, options: CommitLogOptions, found: FoundFiles) {
    this.#disk = disk
    this.#options = options
    this.#segments = [...found.segments]
    this.#strays = [...found.strays]
    this.#firstBase = found.firstBase
    this.#mark = found.mark
  }

  /** Where the first segment begins. */
  get firstBase(): Position {
    return this.#firstBase
  }

  get segments(): readonly Segment[] {
    return this.#segments
  }

  get diskFull(): boolean {
    return this.#diskFull
  }

  get mark(): DurableMark {
    return this.#mark
  }

  /** Frames may be written up to here without asking the file system for space. */
  get preparedEnd(): Position {
    return this.#segments.at(-1)?.preparedEnd ?? this.#firstBase
  }

  /**
   * Makes zeroed, synced space at least up to `target`. A lack of space ends it early without an error: `diskFull`
   * tells, and `preparedEnd` says how far it came. Only one preparation runs at a time.
   */
  prepare(target: Position): Promise<void> {
    return this.#alonePreparing(() => this.#prepare(target))
  }

  async #alonePreparing(work: () => Promise<void>): Promise<void> {
    while (this.#preparing !== null) await this.#preparing
    this.#preparing = work()
    try {
      await this.#preparing
    } finally {
      this.#preparing = null
    }
  }

  async #prepare(target: Position): Promise<void> {
    while (this.preparedEnd < target) {
      const found = await this.#orFull(() => this.#segmentToFill())
      const filled = found !== null && (await this.#orFull(() => found.fill(target).then(() => true)))
      // Before `syncFilled` lets flushes in: a power cut would take the frames along with the name of their file.
      if (this.#unsyncedDirectory) {
        await this.#disk.syncDirectory(this.#options.directory)
        this.#unsyncedDirectory = false
      }
      // What fitted before the disk was full is kept, so that entries on their way still find room.
      await this.#segments.at(-1)?.syncFilled()
      if (filled !== true) {
        this.#diskFull = true
        return
      }
    }
    this.#diskFull = false
  }

  async #segmentToFill(): Promise<Segment> {
    const last = this.#segments.at(-1)
    if (last !== undefined && last.preparedEnd < last.end) return last
    const { directory, segmentBytes } = this.#options
    const base = last?.end ?? this.#firstBase
    const segment = await Segment.open(this.#disk, { directory, base, segmentBytes, create: true })
    this.#segments.push(segment)
    this.#unsyncedDirectory = true
    return segment
  }

  /** Null when the file system has no space. Only writes may say so: a sync that fails is final, whatever its code. */
  async #orFull<Value>(work: () => Promise<Value>): Promise<Value | null> {
    try {
      return await work()
    } catch (error) {
      if (!isOutOfSpace(error)) throw error
      return null
    }
  }

  /** Writes the header of the segment that starts at `base`, if it has none. All before `base` must be durable. */
  async begin(base: Position, previous: LogEnd, durable: EntryEnd): Promise<void> {
    const segment = this.segmentAt(base)
    if (segment.begun) return
    invariant(segment.base === base, 'a segment begins with its first frame')
    const { incarnation, segmentBytes } = this.#options
    const mark = this.#nextMark(durable)
    await segment.writeHeader({ incarnation, segmentBytes, base, previous }, mark)
    await segment.sync()
    segment.begun = true
    segment.previous = previous
    this.#mark = mark
  }

  /**
   * One write and one sync for frames of one segment. The mark of the flush before travels along: it says only what
   * was durable already, so it needs no sync of its own.
   */
  async writeFrames(
    buffers: readonly Uint8Array[],
    position: Position,
    end: Position,
    durable: EntryEnd,
  ): Promise<void> {
    const segment = this.segmentAt(position)
    const writes = [segment.writeFrames(buffers, position, end)]
    const mark = this.#mark.position === durable.position ? null : this.#nextMark(durable)
    if (mark !== null) writes.push(segment.writeMark(mark))
    await Promise.all(writes)
    await segment.sync()
    if (mark !== null) this.#mark = mark
  }

  /**
   * Writes and syncs the mark by itself: on close, after recovery, before a cut; `always` also when the newest one
   * says the same, because the files of that one may be damaged.
   */
  async writeMark(durable: EntryEnd, { always = false }: { readonly always?: boolean } = {}): Promise<void> {
    if (this.#mark.position === durable.position && !always) return
    const segment = this.#segmentBefore(durable.position)
    const mark = this.#nextMark(durable)
    await segment.writeMark(mark)
    await segment.sync()
    this.#mark = mark
  }

  /**
   * Leaves only zeros behind `keep`. Each step is durable before the next, so that every crash in between leaves a
   * log that recovers to a valid prefix: first the mark goes down (else zeros below it would look like rot), then
   * the later segments go from the end (else a segment would stand behind a gap), then the range is zeroed. Nothing is
   * prepared meanwhile: it would be prepared in files that go.
   */
  cut(keep: EntryEnd, dirtyEnd: Position): Promise<void> {
    return this.#alonePreparing(() => this.#cut(keep, dirtyEnd))
  }

  async #cut(keep: EntryEnd, dirtyEnd: Position): Promise<void> {
    // Its bytes must not come down behind the zeros.
    while (this.#repairing !== null) await this.#repairing
    const kept = this.#segments.length > 0 ? this.#segmentBefore(keep.position) : null
    if (kept !== null) await this.#lowerMark(keep, kept)
    while (this.#strays.length > 0) await this.#remove(this.#strays.pop()!)
    if (kept === null) return
    while (this.#segments.at(-1) !== kept) await this.#remove(this.#segments.pop()!)
    const to = Math.min(dirtyEnd, kept.preparedEnd)
    if (to > keep.position) await kept.writeZeros(keep.position, to)
    await kept.sync()
  }

  /**
   * The newest mark may lie in the header of a segment that goes, and say nothing but what stays true: without it the
   * last entries that stay would look like a torn flush when they rot.
   */
  async #lowerMark(keep: EntryEnd, kept: Segment): Promise<void> {
    const isRemoved = this.#segments.some(({ begun, base }) => begun && base > kept.base)
    if (isRemoved || this.#mark.position > keep.position) await this.writeMark(keep, { always: isRemoved })
  }

  /** Lets go of the segments before `base`, at once; `remove` deletes their files. */
  detach(base: Position): readonly Segment[] {
    const count = this.#segments.findIndex((segment) => segment.base === base)
    invariant(count >= 0, 'the log begins with a segment')
    this.#firstBase = base
    return this.#segments.splice(0, count)
  }

  /**
   * Deletes files from the front, each durably before the next: a crash in between leaves a log that begins a little
   * earlier, never one with a gap.
   */
  async remove(segments: readonly Segment[]): Promise<void> {
    // Neither may write by the number of a descriptor that is another file's by now.
    while (this.#preparing !== null || this.#repairing !== null) await (this.#preparing ?? this.#repairing)
    for (const segment of segments) await this.#remove(segment)
  }

  async #remove(segment: Segment): Promise<void> {
    await segment.close()
    await this.#disk.unlink(segment.path)
    await this.#disk.syncDirectory(this.#options.directory)
  }

  /** Writes the bytes of [from, to) again as they are and syncs them, so that the sync vouches for every one. */
  async rewrite(from: Position, to: Position): Promise<void> {
    let position = from
    while (position < to) {
      const segment = this.segmentAt(position)
      const end = Math.min(to, segment.end, position + rewriteBytesMax)
      await segment.writeFrames([await segment.read(position, end - position)], position, end)
      if (end === segment.end) await segment.sync()
      position = end
    }
    await this.#segmentBefore(to).sync()
  }

  /** Writes headers that were damaged, with the mark for those that lost all of theirs. */
  async restoreHeaders(headers: readonly { readonly base: Position; readonly previous: LogEnd }[]): Promise<void> {
    const { incarnation, segmentBytes } = this.#options
    for (const { base, previous } of headers) {
      const segment = this.segmentAt(base)
      await segment.restoreHeader({ incarnation, segmentBytes, base, previous }, this.#mark)
      segment.previous = previous
    }
  }

  /**
   * Makes room in files that were missing or cut short, as long as it is wanted: the hole may be cut or deleted
   * meanwhile. False when there is no space; nothing is damaged then.
   */
  async prepareRepair(parts: readonly RepairPart[], isWanted: () => boolean): Promise<boolean> {
    let isReady = true
    for (const { position, end } of parts) {
      await this.#alonePreparing(async () => {
        if (!isWanted()) return
        const segment = this.segmentAt(position)
        if (segment.preparedEnd >= end) return
        const filled = await this.#orFull(() => segment.fill(segment.end).then(() => true))
        await segment.syncFilled()
        isReady &&= filled === true
      })
    }
    return isReady
  }

  /**
   * Writes frames into a hole and syncs them, segment by segment, each with its header before it when that was lost.
   * `isWanted` is asked before each, because the hole may have been cut or deleted meanwhile; false when it was.
   */
  async repair(parts: readonly RepairPart[], isWanted: () => boolean): Promise<boolean> {
    for (const part of parts) {
      while (this.#repairing !== null) await this.#repairing.catch(() => undefined)
      if (!isWanted()) return false
      this.#repairing = this.#repairPart(part)
      try {
        await this.#repairing
      } finally {
        this.#repairing = null
      }
    }
    return isWanted()
  }

  async #repairPart({ position, end, buffers, previous }: RepairPart): Promise<void> {
    const segment = this.segmentAt(position)
    if (previous !== null && segment.previous === null) await this.restoreHeaders([{ base: position, previous }])
    await segment.repairFrames(buffers, position, end)
  }

  /** At most `length` bytes of frames from `position`, never beyond its segment. */
  read(position: Position, length: number): Promise<Buffer> {
    const segment = this.segmentAt(position)
    return segment.read(position, Math.min(length, segment.end - position))
  }

  /** The intact frame header at `position`, null when there is none. */
  async headerAt(position: Position): Promise<FrameHeader | null> {
    const read = (at: number, length: number): Promise<Buffer> => this.read(at, length)
    const bytes = await readTolerantly(read, { position, length: frameHeaderBytes }, { count: 0 })
    const header = bytes.length < frameHeaderBytes ? 'length' : readHeader(bytes, 0)
    return typeof header === 'string' ? null : header
  }

  segmentAt(position: Position): Segment {
    const segment = this.#segments[Math.floor((position - this.#firstBase) / this.#options.segmentBytes)]
    invariant(segment !== undefined, `the log has no segment for position ${position}`)
    return segment
  }

  async close(): Promise<void> {
    while (this.#preparing !== null) await this.#preparing.catch(() => undefined)
    await Promise.all([...this.#segments, ...this.#strays].map((segment) => segment.close()))
  }

  /** The segment that holds the last byte before `end`. */
  #segmentBefore(end: Position): Segment {
    return this.segmentAt(Math.max(this.#firstBase, end - 1))
  }

  #nextMark(durable: EntryEnd): DurableMark {
    return { ...durable, sequence: this.#mark.sequence + 1 }
  }
}
