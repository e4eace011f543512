/**
 * WatchEvents: the events that are still in the ring, then live ones. Registered by `register.ts`.
 *
 * The ring is the only buffer: a watcher that reads slowly is served from it later, and is cut off when the ring has
 * moved on or when it stays silent. It never holds up the node that the events are about.
 */
import { LedgerError } from '../../common/errors.ts'
import { adminMethods, type NodeEvent, type WatchEventsRequest } from '../../rpc/methods.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'
import type { EventRing } from '../events.ts'
import type { HandlerContext } from './context.ts'
import { isCount } from './numbers.ts'
import { UnreadGuard } from './unread-guard.ts'

export function registerEventHandlers(routes: ServerRoutes, context: HandlerContext): { close(): void } {
  const watchers = new Set<EventWatcher>()
  routes.stream(adminMethods.watchEvents, (sink): StreamHandlers<WatchEventsRequest> => {
    const { eventWatchersMax } = context.settings
    if (watchers.size >= eventWatchersMax) {
      sink.cancel(new LedgerError('OVERLOADED', `this node serves ${eventWatchersMax} event watchers, its limit`))
      return { onMessage: () => {}, onClosed: () => {} }
    }
    const watcher = new EventWatcher(sink, context)
    watchers.add(watcher)
    return {
      onMessage: (request) => watcher.start(request),
      onDrain: () => watcher.onDrain(),
      onClosed: (error) => {
        watchers.delete(watcher)
        watcher.stop()
        if (error === undefined) sink.end()
      },
    }
  })
  return {
    close: () => {
      for (const watcher of watchers) watcher.cut(new LedgerError('UNAVAILABLE', 'this node stops'))
    },
  }
}

class EventWatcher {
  readonly #sink: StreamSink<NodeEvent>
  readonly #ring: EventRing
  readonly #guard: UnreadGuard<NodeEvent>
  #unsubscribe: (() => void) | null = null
  /** Sequence that the watcher gets next; 0 before the first. */
  #next = 0
  #stopped = false

  constructor(sink: StreamSink<NodeEvent>, context: HandlerContext) {
    this.#sink = sink
    this.#ring = context.events
    this.#guard = new UnreadGuard({
      sink,
      clock: context.clock,
      unreadMsMax: context.settings.unreadMsMax,
      onGivenUp: (error) => this.cut(error),
    })
  }

  start(request: WatchEventsRequest): void {
    if (this.#unsubscribe || !isCount(request.fromSequence)) {
      const problem = this.#unsubscribe ? 'a watch takes one request' : 'fromSequence must be a whole number'
      this.cut(new LedgerError('INVALID_REQUEST', problem))
      return
    }
    if (this.#stopped) return
    this.#unsubscribe = this.#ring.subscribe((event) => {
      if (!this.#guard.full) this.#write(event)
    })
    this.#writeFrom(request.fromSequence)
  }

  onDrain(): void {
    this.#guard.onDrain()
    this.#writeFrom(this.#next)
  }

  stop(): void {
    this.#stopped = true
    this.#unsubscribe?.()
    this.#guard.stop()
  }

  cut(error: LedgerError): void {
    this.stop()
    this.#sink.cancel(error)
  }

  #writeFrom(sequence: number): void {
    for (const event of this.#ring.since(sequence)) {
      if (this.#next > 0 && event.sequence > this.#next) {
        this.cut(new LedgerError('OVERLOADED', 'the watcher is so slow that events were lost to it'))
        return
      }
      this.#write(event)
      if (this.#guard.full) return
    }
  }

  #write(event: NodeEvent): void {
    if (this.#stopped) return
    this.#next = event.sequence + 1
    this.#guard.write(event)
  }
}
