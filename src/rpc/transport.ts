/**
 * The transport port: typed calls and streams between processes.
 *
 * Client, broker, peers and namesrv use it; `rpc/grpc-transport.ts` implements it on gRPC, the simulator on a virtual
 * network. Errors that reach a caller are LedgerErrors. Messages of `bytes` methods are raw protobuf (see
 * `envelopes.ts`), all others plain objects as declared in `methods.ts`.
 */
import type { LedgerError } from '../common/errors.ts'

/** What a caller must be allowed to do; every method declares one. */
export type Permission = 'open' | 'route' | 'produce' | 'consume' | 'admin' | 'peer' | 'register'

export interface UnaryMethod<Request, Response> {
  readonly kind: 'unary'
  readonly service: string
  readonly name: string
  readonly permission: Permission
  /** Only carries the types. */
  readonly types?: (request: Request) => Response
}

/** A bidirectional stream. `codec` tells whether messages are raw Buffers or objects. */
export interface StreamMethod<Up, Down> {
  readonly kind: 'stream'
  readonly service: string
  readonly name: string
  readonly permission: Permission
  readonly codec: 'bytes' | 'object'
  /** Only carries the types. */
  readonly types?: (up: Up) => Down
}

export interface CallOptions {
  /** Milliseconds until the call fails with DEADLINE_EXCEEDED. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

/** The sending half of a stream. */
export interface StreamSink<Out> {
  /** Never refuses. False: more than the buffer limit waits to be sent, stop until `onDrain`. */
  write(message: Out): boolean
  /** Half-closes after everything written. */
  end(): void
  /** Breaks the stream at once, on a server with this error as its status. */
  cancel(error?: LedgerError): void
}

export interface StreamHandlers<In> {
  onMessage(message: In): void
  /** The sink can take more. */
  onDrain?(): void
  /**
   * Called exactly once, whatever ended the stream: undefined after a clean end of the other side, the error given to
   * `cancel` (ABORTED without one) after an own cancel. Never called from inside a call of the sink. After the clean
   * end of its client a server may still write what it owes, and must `end` (the transport does after 30 s).
   */
  onClosed(error: LedgerError | undefined): void
}

/** A connection to one address; connects on first use and reconnects by itself with bounded backoff. */
export interface Channel {
  readonly address: string
  call<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response>
  open<Up, Down>(method: StreamMethod<Up, Down>, handlers: StreamHandlers<Down>): StreamSink<Up>
  close(): void
}

export interface CallContext {
  /** Address of the caller, for logs. */
  readonly peer: string
  /** Milliseconds left until the caller gives up; Infinity without a deadline. */
  readonly remainingMs: number
  /** Aborted when the caller cancelled or its connection broke. */
  readonly signal: AbortSignal
}

export type UnaryHandler<Request, Response> = (request: Request, context: CallContext) => Promise<Response>
/** Gets the sink and returns what to do with incoming messages. */
export type StreamHandler<Up, Down> = (sink: StreamSink<Down>, context: CallContext) => StreamHandlers<Up>

/** Collects the handlers of a server before it starts. */
export interface ServerRoutes {
  unary<Request, Response>(method: UnaryMethod<Request, Response>, handler: UnaryHandler<Request, Response>): void
  stream<Up, Down>(method: StreamMethod<Up, Down>, handler: StreamHandler<Up, Down>): void
}

export interface Server {
  /** The bound address as `host:port`. */
  readonly address: string
  /** Lets running calls finish for at most `graceMs`, then breaks what is left. */
  close(graceMs: number): Promise<void>
}

export interface Transport {
  /**
   * `purpose` keeps connections apart: channels of different purposes never share a connection, so that bulk never
   * delays heartbeats.
   */
  connect(address: string, purpose: 'client' | 'control' | 'bulk'): Channel
  /** Rejects with PORT_IN_USE. Port 0 picks a free one. */
  listen(address: string, register: (routes: ServerRoutes) => void): Promise<Server>
}
