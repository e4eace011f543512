/**
 * The last frames of the log in memory: every staged one, and as many durable ones as fit. Replication and pulls at
 * the tail live from it without touching the disk.
 *
 * Used by the CommitLog. A frame that is not durable is never evicted, since the disk does not have it yet; those
 * are bounded by the caller's limit on staged bytes.
 */
import { invariant } from './assert.ts'
import type { Frame, Position } from './types.ts'

export class TailCache {
  readonly #bytesMax: number
  /** Ascending by index without gaps; the places before `#head` are empty. */
  #frames: (Frame | undefined)[] = []
  #head = 0
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Lets everything go: the frames that follow begin behind a hole. */
  clear(): void {
    this.#frames = []
    this.#head = 0
    this.#bytes = 0
  }

  add(frame: Frame): void {
    const last = this.#frames.at(-1)
    invariant(last === undefined || frame.header.index === last.header.index + 1, 'S2: cached frames have no gaps')
    this.#frames.push(frame)
    this.#bytes += frame.bytes.length
  }

  /** Lets frames up to `durableIndex` go, oldest first, until the rest fits. */
  evict(durableIndex: number): void {
    while (this.#bytes > this.#bytesMax && this.#head < this.#frames.length) {
      if (this.#frames[this.#head]!.header.index > durableIndex) break
      this.#dropFirst()
    }
    this.#compact()
  }

  truncate(index: number): void {
    while (this.#frames.length > this.#head && this.#frames.at(-1)!.header.index >= index) {
      this.#bytes -= this.#frames.pop()!.bytes.length
    }
    if (this.#frames.length === this.#head) {
      this.#frames = []
      this.#head = 0
    }
  }

  /** Forgets the entries before `firstIndex`; all of them are durable. */
  trim(firstIndex: number): void {
    while (this.#head < this.#frames.length && this.#frames[this.#head]!.header.index < firstIndex) this.#dropFirst()
    this.#compact()
  }

  get(index: number): Frame | undefined {
    const first = this.#frames[this.#head]
    if (first === undefined || index < first.header.index) return undefined
    return this.#frames[this.#head + index - first.header.index]
  }

  #dropFirst(): void {
    this.#bytes -= this.#frames[this.#head]!.bytes.length
    this.#frames[this.#head] = undefined
    this.#head++
  }

  #compact(): void {
    const isEmpty = this.#head === this.#frames.length
    if (!isEmpty && (this.#head <= 1024 || this.#head * 2 <= this.#frames.length)) return
    this.#frames = this.#frames.slice(this.#head)
    this.#head = 0
  }

  at(position: Position): Frame | undefined {
    let low = this.#head
    let high = this.#frames.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const frame = this.#frames[middle]!
      if (frame.header.position === position) return frame
      if (frame.header.position < position) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }
}
