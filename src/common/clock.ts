/**
 * Ports for time, timers, randomness and "a little later", with their real implementation.
 *
 * Everything in `src/` that needs one of these takes it from here, injected; only this file touches the globals, so
 * that the simulator runs the same code under virtual time. Never read a clock in a function that decides: pass the
 * value in.
 */
import { randomBytes } from 'node:crypto'

/** Cancels the timer; harmless when it fired or was cancelled before. */
export type Cancel = () => void

export interface Clock {
  /** Monotonic milliseconds with a fraction. Only differences mean something. */
  monotonicMs(): number
  /** Wall clock, milliseconds since the epoch. May jump. */
  wallMs(): number
  /** Calls back once after `ms`. The timer keeps the process alive unless `background` is set. */
  after(ms: number, callback: () => void, options?: { readonly background?: boolean }): Cancel
  /** Calls back after the events that are ready now were handled, so that their work can be collected. */
  defer(callback: () => void): void
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** Bytes for identifiers: producer ids, disk ids, incarnations. */
  bytes(length: number): Buffer
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, callback, options) {
    const timer = setTimeout(callback, ms)
    if (options?.background) timer.unref()
    return () => clearTimeout(timer)
  },
  defer: (callback) => {
    setImmediate(callback)
  },
}

export const systemRandom: Random = {
  next: () => Math.random(),
  bytes: (length) => randomBytes(length),
}

/** Resolves after `ms`, rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason)
      return
    }
    const onAbort = (): void => {
      cancel()
      reject(signal?.reason)
    }
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
