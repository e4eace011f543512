/**
 * Calls and streams of one process to one address, on wires of the simulated network: the channel of the transport
 * port. Keeps the promises of `transport.ts` as the gRPC channel does, so that the code on both ends cannot tell.
 */
import { LedgerError, toLedgerError } from '../../src/common/errors.ts'
import type {
  CallContext,
  CallOptions,
  Channel,
  StreamHandler,
  StreamHandlers,
  StreamMethod,
  StreamSink,
  UnaryHandler,
  UnaryMethod,
} from '../../src/rpc/transport.ts'
import type { Purpose, SimNetwork } from './sim-network.ts'
import type { SimProcess } from './sim-process.ts'
import { type Side, unavailable, Wire } from './sim-wire.ts'

/** As long as a connection attempt into nowhere takes. */
const connectTimeoutMs = 1000
/** What a message costs on the wire beside its bytes. */
const messageOverheadBytes = 64

export class SimChannel implements Channel {
  readonly address: string
  readonly #network: SimNetwork
  readonly #process: SimProcess
  readonly #purpose: Purpose
  readonly #running = new Set<(error: LedgerError) => void>()
  #closed = false

  constructor(network: SimNetwork, process: SimProcess, address: string, purpose: Purpose) {
    this.#network = network
    this.#process = process
    this.address = address
    this.#purpose = purpose
  }

  call<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(this.#closedError())
        return
      }
      let wire: Wire | null = null
      const finish = (settle: () => void): void => {
        this.#running.delete(stop)
        cancelTimer()
        options.signal?.removeEventListener('abort', onAbort)
        settle()
      }
      const stop = (error: LedgerError): void => {
        wire?.cancel('client', error, aborted('the caller is gone'))
        finish(() => reject(error))
      }
      const onAbort = (): void => stop(aborted('the caller aborted the call'))
      const cancelTimer = this.#process.after(options.timeoutMs, () =>
        stop(new LedgerError('DEADLINE_EXCEEDED', `${this.address}: no answer within ${options.timeoutMs} ms`)),
      )
      options.signal?.addEventListener('abort', onAbort, { once: true })
      this.#running.add(stop)
      wire = this.#connect({
        onDrain: () => {},
        onClosed: (error) => finish(() => reject(error ?? unavailable('ended without an answer'))),
      })
      if (!wire) return
      const reached = wire
      reached.send('client', messageOverheadBytes, () => {
        this.#serve(reached, method, request, options, (settle) => finish(settle), resolve, reject)
      })
    })
  }

  open<Up, Down>(method: StreamMethod<Up, Down>, handlers: StreamHandlers<Down>): StreamSink<Up> {
    if (this.#closed) {
      this.#process.defer(() => handlers.onClosed(this.#closedError()))
      return { write: () => false, end: () => {}, cancel: () => {} }
    }
    const stop = (error: LedgerError): void => sink.cancel(error)
    const wire = this.#connect({
      onDrain: () => handlers.onDrain?.(),
      onClosed: (error) => {
        this.#running.delete(stop)
        handlers.onClosed(error)
      },
    })
    if (!wire) return { write: () => false, end: () => {}, cancel: () => {} }
    this.#running.add(stop)
    let server: StreamHandlers<Up> | null = null
    const sink = this.#sink<Up>(wire, 'client', (message) => server?.onMessage(message))
    wire.send('client', messageOverheadBytes, () => {
      const handler = wire.listener.streams.get(nameOf(method)) as StreamHandler<Up, Down> | undefined
      const down = this.#sink<Down>(wire, 'server', (message) => handlers.onMessage(message))
      if (!handler) {
        down.cancel(unimplemented(method))
        return
      }
      const context = new ServerContext(this.#process.name, Number.POSITIVE_INFINITY)
      server = handler(down, context)
      const opened = server
      wire.attachServer({
        onDrain: () => opened.onDrain?.(),
        onClosed: (error) => {
          if (error !== undefined) context.abort(error)
          opened.onClosed(error)
        },
      })
    })
    return sink
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const stop of [...this.#running]) stop(this.#closedError())
  }

  #serve<Request, Response>(
    wire: Wire,
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: CallOptions,
    finish: (settle: () => void) => void,
    resolve: (response: Response) => void,
    reject: (error: unknown) => void,
  ): void {
    const handler = wire.listener.unary.get(nameOf(method)) as UnaryHandler<Request, Response> | undefined
    const context = new ServerContext(this.#process.name, options.timeoutMs)
    wire.attachServer({ onDrain: () => {}, onClosed: (error) => context.abort(error) })
    const answer = handler ? handler(request, context) : Promise.reject(unimplemented(method))
    const reply = (settle: () => void): void => {
      wire.send('server', messageOverheadBytes, () => finish(settle))
      wire.finish('server', undefined)
    }
    answer.then(
      (response) => reply(() => resolve(response)),
      (error: unknown) => {
        // A broken invariant is no answer: it ends the process.
        if (error instanceof Error && error.name === 'InvariantError') {
          wire.listener.process.defer(() => {
            throw error
          })
        } else reply(() => reject(toLedgerError(error)))
      },
    )
  }

  /** Null when there is no way; then `onClosed` says so later. */
  #connect(end: ConstructorParameters<typeof Wire>[2]): Wire | null {
    const network = this.#network
    const listener = network.listener(this.address)
    const host = this.address.slice(0, this.address.lastIndexOf(':'))
    const from = this.#process.name
    const isCut = network.isCut(from, host, this.#purpose) || network.isCut(host, from, this.#purpose)
    if (listener && !isCut) {
      return new Wire(network, { client: this.#process, listener, purpose: this.#purpose }, end)
    }
    const waitMs = isCut ? connectTimeoutMs : 2 * network.delayMs()
    this.#process.after(waitMs, () => end.onClosed(unavailable(`no way to ${this.address}`)))
    return null
  }

  #sink<Out>(wire: Wire, side: Side, receive: (message: Out) => void): StreamSink<Out> {
    const network = this.#network
    const receiver = side === 'client' ? 'server' : 'client'
    let ended = false
    const cancel = (error?: LedgerError): void => {
      ended = true
      const own = error ?? aborted('this side cancelled the stream')
      wire.cancel(side, own, side === 'server' ? own : aborted('the client cancelled'))
    }
    return {
      write: (message) => {
        if (ended) return false
        if (side === 'client') network.onSent(this.#process, wire.listener.process.name, this.#purpose, message)
        const bytes = messageOverheadBytes + (Buffer.isBuffer(message) ? message.length : 0)
        return wire.send(side, bytes, () => {
          guarded(
            () => receive(message),
            (error) => wire.cancel(receiver, error, error),
          )
        })
      },
      end: () => {
        if (ended) return
        ended = true
        if (side === 'client') wire.halfClose()
        else wire.finish('server', undefined)
      },
      cancel,
    }
  }

  #closedError(): LedgerError {
    return new LedgerError('CLOSED', `the channel to ${this.address} is closed`)
  }
}

/** What a handler sees of its caller. Few handlers look at the signal, so that it is made only when one does. */
class ServerContext implements CallContext {
  readonly peer: string
  readonly remainingMs: number
  #controller: AbortController | null = null
  #aborted: { readonly reason: LedgerError | undefined } | null = null

  constructor(peer: string, remainingMs: number) {
    this.peer = peer
    this.remainingMs = remainingMs
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController()
      if (this.#aborted !== null) this.#controller.abort(this.#aborted.reason)
    }
    return this.#controller.signal
  }

  abort(reason: LedgerError | undefined): void {
    this.#aborted ??= { reason }
    this.#controller?.abort(reason)
  }
}

/** A handler that refuses a message breaks its stream; anything else that it throws ends the process. */
function guarded(run: () => void, cancel: (error: LedgerError) => void): void {
  try {
    run()
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error
    cancel(error)
  }
}

function nameOf(method: { readonly service: string; readonly name: string }): string {
  return `${method.service}/${method.name}`
}

function aborted(why: string): LedgerError {
  return new LedgerError('ABORTED', why)
}

function unimplemented(method: { readonly service: string; readonly name: string }): LedgerError {
  return new LedgerError('UNIMPLEMENTED', `${nameOf(method)} is not served here`)
}
