/**
 * Writes to a stream whose client may stop reading: tells when to pause, and breaks the stream when the pause lasts
 * too long. Used by every streaming handler; what is held back meanwhile is theirs to bound.
 */
import type { Cancel, Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { StreamSink } from '../../rpc/transport.ts'

export class UnreadGuard<Out> {
  readonly #sink: StreamSink<Out>
  readonly #clock: Clock
  readonly #unreadMsMax: number
  readonly #onGivenUp: (error: LedgerError) => void
  /** Set while the client does not read. */
  #giveUp: Cancel | null = null

  constructor(options: {
    readonly sink: StreamSink<Out>
    readonly clock: Clock
    /** How long the buffer may stay full. */
    readonly unreadMsMax: number
    /** The client has not read for too long: break the stream with this error. */
    readonly onGivenUp: (error: LedgerError) => void
  }) {
    this.#sink = options.sink
    this.#clock = options.clock
    this.#unreadMsMax = options.unreadMsMax
    this.#onGivenUp = options.onGivenUp
  }

  /** True: hold back what can wait until `onDrain`. */
  get full(): boolean {
    return this.#giveUp !== null
  }

  write(message: Out): void {
    if (this.#sink.write(message) || this.#giveUp) return
    this.#giveUp = this.#clock.after(
      this.#unreadMsMax,
      () => this.#onGivenUp(new LedgerError('OVERLOADED', `the client read nothing for ${this.#unreadMsMax} ms`)),
      { background: true },
    )
  }

  onDrain(): void {
    this.#giveUp?.()
    this.#giveUp = null
  }

  stop(): void {
    this.#giveUp?.()
  }
}
