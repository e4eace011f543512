/**
 * Takes frames out of the blocks on disk and checks every one before it leaves (S3).
 *
 * Used by the CommitLog for entries that are not in the tail cache. The log may be cut while a read waits for the
 * disk: such a read ends with OUT_OF_RANGE, never with bytes of the cut entries.
 */
import { invariant } from './assert.ts'
import { BlockCache } from './block-cache.ts'
import { StoreError } from './errors.ts'
import { bodyMatches, frameHeaderBytes, readHeader } from './frame.ts'
import type { LogFiles } from './log-files.ts'
import type { Frame, FrameHeader, Position } from './types.ts'
import { frameTypes } from './types.ts'

export interface LogReaderOptions {
  readonly segmentBytes: number
  readonly blockCacheBytes: number
  readonly blockBytes: number
  readonly durableEnd: () => Position
}

export class LogReader {
  readonly #files: LogFiles
  readonly #options: LogReaderOptions
  readonly #blocks: BlockCache

  constructor(files: LogFiles, options: LogReaderOptions) {
    this.#files = files
    this.#options = options
    this.#blocks = new BlockCache(
      {
        segmentBytes: options.segmentBytes,
        blockBytes: options.blockBytes,
        durableEnd: options.durableEnd,
        read: (position, length) => files.read(position, length),
      },
      options.blockCacheBytes,
    )
  }

  /** Changes whenever the log is cut. */
  get epoch(): number {
    return this.#blocks.epoch
  }

  /** The entry at exactly this position. */
  async entryAt(position: Position): Promise<Frame> {
    const epoch = this.#blocks.epoch
    const frame = await this.#frame(position, epoch)
    if (frame.header.type === frameTypes.padding) throw outOfRange(position, 'no entry starts here')
    return frame
  }

  /** Walks forward from the entry `at` to the position of the entry `index`, by headers. */
  async seek(at: { readonly index: number; readonly position: Position }, index: number): Promise<Position> {
    const epoch = this.#blocks.epoch
    let position = at.position
    for (;;) {
      const header = await this.#header(position, epoch)
      if (header.type !== frameTypes.padding && header.index >= index) {
        if (header.index > index) throw this.#rotten(position, 'index')
        return position
      }
      position += header.frameLength
    }
  }

  /** The entry that starts here, or behind the padding that starts here. */
  async entryFrom(position: Position): Promise<Frame> {
    const epoch = this.#blocks.epoch
    const header = await this.#header(position, epoch)
    const start = header.type === frameTypes.padding ? position + header.frameLength : position
    return this.entryAt(start)
  }

  truncate(position: Position): void {
    this.#blocks.truncate(position)
  }

  /** Forgets [from, to), whose bytes are others now. */
  forget(from: Position, to: Position): void {
    this.#blocks.forget(from, to)
  }

  async #frame(position: Position, epoch: number): Promise<Frame> {
    const header = await this.#header(position, epoch)
    if (position + header.frameLength > this.#options.durableEnd()) throw this.#rotten(position, 'length')
    const bytes = await this.#bytes(position, header.frameLength, epoch)
    if (bytes.length < header.frameLength || !bodyMatches(header, bytes)) throw this.#rotten(position, 'body checksum')
    invariant(header.position === position, 'S3: a frame is served from its own place only')
    return { header, bytes }
  }

  async #header(position: Position, epoch: number): Promise<FrameHeader> {
    if (
      position < this.#files.firstBase ||
      position % frameHeaderBytes !== 0 ||
      position >= this.#options.durableEnd()
    ) {
      throw outOfRange(position, 'not a position of a durable entry')
    }
    const bytes = await this.#bytes(position, frameHeaderBytes, epoch)
    if (bytes.length < frameHeaderBytes) throw this.#rotten(position, 'length')
    const header = readHeader(bytes, 0)
    if (typeof header === 'string') throw this.#rotten(position, header)
    if (header.position !== position) throw this.#rotten(position, 'position')
    return header
  }

  async #bytes(position: Position, length: number, epoch: number): Promise<Buffer> {
    let bytes: Buffer
    try {
      bytes = await this.#blocks.bytesAt(position, length)
    } catch (cause) {
      if (position < this.#files.firstBase) throw outOfRange(position, 'deleted')
      if (epoch !== this.#blocks.epoch) throw outOfRange(position, 'the log was cut during the read')
      if (cause instanceof StoreError && cause.code === 'CLOSED') throw cause
      throw this.#rotten(position, 'the disk refuses to read it', cause)
    }
    if (epoch !== this.#blocks.epoch) throw outOfRange(position, 'the log was cut during the read')
    if (position < this.#files.firstBase) throw outOfRange(position, 'deleted')
    return bytes
  }

  #rotten(position: Position, reason: string, cause?: unknown): StoreError {
    const path = this.#files.segmentAt(position).path
    return new StoreError('ROTTEN', `the frame at ${position} in ${path} is damaged: ${reason}`, {
      cause,
      details: { path, position, reason },
    })
  }
}

export function outOfRange(place: number, reason: string): StoreError {
  return new StoreError('OUT_OF_RANGE', `${place}: ${reason}`, { details: { place } })
}
