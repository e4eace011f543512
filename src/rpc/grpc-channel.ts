/**
 * The calling side of the gRPC transport: one connection to one address, which comes back by itself.
 *
 * Made by `grpc-transport.ts`. Calls to a server that is down fail at once with UNAVAILABLE instead of waiting for it;
 * a server that hangs is noticed by pings, or by not accepting a stream in time.
 */
import { isIP } from 'node:net'
import {
  Client,
  type ClientDuplexStream,
  connectivityState,
  Metadata,
  type ServiceError,
  type StatusObject,
  status,
} from '@grpc/grpc-js'
import type { Cancel, Clock } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import { dialCredentials } from './dial-credentials.ts'
import { fromGrpcStatus } from './grpc-status.ts'
import type { WireStatus } from './methods.ts'
import { type AnyMethod, type MethodWire, wireOf } from './protos.ts'
import type { RpcLimits } from './rpc-limits.ts'
import { RpcStream, type StreamPort } from './rpc-stream.ts'
import { fromWireStatus } from './status.ts'
import type { CallOptions, Channel, StreamHandlers, StreamMethod, StreamSink, UnaryMethod } from './transport.ts'

export interface ChannelOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly limits: RpcLimits
  readonly onBug: (error: Error) => void
}

export type Purpose = 'client' | 'control' | 'bulk'

/** Longest wait of a Node timer; a longer deadline is none. */
const timerMsMax = 2 ** 31 - 1

export class GrpcChannel implements Channel {
  readonly address: string
  readonly #options: ChannelOptions
  readonly #purpose: Purpose
  readonly #wires = new Map<AnyMethod, MethodWire>()
  /** How to break what is still running. */
  readonly #running = new Set<(error: LedgerError) => void>()
  #client: Client
  #cancelConnect: Cancel | null = null
  #closed = false

  constructor(options: ChannelOptions, address: string, purpose: Purpose) {
    this.address = address
    this.#options = options
    this.#purpose = purpose
    this.#client = this.#newClient()
  }

  call<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    { timeoutMs, signal }: CallOptions,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw closedError(this.address)
      if (signal?.aborted) throw abortedError(signal)
      const wire = this.#wire(method)
      const bytes = wire.request.encode(request)
      this.#watchConnect()
      const call = this.#client.makeUnaryRequest(
        wire.path,
        passThrough,
        passThrough,
        bytes,
        new Metadata(),
        timeoutMs < timerMsMax ? { deadline: this.#options.clock.wallMs() + Math.max(0, timeoutMs) } : {},
        (error: ServiceError | null, reply?: Buffer) => {
          forget()
          if (error !== null) reject(fromGrpcStatus(error, this.address))
          else settle(() => readReply<Response>(wire, reply ?? Buffer.alloc(0)), resolve, reject)
        },
      )
      const stop = (error: LedgerError): void => {
        forget()
        reject(error)
        call.cancel()
      }
      const onAbort = (): void => stop(abortedError(signal))
      const forget = (): void => {
        this.#running.delete(stop)
        signal?.removeEventListener('abort', onAbort)
      }
      this.#running.add(stop)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  open<Up, Down>(method: StreamMethod<Up, Down>, handlers: StreamHandlers<Down>): StreamSink<Up> {
    const { clock, limits, logger, onBug } = this.#options
    const wire = this.#wire(method)
    if (this.#closed) return closedSink(clock, handlers, this.address)
    this.#watchConnect()
    const call = this.#client.makeBidiStreamRequest(wire.path, passThrough, passThrough, new Metadata())
    const stop = (error: LedgerError): void => stream.cancel(error)
    const stream: RpcStream<Down, Up> = new RpcStream({
      port: new ClientStreamPort(call),
      outgoing: wire.request,
      incoming: wire.reply,
      limits,
      clock,
      logger: logger.child({ path: wire.path, address: this.address }),
      onBug,
      onFinished: () => {
        cancelOpening()
        this.#running.delete(stop)
      },
    })
    const cancelOpening = clock.after(
      limits.openTimeoutMs,
      () => stop(new LedgerError('UNAVAILABLE', `${this.address}: no answer within ${limits.openTimeoutMs} ms`)),
      { background: true },
    )
    this.#running.add(stop)
    stream.attach(handlers)
    call.once('metadata', cancelOpening)
    this.#listen(call, stream as RpcStream<unknown, unknown>)
    return stream
  }

  #listen(call: ClientDuplexStream<Buffer, Buffer>, stream: RpcStream<unknown, unknown>): void {
    let drained = false
    let cleanEnd = false
    const checkEnd = (): void => {
      if (drained && cleanEnd) stream.finished(undefined)
    }
    call.on('data', (bytes: Buffer) => stream.receive(bytes))
    call.on('end', () => {
      drained = true
      checkEnd()
    })
    // The status says the same; without a listener the error would end the process.
    call.on('error', () => {})
    call.on('status', (result: StatusObject) => {
      if (result.code === status.OK) {
        cleanEnd = true
        checkEnd()
      } else {
        stream.finished(fromGrpcStatus(result, this.address))
      }
    })
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#cancelConnect?.()
    for (const stop of [...this.#running]) stop(closedError(this.address))
    this.#end(this.#client)
  }

  /**
   * Twice: the library tells in a later turn which address it has found, and connects to it, although it was closed
   * before that turn came. Such a connection would stay for ever, with nobody behind it.
   */
  #end(client: Client): void {
    client.close()
    this.#options.clock.defer(() => client.close())
  }

  #newClient(): Client {
    return new Client(this.address, dialCredentials(), channelOptions(this.#options.limits, this.#purpose))
  }

  get #isConnected(): boolean {
    return this.#client.getChannel().getConnectivityState(false) === connectivityState.READY
  }

  /** The library waits for the kernel, which asks a machine that was down less and less often whether it is back. */
  #watchConnect(): void {
    if (this.#cancelConnect || this.#isConnected) return
    const { clock, limits } = this.#options
    const isName = isIP(this.address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')) === 0
    const timeoutMs = isName ? limits.connectByNameTimeoutMs : limits.connectTimeoutMs
    const dueMs = clock.monotonicMs() + timeoutMs
    const onTimeout = (): void => {
      this.#cancelConnect = null
      if (this.#closed || this.#isConnected) return
      // So late, this process stood still: the connection may be up, and the next turns have to find out.
      if (clock.monotonicMs() - dueMs > timeoutMs / 2) {
        this.#watchConnect()
        return
      }
      // Calls that still wait for the connection end with UNAVAILABLE; the next call begins another one.
      const hung = this.#client
      this.#client = this.#newClient()
      this.#end(hung)
    }
    this.#cancelConnect = clock.after(timeoutMs, onTimeout, { background: true })
  }

  #wire(method: AnyMethod): MethodWire {
    const known = this.#wires.get(method)
    if (known !== undefined) return known
    const wire = wireOf(method)
    this.#wires.set(method, wire)
    return wire
  }
}

/** A reply whose `status` names a code is the server's judgement, and thrown. */
function readReply<Response>(wire: MethodWire, bytes: Buffer): Response {
  const { status: judgement, ...reply } = wire.reply.decode(bytes) as { readonly status?: WireStatus }
  if (judgement !== undefined && judgement.code !== 0) throw fromWireStatus(judgement)
  return reply as Response
}

function settle<Value>(run: () => Value, resolve: (value: Value) => void, reject: (error: unknown) => void): void {
  try {
    resolve(run())
  } catch (error) {
    reject(error)
  }
}

class ClientStreamPort implements StreamPort {
  readonly writable: ClientDuplexStream<Buffer, Buffer>

  constructor(call: ClientDuplexStream<Buffer, Buffer>) {
    this.writable = call
  }

  end(): void {
    this.writable.end()
  }

  /** A client resets its stream at once in any case; the server never learns the error. */
  abort(): void {
    this.writable.cancel()
  }
}

function closedSink<Up, Down>(clock: Clock, handlers: StreamHandlers<Down>, address: string): StreamSink<Up> {
  clock.defer(() => handlers.onClosed(closedError(address)))
  return { write: () => false, end: () => {}, cancel: () => {} }
}

function closedError(address: string): LedgerError {
  return new LedgerError('CLOSED', `the channel to ${address} is closed`)
}

function abortedError(signal: AbortSignal | undefined): LedgerError {
  return new LedgerError('ABORTED', 'the caller aborted the call', {}, { cause: signal?.reason })
}

function passThrough(bytes: Buffer): Buffer {
  return bytes
}

function channelOptions(limits: RpcLimits, purpose: Purpose): Record<string, number> {
  const keepaliveMs = purpose === 'client' ? 2000 : 1000
  return {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 500,
    'grpc.keepalive_time_ms': keepaliveMs,
    'grpc.keepalive_timeout_ms': keepaliveMs,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': purpose === 'client' ? limits.replyBytesMax : limits.peerMessageBytesMax,
    'grpc.max_send_message_length': -1,
    'grpc-node.flow_control_window': limits.connectionWindowBytes,
    // A retry that the caller does not know of could store twice; and it copies all that a stream writes.
    'grpc.enable_retries': 0,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
    'grpc.service_config_disable_resolution': 1,
    // A restarted container has another address behind the same name.
    'grpc.dns_min_time_between_resolutions_ms': 1000,
  }
}
