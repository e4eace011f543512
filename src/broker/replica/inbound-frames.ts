/**
 * Frames that peers sent, kept from the moment the core sees their append until the Ready that stages them. Owned by
 * the replica loop, which clears it after every pump: what the core has not asked for by then it never will.
 */
import type { Frame } from '../../../store/index.ts'

/** Bytes kept before the loop has to pump at once instead of collecting more. */
export const inboundBytesMax: number = 16 * 1024 * 1024

export class InboundFrames {
  readonly #frames = new Map<number, Frame[]>()
  #bytes = 0

  /** True when the loop should not collect more before it stages. */
  get full(): boolean {
    return this.#bytes > inboundBytesMax
  }

  add(frames: readonly Frame[]): void {
    for (const frame of frames) {
      const { index, term } = frame.header
      const same = this.#frames.get(index)
      if (!same) this.#frames.set(index, [frame])
      else if (same.every((other) => other.header.term !== term)) same.push(frame)
      else continue
      this.#bytes += frame.bytes.length
    }
  }

  /** By index and term: in one turn a deposed and a new leader may both have written to the same index. */
  find(index: number, term: number): Frame | undefined {
    return this.#frames.get(index)?.find((frame) => frame.header.term === term)
  }

  clear(): void {
    if (this.#frames.size === 0) return
    this.#frames.clear()
    this.#bytes = 0
  }
}
