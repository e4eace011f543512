/**
 * A limit on bytes per second, kept by waiting after the bytes. Used by whatever copies in the background.
 *
 * What is not used for a while is not saved up beyond a tenth of a second: a pause must not be followed by a burst.
 */
import { type Clock, sleep } from '../../../common/clock.ts'

const burstMs = 100

export class TokenBucket {
  readonly #clock: Clock
  readonly #bytesPerMs: number
  /** When all that was taken so far is paid for. */
  #paidAtMs: number

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#paidAtMs = clock.monotonicMs() - burstMs
  }

  /** Resolves when these bytes fit into the limit; call it after they were moved. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonicMs()
    this.#paidAtMs = Math.max(this.#paidAtMs, nowMs - burstMs) + bytes / this.#bytesPerMs
    const waitMs = this.#paidAtMs - nowMs
    if (waitMs > 0) await sleep(this.#clock, waitMs, signal)
  }
}
