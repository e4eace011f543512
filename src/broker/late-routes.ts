/**
 * The client-facing server from its first moment: answers for a replica that is not there yet, then hands over.
 *
 * A node that waits for its group, or is a stranger to it, must still be reachable for status and events; every
 * other call is told why it cannot be served. Used by `broker.ts`, which binds the real handlers once there is a
 * replica.
 */
import { LedgerError } from '../common/errors.ts'
import { adminMethods, brokerMethods } from '../rpc/methods.ts'
import type {
  ServerRoutes,
  StreamHandler,
  StreamHandlers,
  StreamMethod,
  StreamSink,
  UnaryHandler,
  UnaryMethod,
} from '../rpc/transport.ts'

type AnyUnary = UnaryHandler<unknown, unknown>
type AnyStream = StreamHandler<unknown, unknown>

export class LateRoutes {
  readonly #unary = new Map<string, AnyUnary>()
  readonly #streams = new Map<string, AnyStream>()
  readonly #absent: () => LedgerError
  readonly #isOutside: () => boolean
  /** Of the streams that are open and are none for a node outside its group: each ends one. */
  readonly #open = new Set<() => void>()

  /**
   * `absent` makes the answer to calls that have no handler yet, and while `isOutside` to all but the calls that tell
   * what is wrong: a replica that was removed from its group has nothing new to serve.
   */
  constructor(absent: () => LedgerError, isOutside: () => boolean) {
    this.#absent = absent
    this.#isOutside = isOutside
  }

  /** Binds handlers; a later binding of the same method replaces the earlier. */
  readonly routes: ServerRoutes = {
    unary: (method, handler) => {
      this.#unary.set(keyOf(method), handler as AnyUnary)
    },
    stream: (method, handler) => {
      this.#streams.set(keyOf(method), handler as AnyStream)
    },
  }

  /** Registers every client-facing method with the server. */
  register(server: ServerRoutes): void {
    for (const method of [...Object.values(brokerMethods), ...Object.values(adminMethods)]) {
      if (method.kind === 'unary') this.#registerUnary(server, method as UnaryMethod<unknown, unknown>)
      else this.#registerStream(server, method as StreamMethod<unknown, unknown>)
    }
  }

  /**
   * This node is outside its group from now on: streams that began before end with the reason. Who pulls from it would
   * else be told for ever that there is nothing new.
   */
  leave(): void {
    for (const end of [...this.#open]) end()
  }

  #isClosed(method: UnaryMethod<unknown, unknown> | StreamMethod<unknown, unknown>): boolean {
    return !alwaysOpen.has(keyOf(method)) && this.#isOutside()
  }

  #registerUnary(server: ServerRoutes, method: UnaryMethod<unknown, unknown>): void {
    server.unary(method, async (request, context) => {
      const handler = this.#unary.get(keyOf(method))
      if (!handler || this.#isClosed(method)) throw this.#absent()
      return handler(request, context)
    })
  }

  #registerStream(server: ServerRoutes, method: StreamMethod<unknown, unknown>): void {
    server.stream(method, (sink, context) => {
      const handler = this.#streams.get(keyOf(method))
      if (handler && !this.#isClosed(method)) {
        const handlers = handler(sink, context)
        return alwaysOpen.has(keyOf(method)) ? handlers : this.#endable(sink, handlers)
      }
      sink.cancel(this.#absent())
      return { onMessage: () => {}, onClosed: () => {} }
    })
  }

  #endable(sink: StreamSink<unknown>, handlers: StreamHandlers<unknown>): StreamHandlers<unknown> {
    // Not the code of a stream that was refused from the start: what came on this one may have been stored.
    const end = (): void => sink.cancel(new LedgerError('UNAVAILABLE', this.#absent().message))
    this.#open.add(end)
    return {
      onMessage: (message) => handlers.onMessage(message),
      onDrain: () => handlers.onDrain?.(),
      onClosed: (error) => {
        this.#open.delete(end)
        handlers.onClosed(error)
      },
    }
  }
}

function keyOf(method: { readonly service: string; readonly name: string }): string {
  return `${method.service}/${method.name}`
}

const alwaysOpen: ReadonlySet<string> = new Set(
  [adminMethods.getReplicaStatus, adminMethods.watchEvents, brokerMethods.probe].map(keyOf),
)
