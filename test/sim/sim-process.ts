/**
 * One process under virtual time: a clock, and a guard around everything that wants to act in it.
 *
 * After `kill` nothing of it ever acts again: no timer, no message, no completion of the disk. While it is paused
 * (SIGSTOP) everything waits and comes at once when it goes on: the sockets first, in any order, each with all that came
 * on it, then the timers. What it throws outside of any promise is a bug.
 */
import type { Cancel, Clock } from '../../src/common/clock.ts'
import type { Scheduler } from './scheduler.ts'

export interface ProcessPorts {
  readonly scheduler: Scheduler
  /** Wall clock of the machine. */
  wallMs(): number
  /** Timers fire this much too late, as real ones do. */
  latenessMs(): number
  /** Sorts the sockets of a process that was paused. */
  wakeOrder(): number
  /** Thrown to the top of the process, which would have died of it. */
  crashed(error: unknown): void
}

interface Waiting {
  readonly action: () => void
  readonly socket: object | null
}

export class SimProcess implements Clock {
  readonly name: string
  readonly #ports: ProcessPorts
  readonly #startedMs: number
  #alive = true
  #backlog: Waiting[] | null = null

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

  /** Acts inside the process: now, when it goes on, or never. What comes on one socket stays in order. */
  run(action: () => void, socket: object | null = null): void {
    if (!this.#alive) return
    if (this.#backlog !== null) {
      this.#backlog.push({ action, socket })
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
    const backlog = this.#backlog ?? []
    this.#backlog = null
    const order = new Map<object | null, number>([[null, Number.POSITIVE_INFINITY]])
    for (const { socket } of backlog) if (!order.has(socket)) order.set(socket, this.#ports.wakeOrder())
    const orderOf = ({ socket }: Waiting): number => order.get(socket) as number
    for (const { action, socket } of backlog.sort((a, b) =>
      orderOf(a) < orderOf(b) ? -1 : orderOf(a) > orderOf(b) ? 1 : 0,
    )) {
      this.#ports.scheduler.after(0, () => this.run(action, socket))
    }
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
