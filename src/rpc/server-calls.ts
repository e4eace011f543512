/**
 * Wraps the handlers of a server: bytes to messages, thrown errors to statuses, http2 events to stream handlers.
 *
 * Made by `grpc-server.ts` for each server. A LedgerError of the family `response` becomes an answer that has only
 * `status`; any other becomes a gRPC status. Nothing a client sends and nothing a handler throws ends the process,
 * except a broken invariant, which must.
 */
import { constants, type ServerHttp2Stream } from 'node:http2'
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js'
import type { Clock } from '../common/clock.ts'
import { errorTable, LedgerError, toLedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import { toGrpcStatus } from './grpc-status.ts'
import type { MethodWire } from './protos.ts'
import type { RpcLimits } from './rpc-limits.ts'
import { RpcStream, type StreamPort } from './rpc-stream.ts'
import { toWireStatus } from './status.ts'
import type { CallContext, StreamHandler, UnaryHandler } from './transport.ts'

export interface ServerCallsOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly limits: RpcLimits
  readonly onBug: (error: Error) => void
}

export interface RouteOptions {
  readonly wire: MethodWire
  /** Largest message of this method. */
  readonly messageBytesMax: number
}

export class ServerCalls {
  readonly #options: ServerCallsOptions
  readonly #currentStream: () => ServerHttp2Stream
  readonly #streams = new Set<RpcStream<unknown, unknown>>()

  constructor(options: ServerCallsOptions, currentStream: () => ServerHttp2Stream) {
    this.#options = options
    this.#currentStream = currentStream
  }

  /** Breaks every stream that is still open. */
  breakStreams(error: LedgerError): void {
    for (const stream of [...this.#streams]) stream.cancel(error)
  }

  unary<Request, Response>(
    { wire, messageBytesMax }: RouteOptions,
    handler: UnaryHandler<Request, Response>,
  ): handleUnaryCall<Buffer, Buffer> {
    return (call, answer) => {
      const context = new ServerCallContext(call, this.#options.clock)
      call.on('cancelled', () => context.abort(new LedgerError('ABORTED', 'the caller went away')))
      this.#run(call.request, messageBytesMax, wire, handler, context).then(
        (reply) => answer(null, reply),
        (error: unknown) => this.#answerError(error, wire, answer),
      )
    }
  }

  async #run<Request, Response>(
    bytes: Buffer,
    bytesMax: number,
    wire: MethodWire,
    handler: UnaryHandler<Request, Response>,
    context: CallContext,
  ): Promise<Buffer> {
    checkSize(bytes, bytesMax)
    const request = wire.request.decode(bytes) as Request
    return wire.reply.encode(await handler(request, context))
  }

  #answerError(thrown: unknown, wire: MethodWire, answer: sendUnaryData<Buffer>): void {
    const error = this.#judge(thrown, wire.path)
    if (errorTable[error.code].family === 'response') answer(null, wire.reply.encode({ status: toWireStatus(error) }))
    else answer(toGrpcStatus(error))
  }

  #judge(thrown: unknown, path: string): LedgerError {
    if (thrown instanceof Error && thrown.name === 'InvariantError') this.#options.onBug(thrown)
    else if (!(thrown instanceof LedgerError)) this.#options.logger.error('a handler threw', { path, error: thrown })
    return toLedgerError(thrown)
  }

  stream<Up, Down>(
    { wire, messageBytesMax }: RouteOptions,
    handler: StreamHandler<Up, Down>,
  ): handleBidiStreamingCall<Buffer, Buffer> {
    return (call) => {
      const { clock, limits, logger, onBug } = this.#options
      const port = new ServerStreamPort(call, this.#currentStream(), clock, limits)
      const context = new ServerCallContext(call, clock)
      const stream: RpcStream<Up, Down> = new RpcStream({
        port,
        outgoing: wire.reply,
        incoming: {
          encode: wire.request.encode,
          decode: (bytes) => wire.request.decode(checkSize(bytes, messageBytesMax)),
        },
        limits,
        clock,
        logger: logger.child({ path: wire.path }),
        onBug,
        onFinished: () => this.#streams.delete(stream as RpcStream<unknown, unknown>),
      })
      this.#streams.add(stream as RpcStream<unknown, unknown>)
      // Headers at once: the client takes them as "this server has accepted the stream".
      call.sendMetadata(new Metadata())
      try {
        stream.attach(handler(stream, context))
      } catch (error) {
        stream.cancel(this.#judge(error, wire.path))
      }
      this.#listen(call, stream as RpcStream<unknown, unknown>, port, context)
    }
  }

  #listen(
    call: ServerDuplexStream<Buffer, Buffer>,
    stream: RpcStream<unknown, unknown>,
    port: ServerStreamPort,
    context: ServerCallContext,
  ): void {
    const { clock, limits } = this.#options
    call.on('data', (bytes: Buffer) => stream.receive(bytes))
    call.on('end', () => {
      // A cancel ends the readable side too, a moment before its reset arrives, and so does a broken connection.
      clock.defer(() => {
        if (port.broken) return
        stream.peerEnded()
        clock.after(limits.lingerMs, () => stream.end(), { background: true })
      })
    })
    // Also emitted after the status was sent: then nothing is wrong.
    call.on('cancelled', () => {
      const gone = port.statusSent ? undefined : new LedgerError('UNAVAILABLE', 'the caller went away')
      stream.finished(gone)
      context.abort(gone ?? new LedgerError('ABORTED', 'the stream has ended'))
    })
  }
}

function checkSize(bytes: Buffer, bytesMax: number): Buffer {
  if (bytes.length > bytesMax) {
    throw new LedgerError('OVERLOADED', `a message of ${bytes.length} bytes is over the limit of ${bytesMax}`)
  }
  return bytes
}

class ServerCallContext implements CallContext {
  readonly peer: string
  readonly #deadline: number
  readonly #clock: Clock
  readonly #abort = new AbortController()

  constructor(call: ServerUnaryCall<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>, clock: Clock) {
    this.peer = call.getPeer()
    this.#deadline = Number(call.getDeadline())
    this.#clock = clock
  }

  get remainingMs(): number {
    return Math.max(0, this.#deadline - this.#clock.wallMs())
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  abort(error: LedgerError): void {
    this.#abort.abort(error)
  }
}

class ServerStreamPort implements StreamPort {
  readonly writable: ServerDuplexStream<Buffer, Buffer>
  readonly #http2: ServerHttp2Stream
  readonly #clock: Clock
  readonly #flushMs: number
  #statusSent = false

  constructor(call: ServerDuplexStream<Buffer, Buffer>, http2: ServerHttp2Stream, clock: Clock, limits: RpcLimits) {
    this.writable = call
    this.#http2 = http2
    this.#clock = clock
    this.#flushMs = limits.flushMs
    call.once('finish', () => {
      this.#statusSent = true
      // A client that never closes its half would keep the stream for ever.
      this.#resetLater(constants.NGHTTP2_NO_ERROR)
    })
  }

  /** Everything was written and the status is on its way. */
  get statusSent(): boolean {
    return this.#statusSent
  }

  get broken(): boolean {
    return this.#http2.closed || this.#http2.destroyed
  }

  end(): void {
    this.writable.end()
  }

  abort(error: LedgerError, reset: boolean): void {
    if (reset) {
      // The status would wait behind all that the peer does not read; this code reads as RESOURCE_EXHAUSTED.
      this.#http2.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
      return
    }
    // The library takes an emitted error as the status to end with, behind what is already written.
    this.writable.emit('error', toGrpcStatus(error))
    this.#resetLater(constants.NGHTTP2_CANCEL)
  }

  #resetLater(code: number): void {
    const cancel = this.#clock.after(this.#flushMs, () => this.#http2.close(code), { background: true })
    this.#http2.once('close', cancel)
  }
}
