/**
 * Looks every few seconds for brokers that fell silent (RocketMQ: scanNotActiveBroker). Started by `namesrv.ts`.
 *
 * A scan that comes late says that this process slept, not that the brokers did: their messages still wait to be
 * read. It is skipped, so that a paused namesrv does not forget a living cluster.
 */
import type { Cancel, Clock } from '../common/clock.ts'

/** RocketMQ: scanNotActiveBrokerInterval of 4.9. */
export const scanIntervalMsDefault = 10_000
/** RocketMQ: BROKER_CHANNEL_EXPIRED_TIME. */
export const silentMsDefault = 120_000

export class Liveness {
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #scan: (nowMs: number) => void
  #lastMs: number
  #cancel: Cancel

  constructor(options: {
    readonly clock: Clock
    readonly intervalMs: number
    readonly scan: (nowMs: number) => void
  }) {
    this.#clock = options.clock
    this.#intervalMs = options.intervalMs
    this.#scan = options.scan
    this.#lastMs = options.clock.monotonicMs()
    this.#cancel = this.#arm()
  }

  close(): void {
    this.#cancel()
  }

  #arm(): Cancel {
    return this.#clock.after(this.#intervalMs, () => this.#onTimer(), { background: true })
  }

  #onTimer(): void {
    const nowMs = this.#clock.monotonicMs()
    const slept = nowMs - this.#lastMs > 2 * this.#intervalMs
    this.#lastMs = nowMs
    this.#cancel = this.#arm()
    if (!slept) this.#scan(nowMs)
  }
}
