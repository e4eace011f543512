/**
 * Group commit: frames are staged in memory, a flush makes durable all that is staged by then with one write and one
 * sync, and what is staged meanwhile goes with the next.
 *
 * Used by the CommitLog, which lays out the frames. Between any two awaits frames may be staged or cut; nothing here
 * may be called durable that was cut or overwritten while its write ran (S1).
 */
import { invariant } from './assert.ts'
import type { CommitLogOptions } from './contract.ts'
import { StoreError } from './errors.ts'
import type { EntryEnd, LogFiles } from './log-files.ts'
import type { Frame, Position } from './types.ts'
import { frameTypes } from './types.ts'

interface Part {
  readonly frames: readonly Frame[]
  readonly position: Position
  readonly end: Position
}

export class LogWriter {
  readonly #files: LogFiles
  readonly #options: CommitLogOptions
  /** Frames that are not durable yet, in order, padding included. */
  #staged: Frame[] = []
  #stagedBytes = 0
  /** End of the last entry that is written and synced. Never behind a padding frame: that belongs to its entry. */
  #durable: EntryEnd
  /** No byte at or behind it is anything but zero on disk. */
  #dirtyEnd: Position
  /** From here on the disk holds bytes of entries that were cut; nothing is written until they are zeroed. */
  #cut: EntryEnd | null = null
  #running: Promise<number> | null = null
  #waiting: Promise<number> | null = null
  #background: Promise<void> | null = null
  #failure: StoreError | null = null
  #closed = false
  /** Bytes that may still be prepared while growth is limited; null: as much as there is. */
  #growthLeft: number | null

  constructor(files: LogFiles, options: CommitLogOptions, durable: EntryEnd) {
    this.#files = files
    this.#options = options
    this.#durable = durable
    this.#dirtyEnd = durable.position
    this.#growthLeft = options.growthBytesMax ?? null
  }

  get durable(): EntryEnd {
    return this.#durable
  }

  get stagedBytes(): number {
    return this.#stagedBytes
  }

  get diskFull(): boolean {
    return this.#growthLeft !== null || this.#files.diskFull
  }

  /** See `CommitLogApi.limitGrowth`. */
  limitGrowth(bytesMax: number | null): void {
    this.#growthLeft = bytesMax
  }

  /** See `CommitLogApi.grow`. */
  async grow(): Promise<void> {
    this.assertUsable()
    invariant(this.#growthLeft === null, 'a log whose growth is limited does not grow ahead')
    await this.run(() => this.#files.prepare(this.#aheadOf(this.#durable.position + this.#stagedBytes)))
  }

  /** Throws what made the log unusable, if anything did. */
  assertUsable(): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#closed) throw new StoreError('CLOSED', 'the CommitLog is closed')
  }

  stage(frame: Frame): void {
    this.#staged.push(frame)
    this.#stagedBytes += frame.bytes.length
  }

  /** Drops everything behind `keep`, the end of the last entry that stays. */
  truncate(keep: EntryEnd): void {
    while (this.#staged.length > 0 && this.#staged.at(-1)!.header.position >= keep.position) {
      this.#stagedBytes -= this.#staged.pop()!.bytes.length
    }
    if (keep.position < this.#durable.position) this.#durable = keep
    if (keep.position >= this.#dirtyEnd) return
    if (this.#cut === null || keep.position < this.#cut.position) this.#cut = keep
  }

  /** See `CommitLogApi.flush`. */
  flush(): Promise<number> {
    if (this.#running === null) return this.#start()
    // Whoever asks while a flush runs shares the one after it.
    const startNext = (): Promise<number> => {
      this.#waiting = null
      return this.#start()
    }
    this.#waiting ??= this.#running.then(startNext, startNext)
    return this.#waiting
  }

  /** Flushes what fits, writes the exact mark, closes. After a failure it only closes. */
  async close(): Promise<void> {
    if (this.#closed) return
    try {
      if (this.#failure === null) await this.#flushForClose()
    } finally {
      this.#closed = true
      // Also after a failure of something else: its write must not meet a descriptor that is another file's by then.
      await this.#running?.catch(() => undefined)
      await this.#files.close()
    }
  }

  async #flushForClose(): Promise<void> {
    try {
      await this.flush()
    } catch (error) {
      // Nothing was promised for what found no space; the rest is closed as it should be.
      if (!(error instanceof StoreError) || error.code !== 'DISK_FULL') throw error
    }
    await this.#background
    await this.run(() => this.#files.writeMark(this.#durable))
  }

  #start(): Promise<number> {
    this.#running = this.#flush().finally(() => {
      // With one waiting it stays, so that nobody starts in between.
      if (this.#waiting === null) this.#running = null
    })
    return this.#running
  }

  async #flush(): Promise<number> {
    this.assertUsable()
    // While the disk is full every flush tries again, so that it recovers by itself even when nothing is staged.
    if (this.#files.diskFull && this.#growthLeft === null) {
      await this.run(() => this.#files.prepare(this.#aheadOf(this.#durable.position)))
    }
    const last = this.#staged.at(-1)
    const target = last === undefined ? 0 : last.header.position + last.header.frameLength
    while (this.#cut !== null || (this.#staged.length > 0 && this.#staged[0]!.header.position < target)) {
      if (this.#cut !== null) await this.run(() => this.#performCut())
      else await this.#flushPart()
    }
    if (!this.diskFull) this.#prepareInBackground()
    return this.#durable.index
  }

  /** Awaits work whose failure is final: from then on everything is refused and nothing is tried again. */
  async run(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (cause) {
      this.#failure ??= new StoreError('STORAGE_FAILED', 'a write or sync of the CommitLog failed', { cause })
    }
    // Also when another write failed meanwhile: its sync may have taken the error that was meant for this one.
    if (this.#failure !== null) throw this.#failure
  }

  async #performCut(): Promise<void> {
    const cut = this.#cut
    invariant(cut !== null, 'a cut is pending')
    await this.#files.cut(cut, this.#dirtyEnd)
    // A deeper cut that came meanwhile still has to be made.
    if (this.#cut !== cut) return
    this.#cut = null
    this.#dirtyEnd = cut.position
  }

  async #flushPart(): Promise<void> {
    const wanted = this.#takePart(Number.POSITIVE_INFINITY)
    invariant(wanted !== null, 'there is something to flush')
    if (wanted.end > this.#files.preparedEnd) await this.run(() => this.#prepareFor(wanted.end))
    // Frames may have been cut while space was prepared.
    if (this.#cut !== null || this.#staged.length === 0) return
    const part = this.#takePart(this.#files.preparedEnd)
    if (part === null) {
      throw new StoreError('DISK_FULL', 'no space to prepare for the CommitLog', {
        details: { stagedBytes: this.#stagedBytes, preparedEnd: this.#files.preparedEnd },
      })
    }
    await this.run(() => this.#writePart(part))
    this.#completePart(part)
  }

  /** The first staged frames that lie in one segment, end at `limit` or before, and make one flush. */
  #takePart(limit: Position): Part | null {
    const { segmentBytes, flushBytesMax } = this.#options
    const first = this.#staged[0]
    if (first === undefined) return null
    const position = first.header.position
    const segmentEnd = position - (position % segmentBytes) + segmentBytes
    const frames: Frame[] = []
    let end = position
    for (const frame of this.#staged) {
      const next = end + frame.header.frameLength
      if (next > Math.min(limit, segmentEnd)) break
      if (frames.length > 0 && next - position > flushBytesMax) break
      frames.push(frame)
      end = next
    }
    return frames.length === 0 ? null : { frames, position, end }
  }

  async #writePart(part: Part): Promise<void> {
    this.#dirtyEnd = Math.max(this.#dirtyEnd, part.end)
    const durable = this.#durable
    const first = part.frames[0]!.header
    if (part.position % this.#options.segmentBytes === 0) {
      const previous = { index: durable.index, term: durable.term, checksum: first.previousChecksum }
      await this.#files.begin(part.position, previous, durable)
    }
    await this.#files.writeFrames(
      part.frames.map((frame) => frame.bytes),
      part.position,
      part.end,
      durable,
    )
  }

  /** Counts what was written and synced as durable, as far as it was not cut while that ran. */
  #completePart(part: Part): void {
    const end = Math.min(part.end, this.#cut?.position ?? part.end)
    let count = 0
    while (count < this.#staged.length && this.#staged[count]!.header.position < end) {
      const frame = this.#staged[count]!
      invariant(frame === part.frames[count], 'S1: only what this write and sync covered becomes durable')
      this.#stagedBytes -= frame.bytes.length
      count++
      if (frame.header.type === frameTypes.padding) continue
      const { index, term, position, frameLength } = frame.header
      this.#durable = { index, term, position: position + frameLength }
    }
    this.#staged.splice(0, count)
  }

  /** While growth is limited, nothing is prepared beyond what is staged. */
  async #prepareFor(end: Position): Promise<void> {
    if (this.#growthLeft === null) return this.#files.prepare(this.#aheadOf(end))
    const before = this.#files.preparedEnd
    const target = Math.min(end, before + this.#growthLeft)
    if (target > before) await this.#files.prepare(target)
    if (this.#growthLeft !== null) this.#growthLeft = Math.max(0, this.#growthLeft - (this.#files.preparedEnd - before))
  }

  #aheadOf(position: Position): Position {
    return position + this.#options.zeroAheadBytes
  }

  /** Half of the zeros ahead are used up: make new ones while nobody waits for them. */
  #prepareInBackground(): void {
    const { zeroAheadBytes } = this.#options
    if (this.#background !== null || this.#files.preparedEnd - this.#dirtyEnd >= zeroAheadBytes / 2) return
    this.#background = this.run(() => this.#files.prepare(this.#aheadOf(this.#dirtyEnd)))
      .catch(() => undefined)
      .finally(() => {
        this.#background = null
      })
  }
}
