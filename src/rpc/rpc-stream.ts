/**
 * One end of a bidirectional stream: what client and server sides have in common.
 *
 * The owner (`grpc-channel.ts`, `server-streams.ts`) feeds it what the connection says and gives it a port to act on
 * the connection. It keeps the promises of `transport.ts`: onClosed exactly once and last, never from inside a call of
 * the user's, bounded buffers, and an exception in a handler breaks this stream only.
 */
import type { Writable } from 'node:stream'
import type { Clock } from '../common/clock.ts'
import { LedgerError, toLedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import { BoundedWriter } from './bounded-writer.ts'
import type { ObjectCodec } from './object-codec.ts'
import type { RpcLimits } from './rpc-limits.ts'
import type { StreamHandlers, StreamSink } from './transport.ts'

/** How the stream acts on the connection. */
export interface StreamPort {
  readonly writable: Writable
  /** Half-closes after everything written. */
  end(): void
  /** Ends the stream with this error: what is written may be lost. `reset`: without waiting for the peer to read. */
  abort(error: LedgerError, reset: boolean): void
}

export interface StreamSetup {
  readonly port: StreamPort
  readonly outgoing: ObjectCodec
  readonly incoming: ObjectCodec
  readonly limits: RpcLimits
  readonly clock: Clock
  readonly logger: Logger
  /** An InvariantError was thrown: this process must not go on. */
  readonly onBug: (error: Error) => void
  /** The stream is over for good, or as far as it is to be tracked. */
  readonly onFinished: () => void
}

export class RpcStream<In, Out> implements StreamSink<Out> {
  readonly #setup: StreamSetup
  readonly #writer: BoundedWriter
  #handlers: StreamHandlers<In> | undefined
  #ended = false
  #finished = false
  #closedTold = false

  constructor(setup: StreamSetup) {
    this.#setup = setup
    this.#writer = new BoundedWriter(setup.port.writable, setup.limits, setup.clock, {
      onDrain: () => this.#guard(() => this.#handlers?.onDrain?.()),
      onOverloaded: (error) => this.#abort(error, true),
    })
  }

  /** Must be called in the same turn as the constructor; before it nothing can have been received. */
  attach(handlers: StreamHandlers<In>): void {
    this.#handlers = handlers
  }

  write(message: Out): boolean {
    if (this.#ended || this.#finished) return false
    return this.#writer.write(this.#setup.outgoing.encode(message))
  }

  end(): void {
    if (this.#ended || this.#finished) return
    this.#ended = true
    this.#setup.port.end()
  }

  cancel(error?: LedgerError): void {
    this.#abort(error ?? new LedgerError('ABORTED', 'this side cancelled the stream'), false)
  }

  /** A message came. */
  receive(bytes: Buffer): void {
    if (this.#finished || this.#closedTold) return
    let message: In
    try {
      message = this.#setup.incoming.decode(bytes) as In
    } catch (error) {
      this.#abort(toLedgerError(error), false)
      return
    }
    this.#guard(() => this.#handlers?.onMessage(message))
  }

  /** Server only: the client will send no more, this side may still write. */
  peerEnded(): void {
    if (!this.#finished) this.#tellClosed(undefined)
  }

  /** The connection says that the stream is over: undefined when it ended as it should. */
  finished(error: LedgerError | undefined): void {
    if (this.#finished) return
    this.#finish()
    this.#tellClosed(error)
  }

  #abort(error: LedgerError, reset: boolean): void {
    if (this.#finished) return
    this.#finish()
    this.#setup.port.abort(error, reset)
    this.#setup.clock.defer(() => this.#tellClosed(error))
  }

  #finish(): void {
    this.#finished = true
    this.#writer.stop()
    this.#setup.onFinished()
  }

  #tellClosed(error: LedgerError | undefined): void {
    if (this.#closedTold) return
    this.#closedTold = true
    this.#guard(() => this.#handlers?.onClosed(error))
  }

  #guard(run: () => void): void {
    try {
      run()
    } catch (error) {
      if (error instanceof Error && error.name === 'InvariantError') {
        this.#setup.onBug(error)
      } else if (!(error instanceof LedgerError)) {
        this.#setup.logger.error('a stream handler threw', { error })
      }
      this.#abort(toLedgerError(error), false)
    }
  }
}
