/**
 * Puts a limit on what waits to be sent on one stream. Used by `rpc-stream.ts` on both sides.
 *
 * A peer that does not read makes Node keep everything written to it. The writer counts bytes that the connection has
 * not taken yet, tells the owner to pause above one limit, and gives the stream up above another or after too long.
 */
import type { Writable } from 'node:stream'
import type { Cancel, Clock } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'
import type { RpcLimits } from './rpc-limits.ts'

/** Charged per message for the objects around it, so that millions of tiny messages count too. */
const messageOverheadBytes = 256

export interface WriterEvents {
  onDrain(): void
  /** The peer reads too slowly; nothing may be written any more. */
  onOverloaded(error: LedgerError): void
}

export class BoundedWriter {
  readonly #target: Writable
  readonly #limits: RpcLimits
  readonly #clock: Clock
  readonly #events: WriterEvents
  #waitingBytes = 0
  #full = false
  #stopped = false
  #cancelStalled: Cancel | undefined

  constructor(target: Writable, limits: RpcLimits, clock: Clock, events: WriterEvents) {
    this.#target = target
    this.#limits = limits
    this.#clock = clock
    this.#events = events
  }

  /** False: pause until `onDrain`. */
  write(bytes: Buffer): boolean {
    if (this.#stopped) return false
    const charge = bytes.length + messageOverheadBytes
    this.#waitingBytes += charge
    this.#target.write(bytes, (error) => {
      if (!error) this.#onSent(charge)
    })
    if (this.#waitingBytes > this.#limits.streamBufferBytesMax) {
      this.#overloaded(`${this.#waitingBytes} bytes wait for a peer that does not read`)
      return false
    }
    if (this.#waitingBytes > this.#limits.streamBufferBytes) this.#becomeFull()
    return !this.#full
  }

  /** Forgets what waits: the stream is over. */
  stop(): void {
    this.#stopped = true
    this.#cancelStalled?.()
    this.#cancelStalled = undefined
  }

  #becomeFull(): void {
    if (this.#full) return
    this.#full = true
    const { streamStalledMs } = this.#limits
    const onStalled = (): void => this.#overloaded(`the peer has not read for ${streamStalledMs} ms`)
    this.#cancelStalled = this.#clock.after(streamStalledMs, onStalled, { background: true })
  }

  #onSent(charge: number): void {
    this.#waitingBytes -= charge
    // Half of the limit: a drain per message would make the owner start and stop all the time.
    if (!this.#full || this.#stopped || this.#waitingBytes > this.#limits.streamBufferBytes / 2) return
    this.#full = false
    this.#cancelStalled?.()
    this.#cancelStalled = undefined
    this.#events.onDrain()
  }

  #overloaded(reason: string): void {
    if (this.#stopped) return
    this.stop()
    this.#events.onOverloaded(new LedgerError('OVERLOADED', reason))
  }
}
