/**
 * From index to position: exact for the recent entries, a sparse sample for all others. Typed arrays only, so that
 * a log of a hundred million entries costs megabytes and no garbage.
 *
 * Used by the CommitLog. Cutting the log needs the exact place of an entry without asking the disk; entries that may
 * be cut are uncommitted and thereby few, `exactEntries` is far beyond what raft leaves uncommitted.
 */
import { invariant } from './assert.ts'
import type { LogGrain } from './contract.ts'
import type { FrameHeader, Position } from './types.ts'

const chunkEntriesMax = 1024

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

/** Where an entry begins that is known without asking the disk. */
export interface KnownPlace {
  readonly index: number
  readonly position: Position
}

export class PositionIndex {
  readonly #segmentBytes: number
  readonly #grain: LogGrain
  readonly #chunkEntries: number
  /** Chunks begin at this index plus multiples of their length. */
  readonly #chunkStart: number
  #firstIndex: number
  #lastIndex: number
  /** The next entry gets a sample, so that nobody has to walk through the hole to find it. */
  #isBehindHole = false
  #chunks: Chunk[] = []
  #sampleCount = 0
  #sampleIndexes = new Float64Array(1024)
  #samplePositions = new Float64Array(1024)

  /** Empty, for a log whose first entry will be `firstIndex`. */
  constructor(firstIndex: number, segmentBytes: number, grain: LogGrain) {
    this.#segmentBytes = segmentBytes
    this.#grain = grain
    this.#chunkEntries = Math.min(chunkEntriesMax, grain.exactEntries)
    this.#chunkStart = firstIndex
    this.#firstIndex = firstIndex
    this.#lastIndex = firstIndex - 1
  }

  /** The next entry. When indexes were left out, they lie in a hole. */
  add(header: FrameHeader): void {
    const { index } = header
    invariant(index > this.#lastIndex, 'S2: entries are indexed in order')
    if (index > this.#lastIndex + 1) this.skip(index - 1)
    this.#lastIndex = index
    this.#note(this.#chunkFor(index), header)
    if (this.#isBehindHole || this.#isSampleDue(header)) this.#insertSamples([header])
    this.#isBehindHole = false
  }

  /** The entries up to `lastIndex` lie in a hole at the end. */
  skip(lastIndex: number): void {
    if (lastIndex - this.#lastIndex > this.#grain.exactEntries) this.#chunks = []
    else for (let index = this.#lastIndex + 1; index < lastIndex; index += this.#chunkEntries) this.#chunkFor(index)
    this.#chunkFor(lastIndex)
    this.#lastIndex = lastIndex
    this.#isBehindHole = true
  }

  /** Lost entries that are there again, one behind the other. */
  fill(headers: readonly FrameHeader[]): void {
    const samples: FrameHeader[] = []
    for (const header of headers) {
      invariant(header.index <= this.#lastIndex, 'S2: only entries of the log are put back')
      const chunk = this.#chunkOf(header.index)
      if (chunk !== undefined) this.#note(chunk, header)
      const last = samples.at(-1)
      if (last === undefined || this.#isFar(header, last) || header.position % this.#segmentBytes === 0)
        samples.push(header)
    }
    this.#insertSamples(samples)
  }

  /** Forgets where the entries of a hole lie. */
  forget(fromIndex: number, toIndex: number): void {
    for (let index = Math.max(fromIndex, this.#chunks[0]?.first ?? toIndex + 1); index <= toIndex; index++) {
      const chunk = this.#chunkOf(index)
      if (chunk !== undefined) chunk.lengths[index - chunk.first] = 0
    }
    const from = this.#sampleAtOrBefore(this.#sampleIndexes, fromIndex - 1) + 1
    const to = this.#sampleAtOrBefore(this.#sampleIndexes, toIndex) + 1
    this.#replaceSamples(from, to, [])
    if (toIndex === this.#lastIndex) this.#isBehindHole = true
  }

  /** An entry that begins behind a hole. */
  addPlace(place: KnownPlace): void {
    this.#insertSamples([place])
  }

  /** Forgets the entries from `index` on. */
  truncate(index: number): void {
    this.#lastIndex = Math.min(this.#lastIndex, index - 1)
    while (this.#chunks.length > 0 && this.#chunks.at(-1)!.first >= index) this.#chunks.pop()
    this.#sampleCount = this.#sampleAtOrBefore(this.#sampleIndexes, index - 1) + 1
    // What is added again must not find the old entries in its chunk.
    const chunk = this.#chunks.at(-1)
    chunk?.lengths.fill(0, index - chunk.first)
  }

  /** Forgets the entries before `firstIndex`, where a segment begins. */
  trim(firstIndex: number): void {
    this.#firstIndex = firstIndex
    while (this.#chunks.length > 0 && this.#chunks[0]!.first + this.#chunkEntries <= firstIndex) this.#chunks.shift()
    this.#replaceSamples(0, this.#sampleAtOrBefore(this.#sampleIndexes, firstIndex - 1) + 1, [])
  }

  /** The exact place of a recent entry, undefined for older ones and for those that do not exist or are lost. */
  exact(index: number): EntryPlace | undefined {
    if (index < this.#firstIndex || index > this.#lastIndex) return undefined
    const chunk = this.#chunkOf(index)
    const slot = index - (chunk?.first ?? 0)
    if (chunk === undefined || chunk.lengths[slot] === 0) return undefined
    return {
      position: chunk.positions[slot]!,
      frameLength: chunk.lengths[slot]!,
      checksum: chunk.checksums[slot]!,
    }
  }

  /** The nearest known entry at or before `index`; walking forward from it takes at most `sampleEntries` frames or `sampleBytes`. */
  floor(index: number): KnownPlace {
    invariant(index >= this.#firstIndex && index <= this.#lastIndex, 'S3: only entries of the log are looked up')
    const exact = this.exact(index)
    if (exact !== undefined) return { index, position: exact.position }
    return this.#sample(this.#sampleAtOrBefore(this.#sampleIndexes, index))!
  }

  /** The last sampled entry that begins at or before `position`, and the first one behind it. */
  around(position: Position): { readonly before: KnownPlace | undefined; readonly behind: KnownPlace | undefined } {
    const at = this.#sampleAtOrBefore(this.#samplePositions, position)
    return { before: this.#sample(at), behind: this.#sample(at + 1) }
  }

  #note(chunk: Chunk, header: FrameHeader): void {
    const slot = header.index - chunk.first
    chunk.positions[slot] = header.position
    chunk.lengths[slot] = header.frameLength
    chunk.checksums[slot] = header.headerChecksum
  }

  #chunkOf(index: number): Chunk | undefined {
    const first = this.#chunks[0]?.first
    return first === undefined || index < first
      ? undefined
      : this.#chunks[Math.floor((index - first) / this.#chunkEntries)]
  }

  /** The chunk of the entry behind the last one. */
  #chunkFor(index: number): Chunk {
    const last = this.#chunks.at(-1)
    if (last !== undefined && index < last.first + this.#chunkEntries) return last
    return this.#addChunk(index - ((index - this.#chunkStart) % this.#chunkEntries))
  }

  #addChunk(first: number): Chunk {
    const chunk = {
      first,
      positions: new Float64Array(this.#chunkEntries),
      lengths: new Uint32Array(this.#chunkEntries),
      checksums: new Uint32Array(this.#chunkEntries),
    }
    this.#chunks.push(chunk)
    if ((this.#chunks.length - 1) * this.#chunkEntries > this.#grain.exactEntries) this.#chunks.shift()
    return chunk
  }

  #isSampleDue(header: FrameHeader): boolean {
    const last = this.#sampleCount - 1
    return (
      last < 0 ||
      header.position % this.#segmentBytes === 0 ||
      this.#isFar(header, { index: this.#sampleIndexes[last]!, position: this.#samplePositions[last]! })
    )
  }

  #isFar(header: KnownPlace, last: KnownPlace): boolean {
    const { sampleEntries, sampleBytes } = this.#grain
    return header.index - last.index >= sampleEntries || header.position - last.position >= sampleBytes
  }

  #sample(at: number): KnownPlace | undefined {
    if (at < 0 || at >= this.#sampleCount) return undefined
    return { index: this.#sampleIndexes[at]!, position: this.#samplePositions[at]! }
  }

  /** Number of the last sample whose value is not above `limit`, -1 when there is none. */
  #sampleAtOrBefore(values: Float64Array, limit: number): number {
    let low = -1
    let high = this.#sampleCount - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if (values[middle]! <= limit) low = middle
      else high = middle - 1
    }
    return low
  }

  /** In place of those that lie between the first and the last of the new ones. */
  #insertSamples(places: readonly KnownPlace[]): void {
    const [first] = places
    const last = places.at(-1)
    if (first === undefined || last === undefined) return
    const from = this.#sampleAtOrBefore(this.#sampleIndexes, first.index - 1) + 1
    const to = this.#sampleAtOrBefore(this.#sampleIndexes, last.index) + 1
    this.#replaceSamples(from, to, places)
  }

  #replaceSamples(from: number, to: number, places: readonly KnownPlace[]): void {
    const count = this.#sampleCount + places.length - (to - from)
    while (count > this.#sampleIndexes.length) {
      this.#sampleIndexes = grown(this.#sampleIndexes)
      this.#samplePositions = grown(this.#samplePositions)
    }
    for (const values of [this.#sampleIndexes, this.#samplePositions]) {
      values.copyWithin(from + places.length, to, this.#sampleCount)
    }
    for (const [at, { index, position }] of places.entries()) {
      this.#sampleIndexes[from + at] = index
      this.#samplePositions[from + at] = position
    }
    this.#sampleCount = count
  }
}

function grown(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2)
  larger.set(array)
  return larger
}
