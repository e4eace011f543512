/**
 * The CommitLog of one replica: lays out entries, stages them, flushes, cuts and reads them.
 *
 * Made by `openCommitLog`, used by the replica loop and the handlers through `CommitLogApi`. What happens in memory
 * is decided here and at once; the disk is `log-writer.ts` and `log-reader.ts`. One instance per folder.
 */
import { invariant } from './assert.ts'
import {
  type CommitLogApi,
  type CommitLogOptions,
  defaultLogGrain,
  type LogHole,
  type LogOrigin,
  type LogRecovery,
  type RottenTail,
  type ScrubbedStretch,
  type SegmentInfo,
} from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import { ensureDirectory } from './folder.ts'
import { bodyLengthOf, encodeFrame, encodePadding, frameLengthOf } from './frame.ts'
import { badFrame, checkedPeerFrame } from './frame-check.ts'
import { type LogTail, paddingBefore, placeDefect, tailAfter } from './layout.ts'
import type { EntryEnd, LogFiles } from './log-files.ts'
import { LogHealth } from './log-health.ts'
import { LogHoles } from './log-holes.ts'
import { LogReader, outOfRange } from './log-reader.ts'
import type { FoundHole } from './log-scan.ts'
import { LogWriter } from './log-writer.ts'
import { PositionIndex } from './position-index.ts'
import { type RecoveredLog, recoverLog } from './recovery.ts'
import { TailCache } from './tail-cache.ts'
import type { TermRuns } from './term-runs.ts'
import type { Frame, LogEntry, Position } from './types.ts'

/**
 * Opens or creates the log in `options.directory` and recovers it: see `recovery` of the result for what was found.
 * With holes everything works but reading what lies in them; with a rotten tail nothing can be written.
 *
 * Rejects with FOREIGN_FOLDER (other incarnation or segment size), UNKNOWN_FORMAT, or STORAGE_FAILED.
 */
export async function openCommitLog(disk: Disk, options: CommitLogOptions): Promise<CommitLogApi> {
  assertOptions(options)
  await ensureDirectory(disk, options.directory)
  const grain = { ...defaultLogGrain, ...options.grain }
  let positions = new PositionIndex(1, options.segmentBytes, grain)
  const tailCache = new TailCache(options.tailCacheBytes)
  const recovered = await recoverLog(disk, options, {
    begins: (origin) => {
      positions = new PositionIndex(origin.index + 1, options.segmentBytes, grain)
    },
    entry: (frame) => {
      positions.add(frame.header)
      tailCache.add(frame)
      tailCache.evict(frame.header.index)
    },
    hole: (toIndex) => {
      positions.skip(toIndex)
      tailCache.clear()
    },
    rewind: (index) => {
      positions.truncate(index)
      tailCache.truncate(index)
    },
  })
  return new CommitLog(options, recovered, { positions, tailCache, blockBytes: grain.blockBytes })
}

/** How often a read tries to get around damage that is not in the entry itself. */
const looksMax = 3

class CommitLog implements CommitLogApi {
  readonly recovery: LogRecovery
  readonly #segmentBytes: number
  readonly #files: LogFiles
  readonly #writer: LogWriter
  readonly #reader: LogReader
  readonly #termRuns: TermRuns
  readonly #positions: PositionIndex
  readonly #tailCache: TailCache
  readonly #holes: LogHoles
  readonly #health: LogHealth
  readonly #cutTail: () => Promise<void>
  #origin: LogOrigin
  #tail: LogTail
  #rottenTail: RottenTail | null
  /** Files that are being deleted. */
  #trimming: Promise<void> = Promise.resolve()

  constructor(
    options: CommitLogOptions,
    recovered: RecoveredLog,
    filled: { readonly positions: PositionIndex; readonly tailCache: TailCache; readonly blockBytes: number },
  ) {
    const { files, origin, tail, termRuns, recovery } = recovered
    this.recovery = recovery
    this.#origin = origin
    this.#rottenTail = recovery.tail
    this.#cutTail = recovered.cutTail
    this.#segmentBytes = options.segmentBytes
    this.#files = files
    this.#writer = new LogWriter(files, options, { position: tail.position, index: tail.index, term: tail.term })
    this.#reader = new LogReader(files, {
      segmentBytes: options.segmentBytes,
      blockCacheBytes: options.blockCacheBytes,
      blockBytes: filled.blockBytes,
      durableEnd: () => this.#writer.durable.position,
    })
    this.#termRuns = termRuns
    this.#positions = filled.positions
    this.#tailCache = filled.tailCache
    this.#tail = tail
    this.#holes = new LogHoles(recovered.holes)
    this.#health = new LogHealth({
      files,
      positions: this.#positions,
      termRuns,
      holes: this.#holes,
      segmentBytes: options.segmentBytes,
      origin: () => this.#origin,
      durable: () => this.#writer.durable,
      epoch: () => this.#reader.epoch,
      forget: (from, to) => this.#reader.forget(from, to),
      run: (work) => this.#writer.run(work),
      onRot: options.onRot ?? (() => {}),
    })
  }

  get origin(): LogOrigin {
    return this.#origin
  }

  get firstIndex(): number {
    return this.#origin.index + 1
  }

  get previousTerm(): number {
    return this.#origin.term
  }

  get holes(): readonly LogHole[] {
    return this.#holes.all()
  }

  get rottenTail(): RottenTail | null {
    return this.#rottenTail
  }

  get lastIndex(): number {
    return this.#tail.index
  }

  get lastTerm(): number {
    return this.#tail.term
  }

  get durableIndex(): number {
    return this.#writer.durable.index
  }

  get endPosition(): Position {
    return this.#tail.position
  }

  get stagedBytes(): number {
    return this.#writer.stagedBytes
  }

  limitGrowth(bytesMax: number | null): void {
    this.#writer.limitGrowth(bytesMax)
  }

  grow(): Promise<void> {
    return this.#writer.grow()
  }

  get diskFull(): boolean {
    return this.#writer.diskFull
  }

  append(entry: LogEntry): Frame {
    this.#assertWritable()
    invariant(entry.index === this.#tail.index + 1, 'R2: entries are appended without gaps')
    invariant(entry.term >= this.#tail.term, 'R2: terms never go back along the log')
    const frameLength = frameLengthOf(bodyLengthOf(entry.body))
    invariant(frameLength <= this.#segmentBytes, 'S2: an entry fits into a segment')
    const padding = this.#paddingFor(entry, frameLength)
    const frame = encodeFrame(entry, place(padding === null ? this.#tail : tailAfter(this.#tail, padding.header)))
    this.#stage(padding, frame)
    return frame
  }

  appendFrame(bytes: Buffer): Frame {
    this.#assertWritable()
    const header = checkedPeerFrame(bytes, this.#segmentBytes)
    const padding = this.#paddingFor(header, header.frameLength)
    const tail = padding === null ? this.#tail : tailAfter(this.#tail, padding.header)
    const defect = placeDefect(tail, padding?.header ?? null, header, this.#segmentBytes)
    if (defect !== null) throw badFrame(header, defect)
    const frame = { header, bytes }
    this.#stage(padding, frame)
    return frame
  }

  truncateFrom(index: number): void {
    this.#assertWritable()
    invariant(index >= this.firstIndex && index <= this.#tail.index + 1, 'R6: the log is cut inside itself')
    if (index > this.#tail.index) return
    const { keep, checksum } = this.#endOf(index - 1)
    this.#holes.truncate(index)
    this.#positions.truncate(index)
    this.#tailCache.truncate(index)
    this.#termRuns.truncate(index)
    this.#reader.truncate(keep.position)
    this.#writer.truncate(keep)
    this.#tail = { ...keep, checksum }
  }

  async flush(): Promise<number> {
    this.#assertWritable()
    await this.#writer.flush()
    // Not what the flush returned: the log may have been cut since.
    this.#tailCache.evict(this.durableIndex)
    return this.durableIndex
  }

  cached(from: number, bytesMax: number): readonly Frame[] | undefined {
    let frame = this.#tailCache.get(from)
    if (frame === undefined) return undefined
    const frames: Frame[] = []
    let bytes = 0
    while (frame !== undefined && (frames.length === 0 || bytes + frame.bytes.length <= bytesMax)) {
      frames.push(frame)
      bytes += frame.bytes.length
      frame = this.#tailCache.get(frame.header.index + 1)
    }
    return frames
  }

  async read(from: number, to: number, bytesMax: number): Promise<readonly Frame[]> {
    if (from < this.firstIndex || from > Math.min(to, this.#tail.index)) throw outOfRange(from, 'no such entry')
    const frames: Frame[] = []
    const epoch = this.#reader.epoch
    let bytes = 0
    for (let index = from; index <= Math.min(to, this.#tail.index); index++) {
      const frame = this.#tailCache.get(index) ?? (await this.#readEntry(index, frames.at(-1)))
      if (index < this.firstIndex) throw outOfRange(index, 'deleted')
      // Frames from before and after a cut must never stand side by side.
      if (epoch !== this.#reader.epoch) throw outOfRange(index, 'the log was cut during the read')
      if (frame === null) break
      invariant(frame.header.index === index, 'S3: every entry is served under its own index')
      if (frames.length > 0 && bytes + frame.bytes.length > bytesMax) break
      frames.push(frame)
      bytes += frame.bytes.length
    }
    return frames
  }

  cachedAt(position: Position): Frame | undefined {
    return this.#tailCache.at(position)
  }

  async readAt(position: Position): Promise<Frame> {
    const cached = this.#tailCache.at(position)
    if (cached !== undefined) return cached
    try {
      this.#assertIntact(this.#holes.atPosition(position))
      return await this.#reader.entryAt(position)
    } catch (error) {
      await this.#examine(error)
      this.#assertIntact(this.#holes.atPosition(position))
      throw error
    }
  }

  segments(): readonly SegmentInfo[] {
    const begun = this.#files.segments.filter(({ begun }) => begun)
    return begun.map((segment, at) => ({
      base: segment.base,
      end: segment.end,
      firstIndex: segment.previous === null ? this.#lostStart(segment.base) : segment.previous.index + 1,
      previousTerm: segment.previous?.term ?? 0,
      bytes: segment.bytes,
      sealed: at < begun.length - 1,
    }))
  }

  originBehind(index: number): LogOrigin | null {
    for (const { begun, base, previous } of this.#files.segments) {
      if (!begun || base >= this.#writer.durable.position) return null
      if (previous !== null && previous.index >= index) return { position: base, ...previous }
    }
    return null
  }

  async trim(firstIndex: number): Promise<number> {
    this.#assertWritable()
    const origin = this.#originFor(firstIndex)
    if (origin !== null) {
      this.#origin = origin
      this.#positions.trim(this.firstIndex)
      this.#tailCache.trim(this.firstIndex)
      this.#termRuns.trim(this.firstIndex)
      this.#holes.trim(origin)
      this.#reader.forget(0, origin.position)
      const segments = this.#files.detach(origin.position)
      this.#trimming = this.#trimming.then(() => this.#writer.run(() => this.#files.remove(segments)))
      // Its failure reaches the caller below, and everybody else through the writer.
      this.#trimming.catch(() => undefined)
    }
    await this.#trimming
    return this.firstIndex
  }

  async cutRottenTail(): Promise<void> {
    if (this.#rottenTail === null) return
    this.#writer.assertUsable()
    await this.#writer.run(this.#cutTail)
    this.#rottenTail = null
  }

  async repair(frames: readonly Frame[]): Promise<void> {
    this.#assertWritable()
    await this.#health.repair(frames)
  }

  async scrub(fromPosition: Position, bytesMax: number): Promise<ScrubbedStretch> {
    this.#assertWritable()
    return this.#health.scrub(fromPosition, bytesMax)
  }

  async close(): Promise<void> {
    await this.#trimming.catch(() => undefined)
    await (this.#rottenTail === null ? this.#writer.close() : this.#files.close())
  }

  /** A segment begins in a hole and its header is lost: no earlier entry than the hole's first one can start there. */
  #lostStart(base: Position): number {
    return this.#holes.atPosition(base)?.fromIndex ?? this.#tail.index + 1
  }

  /** Where the log begins without the whole segments before `firstIndex`, null when there are none. */
  #originFor(firstIndex: number): LogOrigin | null {
    let origin: LogOrigin | null = null
    for (const { begun, base, previous } of this.#files.segments.slice(1)) {
      // A durable entry stays, and with it the mark that vouches for it.
      if (!begun || base >= this.#writer.durable.position) break
      // It begins in a hole, nobody knows with which entry: the log may begin with a later one, not with it.
      if (previous === null) continue
      if (previous.index >= firstIndex) break
      origin = { position: base, ...previous }
    }
    return origin
  }

  /** The entry from disk; null when it lies in a hole and another one stands before it in the answer. */
  async #readEntry(index: number, before: Frame | undefined): Promise<Frame | null> {
    for (let look = 1; ; look++) {
      const hole = this.#holes.at(index)
      if (hole !== undefined && before !== undefined) return null
      this.#assertIntact(hole)
      try {
        return await this.#readFromDisk(index, look === 1 ? before : undefined)
      } catch (error) {
        const isRotten = await this.#examine(error)
        // The damage may lie on the way to this entry only, which is known not to lead through it from now on.
        if (!isRotten || (this.#holes.at(index) === undefined && look === looksMax)) throw error
      }
    }
  }

  async #readFromDisk(index: number, before: Frame | undefined): Promise<Frame> {
    if (before !== undefined) return this.#reader.entryFrom(before.header.position + before.header.frameLength)
    const known = this.#positions.floor(index)
    const position = known.index === index ? known.position : await this.#reader.seek(known, index)
    return this.#reader.entryAt(position)
  }

  /** Looks at the disk where a read met rot. False when the read failed for another reason. */
  async #examine(error: unknown): Promise<boolean> {
    if (!(error instanceof StoreError) || error.code !== 'ROTTEN' || this.#rottenTail !== null) return false
    const { position, fromIndex } = error.details
    if (typeof position === 'number' && fromIndex === undefined) await this.#health.examine(position)
    return true
  }

  #paddingFor(entry: Pick<LogEntry, 'index' | 'term' | 'storeTime'>, frameLength: number): Frame | null {
    const length = paddingBefore(this.#tail.position, frameLength, this.#segmentBytes)
    return length === 0 ? null : encodePadding(entry, place(this.#tail), length)
  }

  #stage(padding: Frame | null, frame: Frame): void {
    if (padding !== null) this.#writer.stage(padding)
    this.#writer.stage(frame)
    this.#positions.add(frame.header)
    this.#tailCache.add(frame)
    this.#termRuns.add(frame.header.index, frame.header.term)
    this.#tail = tailAfter(this.#tail, frame.header)
  }

  /** Where the entry ends that stays last, and its checksum for the chain. */
  #endOf(index: number): { readonly keep: EntryEnd; readonly checksum: number } {
    if (index < this.firstIndex) {
      const { position, term, checksum } = this.#origin
      return { keep: { position, index, term }, checksum }
    }
    const hole = this.#holes.at(index)
    if (hole !== undefined) {
      if (hole.toIndex > index || !hole.termsKnown) throw this.#rotten(hole)
      return { keep: { position: hole.end, index, term: hole.endTerm }, checksum: hole.endChecksum }
    }
    const before = this.#holes.at(index + 1)?.before
    if (before !== undefined) {
      const { position, term, checksum } = before
      return { keep: { position, index, term }, checksum }
    }
    const found = this.#positions.exact(index)
    if (found === undefined) throw outOfRange(index, 'too far back to cut: more than raft ever leaves uncommitted')
    const keep = { position: found.position + found.frameLength, index, term: this.#termRuns.termAt(index) }
    return { keep, checksum: found.checksum }
  }

  #assertIntact(hole: FoundHole | undefined): void {
    if (hole !== undefined) throw this.#rotten(hole)
  }

  #rotten(hole: FoundHole): StoreError {
    const { fromIndex, toIndex, position, reason } = hole
    const { path } = this.#files.segmentAt(position)
    return new StoreError('ROTTEN', `entries ${fromIndex} to ${toIndex} are damaged in ${path}: ${reason}`, {
      details: { fromIndex, toIndex, position, reason, path },
    })
  }

  #assertWritable(): void {
    this.#writer.assertUsable()
    const tail = this.#rottenTail
    if (tail === null) return
    throw new StoreError('ROTTEN', `the log is damaged from index ${tail.fromIndex} on: ${tail.reason}`, {
      details: { ...tail },
    })
  }
}

function place(tail: LogTail): { readonly position: Position; readonly previousChecksum: number } {
  return { position: tail.position, previousChecksum: tail.checksum }
}

function assertOptions(options: CommitLogOptions): void {
  const { segmentBytes, zeroAheadBytes, flushBytesMax, origin } = options
  invariant(segmentBytes > 0 && segmentBytes % 4096 === 0, 'segmentBytes is a multiple of 4096')
  invariant(zeroAheadBytes > 0 && zeroAheadBytes <= segmentBytes, 'zeroAheadBytes is at most a segment')
  invariant(flushBytesMax > 0, 'flushBytesMax is positive')
  invariant((origin?.position ?? 0) % segmentBytes === 0, 'a log begins with a segment')
}
