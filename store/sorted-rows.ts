/**
 * Rows ordered by the unsigned bytes of their keys, in memory. Used by `memory-key-value.ts` only.
 *
 * Keys are kept as latin1 strings: one character per byte, so that strings compare as the bytes do. Rows that are
 * written in ascending order, the common case of logs and queues, are appended without a search.
 */
import type { KeyRange } from './key-value.ts'

export class SortedRows {
  readonly #keys: string[]
  readonly #values: Map<string, Buffer>

  constructor(keys: string[] = [], values: Map<string, Buffer> = new Map()) {
    this.#keys = keys
    this.#values = values
  }

  clone(): SortedRows {
    return new SortedRows([...this.#keys], new Map(this.#values))
  }

  /** A copy, so that nobody can change what is "on disk". */
  get(key: Buffer): Buffer | undefined {
    const value = this.#values.get(key.toString('latin1'))
    return value && Buffer.from(value)
  }

  put(key: Buffer, value: Buffer): void {
    const name = key.toString('latin1')
    if (!this.#values.has(name)) this.#insert(name)
    this.#values.set(name, value)
  }

  delete(key: Buffer): void {
    const name = key.toString('latin1')
    if (!this.#values.delete(name)) return
    this.#keys.splice(this.#find(name), 1)
  }

  range(range: KeyRange): readonly (readonly [key: Buffer, value: Buffer])[] {
    const first = this.#find(range.from.toString('latin1'))
    const end = this.#find(range.to.toString('latin1'))
    const count = Math.max(0, Math.min(range.limit, end - first))
    const names = range.reverse ? this.#keys.slice(end - count, end).reverse() : this.#keys.slice(first, first + count)
    return names.map((name) => [Buffer.from(name, 'latin1'), Buffer.from(this.#values.get(name)!)] as const)
  }

  #insert(name: string): void {
    const last = this.#keys.at(-1)
    if (last === undefined || last < name) this.#keys.push(name)
    else this.#keys.splice(this.#find(name), 0, name)
  }

  /** Position of the first key that is not below `name`. */
  #find(name: string): number {
    let low = 0
    let high = this.#keys.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#keys[middle]! < name) low = middle + 1
      else high = middle
    }
    return low
  }
}
