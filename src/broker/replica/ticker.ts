/**
 * Feeds the core its ticks: one timer for `core.deadline()`. Owned by the replica loop.
 *
 * Heartbeats move the deadline away all the time, so a timer that would fire too early is left alone and re-armed
 * when it fires. At most one tick per wake-up: after a stall the core must see one late tick, not a burst that would
 * start an election before the waiting messages were read.
 */
import type { Cancel, Clock } from '../../common/clock.ts'

/** A timer that fires later than this was held up by a busy or paused process. */
const lateMsMax = 20

export interface TickerPorts {
  readonly clock: Clock
  /** Monotonic time at which the next tick is due, Infinity for none. */
  deadline(): number
  tick(): void
}

export class Ticker {
  readonly #ports: TickerPorts
  #armedFor = Number.POSITIVE_INFINITY
  #cancel: Cancel | null = null
  #stopped = false

  constructor(ports: TickerPorts) {
    this.#ports = ports
  }

  /** Call after anything that may have moved the deadline. */
  update(): void {
    if (this.#stopped) return
    const deadline = this.#ports.deadline()
    if (deadline >= this.#armedFor) return
    this.#cancel?.()
    this.#cancel = null
    this.#armedFor = deadline
    const waitMs = Math.max(0, Math.ceil(deadline - this.#ports.clock.monotonicMs()))
    this.#cancel = this.#ports.clock.after(waitMs, () => this.#fire(), { background: true })
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
    this.#cancel = null
  }

  #fire(): void {
    this.#cancel = null
    this.#armedFor = Number.POSITIVE_INFINITY
    // After a stall the sockets may hold the very heartbeat that this tick would find missing: they go first.
    if (this.#lateMs() > lateMsMax) this.#ports.clock.defer(() => this.#tick())
    else this.#tick()
  }

  #tick(): void {
    if (this.#stopped) return
    if (this.#lateMs() >= 0) this.#ports.tick()
    this.update()
  }

  /** How long the deadline has passed, negative while it has not. */
  #lateMs(): number {
    return this.#ports.clock.monotonicMs() - this.#ports.deadline()
  }
}
