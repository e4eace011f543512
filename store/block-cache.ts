/**
 * Blocks of the log as read from disk, for pulls and lagging peers: least recently used first out, bounded in bytes.
 *
 * Used by `log-reader.ts`. Readers of the same block share one read, and a reader that goes forward finds the next
 * block on its way. Blocks hold raw bytes below the durable end: whoever takes a frame out of one checks it (S3).
 */
import type { Position } from './types.ts'

export interface BlockSource {
  /** Reads of a segment never cross its end. */
  readonly segmentBytes: number
  readonly blockBytes: number
  /** Only bytes below are read, and cached as far as they go. */
  durableEnd(): Position
  read(position: Position, length: number): Promise<Buffer>
}

interface Loading {
  readonly end: Position
  readonly promise: Promise<Buffer>
}

export class BlockCache {
  readonly #source: BlockSource
  readonly #bytesMax: number
  /** By the position of the first byte; order of the map = order of use. */
  readonly #blocks = new Map<Position, Buffer>()
  readonly #loading = new Map<Position, Loading>()
  #bytes = 0
  #epoch = 0

  constructor(source: BlockSource, bytesMax: number) {
    this.#source = source
    this.#bytesMax = bytesMax
  }

  /** Changes whenever bytes that may have been read were cut from the log. */
  get epoch(): number {
    return this.#epoch
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The bytes [position, position + length) of one segment, copied only when they lie in several blocks. */
  async bytesAt(position: Position, length: number): Promise<Buffer> {
    const pieces: Buffer[] = []
    let at = position
    while (at < position + length) {
      const start = this.#blockStart(at)
      const block = this.cached(start, Math.min(position + length, this.#blockEnd(start))) ?? (await this.#load(start))
      const piece = block.subarray(at - start, position + length - start)
      // Shorter than the log says: the caller's check turns it into a coded error.
      if (piece.length === 0) break
      pieces.push(piece)
      at += piece.length
    }
    const [only] = pieces
    return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
  }

  /** The block that starts here, if it is in memory and reaches `end`. */
  cached(start: Position, end: Position): Buffer | undefined {
    const block = this.#blocks.get(start)
    if (block === undefined || start + block.length < end) return undefined
    this.#blocks.delete(start)
    this.#blocks.set(start, block)
    if (this.#blocks.has(start - this.#source.blockBytes)) this.#readAhead(start)
    return block
  }

  /** Forgets everything from `position` on; reads that are under way are not kept. */
  truncate(position: Position): void {
    this.#epoch++
    for (const [start, block] of this.#blocks) {
      if (start + block.length > position) this.#drop(start, block)
    }
    this.#loading.clear()
  }

  /** Forgets [from, to): their bytes on disk changed, or are gone; reads that are under way are not kept. */
  forget(from: Position, to: Position): void {
    for (const [start, block] of this.#blocks) {
      if (start < to && start + block.length > from) this.#drop(start, block)
    }
    for (const [start, { end }] of this.#loading) {
      if (start < to && end > from) this.#loading.delete(start)
    }
  }

  #load(start: Position): Promise<Buffer> {
    const end = Math.min(this.#blockEnd(start), this.#source.durableEnd())
    const running = this.#loading.get(start)
    if (running !== undefined && running.end >= end) return running.promise
    const promise: Promise<Buffer> = this.#source.read(start, end - start).then(
      (block) => {
        if (this.#finish(start, promise)) this.#keep(start, block)
        return block
      },
      (error: unknown) => {
        this.#finish(start, promise)
        throw error
      },
    )
    this.#loading.set(start, { end, promise })
    if (this.#blocks.has(start - this.#source.blockBytes)) this.#readAhead(start)
    return promise
  }

  /** False when the block was cut or changed while it was read. */
  #finish(start: Position, promise: Promise<Buffer>): boolean {
    return this.#loading.get(start)?.promise === promise && this.#loading.delete(start)
  }

  #readAhead(start: Position): void {
    const next = this.#blockEnd(start)
    if (this.#blocks.has(next) || this.#loading.has(next)) return
    if (this.#blockEnd(next) > this.#source.durableEnd()) return
    // Its failure is nobody's yet: whoever needs the block reads it again and gets the error.
    this.#load(next).catch(() => undefined)
  }

  #keep(start: Position, block: Buffer): void {
    const old = this.#blocks.get(start)
    if (old !== undefined) this.#drop(start, old)
    this.#blocks.set(start, block)
    this.#bytes += block.length
    for (const [oldest, bytes] of this.#blocks) {
      // The newest stays whatever the limit: its reader has not taken its frames yet.
      if (this.#bytes <= this.#bytesMax || oldest === start) break
      this.#drop(oldest, bytes)
    }
  }

  #drop(start: Position, block: Buffer): void {
    this.#blocks.delete(start)
    this.#bytes -= block.length
  }

  #blockStart(position: Position): Position {
    const base = position - (position % this.#source.segmentBytes)
    return base + Math.floor((position - base) / this.#source.blockBytes) * this.#source.blockBytes
  }

  #blockEnd(start: Position): Position {
    const segmentEnd = start - (start % this.#source.segmentBytes) + this.#source.segmentBytes
    return Math.min(start + this.#source.blockBytes, segmentEnd)
  }
}
