/**
 * One process under virtual time: a clock, and a guard around everything that wants to act in it.
 *
 * After `kill` nothing of it ever acts again: no timer, no message, no completion of the disk. While it is paused
 * (SIGSTOP) everything waits and comes at once when it goes on. What it throws outside of any promise is a bug.
 */
import type { Cancel, Clock } from '../../src/common/clock.ts'
import type { Scheduler } from './scheduler.ts'

export interface ProcessPorts {
  readonly scheduler: Scheduler
  /** Wall clock of the machine. */
  wallMs(): number
  /** Timers fire this much too late, as real ones do. */
  latenessMs(): number
  /** Thrown to the top of the process, which would have died of it. */
  crashed(error: unknown): void
}

export class SimProcess implements Clock {
  readonly name: string
  readonly #ports: ProcessPorts
  readonly #startedMs: number
  #alive = true
  #backlog: (() => void)[] | null = null

  constructor(name: string, ports: ProcessPorts) {
    this.name = name
    this.#ports = ports
    this.#startedMs = ports.scheduler.nowMs
  }

  get alive(): boolean {
    return this.#alive
  }

  get paused(): boolean {
    return this.#backlog !== null
  }

  /** Acts inside the process: now, when it goes on, or never. */
  run(action: () => void): void {
    if (!this.#alive) return
    if (this.#backlog !== null) {
      this.#backlog.push(action)
      return
    }
    try {
      action()
    } catch (error) {
      this.#ports.crashed(error)
    }
  }

  pause(): void {
    this.#backlog ??= []
  }

  resume(): void {
    const backlog = this.#backlog
    this.#backlog = null
    for (const action of backlog ?? []) this.#ports.scheduler.after(0, () => this.run(action))
  }

  kill(): void {
    this.#alive = false
    this.#backlog = null
  }

  monotonicMs(): number {
    return this.#ports.scheduler.nowMs - this.#startedMs + 1
  }

  wallMs(): number {
    return this.#ports.wallMs()
  }

  after(ms: number, callback: () => void): Cancel {
    let cancelled = false
    const cancel = this.#ports.scheduler.after(ms + this.#ports.latenessMs(), () => {
      // A paused process may cancel a timer whose time has come already.
      this.run(() => cancelled || callback())
    })
    return () => {
      cancelled = true
      cancel()
    }
  }

  defer(callback: () => void): void {
    this.#ports.scheduler.after(0, () => this.run(callback))
  }
}
