/**
 * How long to wait before the next attempt: exponential with jitter, bounded. Used wherever something is retried.
 *
 * Only computes; the caller waits with its clock. Jitter comes from an injected Random, so that simulations repeat.
 */
import type { Random } from './clock.ts'

export interface BackoffOptions {
  readonly initialMs: number
  readonly maxMs: number
  /** Growth per attempt, default 2. */
  readonly factor?: number
  /** Share of a wait that is random, 0 to 1, default 0.5: a wait of 100 becomes one of 50 to 100. */
  readonly jitter?: number
}

export class Backoff {
  readonly #options: Required<BackoffOptions>
  readonly #random: Random
  #nextMs: number

  constructor(options: BackoffOptions, random: Random) {
    this.#options = { factor: 2, jitter: 0.5, ...options }
    this.#random = random
    this.#nextMs = options.initialMs
  }

  /** Milliseconds until the next attempt, never above `maxMs`; each call is one more failure. */
  next(): number {
    const { maxMs, factor, jitter } = this.#options
    const waitMs = Math.min(this.#nextMs, maxMs)
    this.#nextMs = Math.min(this.#nextMs * factor, maxMs)
    return waitMs * (1 - jitter * this.#random.next())
  }

  /** After a success: begin again at `initialMs`. */
  reset(): void {
    this.#nextMs = this.#options.initialMs
  }
}
