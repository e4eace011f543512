/**
 * The transport port within one process: real handlers, no sockets. Messages are delivered in order, one turn later.
 *
 * A test can stop a stream from reading (`pauseReading`), so that the other side's `write` turns false after
 * `unreadMax` messages, and break connections. Nothing is encoded: what the wire does to messages is tested on gRPC.
 */
import { LedgerError, toLedgerError } from '../../src/common/errors.ts'
import type {
  CallContext,
  CallOptions,
  Channel,
  Server,
  ServerRoutes,
  StreamHandler,
  StreamHandlers,
  StreamMethod,
  StreamSink,
  Transport,
  UnaryHandler,
  UnaryMethod,
} from '../../src/rpc/transport.ts'

type AnyUnary = UnaryHandler<unknown, unknown>
type AnyStream = StreamHandler<unknown, unknown>

/** One direction of a stream. */
class Lane {
  readonly #deliver: (message: unknown) => void
  readonly #drained: () => void
  readonly #unreadMax: number
  #queue: unknown[] = []
  #full = false
  #paused = false
  #planned = false
  #ended: (() => void) | null = null

  constructor(deliver: (message: unknown) => void, drained: () => void, unreadMax: number) {
    this.#deliver = deliver
    this.#drained = drained
    this.#unreadMax = unreadMax
  }

  write(message: unknown): boolean {
    this.#queue.push(message)
    this.#plan()
    if (this.#queue.length >= this.#unreadMax) this.#full = true
    return !this.#full
  }

  end(onDelivered: () => void): void {
    this.#ended = onDelivered
    this.#plan()
  }

  pause(paused: boolean): void {
    this.#paused = paused
    if (!paused) this.#plan()
  }

  #plan(): void {
    if (this.#planned || this.#paused) return
    this.#planned = true
    setImmediate(() => {
      this.#planned = false
      while (!this.#paused && this.#queue.length > 0) this.#deliver(this.#queue.shift())
      if (this.#paused) return
      if (this.#full) {
        this.#full = false
        this.#drained()
      }
      if (this.#queue.length === 0) this.#ended?.()
    })
  }
}

class MemoryServer {
  readonly address: string
  readonly unary = new Map<string, AnyUnary>()
  readonly streams = new Map<string, AnyStream>()
  readonly open = new Set<(error: LedgerError) => void>()
  readonly routes: ServerRoutes = {
    unary: (method, handler) => void this.unary.set(nameOf(method), handler as AnyUnary),
    stream: (method, handler) => void this.streams.set(nameOf(method), handler as AnyStream),
  }

  constructor(address: string) {
    this.address = address
  }
}

function nameOf(method: { readonly service: string; readonly name: string }): string {
  return `${method.service}/${method.name}`
}

/** What a test may do to an open stream beside using it. */
export interface TestSink<Up> extends StreamSink<Up> {
  pauseReading(paused: boolean): void
}

export interface TestChannel extends Channel {
  open<Up, Down>(method: StreamMethod<Up, Down>, handlers: StreamHandlers<Down>): TestSink<Up>
}

export class MemoryTransport implements Transport {
  readonly #servers = new Map<string, MemoryServer>()
  readonly #unreadMax: number
  #nextPort = 1

  constructor(options: { readonly unreadMax?: number } = {}) {
    this.#unreadMax = options.unreadMax ?? 64
  }

  async listen(address: string, register: (routes: ServerRoutes) => void): Promise<Server> {
    const bound = address.endsWith(':0') ? `${address.slice(0, -1)}${this.#nextPort++}` : address
    if (this.#servers.has(bound)) throw new LedgerError('PORT_IN_USE', `${bound} is in use`)
    const server = new MemoryServer(bound)
    register(server.routes)
    this.#servers.set(bound, server)
    return {
      address: bound,
      close: async () => {
        this.#servers.delete(bound)
        for (const breakStream of [...server.open]) breakStream(new LedgerError('UNAVAILABLE', 'the server closed'))
      },
    }
  }

  connect(address: string): TestChannel {
    const open = new Set<(error: LedgerError) => void>()
    return {
      address,
      call: <Request, Response>(method: UnaryMethod<Request, Response>, request: Request, options: CallOptions) =>
        this.#call<Response>(address, nameOf(method), request, options),
      open: <Up, Down>(method: StreamMethod<Up, Down>, handlers: StreamHandlers<Down>) =>
        this.#open<Up>(address, nameOf(method), handlers as StreamHandlers<unknown>, open),
      close: () => {
        for (const breakStream of [...open]) breakStream(new LedgerError('UNAVAILABLE', 'the channel closed'))
      },
    }
  }

  async #call<Response>(address: string, name: string, request: unknown, options: CallOptions): Promise<Response> {
    await new Promise((resolve) => setImmediate(resolve))
    const handler = this.#servers.get(address)?.unary.get(name)
    if (!handler) throw new LedgerError('UNAVAILABLE', `nobody serves ${name} at ${address}`)
    const signal = options.signal ?? new AbortController().signal
    const context: CallContext = { peer: 'memory', remainingMs: options.timeoutMs, signal }
    try {
      return (await handler(request, context)) as Response
    } catch (error) {
      throw toLedgerError(error)
    }
  }

  #open<Up>(
    address: string,
    name: string,
    client: StreamHandlers<unknown>,
    channelStreams: Set<(error: LedgerError) => void>,
  ): TestSink<Up> {
    const server = this.#servers.get(address)
    const handler = server?.streams.get(name)
    let closed = false
    let serving: StreamHandlers<unknown> | null = null
    const abort = new AbortController()
    const close = (toClient: LedgerError | undefined, toServer: LedgerError | undefined): void => {
      if (closed) return
      closed = true
      server?.open.delete(breakStream)
      channelStreams.delete(breakStream)
      abort.abort()
      setImmediate(() => {
        client.onClosed(toClient)
        if (!serverClosed) serving?.onClosed(toServer)
      })
    }
    const breakStream = (error: LedgerError): void => close(error, error)
    let serverClosed = false
    const down = new Lane(
      (message) => closed || client.onMessage(message),
      () => closed || serving?.onDrain?.(),
      this.#unreadMax,
    )
    const up = new Lane(
      (message) => closed || serving?.onMessage(message),
      () => closed || client.onDrain?.(),
      this.#unreadMax,
    )
    if (!server || !handler) {
      close(new LedgerError('UNAVAILABLE', `nobody serves ${name} at ${address}`), undefined)
    } else {
      server.open.add(breakStream)
      channelStreams.add(breakStream)
      const serverSink: StreamSink<unknown> = {
        write: (message) => (closed ? false : down.write(message)),
        end: () => down.end(() => close(undefined, undefined)),
        cancel: (error) =>
          close(error ?? new LedgerError('UNAVAILABLE', 'cancelled'), new LedgerError('ABORTED', 'cancelled here')),
      }
      serving = handler(serverSink, { peer: 'memory', remainingMs: Number.POSITIVE_INFINITY, signal: abort.signal })
    }
    return {
      write: (message) => (closed ? false : up.write(message)),
      end: () =>
        up.end(() => {
          if (closed || serverClosed) return
          serverClosed = true
          serving?.onClosed(undefined)
        }),
      cancel: (error) =>
        close(new LedgerError('ABORTED', 'cancelled here'), error ?? new LedgerError('ABORTED', 'cancelled')),
      pauseReading: (paused) => down.pause(paused),
    }
  }
}
