/**
 * A clock that stands still until a test moves it. `advance` runs the timers that come due, in order, and lets what
 * they started settle in between, so that time-dependent code is tested without waiting.
 */
import type { Cancel, Clock } from '../../src/common/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly callback: () => void
}

/** Lets everything run that is ready and needs no time. */
export async function settle(turns = 8): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
}

export class ManualClock implements Clock {
  #nowMs: number
  #timers: Timer[] = []

  constructor(startMs = 1000) {
    this.#nowMs = startMs
  }

  get timerCount(): number {
    return this.#timers.length
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs
  }

  after(ms: number, callback: () => void): Cancel {
    const timer: Timer = { dueMs: this.#nowMs + Math.max(0, ms), callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  defer(callback: () => void): void {
    setImmediate(callback)
  }

  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await settle()
    for (let timer = this.#nextDue(endMs); timer; timer = this.#nextDue(endMs)) {
      this.#nowMs = Math.max(this.#nowMs, timer.dueMs)
      this.#fire(timer)
      await settle()
    }
    this.#nowMs = endMs
  }

  /** The process slept: time has passed, and only now the timers that came due meanwhile fire, once each. */
  async sleepThrough(ms: number): Promise<void> {
    await settle()
    this.#nowMs += ms
    const due = this.#timers.filter((timer) => timer.dueMs <= this.#nowMs).sort((a, b) => a.dueMs - b.dueMs)
    for (const timer of due) if (this.#timers.includes(timer)) this.#fire(timer)
    await settle()
  }

  #nextDue(endMs: number): Timer | undefined {
    return this.#timers.filter((timer) => timer.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0]
  }

  #fire(timer: Timer): void {
    this.#timers = this.#timers.filter((other) => other !== timer)
    timer.callback()
  }
}
