/**
 * The CommitLog of one replica: lays out entries, stages them, flushes, cuts and reads them.
 *
 * Made by `openCommitLog`, used by the replica loop and the handlers through `CommitLogApi`. What happens in memory
 * is decided here and at once; the disk is `log-writer.ts` and `log-reader.ts`. One instance per folder.
 */
import { invariant } from './assert.ts'
import type { CommitLogApi, CommitLogOptions, LogRecovery } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import { ensureDirectory } from './folder.ts'
import {
  bodyLengthOf,
  bodyMatches,
  chainStart,
  encodeFrame,
  encodePadding,
  frameHeaderBytes,
  frameLengthOf,
  isZero,
  readHeader,
} from './frame.ts'
import { type LogTail, paddingBefore, placeDefect, tailAfter } from './layout.ts'
import type { EntryEnd, LogFiles } from './log-files.ts'
import { LogReader, outOfRange } from './log-reader.ts'
import { LogWriter } from './log-writer.ts'
import { PositionIndex } from './position-index.ts'
import { type RecoveredLog, recoverLog } from './recovery.ts'
import { TailCache } from './tail-cache.ts'
import type { TermRuns } from './term-runs.ts'
import type { Frame, FrameHeader, LogEntry, Position } from './types.ts'
import { frameTypes } from './types.ts'

/**
 * Opens or creates the log in `options.directory` and recovers it: see `recovery` of the result for what was found.
 * With a hole the log can be read below it and nothing can be written.
 *
 * Rejects with FOREIGN_FOLDER (other incarnation or segment size), UNKNOWN_FORMAT, or STORAGE_FAILED.
 */
export async function openCommitLog(disk: Disk, options: CommitLogOptions): Promise<CommitLogApi> {
  assertOptions(options)
  await ensureDirectory(disk, options.directory)
  const positions = new PositionIndex(1)
  const tailCache = new TailCache(options.tailCacheBytes)
  const recovered = await recoverLog(disk, options, (frame) => {
    positions.add(frame.header)
    tailCache.add(frame)
    tailCache.evict(frame.header.index)
  })
  return new CommitLog(options, recovered, { positions, tailCache })
}

class CommitLog implements CommitLogApi {
  readonly recovery: LogRecovery
  readonly firstIndex: number
  readonly #segmentBytes: number
  readonly #files: LogFiles
  readonly #writer: LogWriter
  readonly #reader: LogReader
  readonly #termRuns: TermRuns
  readonly #positions: PositionIndex
  readonly #tailCache: TailCache
  #tail: LogTail

  constructor(
    options: CommitLogOptions,
    recovered: RecoveredLog,
    filled: { readonly positions: PositionIndex; readonly tailCache: TailCache },
  ) {
    const { files, tail, termRuns, recovery } = recovered
    this.recovery = recovery
    this.firstIndex = recovery.firstIndex
    this.#segmentBytes = options.segmentBytes
    this.#files = files
    this.#writer = new LogWriter(files, options, { position: tail.position, index: tail.index, term: tail.term })
    this.#reader = new LogReader(files, {
      segmentBytes: options.segmentBytes,
      blockCacheBytes: options.blockCacheBytes,
      durableEnd: () => this.#writer.durable.position,
    })
    this.#termRuns = termRuns
    this.#positions = filled.positions
    this.#tailCache = filled.tailCache
    this.#tail = tail
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

  get diskFull(): boolean {
    return this.#files.diskFull
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
    const header = checkedHeader(bytes, this.#segmentBytes)
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
      // Frames from before and after a cut must never stand side by side.
      if (epoch !== this.#reader.epoch) throw outOfRange(index, 'the log was cut during the read')
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
    return this.#tailCache.at(position) ?? this.#reader.entryAt(position)
  }

  close(): Promise<void> {
    return this.recovery.hole === null ? this.#writer.close() : this.#files.close()
  }

  async #readEntry(index: number, before: Frame | undefined): Promise<Frame> {
    if (before !== undefined) return this.#reader.entryFrom(before.header.position + before.header.frameLength)
    const known = this.#positions.floor(index)
    const position = known.index === index ? known.position : await this.#reader.seek(known, index)
    return this.#reader.entryAt(position)
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
    if (index < this.firstIndex) return { keep: { position: 0, index: 0, term: 0 }, checksum: chainStart }
    const found = this.#positions.exact(index)
    if (found === undefined) throw outOfRange(index, 'too far back to cut: more than raft ever leaves uncommitted')
    const keep = { position: found.position + found.frameLength, index, term: this.#termRuns.termAt(index) }
    return { keep, checksum: found.checksum }
  }

  #assertWritable(): void {
    this.#writer.assertUsable()
    const { hole } = this.recovery
    if (hole === null) return
    throw new StoreError('ROTTEN', `the log has a hole from index ${hole.fromIndex}: ${hole.reason}`, {
      details: { fromIndex: hole.fromIndex, position: hole.position, reason: hole.reason },
    })
  }
}

function place(tail: LogTail): { readonly position: Position; readonly previousChecksum: number } {
  return { position: tail.position, previousChecksum: tail.checksum }
}

/** Everything about a peer's frame that can be judged without its place in the log. */
function checkedHeader(bytes: Buffer, segmentBytes: number): FrameHeader {
  if (bytes.length < frameHeaderBytes) throw badFrame(null, 'shorter than its header')
  const header = readHeader(bytes, 0)
  if (typeof header === 'string') throw badFrame(null, header)
  if (header.type === frameTypes.padding) throw badFrame(header, 'padding is made by the layout alone')
  if (header.frameLength !== bytes.length || bytes.length > segmentBytes) throw badFrame(header, 'length')
  if (!bodyMatches(header, bytes)) throw badFrame(header, 'body checksum')
  if (!isZero(bytes.subarray(frameHeaderBytes + header.bodyLength))) throw badFrame(header, 'alignment')
  const numbers = [header.index, header.term, header.storeTime, header.position]
  if (!numbers.every(Number.isSafeInteger)) throw badFrame(header, 'number')
  return header
}

function badFrame(header: FrameHeader | null, reason: string): StoreError {
  const details = header === null ? { reason } : { reason, index: header.index, position: header.position }
  return new StoreError('BAD_FRAME', `the frame does not fit here: ${reason}`, { details })
}

function assertOptions(options: CommitLogOptions): void {
  const { segmentBytes, zeroAheadBytes, flushBytesMax } = options
  invariant(segmentBytes > 0 && segmentBytes % 4096 === 0, 'segmentBytes is a multiple of 4096')
  invariant(zeroAheadBytes > 0 && zeroAheadBytes <= segmentBytes, 'zeroAheadBytes is at most a segment')
  invariant(flushBytesMax > 0, 'flushBytesMax is positive')
}
