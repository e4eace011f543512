/**
 * The listening side of the gRPC transport: sockets, admission, and an end that always comes.
 *
 * Owns the TCP listener itself and hands sockets to the gRPC server, which knows neither a limit of connections nor a
 * handshake timeout, reports a taken port as text, and whose own shutdown never returns while a stream is open.
 */
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net'
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js'
import { invariant } from '../common/assert.ts'
import { LedgerError } from '../common/errors.ts'
import { formatAddress, parseAddress } from './address.ts'
import { type AnyMethod, wireOf } from './protos.ts'
import type { RpcLimits } from './rpc-limits.ts'
import { type RouteOptions, ServerCalls, type ServerCallsOptions } from './server-calls.ts'
import type { Permission, Server, ServerRoutes } from './transport.ts'
import { type Hooks, hookServer, verifyHooks } from './window.ts'

/** Rejects with PORT_IN_USE when another socket listens there, with CONFIG_INVALID when the address is none. */
export async function listenGrpc(
  options: ServerCallsOptions,
  address: string,
  register: (routes: ServerRoutes) => void,
): Promise<Server> {
  await verifyHooks()
  const server = new ListeningServer(options, collectRoutes(options.limits, register))
  await server.listen(address)
  return server
}

/** One method of the server, before there is a server. */
interface Route extends RouteOptions {
  readonly install: (grpc: GrpcServer, calls: ServerCalls) => void
}

const permissions: Readonly<Record<Permission, true>> = {
  open: true,
  route: true,
  produce: true,
  consume: true,
  admin: true,
  peer: true,
  register: true,
}

/** Everyone is anonymous so far; a method without a permission must not start all the same. */
function collectRoutes(limits: RpcLimits, register: (routes: ServerRoutes) => void): readonly Route[] {
  const routes = new Map<string, Route>()
  const add = (method: AnyMethod, install: (route: RouteOptions) => Route['install']): void => {
    const wire = wireOf(method)
    invariant(Object.hasOwn(permissions, method.permission), `${wire.path} declares no permission`)
    invariant(!routes.has(wire.path), `${wire.path} is registered twice`)
    const { peerMessageBytesMax, clientMessageBytesMax } = limits
    const messageBytesMax = method.permission === 'peer' ? peerMessageBytesMax : clientMessageBytesMax
    routes.set(wire.path, { wire, messageBytesMax, install: install({ wire, messageBytesMax }) })
  }
  register({
    unary: (method, handler) =>
      add(method, (route) => (grpc, calls) => {
        grpc.register(route.wire.path, calls.unary(route, handler), passThrough, passThrough, 'unary')
      }),
    stream: (method, handler) =>
      add(method, (route) => (grpc, calls) => {
        grpc.register(route.wire.path, calls.stream(route, handler), passThrough, passThrough, 'bidi')
      }),
  })
  return [...routes.values()]
}

class ListeningServer implements Server {
  readonly #options: ServerCallsOptions
  readonly #grpc: GrpcServer
  readonly #hooks: Hooks
  readonly #calls: ServerCalls
  readonly #listener: NetServer
  readonly #sockets = new Set<Socket>()
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #paths: ReadonlySet<string>
  #address = ''
  #activeStreams = 0
  #closing: Promise<void> | undefined
  #onIdle: (() => void) | undefined

  constructor(options: ServerCallsOptions, routes: readonly Route[]) {
    const { limits } = options
    this.#options = options
    this.#paths = new Set(routes.map((route) => route.wire.path))
    // What a single method takes is checked on top of this.
    const messageBytesMax = Math.max(0, ...routes.map((route) => route.messageBytesMax))
    this.#grpc = new GrpcServer(serverOptions(limits, messageBytesMax))
    const injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure())
    this.#hooks = hookServer(this.#grpc, {
      connectionWindowBytes: limits.connectionWindowBytes,
      streamWindowBytes: limits.streamWindowBytes,
      onSession: (session) => this.#onSession(session),
      admit: (stream, headers, rawHeaders) => this.#admit(stream, headers, rawHeaders),
    })
    this.#calls = new ServerCalls(options, () => this.#hooks.currentStream())
    this.#listener = createServer((socket) => {
      this.#onSocket(socket)
      injector.injectConnection(socket)
    })
    this.#listener.maxConnections = limits.connectionsMax
    for (const route of routes) route.install(this.#grpc, this.#calls)
  }

  get address(): string {
    return this.#address
  }

  listen(address: string): Promise<void> {
    const { host, port } = parseAddress(address)
    return new Promise((resolve, reject) => {
      this.#listener.once('error', (error: NodeJS.ErrnoException) => {
        this.#grpc.forceShutdown()
        reject(listenError(address, error))
      })
      // Exclusive: a port that is taken is an error even under a cluster module that shares ports.
      this.#listener.listen({ host, port, exclusive: true }, () => {
        this.#listener.removeAllListeners('error')
        this.#listener.on('error', (error) => this.#options.logger.error('listening failed', { address, error }))
        this.#address = formatAddress({ host, port: (this.#listener.address() as AddressInfo).port })
        resolve()
      })
    })
  }

  #onSocket(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    socket.on('error', (error) => this.#options.logger.debug('a connection broke', { error: error.message }))
  }

  #onSession(session: ServerHttp2Session): void {
    const { clock, limits } = this.#options
    const cancel = clock.after(limits.handshakeMs, () => session.destroy(), { background: true })
    session.once('remoteSettings', cancel)
    this.#sessions.add(session)
    session.once('close', () => {
      cancel()
      this.#sessions.delete(session)
      this.#checkIdle()
    })
    session.on('error', (error) => this.#options.logger.debug('a connection broke', { error: error.message }))
  }

  #admit(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: readonly string[],
  ): LedgerError | undefined {
    this.#activeStreams += 1
    stream.once('close', () => {
      this.#activeStreams -= 1
      this.#checkIdle()
    })
    if (this.#closing !== undefined) return new LedgerError('SERVICE_NOT_AVAILABLE', 'this server is closing')
    const { metadataBytesMax, metadataEntriesMax } = this.#options.limits
    const bytes = rawHeaders.reduce((sum, text) => sum + text.length, 0)
    if (bytes > metadataBytesMax || rawHeaders.length / 2 > metadataEntriesMax) {
      const limit = `${metadataBytesMax} bytes or ${metadataEntriesMax} entries`
      return new LedgerError('OVERLOADED', `the metadata of the call is over the limit of ${limit}`)
    }
    const path = headers[':path'] ?? ''
    const grpc = headers['content-type']?.startsWith('application/grpc') === true
    // A wrong content type is left to the library, which answers it as HTTP.
    if (!grpc || this.#paths.has(path)) return undefined
    return new LedgerError('UNIMPLEMENTED', `this server has no method ${path.slice(0, 200)}`)
  }

  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs)
    return this.#closing
  }

  async #close(graceMs: number): Promise<void> {
    const { limits } = this.#options
    const stopped = new Promise<void>((resolve) => this.#listener.close(() => resolve()))
    // Tells clients to go elsewhere; open streams go on.
    for (const session of this.#sessions) session.close()
    await this.#idle(graceMs)
    this.#calls.breakStreams(new LedgerError('UNAVAILABLE', 'this server is closing'))
    await this.#idle(Math.min(limits.flushMs, 200))
    this.#grpc.forceShutdown()
    for (const socket of this.#sockets) socket.destroy()
    await stopped
  }

  /** Resolves when nothing runs any more, after `ms` at the latest. */
  #idle(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel()
        this.#onIdle = undefined
        resolve()
      }
      const cancel = this.#options.clock.after(ms, done)
      this.#onIdle = done
      this.#checkIdle()
    })
  }

  #checkIdle(): void {
    if (this.#activeStreams === 0) this.#onIdle?.()
  }
}

function passThrough(bytes: Buffer): Buffer {
  return bytes
}

function listenError(address: string, error: NodeJS.ErrnoException): LedgerError {
  if (error.code === 'EADDRINUSE') {
    return new LedgerError('PORT_IN_USE', `${address} is in use by another process`, {}, { cause: error })
  }
  return new LedgerError('CONFIG_INVALID', `cannot listen on ${address}: ${error.message}`, {}, { cause: error })
}

function serverOptions(limits: RpcLimits, messageBytesMax: number): Record<string, number> {
  return {
    'grpc.enable_channelz': 0,
    'grpc.max_concurrent_streams': limits.streamsPerConnectionMax,
    'grpc.max_receive_message_length': messageBytesMax,
    'grpc.max_send_message_length': -1,
    'grpc.keepalive_time_ms': limits.serverKeepaliveMs,
    'grpc.keepalive_timeout_ms': limits.serverKeepaliveTimeoutMs,
  }
}
