/**
 * A steady load with a memory: every message sent, every acknowledgement with the place that the producer was told,
 * every gap between acknowledgements. The demonstration and the scripts compare it with what is consumed afterwards.
 */
import type { Producer } from '../../client/mod.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import { toLedgerError } from '../../common/errors.ts'

/** The property that carries the number of a message, so that equal lines can be told apart. */
export const sequenceProperty = 'sequence'

export interface Acknowledgement {
  readonly sequence: number
  readonly group: string
  readonly queue: number
  readonly offset: number
  readonly atMs: number
}

export interface LoadOptions {
  readonly topic: string
  /** Bodies in turn, from the beginning again after the last. */
  readonly lines: readonly Buffer[]
  readonly messagesPerSecond: number
}

/** Most sends waiting for an answer; beyond it the load pauses, as an application with bounded memory would. */
const inFlightMax = 100_000
const paceMs = 2

export class Load {
  readonly #producer: Producer
  readonly #clock: Clock
  readonly #options: LoadOptions
  readonly acknowledgements: Acknowledgement[] = []
  readonly errors: string[] = []
  #cancel: Cancel = () => {}
  #sent = 0
  #answered = 0
  #startedMs = 0
  #startedAt = 0
  #idle: (() => void) | null = null
  #lastAckMs = 0
  #longestGapMs = 0

  constructor(producer: Producer, clock: Clock, options: LoadOptions) {
    this.#producer = producer
    this.#clock = clock
    this.#options = options
  }

  get sent(): number {
    return this.#sent
  }

  get acknowledged(): number {
    return this.acknowledgements.length
  }

  /** The body that message `sequence` was sent with. */
  body(sequence: number): Buffer {
    return this.#options.lines[sequence % this.#options.lines.length] ?? Buffer.alloc(0)
  }

  start(): void {
    this.#startedMs = this.#clock.monotonicMs()
    this.#startedAt = this.#sent
    this.markGapStart()
    this.#pace()
  }

  /** From now on the longest gap is measured anew. */
  markGapStart(): void {
    this.#lastAckMs = this.#clock.monotonicMs()
    this.#longestGapMs = 0
  }

  /** Longest time between two acknowledgements since `markGapStart`, the still open one included. */
  longestGapMs(): number {
    return Math.max(this.#longestGapMs, this.#clock.monotonicMs() - this.#lastAckMs)
  }

  /** Stops sending and resolves when every send has its answer. */
  async stop(): Promise<void> {
    this.#cancel()
    if (this.#answered < this.#sent) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  #pace(): void {
    const elapsedMs = this.#clock.monotonicMs() - this.#startedMs
    const due = this.#startedAt + Math.floor((elapsedMs * this.#options.messagesPerSecond) / 1000)
    while (this.#sent < due && this.#sent - this.#answered < inFlightMax) this.#send(this.#sent++)
    this.#cancel = this.#clock.after(paceMs, () => this.#pace())
  }

  #send(sequence: number): void {
    const message = {
      topic: this.#options.topic,
      body: this.body(sequence),
      properties: { [sequenceProperty]: String(sequence) },
    }
    this.#producer
      .send(message)
      .then(
        (result) => this.#onAcknowledged(sequence, result.queue.group, result.queue.queue, result.offset),
        (error: unknown) => {
          const known = toLedgerError(error)
          this.errors.push(`${known.code}: ${known.message}`)
        },
      )
      .finally(() => {
        this.#answered++
        if (this.#answered === this.#sent) this.#idle?.()
      })
  }

  #onAcknowledged(sequence: number, group: string, queue: number, offset: number): void {
    const atMs = this.#clock.monotonicMs()
    this.#longestGapMs = Math.max(this.#longestGapMs, atMs - this.#lastAckMs)
    this.#lastAckMs = atMs
    this.acknowledgements.push({ sequence, group, queue, offset, atMs })
  }
}
