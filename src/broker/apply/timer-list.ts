/** Timers in their order, without doubles: found, added and taken out by bisection. Used by `timer-queue.ts`. */
import { compareTimers, type TimerKey } from '../../message/extensions.ts'

export class TimerList {
  readonly #keys: TimerKey[] = []

  get count(): number {
    return this.#keys.length
  }

  get all(): readonly TimerKey[] {
    return this.#keys
  }

  has(key: TimerKey): boolean {
    const found = this.#keys[this.#placeOf(key)]
    return found !== undefined && compareTimers(found, key) === 0
  }

  add(key: TimerKey): void {
    if (!this.has(key)) this.#keys.splice(this.#placeOf(key), 0, key)
  }

  addAll(keys: readonly TimerKey[]): void {
    for (const key of keys) this.add(key)
  }

  /** False: it was not there. */
  delete(key: TimerKey): boolean {
    if (!this.has(key)) return false
    this.#keys.splice(this.#placeOf(key), 1)
    return true
  }

  /** The first ones, up to and with this one. */
  upTo(key: TimerKey): readonly TimerKey[] {
    return this.#keys.slice(0, this.#placeOf({ ...key, record: key.record + 1 }))
  }

  clear(): void {
    this.#keys.length = 0
  }

  /** Of the first one that is not before `key`. */
  #placeOf(key: TimerKey): number {
    let [low, high] = [0, this.#keys.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compareTimers(this.#keys[middle] as TimerKey, key) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}
