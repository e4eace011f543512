/**
 * Reads segments forward in large chunks and takes frames out of them. Used by everything that walks the log:
 * recovery, resynchronisation, inspection. What it returns are views of the chunk.
 */
import { StoreError } from './errors.ts'
import { frameHeaderBytes, frameMagic, isZero, readHeader } from './frame.ts'
import type { Segment } from './segment.ts'
import { readTolerantly, type UnreadablePages } from './tolerant-read.ts'
import type { FrameHeader, Position } from './types.ts'

const chunkBytes = 1024 * 1024

export class SegmentWindow {
  readonly #segment: Segment
  readonly #unreadable: UnreadablePages
  #start: Position = 0
  #chunk: Buffer = Buffer.alloc(0)

  constructor(segment: Segment, unreadable: UnreadablePages) {
    this.#segment = segment
    this.#unreadable = unreadable
  }

  /**
   * The header of the frame at `position`, or why there is none; `zero` where only zeros lie or nothing at all.
   * Throws UNKNOWN_FORMAT for an intact header of another version.
   */
  async headerAt(position: Position): Promise<FrameHeader | string> {
    const head = await this.bytesAt(position, frameHeaderBytes)
    // The file ends here: space that was never prepared.
    if (head.length < frameHeaderBytes) return isZero(head) ? 'zero' : 'length'
    const header = readHeader(head, 0)
    if (typeof header !== 'string') return position + header.frameLength > this.#segment.end ? 'length' : header
    if (header === 'zero' || header === 'magic' || header === 'header checksum') return header
    throw new StoreError('UNKNOWN_FORMAT', `the frame at ${position} is of a format that this build does not know`, {
      details: { position, field: header },
    })
  }

  /** Shorter where the file ends. */
  async bytesAt(position: Position, length: number): Promise<Buffer> {
    const offset = position - this.#start
    if (offset < 0 || offset + length > this.#chunk.length) {
      await this.#load(position, length)
      return this.#chunk.subarray(0, length)
    }
    return this.#chunk.subarray(offset, offset + length)
  }

  /** The bytes from `position` to `limit`, as many as one chunk holds; empty where the file ends. */
  async chunkAt(position: Position, limit: Position): Promise<Buffer> {
    await this.#load(position, Math.min(chunkBytes, limit - position))
    return this.#chunk.subarray(0, limit - position)
  }

  async #load(position: Position, length: number): Promise<void> {
    const wanted = Math.min(Math.max(length, chunkBytes), this.#segment.end - position)
    const read = (at: number, count: number): Promise<Buffer> => this.#segment.read(at, count)
    this.#chunk = await readTolerantly(read, { position, length: wanted }, this.#unreadable)
    this.#start = position
  }
}

/** Calls back for every frame header in [from, to) that lies at its own position with a good checksum. */
export async function offerHeaders(
  window: SegmentWindow,
  { from, to }: { readonly from: Position; readonly to: Position },
  offer: (header: FrameHeader) => void,
): Promise<void> {
  for (let at = from; at < to; ) {
    const chunk = await window.chunkAt(at, to)
    if (chunk.length < frameHeaderBytes) return
    offerHeadersOf(chunk, at, offer)
    at += chunk.length - (chunk.length % frameHeaderBytes)
  }
}

/** The same for bytes in memory, which begin at `position`. */
export function offerHeadersOf(bytes: Buffer, position: Position, offer: (header: FrameHeader) => void): void {
  for (let offset = 0; offset + frameHeaderBytes <= bytes.length; offset += frameHeaderBytes) {
    const header = headerOrNull(bytes, offset)
    if (header !== null && header.position === position + offset) offer(header)
  }
}

function headerOrNull(bytes: Buffer, offset: number): FrameHeader | null {
  if (bytes.readUInt32LE(offset) !== frameMagic) return null
  const header = readHeader(bytes, offset)
  return typeof header === 'string' ? null : header
}
