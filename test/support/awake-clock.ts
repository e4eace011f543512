/**
 * Real time without the time in which this process did not run: for whole groups in one process (`memory-cluster.ts`).
 *
 * On a busy machine a process is held up for seconds, or gets a turn only now and then. Real processes would be held
 * up one by one; here a whole group misses its heartbeats at once, and elections begin in tests about something else.
 * A turn of the event loop counts for 25 ms at most, so that such a group lives slowly instead. Measure with this clock
 * what a test says about the speed of a group.
 */
import { type Cancel, type Clock, systemClock } from '../../src/common/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly callback: () => void
}

/** While a timer waits, time is looked at so often. */
const lookMs = 10
/** A turn that takes longer was held up. */
const turnMsMax = 25

export class AwakeClock implements Clock {
  readonly #clock: Clock
  readonly #wallAtZeroMs: number
  readonly #timers = new Set<Timer>()
  #nowMs = 0
  #lookedAtMs: number
  #look: { readonly atMs: number; readonly cancel: Cancel } | null = null

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
    this.#wallAtZeroMs = clock.wallMs()
    this.#lookedAtMs = clock.monotonicMs()
  }

  monotonicMs(): number {
    return this.#nowMs + Math.min(turnMsMax, this.#clock.monotonicMs() - this.#lookedAtMs)
  }

  wallMs(): number {
    return this.#wallAtZeroMs + Math.floor(this.monotonicMs())
  }

  after(ms: number, callback: () => void): Cancel {
    const timer: Timer = { dueMs: this.monotonicMs() + Math.max(0, ms), callback }
    this.#timers.add(timer)
    this.#lookAt(timer.dueMs)
    return () => void this.#timers.delete(timer)
  }

  defer(callback: () => void): void {
    this.#clock.defer(callback)
  }

  #lookAt(dueMs: number): void {
    const nowMs = this.monotonicMs()
    const atMs = Math.min(dueMs, nowMs + lookMs)
    if (this.#look && this.#look.atMs <= atMs) return
    this.#look?.cancel()
    const cancel = this.#clock.after(Math.max(0, atMs - nowMs), () => this.#wake())
    this.#look = { atMs, cancel }
  }

  /** One timer a turn, so that all that it sets off at once is done before the next one. */
  #wake(): void {
    this.#nowMs = this.monotonicMs()
    this.#lookedAtMs = this.#clock.monotonicMs()
    this.#look = null
    const due = this.#next()
    if (!due || due.dueMs > this.#nowMs) {
      if (due) this.#lookAt(due.dueMs)
      return
    }
    this.#timers.delete(due)
    const next = this.#next()
    if (next && next.dueMs <= this.#nowMs) {
      this.#look = { atMs: this.#nowMs, cancel: () => {} }
      this.#clock.defer(() => this.#wake())
    } else if (next) this.#lookAt(next.dueMs)
    due.callback()
  }

  /** The first of those that are due first. */
  #next(): Timer | undefined {
    let next: Timer | undefined
    for (const timer of this.#timers) if (!next || timer.dueMs < next.dueMs) next = timer
    return next
  }
}
