/**
 * The transport port inside one process, with the ways real networks fail: for tests of brokers, clients and namesrvs
 * and for the simulator, which drives it under virtual time.
 *
 * A network has endpoints (one per process). Messages of a stream arrive in order, each after the delay that the link
 * policy gives it. A cut link swallows what is sent; as with TCP nothing behind a lost message arrives either, and
 * both ends learn of it only after the keepalive time. A killed endpoint breaks its connections at once.
 */
import type { Clock } from '../../src/common/clock.ts'
import { LedgerError, toLedgerError } from '../../src/common/errors.ts'
import type {
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

export interface LinkPolicy {
  /** Delay of the next message from one endpoint to another, milliseconds; 0 delivers at the end of the turn. */
  delayMs(from: string, to: string): number
}

export interface MemoryNetworkOptions {
  readonly policy?: LinkPolicy
  /** Silence after which both ends of a cut connection learn that it is broken. */
  readonly keepaliveMs?: number
  /** Messages on the way in one direction of a stream before `write` says false. */
  readonly bufferedMax?: number
}

interface Listener {
  readonly node: string
  readonly unary: Map<string, UnaryHandler<unknown, unknown>>
  readonly streams: Map<string, StreamHandler<unknown, unknown>>
}

type Side = 'client' | 'server'

const firstFreePort = 40_000

export class MemoryNetwork {
  readonly clock: Clock
  readonly options: Required<MemoryNetworkOptions>
  readonly #listeners = new Map<string, Listener>()
  readonly #connections = new Set<Connection>()
  readonly #cut = new Set<string>()
  readonly #generations = new Map<string, number>()
  #nextPort = firstFreePort

  constructor(clock: Clock, options: MemoryNetworkOptions = {}) {
    this.clock = clock
    this.options = { policy: { delayMs: () => 0 }, keepaliveMs: 2000, bufferedMax: 100_000, ...options }
  }

  /** The transport of one process; after `kill(node)` a new process of that name needs a new one. */
  endpoint(node: string): Transport {
    const generation = (this.#generations.get(node) ?? 0) + 1
    this.#generations.set(node, generation)
    const alive = (): boolean => this.#generations.get(node) === generation
    return {
      connect: (address) => new MemoryChannel(this, node, address, alive),
      listen: async (address, register) => this.#listen(node, address, register),
    }
  }

  /** The process is gone: its listeners vanish, its connections break, nothing reaches it any more. */
  kill(node: string): void {
    this.#generations.set(node, (this.#generations.get(node) ?? 0) + 1)
    for (const [address, listener] of this.#listeners) if (listener.node === node) this.#listeners.delete(address)
    for (const connection of [...this.#connections]) {
      if (connection.nodes.includes(node)) connection.break(unavailable('the process at the other end is gone'), node)
    }
  }

  /** Cuts both directions between two endpoints. */
  cut(a: string, b: string): void {
    this.#cut.add(pair(a, b))
    for (const connection of this.#connections) {
      if (connection.nodes.includes(a) && connection.nodes.includes(b)) connection.stall()
    }
  }

  /** Cuts the endpoint off from all others that were ever seen. */
  isolate(node: string): void {
    for (const other of this.#generations.keys()) if (other !== node) this.cut(node, other)
  }

  heal(): void {
    this.#cut.clear()
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(pair(a, b))
  }

  listener(address: string): Listener | undefined {
    return this.#listeners.get(address)
  }

  add(connection: Connection): void {
    this.#connections.add(connection)
  }

  remove(connection: Connection): void {
    this.#connections.delete(connection)
  }

  /** Calls back after `ms`, in order of calls for equal times. */
  later(ms: number, callback: () => void): void {
    if (ms <= 0) this.clock.defer(callback)
    else this.clock.after(ms, callback, { background: true })
  }

  #listen(node: string, wanted: string, register: (routes: ServerRoutes) => void): Server {
    const address = wanted.endsWith(':0') ? `${wanted.slice(0, -1)}${this.#nextPort++}` : wanted
    if (this.#listeners.has(address)) throw new LedgerError('PORT_IN_USE', `${address} is in use`)
    const listener: Listener = { node, unary: new Map(), streams: new Map() }
    register({
      unary: (method, handler) => listener.unary.set(keyOf(method), handler as UnaryHandler<unknown, unknown>),
      stream: (method, handler) => listener.streams.set(keyOf(method), handler as StreamHandler<unknown, unknown>),
    })
    this.#listeners.set(address, listener)
    return {
      address,
      close: async () => {
        if (this.#listeners.get(address) === listener) this.#listeners.delete(address)
        for (const connection of [...this.#connections]) {
          if (connection.listener === listener) connection.break(unavailable('the server closed'), null)
        }
      },
    }
  }
}

class MemoryChannel implements Channel {
  readonly address: string
  readonly #network: MemoryNetwork
  readonly #node: string
  readonly #alive: () => boolean
  readonly #open = new Set<Connection>()
  #closed = false

  constructor(network: MemoryNetwork, node: string, address: string, alive: () => boolean) {
    this.#network = network
    this.#node = node
    this.address = address
    this.#alive = alive
  }

  call<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const { clock } = this.#network
      const cancelTimer = clock.after(options.timeoutMs, () => finish(() => reject(late())), { background: true })
      let finished = false
      const finish = (act: () => void): void => {
        if (finished) return
        finished = true
        cancelTimer()
        options.signal?.removeEventListener('abort', onAbort)
        act()
      }
      const onAbort = (): void => finish(() => reject(new LedgerError('ABORTED', 'aborted')))
      options.signal?.addEventListener('abort', onAbort)
      const connection = this.#connect((error) => finish(() => reject(error ?? unavailable('ended without answer'))))
      connection?.send('client', () => {
        const handler = connection.listener.unary.get(keyOf(method))
        const context = { peer: this.#node, remainingMs: options.timeoutMs, signal: connection.signal }
        const answer = handler ? handler(request, context) : Promise.reject(unimplemented(method))
        const settle = (act: () => void): void => {
          connection.send('server', () => {
            finish(act)
            connection.break(undefined, null)
          })
        }
        answer.then(
          (response) => settle(() => resolve(response as Response)),
          (error: unknown) => settle(() => reject(toLedgerError(error))),
        )
      })
    })
  }

  open<Up, Down>(method: StreamMethod<Up, Down>, handlers: StreamHandlers<Down>): StreamSink<Up> {
    const connection = this.#connect((error) => handlers.onClosed(error))
    if (!connection) return deadSink
    connection.handlers.client = handlers as StreamHandlers<unknown>
    connection.send('client', () => {
      const handler = connection.listener.streams.get(keyOf(method))
      if (!handler) {
        connection.break(unimplemented(method), null)
        return
      }
      const context = { peer: this.#node, remainingMs: Number.POSITIVE_INFINITY, signal: connection.signal }
      connection.handlers.server = handler(connection.sink('server'), context)
    })
    return connection.sink('client')
  }

  close(): void {
    this.#closed = true
    for (const connection of [...this.#open]) connection.closeWhenSent()
  }

  /** Undefined when there is no way; then `closed` is called later with the reason. */
  #connect(closed: (error: LedgerError | undefined) => void): Connection | undefined {
    const network = this.#network
    const listener = this.#closed || !this.#alive() ? undefined : network.listener(this.address)
    const isCut = listener !== undefined && network.isCut(this.#node, listener.node)
    if (!listener || isCut) {
      const waitMs = isCut ? network.options.keepaliveMs : 0
      network.later(waitMs, () => {
        if (this.#alive()) closed(unavailable(`no way to ${this.address}`))
      })
      return undefined
    }
    const connection = new Connection(network, this.#node, listener, (error) => {
      this.#open.delete(connection)
      closed(error)
    })
    this.#open.add(connection)
    network.add(connection)
    return connection
  }
}

/** One stream or call: two directions, each in order. */
class Connection {
  readonly listener: Listener
  readonly nodes: readonly [client: string, server: string]
  readonly handlers: { client?: StreamHandlers<unknown>; server?: StreamHandlers<unknown> } = {}
  readonly #network: MemoryNetwork
  readonly #abort = new AbortController()
  readonly #clientClosed: (error: LedgerError | undefined) => void
  readonly #lastAtMs = { client: 0, server: 0 }
  readonly #onTheWay = { client: 0, server: 0 }
  readonly #full = { client: false, server: false }
  readonly #ended = { client: false, server: false }
  #stalled = false
  #broken = false

  constructor(
    network: MemoryNetwork,
    clientNode: string,
    listener: Listener,
    clientClosed: (error: LedgerError | undefined) => void,
  ) {
    this.#network = network
    this.listener = listener
    this.nodes = [clientNode, listener.node]
    this.#clientClosed = clientClosed
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  sink(side: Side): StreamSink<unknown> {
    return {
      write: (message) => this.#write(side, message),
      end: () => this.#end(side),
      cancel: (error) => this.break(error ?? new LedgerError('ABORTED', 'the other side cancelled'), null),
    }
  }

  /** Delivers in order after the link's delay; never when the link was cut or the connection broke meanwhile. */
  send(from: Side, deliver: () => void): void {
    if (this.#broken || this.#stalled) return
    const { clock, options } = this.#network
    const [client, server] = this.nodes
    const delayMs = from === 'client' ? options.policy.delayMs(client, server) : options.policy.delayMs(server, client)
    const atMs = Math.max(clock.monotonicMs() + delayMs, this.#lastAtMs[from])
    this.#lastAtMs[from] = atMs
    this.#network.later(atMs - clock.monotonicMs(), () => {
      if (!this.#broken && !this.#stalled) deliver()
    })
  }

  stall(): void {
    if (this.#stalled || this.#broken) return
    this.#stalled = true
    this.#network.later(this.#network.options.keepaliveMs, () => this.break(unavailable('keepalive timed out'), null))
  }

  /** Both ends learn of it at the end of the turn, except the process `gone`, which learns nothing any more. */
  break(error: LedgerError | undefined, gone: string | null): void {
    if (this.#broken) return
    this.#broken = true
    this.#network.remove(this)
    const [client, server] = this.nodes
    this.#network.later(0, () => {
      if (client !== gone) this.#clientClosed(error)
      if (server === gone) return
      this.#abort.abort(error)
      this.handlers.server?.onClosed(error)
    })
  }

  /** The channel was closed: what was written still arrives. */
  closeWhenSent(): void {
    this.send('client', () => this.break(undefined, null))
  }

  #write(side: Side, message: unknown): boolean {
    if (this.#broken || this.#ended[side]) return true
    this.#onTheWay[side]++
    if (this.#onTheWay[side] >= this.#network.options.bufferedMax) this.#full[side] = true
    this.send(side, () => {
      this.#onTheWay[side]--
      this.handlers[other(side)]?.onMessage(message)
      if (!this.#full[side] || this.#onTheWay[side] > 0) return
      this.#full[side] = false
      this.handlers[side]?.onDrain?.()
    })
    return !this.#full[side]
  }

  #end(side: Side): void {
    if (this.#ended[side]) return
    this.#ended[side] = true
    // A half-closed stream ends for good when the other side has ended, too; a server that only listens ends at once.
    this.send(side, () => this.break(undefined, null))
  }
}

const deadSink: StreamSink<never> = { write: () => true, end: () => {}, cancel: () => {} }

function other(side: Side): Side {
  return side === 'client' ? 'server' : 'client'
}

function pair(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`
}

function keyOf(method: { readonly service: string; readonly name: string }): string {
  return `${method.service}/${method.name}`
}

function unavailable(why: string): LedgerError {
  return new LedgerError('UNAVAILABLE', why)
}

function late(): LedgerError {
  return new LedgerError('DEADLINE_EXCEEDED', 'no answer in time')
}

function unimplemented(method: { readonly service: string; readonly name: string }): LedgerError {
  return new LedgerError('UNIMPLEMENTED', `${keyOf(method)} is not served here`)
}
