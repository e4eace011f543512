/**
 * One outgoing stream to one peer, kept alive: dial, Hello, messages, and again after a bounded backoff.
 *
 * Two of them per peer, one for control and one for bulk, owned by `peers.ts`. Nothing is queued here: a message for
 * a stream that is not up is dropped, because Raft repeats what matters and stale votes help nobody.
 */
import type { Cancel, Clock, Random } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Hello } from '../../rpc/methods.ts'
import { decodeHelloReply, encodePeerFrame } from '../../rpc/peer-codec.ts'
import { fromWireStatus } from '../../rpc/status.ts'
import type { Channel, StreamMethod, StreamSink } from '../../rpc/transport.ts'

export const reconnectMinMs = 50
export const reconnectMaxMs = 500
/** A peer that accepts the stream but says nothing is dialled again. */
const helloTimeoutMs = 2000

export interface PeerLinkPorts {
  readonly clock: Clock
  readonly random: Random
  readonly channel: Channel
  readonly method: StreamMethod<Buffer, Buffer>
  hello(): Hello
  up(): void
  /** The stream was up and broke. */
  lost(error: LedgerError | undefined): void
  /** The stream could not be made or was refused. */
  failed(error: LedgerError): void
  drained(): void
}

export class PeerLink {
  readonly #ports: PeerLinkPorts
  #sink: StreamSink<Buffer> | null = null
  #up = false
  #congested = false
  #closed = false
  #backoffMs = reconnectMinMs
  /** Counts attempts, so that a late callback of an earlier stream is recognised. */
  #attempt = 0
  #timer: Cancel | null = null

  constructor(ports: PeerLinkPorts) {
    this.#ports = ports
  }

  get up(): boolean {
    return this.#up
  }

  /** More waits to be sent than the transport likes to buffer. */
  get congested(): boolean {
    return this.#congested
  }

  open(): void {
    if (this.#closed) return
    const attempt = ++this.#attempt
    const current = (): boolean => attempt === this.#attempt && !this.#closed
    this.#sink = this.#ports.channel.open(this.#ports.method, {
      onMessage: (bytes) => {
        if (current()) this.#onReply(bytes)
      },
      onDrain: () => {
        if (!current()) return
        this.#congested = false
        this.#ports.drained()
      },
      onClosed: (error) => {
        if (current()) this.#broken(error)
      },
    })
    this.#sink.write(encodePeerFrame({ kind: 'hello', hello: this.#ports.hello() }))
    this.#startTimer(helloTimeoutMs, () =>
      this.#broken(new LedgerError('UNAVAILABLE', 'the peer did not answer Hello')),
    )
  }

  /** The peer has shown that it is there: no need to wait any longer. */
  hurry(): void {
    if (this.#closed || this.#sink) return
    this.#timer?.()
    this.open()
  }

  /** False: the stream is not up and the message is gone. */
  write(bytes: Buffer): boolean {
    if (!this.#up || !this.#sink) return false
    if (!this.#sink.write(bytes)) this.#congested = true
    return true
  }

  /** Lets what was written go out, then ends the stream for good. */
  close(): void {
    this.#closed = true
    this.#timer?.()
    this.#up = false
    this.#sink?.end()
    this.#sink = null
  }

  #onReply(bytes: Buffer): void {
    if (this.#up) return
    try {
      const reply = decodeHelloReply(bytes)
      if (reply.status) throw fromWireStatus(reply.status)
    } catch (error) {
      this.#broken(toLedgerError(error))
      return
    }
    this.#timer?.()
    this.#timer = null
    this.#up = true
    this.#backoffMs = reconnectMinMs
    this.#ports.up()
  }

  #broken(error: LedgerError | undefined): void {
    const wasUp = this.#up
    const sink = this.#sink
    this.#attempt++
    this.#up = false
    this.#congested = false
    this.#sink = null
    sink?.cancel()
    const jitter = 0.5 + this.#ports.random.next() / 2
    this.#startTimer(this.#backoffMs * jitter, () => this.open())
    this.#backoffMs = Math.min(this.#backoffMs * 2, reconnectMaxMs)
    if (wasUp) this.#ports.lost(error)
    else this.#ports.failed(error ?? new LedgerError('UNAVAILABLE', 'the peer ended the stream before its Hello'))
  }

  #startTimer(ms: number, callback: () => void): void {
    this.#timer?.()
    this.#timer = this.#ports.clock.after(ms, callback, { background: true })
  }
}
