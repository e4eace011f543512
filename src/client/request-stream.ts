/**
 * One long-lived stream to one broker with many requests in flight, matched by request id. `connection.ts` makes one
 * for Produce and one for Pull.
 *
 * A stream is only used after a Probe was answered: a request that fails before that was never sent, which is the
 * difference between "definitely not stored" and "unknown". Timeouts belong to the caller. Never resends anything.
 */
import { type ErrorCode, LedgerError } from '../common/errors.ts'
import { brokerMethods, type ProbeReply } from '../rpc/methods.ts'
import type { Channel, StreamMethod, StreamSink } from '../rpc/transport.ts'

/** A probe that takes longer means: not usable now. */
export const probeTimeoutMs = 1_000

export type Outcome<Reply> =
  | { readonly kind: 'reply'; readonly reply: Reply }
  /** `sent` false: not one byte of the request left this process. */
  | { readonly kind: 'failed'; readonly error: LedgerError; readonly sent: boolean }

type Done<Reply> = (outcome: Outcome<Reply>) => void

interface Queued {
  readonly requestId: number
  readonly group: string
  readonly bytes: Buffer
}

export interface RequestStreamOptions<Reply> {
  readonly channel: Channel
  readonly method: StreamMethod<Buffer, Buffer>
  readonly decode: (bytes: Buffer) => readonly Reply[]
  readonly onOpen: () => void
  readonly onClosed: (error: LedgerError) => void
}

export class RequestStream<Reply extends { readonly requestId: number }> {
  readonly #options: RequestStreamOptions<Reply>
  readonly #pending = new Map<number, Done<Reply>>()
  #queue: Queued[] = []
  #state: 'idle' | 'probing' | 'open' | 'closed' = 'idle'
  #sink: StreamSink<Buffer> | null = null
  #identity: ProbeReply | null = null
  #nextRequestId = 1

  constructor(options: RequestStreamOptions<Reply>) {
    this.#options = options
  }

  /** Sends to the broker if it belongs to `group`. `done` is called at most once, never synchronously. */
  request(group: string, encode: (requestId: number) => Buffer, done: Done<Reply>): number {
    const requestId = this.#nextRequestId++
    this.#pending.set(requestId, done)
    const queued = { requestId, group, bytes: encode(requestId) }
    if (this.#state === 'open') this.#write(queued)
    else {
      this.#queue.push(queued)
      if (this.#state !== 'probing') void this.#open()
    }
    return requestId
  }

  /** The caller no longer wants to hear of it. */
  forget(requestId: number): void {
    this.#pending.delete(requestId)
    if (this.#queue.length > 0) this.#queue = this.#queue.filter((queued) => queued.requestId !== requestId)
  }

  /** Takes a request back that was never written. True: not one byte of it left this process, and none will. */
  withdraw(requestId: number): boolean {
    if (!this.#queue.some((queued) => queued.requestId === requestId)) return false
    this.forget(requestId)
    return true
  }

  /** A message without an answer, such as the withdrawal of a request. Dropped unless the stream is open. */
  notify(bytes: Buffer): void {
    if (this.#state === 'open') this.#sink?.write(bytes)
  }

  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#sink?.end()
    this.#sink = null
    this.#failAll(new LedgerError('CLOSED', `the connection to ${this.#options.channel.address} was closed`), true)
  }

  async #open(): Promise<void> {
    const { channel } = this.#options
    if (this.#state === 'closed') {
      await Promise.resolve()
      this.#failAll(new LedgerError('CLOSED', `the connection to ${channel.address} is closed`), false)
      return
    }
    this.#state = 'probing'
    try {
      this.#identity = await channel.call(brokerMethods.probe, {}, { timeoutMs: probeTimeoutMs })
    } catch (cause) {
      if (this.#isClosed()) return
      this.#state = 'idle'
      this.#failAll(notAnswering(channel.address, cause), false)
      return
    }
    if (this.#isClosed()) return
    this.#state = 'open'
    let sink: StreamSink<Buffer> | null = null
    // A transport may report the end synchronously or late: only the end of the current stream counts.
    sink = channel.open(this.#options.method, {
      onMessage: (bytes) => this.#onMessage(bytes),
      onClosed: (error) => {
        if (this.#sink === sink) this.#onClosed(error)
      },
    })
    this.#sink = sink
    this.#options.onOpen()
    const queue = this.#queue
    this.#queue = []
    for (const queued of queue) this.#write(queued)
  }

  #isClosed(): boolean {
    return this.#state === 'closed'
  }

  #write(queued: Queued): void {
    const actual = this.#identity?.group
    if (actual !== queued.group) {
      // Another broker group took this address: it would store the batch under its own name.
      const text = `${this.#options.channel.address} belongs to broker group ${actual}, not to ${queued.group}`
      const error = new LedgerError('UNAVAILABLE', text)
      // Not at once: who asks sets up what waits for the answer only after this returns.
      void Promise.resolve().then(() => this.#settle(queued.requestId, { kind: 'failed', error, sent: false }))
      return
    }
    this.#sink?.write(queued.bytes)
  }

  #onMessage(bytes: Buffer): void {
    try {
      for (const reply of this.#options.decode(bytes)) this.#settle(reply.requestId, { kind: 'reply', reply })
    } catch (cause) {
      this.#sink?.cancel()
      this.#onClosed(new LedgerError('UNAVAILABLE', 'the broker sent an answer that cannot be read', {}, { cause }))
    }
  }

  #onClosed(cause: LedgerError | undefined): void {
    if (this.#state !== 'open') return
    this.#state = 'idle'
    this.#sink = null
    const error = broken(this.#options.channel.address, cause)
    this.#failAll(error, true)
    this.#options.onClosed(error)
  }

  #failAll(error: LedgerError, sent: boolean): void {
    const waiting = [...this.#pending.values()]
    this.#pending.clear()
    this.#queue = []
    for (const done of waiting) done({ kind: 'failed', error, sent })
  }

  #settle(requestId: number, outcome: Outcome<Reply>): void {
    const done = this.#pending.get(requestId)
    if (!done) return
    this.#pending.delete(requestId)
    done(outcome)
  }
}

function notAnswering(address: string, cause: unknown): LedgerError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new LedgerError('UNAVAILABLE', `no broker answers at ${address}: ${reason}`, {}, { cause })
}

const refusals: ReadonlySet<ErrorCode> = new Set([
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'UNIMPLEMENTED',
  'WRONG_CLUSTER',
  'SERVICE_NOT_AVAILABLE',
])

function broken(address: string, cause: LedgerError | undefined): LedgerError {
  // These refuse the stream as such: none of its requests was read. Any other end leaves open what became of them.
  if (cause && refusals.has(cause.code)) return cause
  const reason = cause ? cause.message : 'the broker ended the stream'
  return new LedgerError('UNAVAILABLE', `the stream to ${address} broke: ${reason}`, {}, { cause })
}
