/**
 * Small waits on the injected clock that leave nothing behind. Used by every room of the client.
 */
import { setMaxListeners } from 'node:events'
import type { Clock } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'

/** A timer as a promise; `cancel` makes sure that nothing stays armed. The promise never rejects. */
export function delay(clock: Clock, ms: number): { readonly promise: Promise<void>; readonly cancel: () => void } {
  let cancel = (): void => {}
  const promise = new Promise<void>((resolve) => {
    cancel = clock.after(ms, resolve)
  })
  return { promise, cancel }
}

/**
 * Many operations may wait for one signal; more than ten would make Node warn of a leak that is none. To be called
 * before listening to a signal that others listen to as well.
 */
export function allowManyListeners(signal: AbortSignal): AbortSignal {
  setMaxListeners(0, signal)
  return signal
}

export function aborted(what: string, signal: AbortSignal): LedgerError {
  return new LedgerError('ABORTED', `${what} was aborted`, {}, { cause: signal.reason })
}

/** The promise, or ABORTED as soon as the signal aborts. What the promise waits for goes on by itself. */
export function withSignal<Value>(
  promise: Promise<Value>,
  signal?: AbortSignal,
  what = 'the operation',
): Promise<Value> {
  if (!signal) return promise
  if (signal.aborted) {
    promise.catch(() => {})
    return Promise.reject(aborted(what, signal))
  }
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(aborted(what, signal))
    allowManyListeners(signal).addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

/** Growing pauses: doubled from `min` to `max`, with half of it random so that clients do not march in step. */
export function backoffMs(
  round: number,
  bounds: { readonly min: number; readonly max: number },
  chance: number,
): number {
  const fullMs = Math.min(bounds.max, bounds.min * 2 ** Math.min(round, 16))
  return fullMs * (0.5 + chance / 2)
}
