/**
 * From index to position: exact for the recent entries, a sparse sample for all others. Typed arrays only, so that
 * a log of a hundred million entries costs megabytes and no garbage.
 *
 * Used by the CommitLog. Cutting the log needs the exact place of an entry without asking the disk; entries that may
 * be cut are uncommitted and thereby few, `exactEntriesMax` is far beyond what raft leaves uncommitted.
 */
import { invariant } from './assert.ts'
import type { FrameHeader, Position } from './types.ts'

/** At least so many of the last entries are known exactly (20 bytes each). */
export const exactEntriesMax = 131_072
const chunkEntries = 1024
/** A sample is taken when either is reached since the last one. */
const sampleBytes = 64 * 1024
const sampleEntries = 256

export interface EntryPlace {
  readonly position: Position
  readonly frameLength: number
  /** Header checksum, which the next frame carries. */
  readonly checksum: number
}

interface Chunk {
  readonly first: number
  readonly positions: Float64Array
  readonly lengths: Uint32Array
  readonly checksums: Uint32Array
}

export class PositionIndex {
  readonly #firstIndex: number
  #lastIndex: number
  #chunks: Chunk[] = []
  #sampleCount = 0
  #sampleIndexes = new Float64Array(1024)
  #samplePositions = new Float64Array(1024)

  /** Empty, for a log whose first entry will be `firstIndex`. */
  constructor(firstIndex: number) {
    this.#firstIndex = firstIndex
    this.#lastIndex = firstIndex - 1
  }

  add(header: FrameHeader): void {
    invariant(header.index === this.#lastIndex + 1, 'S2: entries are indexed without gaps')
    this.#lastIndex = header.index
    const slot = (header.index - this.#firstIndex) % chunkEntries
    let chunk = this.#chunks.at(-1)
    if (slot === 0 || chunk === undefined) chunk = this.#addChunk(header.index)
    chunk.positions[slot] = header.position
    chunk.lengths[slot] = header.frameLength
    chunk.checksums[slot] = header.headerChecksum
    this.#maybeSample(header)
  }

  /** Forgets the entries from `index` on. */
  truncate(index: number): void {
    this.#lastIndex = Math.min(this.#lastIndex, index - 1)
    while (this.#chunks.length > 0 && this.#chunks.at(-1)!.first >= index) this.#chunks.pop()
    while (this.#sampleCount > 0 && this.#sampleIndexes[this.#sampleCount - 1]! >= index) this.#sampleCount--
  }

  /** The exact place of a recent entry, undefined for older ones and for those that do not exist. */
  exact(index: number): EntryPlace | undefined {
    const first = this.#chunks[0]?.first
    if (first === undefined || index < first || index > this.#lastIndex) return undefined
    const chunk = this.#chunks[Math.floor((index - first) / chunkEntries)]!
    const slot = index - chunk.first
    return {
      position: chunk.positions[slot]!,
      frameLength: chunk.lengths[slot]!,
      checksum: chunk.checksums[slot]!,
    }
  }

  /** The nearest known entry at or before `index`; walking forward from it takes at most 256 frames or 64 KiB. */
  floor(index: number): { readonly index: number; readonly position: Position } {
    invariant(index >= this.#firstIndex && index <= this.#lastIndex, 'S3: only entries of the log are looked up')
    const exact = this.exact(index)
    if (exact !== undefined) return { index, position: exact.position }
    let low = 0
    let high = this.#sampleCount - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if (this.#sampleIndexes[middle]! <= index) low = middle
      else high = middle - 1
    }
    return { index: this.#sampleIndexes[low]!, position: this.#samplePositions[low]! }
  }

  #addChunk(first: number): Chunk {
    const chunk = {
      first,
      positions: new Float64Array(chunkEntries),
      lengths: new Uint32Array(chunkEntries),
      checksums: new Uint32Array(chunkEntries),
    }
    this.#chunks.push(chunk)
    if ((this.#chunks.length - 1) * chunkEntries > exactEntriesMax) this.#chunks.shift()
    return chunk
  }

  #maybeSample(header: FrameHeader): void {
    const last = this.#sampleCount - 1
    if (
      last >= 0 &&
      header.index - this.#sampleIndexes[last]! < sampleEntries &&
      header.position - this.#samplePositions[last]! < sampleBytes
    ) {
      return
    }
    if (this.#sampleCount === this.#sampleIndexes.length) {
      this.#sampleIndexes = grown(this.#sampleIndexes)
      this.#samplePositions = grown(this.#samplePositions)
    }
    this.#sampleIndexes[this.#sampleCount] = header.index
    this.#samplePositions[this.#sampleCount] = header.position
    this.#sampleCount++
  }
}

function grown(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2)
  larger.set(array)
  return larger
}
