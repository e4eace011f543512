/**
 * A hash index from keys to slots of typed arrays, itself one typed array: open addressing, linear probing.
 *
 * Used by `producer-table.ts`, where a Map would hold a live object per producer and queue. Knows no keys: the owner
 * hashes and compares. Slots cannot be removed one by one; the owner rebuilds the index after removing some.
 */
const slotsAtFirst = 64

export class SlotIndex {
  /** Slot + 1, 0 for empty. The size is a power of two and at least twice the count. */
  #table = new Int32Array(slotsAtFirst)
  #count = 0
  readonly #hashOf: (slot: number) => number

  /** `hashOf`: hash of the key in a slot, for when the index grows. */
  constructor(hashOf: (slot: number) => number) {
    this.#hashOf = hashOf
  }

  /** Slot with this hash that the owner says is the one, or -1. */
  find(hash: number, isSought: (slot: number) => boolean): number {
    const mask = this.#table.length - 1
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const slot = (this.#table[at] as number) - 1
      if (slot === -1 || isSought(slot)) return slot
    }
  }

  add(hash: number, slot: number): void {
    if ((this.#count + 1) * 2 > this.#table.length) this.#grow()
    this.#place(hash, slot)
    this.#count++
  }

  clear(): void {
    this.#table.fill(0)
    this.#count = 0
  }

  #grow(): void {
    const old = this.#table
    this.#table = new Int32Array(old.length * 2)
    for (const entry of old) if (entry !== 0) this.#place(this.#hashOf(entry - 1), entry - 1)
  }

  #place(hash: number, slot: number): void {
    const mask = this.#table.length - 1
    let at = hash & mask
    while (this.#table[at] !== 0) at = (at + 1) & mask
    this.#table[at] = slot + 1
  }
}

/** Spreads 32-bit words over 32 bits; start with any seed and feed word by word. */
export function mixHash(seed: number, word: number): number {
  let hash = Math.imul(seed ^ (word | 0), 0x9e3779b1)
  hash ^= hash >>> 15
  hash = Math.imul(hash, 0x85ebca6b)
  return hash ^ (hash >>> 13)
}
