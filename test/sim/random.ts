/**
 * Seeded random numbers (sfc32), forked by name: turning one kind of fault off does not change the numbers that the
 * others draw.
 */
import type { Random } from '../../src/common/clock.ts'

export class SimRandom implements Random {
  readonly #seed: string
  #a: number
  #b: number
  #c: number
  #d: number

  constructor(seed: string) {
    this.#seed = seed
    ;[this.#a, this.#b, this.#c, this.#d] = spread(seed)
    for (let round = 0; round < 12; round++) this.next()
  }

  /** A stream of its own, decided by the seed and this name alone. */
  fork(name: string): SimRandom {
    return new SimRandom(`${this.#seed}/${name}`)
  }

  next(): number {
    const t = (((this.#a + this.#b) | 0) + this.#d) | 0
    this.#d = (this.#d + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t
    this.#c |= 0
    return (t >>> 0) / 4_294_967_296
  }

  bytes(length: number): Buffer {
    const out = Buffer.alloc(length)
    for (let index = 0; index < length; index++) out[index] = Math.floor(this.next() * 256)
    return out
  }

  /** Uniform in [min, max). */
  between(min: number, max: number): number {
    return min + this.next() * (max - min)
  }

  /** Between min and max, small values as likely as large ones by order of magnitude. */
  spread(min: number, max: number): number {
    return min * (max / min) ** this.next()
  }

  /** Exponential with this mean, at most ten times as much. */
  around(mean: number): number {
    return Math.min(10, -Math.log(1 - this.next())) * mean
  }

  /** Whole number in [0, below). */
  below(below: number): number {
    return Math.floor(this.next() * below)
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  pick<Value>(values: readonly Value[]): Value {
    const value = values[this.below(values.length)]
    if (value === undefined) throw new RangeError('nothing to pick from')
    return value
  }
}

/** FNV-1a with four starting points: four words from one text. */
function spread(text: string): [number, number, number, number] {
  const words = [0x811c9dc5, 0x1b873593, 0xcc9e2d51, 0x85ebca6b].map((start) => {
    let hash = start
    for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 16_777_619)
    return hash | 0
  })
  return words as [number, number, number, number]
}
