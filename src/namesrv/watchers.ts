/**
 * The streams that watch routes: each gets the route at once, then again whenever one of its topics or the set of
 * brokers changes. Used by `namesrv.ts`.
 *
 * Changes of one turn are pushed once. A watcher that does not read gets nothing more than what is already buffered,
 * later only the newest route, and is cut off when it stays silent: it never makes this process hold old routes.
 */
import type { Cancel, Clock } from '../common/clock.ts'
import { LedgerError, toLedgerError } from '../common/errors.ts'
import type { RouteReply, RouteRequest } from '../rpc/methods.ts'
import type { StreamHandlers, StreamSink } from '../rpc/transport.ts'
import { checkRouteTopics } from './registration-check.ts'
import type { RouteChange } from './route-table.ts'

export const watchersMaxDefault = 10_000
/** How long a watcher may leave its buffer full. */
const unreadMsMax = 30_000

interface Watcher {
  readonly sink: StreamSink<RouteReply>
  /** Null until the first request came. */
  topics: ReadonlySet<string> | null
  /** Something changed that it has not been told. */
  stale: boolean
  /** Set while its buffer is full. */
  giveUp: Cancel | null
}

export class RouteWatchers {
  readonly #clock: Clock
  readonly #route: (topics: readonly string[]) => RouteReply
  readonly #watchersMax: number
  readonly #watchers = new Set<Watcher>()
  #pushPlanned = false

  constructor(options: {
    readonly clock: Clock
    readonly route: (topics: readonly string[]) => RouteReply
    readonly watchersMax: number
  }) {
    this.#clock = options.clock
    this.#route = options.route
    this.#watchersMax = options.watchersMax
  }

  get count(): number {
    return this.#watchers.size
  }

  open(sink: StreamSink<RouteReply>): StreamHandlers<RouteRequest> {
    if (this.#watchers.size >= this.#watchersMax) {
      sink.cancel(new LedgerError('OVERLOADED', `this namesrv serves ${this.#watchersMax} watchers, its limit`))
      return { onMessage: () => {}, onClosed: () => {} }
    }
    const watcher: Watcher = { sink, topics: null, stale: false, giveUp: null }
    this.#watchers.add(watcher)
    return {
      onMessage: (request) => this.#onRequest(watcher, request),
      onDrain: () => this.#onDrain(watcher),
      onClosed: (error) => {
        this.#remove(watcher)
        if (error === undefined) sink.end()
      },
    }
  }

  /** Tells those concerned, once for all changes of this turn. */
  onChange(change: RouteChange): void {
    for (const watcher of this.#watchers) if (concerns(change, watcher)) watcher.stale = true
    if (this.#pushPlanned) return
    this.#pushPlanned = true
    this.#clock.defer(() => {
      this.#pushPlanned = false
      for (const watcher of this.#watchers) this.#push(watcher)
    })
  }

  close(): void {
    for (const watcher of this.#watchers) {
      this.#remove(watcher)
      watcher.sink.cancel(new LedgerError('UNAVAILABLE', 'this namesrv stops'))
    }
  }

  #onRequest(watcher: Watcher, request: RouteRequest): void {
    try {
      checkRouteTopics(request.topics)
    } catch (error) {
      this.#remove(watcher)
      watcher.sink.cancel(toLedgerError(error))
      return
    }
    watcher.topics = new Set(request.topics)
    watcher.stale = true
    this.#push(watcher)
  }

  #push(watcher: Watcher): void {
    if (!watcher.stale || !watcher.topics || watcher.giveUp) return
    watcher.stale = false
    if (watcher.sink.write(this.#route([...watcher.topics]))) return
    watcher.giveUp = this.#clock.after(
      unreadMsMax,
      () => {
        this.#remove(watcher)
        watcher.sink.cancel(new LedgerError('OVERLOADED', `the watcher read nothing for ${unreadMsMax} ms`))
      },
      { background: true },
    )
  }

  #onDrain(watcher: Watcher): void {
    watcher.giveUp?.()
    watcher.giveUp = null
    this.#push(watcher)
  }

  #remove(watcher: Watcher): void {
    watcher.giveUp?.()
    this.#watchers.delete(watcher)
  }
}

function concerns(change: RouteChange, watcher: Watcher): boolean {
  if (change.brokers) return true
  for (const topic of change.topics) if (watcher.topics?.has(topic)) return true
  return false
}
