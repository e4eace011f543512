/**
 * What has to wait, longer each time: queues whose delivery was refused, and entries whose bytes cannot be read. Owned
 * by the timer service, for one term.
 */

/** Of the first pause, milliseconds; doubled up to the most. */
const pauseMsMin = 10
const pauseMsMax = 5000

interface Pause {
  readonly untilMs: number
  readonly ms: number
}

export class Pauses<Name> {
  readonly #pauses = new Map<Name, Pause>()

  get isEmpty(): boolean {
    return this.#pauses.size === 0
  }

  pause(name: Name, nowMs: number): void {
    const ms = Math.min(pauseMsMax, 2 * (this.#pauses.get(name)?.ms ?? pauseMsMin / 2))
    this.#pauses.set(name, { ms, untilMs: nowMs + ms })
  }

  isPaused(name: Name, nowMs: number): boolean {
    const pause = this.#pauses.get(name)
    return pause !== undefined && pause.untilMs > nowMs
  }

  /** It went well. */
  end(name: Name): void {
    this.#pauses.delete(name)
  }

  /** Nothing is due that might go on: what was wrong with those has passed. */
  forgetOver(nowMs: number): void {
    for (const [name, { untilMs }] of this.#pauses) if (untilMs <= nowMs) this.#pauses.delete(name)
  }

  clear(): void {
    this.#pauses.clear()
  }
}
