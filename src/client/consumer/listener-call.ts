/** One call of a listener: its context, its time limit, and what it said. Made by `dispatch.ts`. */
import type { Clock } from '../../common/clock.ts'
import type { ConsumedMessage } from './consumed-batch.ts'
import type { Listener, ListenerContext } from './push-settings.ts'

/** `delayLevel` 0: as the group says. */
export type Heard =
  | { readonly kind: 'consumed' }
  | { readonly kind: 'failed'; readonly reason: string; readonly delayLevel: number }

export interface ListenerCallOptions {
  readonly clock: Clock
  readonly listener: Listener
  readonly attempt: number
  /** Of the queue: aborted when its listeners are no longer waited for. */
  readonly signal: AbortSignal
  readonly timeoutMs: number
  /** True: one that takes too long has failed, and what it says later counts no more. False: it is waited for. */
  readonly abandons: boolean
  readonly onTimeout: () => void
}

/** Never rejects. */
export async function callListener(message: ConsumedMessage, options: ListenerCallOptions): Promise<Heard> {
  const call = new ListenerCall(options)
  try {
    const returned: unknown = options.listener(message, call)
    return said(isThenable(returned) ? await call.limit(Promise.resolve(returned)) : returned)
  } catch (cause) {
    return { kind: 'failed', reason: cause instanceof Error ? cause.message : String(cause), delayLevel: 0 }
  } finally {
    call.end()
  }
}

class ListenerCall implements ListenerContext {
  readonly attempt: number
  readonly #options: ListenerCallOptions
  /** Made when it is asked for: most listeners never look. */
  #own: AbortController | null = null
  #isLate = false
  readonly #onAbort = (): void => this.#own?.abort(this.#options.signal.reason)

  constructor(options: ListenerCallOptions) {
    this.attempt = options.attempt
    this.#options = options
  }

  get signal(): AbortSignal {
    if (this.#own) return this.#own.signal
    const { signal } = this.#options
    this.#own = new AbortController()
    if (signal.aborted || this.#isLate) this.#own.abort(signal.reason)
    else signal.addEventListener('abort', this.#onAbort, { once: true })
    return this.#own.signal
  }

  /** What the listener returns, or a rejection when its time is over and it is given up. */
  limit(returned: Promise<unknown>): Promise<unknown> {
    const { clock, timeoutMs, abandons, onTimeout } = this.#options
    return new Promise((resolve, reject) => {
      const onLate = (): void => {
        const late = new Error(`the listener did not return within ${timeoutMs} ms`)
        this.#isLate = true
        this.#own?.abort(late)
        onTimeout()
        if (abandons) reject(late)
      }
      const cancel = clock.after(timeoutMs, onLate, { background: true })
      returned.then(resolve, reject).finally(cancel)
    })
  }

  end(): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort)
  }
}

/** Not every promise is Node's. */
function isThenable(returned: unknown): returned is PromiseLike<unknown> {
  return typeof returned === 'object' && returned !== null && 'then' in returned && typeof returned.then === 'function'
}

/** Anything but the two forms of "later" is consumed: many listeners return what their last call gave. */
function said(returned: unknown): Heard {
  const later = { kind: 'failed', reason: 'the listener asked for it later', delayLevel: 0 } as const
  if (returned === 'later') return later
  if (typeof returned !== 'object' || returned === null || !('later' in returned)) return { kind: 'consumed' }
  const level = returned.later
  return typeof level === 'number' && Number.isInteger(level) && level >= 1 && level <= 18
    ? { ...later, delayLevel: level }
    : later
}
