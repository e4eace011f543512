/**
 * One segment file: a header of 4 KiB, then `segmentBytes` of frames, filled with zeros ahead of its use.
 *
 * Used by `log-files.ts`. It translates log positions to file offsets and keeps to the limits of its file; it decides
 * nothing. Frames are written only below `preparedEnd`, so that they neither grow the file nor run out of space.
 */
import { invariant } from './assert.ts'
import type { Disk, DiskFile } from './disk.ts'
import { StoreError } from './errors.ts'
import {
  areMarksBlank,
  type DurableMark,
  encodeFixedPart,
  encodeMark,
  encodeSegmentHeader,
  fixedPartsAt,
  type LogEnd,
  markOffset,
  type SegmentHeader,
  segmentHeaderBytes,
} from './segment-header.ts'
import { readTolerantly } from './tolerant-read.ts'
import type { Position } from './types.ts'

const pageBytes = 4096
const zeroBlock = Buffer.alloc(256 * 1024)
/** Most zeros in one write; the next write sees by then whether the disk is full. */
const zeroWriteBytesMax = 4 * 1024 * 1024

export class Segment {
  readonly base: Position
  readonly end: Position
  readonly path: string
  readonly #disk: Disk
  readonly #file: DiskFile
  /**
   * Zeros are written and synced through a handle of their own: the kernel reports a failed write-back once a handle,
   * and an error of the zeros must not be taken by one sync while another one vouches for frames.
   */
  #filler: DiskFile | null = null
  /** Whether its header lies on disk; frames go in only then. */
  begun: boolean
  /** What its header says, or should say, of the log before it; null while it has not begun or nobody knows. */
  previous: LogEnd | null = null
  /** Bytes of the file that were written, header included. */
  #filledBytes: number
  /** How many of them were also synced. */
  #preparedBytes: number
  readonly #reads = new Set<Promise<Buffer>>()
  #isClosed = false

  private constructor(options: {
    readonly disk: Disk
    readonly path: string
    readonly base: Position
    readonly segmentBytes: number
    readonly file: DiskFile
    readonly filledBytes: number
  }) {
    this.#disk = options.disk
    this.path = options.path
    this.base = options.base
    this.end = options.base + options.segmentBytes
    this.#file = options.file
    this.#filledBytes = Math.min(options.filledBytes, segmentHeaderBytes + options.segmentBytes)
    this.#preparedBytes = this.#filledBytes
    this.begun = false
  }

  /** Opens the file of the segment that starts at `base`; a created one still needs a sync of the directory. */
  static async open(
    disk: Disk,
    options: {
      readonly directory: string
      readonly base: Position
      readonly segmentBytes: number
      readonly create: boolean
    },
  ): Promise<Segment> {
    const path = `${options.directory}/${segmentName(options.base)}`
    const file = await disk.open(path, { create: options.create })
    return new Segment({ ...options, disk, path, file, filledBytes: await file.size() })
  }

  /** Frames may be written up to here: the space exists, holds zeros, and both are durable. */
  get preparedEnd(): Position {
    return this.base + Math.max(0, this.#preparedBytes - segmentHeaderBytes)
  }

  /** Bytes of the file, header and zeros included. */
  get bytes(): number {
    return this.#filledBytes
  }

  /** Bytes of the header; shorter where the file ends. */
  readHeader(offset: number, length: number): Promise<Buffer> {
    return this.#file.read(offset, Math.min(length, segmentHeaderBytes - offset))
  }

  /** Bytes of frames from `position`; shorter where the file ends. Rejects with CLOSED once `close` was called. */
  read(position: Position, length: number): Promise<Buffer> {
    invariant(position >= this.base && position + length <= this.end, 'reads stay inside their segment')
    // The number of a closed descriptor may already mean another file.
    if (this.#isClosed) return Promise.reject(new StoreError('CLOSED', `${this.path} is closed`))
    const reading = this.#file.read(this.#offsetOf(position), length)
    const done = (): void => {
      this.#reads.delete(reading)
    }
    this.#reads.add(reading)
    reading.then(done, done)
    return reading
  }

  writeHeader(header: SegmentHeader, mark: DurableMark): Promise<void> {
    return this.#file.write([encodeSegmentHeader(header, mark)], 0)
  }

  /**
   * Writes the copies of the fixed part again. The marks stay, unless there are none: then the given one, which is
   * true everywhere, makes the header complete. Through a handle of its own, as repairs are.
   */
  async restoreHeader(header: SegmentHeader, mark: DurableMark): Promise<void> {
    await this.#repairing(async (file) => {
      const whole = { position: 0, length: segmentHeaderBytes }
      const bytes = await readTolerantly((at, length) => file.read(at, length), whole, { count: 0 })
      const isMarked = bytes.length === segmentHeaderBytes && !areMarksBlank(bytes)
      if (!isMarked) await file.write([encodeSegmentHeader(header, mark)], 0)
      else for (const at of fixedPartsAt) await file.write([encodeFixedPart(header)], at)
      await file.sync()
    })
    this.#filledBytes = Math.max(this.#filledBytes, segmentHeaderBytes)
    this.#preparedBytes = Math.max(this.#preparedBytes, segmentHeaderBytes)
  }

  /** Puts frames back, written and synced. */
  async repairFrames(buffers: readonly Uint8Array[], position: Position, end: Position): Promise<void> {
    invariant(position >= this.base && end <= this.preparedEnd, 'frames go into prepared space only')
    await this.#repairing(async (file) => {
      await file.write(buffers, this.#offsetOf(position))
      await file.sync()
    })
  }

  /**
   * Work on damaged parts of the file through a handle of its own: a failed write-back is reported once a handle, and
   * its error must not be taken by a sync that vouches for other frames, nor the other way round.
   */
  async #repairing(work: (file: DiskFile) => Promise<void>): Promise<void> {
    const file = await this.#disk.open(this.path, { create: false })
    try {
      await work(file)
    } finally {
      await file.close()
    }
  }

  writeMark(mark: DurableMark): Promise<void> {
    return this.#file.write([encodeMark(mark)], markOffset(mark.sequence))
  }

  writeFrames(buffers: readonly Uint8Array[], position: Position, end: Position): Promise<void> {
    invariant(this.begun, 'S1: the header of a segment is durable before its frames')
    invariant(position >= this.base && end <= this.preparedEnd, 'frames go into prepared space only')
    return this.#file.write(buffers, this.#offsetOf(position))
  }

  /** Overwrites prepared space with zeros again. */
  async writeZeros(from: Position, to: Position): Promise<void> {
    invariant(from >= this.base && to <= this.preparedEnd, 'zeros stay inside prepared space')
    let position = from
    while (position < to) {
      const length = Math.min(to - position, zeroWriteBytesMax)
      await this.#file.write(zeroBuffers(length), this.#offsetOf(position))
      position += length
    }
  }

  /** Grows the zeros up to `to`; what was done before an error counts. `syncFilled` makes it durable. */
  async fill(to: Position): Promise<void> {
    this.#filler ??= await this.#disk.open(this.path, { create: false })
    const target = Math.min(this.#offsetOf(this.end), Math.ceil(this.#offsetOf(to) / pageBytes) * pageBytes)
    while (this.#filledBytes < target) {
      const length = Math.min(target - this.#filledBytes, zeroWriteBytesMax)
      await this.#filler.write(zeroBuffers(length), this.#filledBytes)
      this.#filledBytes += length
    }
  }

  async syncFilled(): Promise<void> {
    const filledBytes = this.#filledBytes
    await this.#filler?.sync()
    this.#preparedBytes = filledBytes
    if (this.preparedEnd < this.end) return
    await this.#filler?.close()
    this.#filler = null
  }

  sync(): Promise<void> {
    return this.#file.sync()
  }

  /** Waits for running reads. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#reads)
    await this.#filler?.close()
    return this.#file.close()
  }

  #offsetOf(position: Position): number {
    return position - this.base + segmentHeaderBytes
  }
}

/** Twenty digits, so that names sort like positions. */
export function segmentName(base: Position): string {
  return String(base).padStart(20, '0')
}

/** The base position in a segment's file name, undefined for any other name. */
export function segmentBaseOf(name: string): Position | undefined {
  if (!/^\d{20}$/.test(name)) return undefined
  const base = Number(name)
  return Number.isSafeInteger(base) ? base : undefined
}

function zeroBuffers(length: number): Uint8Array[] {
  const buffers: Uint8Array[] = []
  for (let left = length; left > 0; left -= zeroBlock.length) {
    buffers.push(left >= zeroBlock.length ? zeroBlock : zeroBlock.subarray(0, left))
  }
  return buffers
}
