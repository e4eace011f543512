/**
 * One queue of a push consumer between reader and listeners (RocketMQ: ProcessQueue): what is held, what runs, what
 * failed and waits, and which offset may be committed. Used by the push consumer; holds no timers.
 *
 * The offset to commit is that of the lowest unfinished message: a slow one holds back the commit of all behind it, so
 * that none is ever lost.
 */
import { invariant } from '../../common/assert.ts'
import type { ConsumedBatch, ConsumedMessage } from './consumed-batch.ts'

export interface FlowLimits {
  readonly messagesMax: number
  readonly bytesMax: number
  readonly spanMax: number
}

/** A message with how often its listener was called before. */
export interface Delivery {
  readonly message: ConsumedMessage
  readonly failures: number
}

export class ProcessQueue {
  readonly #limits: FlowLimits
  /** Not handed out yet; from `#head` on. */
  #waiting: ConsumedMessage[] = []
  #head = 0
  /** Failed before and due again; before all others. */
  readonly #due: Delivery[] = []
  readonly #finished = new Set<number>()
  /** Null until the first message tells where the queue begins. */
  #lowest: number | null
  #end: number | null
  #held = 0
  #bytes = 0
  #running = 0

  constructor(start: number | null, limits: FlowLimits) {
    this.#lowest = start
    this.#end = start
    this.#limits = limits
  }

  /** Everything below is done; null when nothing is known yet. */
  get committable(): number | null {
    return this.#lowest
  }

  get running(): number {
    return this.#running
  }

  /** RocketMQ's flow control: too many messages, too many bytes, or too far from the first unfinished one. */
  get full(): boolean {
    const span = (this.#end ?? 0) - (this.#lowest ?? 0)
    return this.#held >= this.#limits.messagesMax || this.#bytes >= this.#limits.bytesMax || span > this.#limits.spanMax
  }

  add(batch: ConsumedBatch): void {
    invariant(
      this.#end === null || batch.firstOffset === this.#end,
      `B2: offset ${batch.firstOffset} came after ${this.#end}`,
    )
    this.#lowest ??= batch.firstOffset
    this.#end = batch.nextOffset
    for (const message of batch.messages) {
      this.#waiting.push(message)
      this.#held++
      this.#bytes += message.body.length
    }
  }

  /** The next one to hand out; null when there is none now. */
  next(): Delivery | null {
    const due = this.#due.shift()
    if (due) {
      this.#running++
      return due
    }
    const message = this.#waiting[this.#head]
    if (!message) return null
    this.#head++
    if (this.#head === this.#waiting.length) {
      this.#waiting = []
      this.#head = 0
    }
    this.#running++
    return { message, failures: 0 }
  }

  get hasNext(): boolean {
    return this.#due.length > 0 || this.#head < this.#waiting.length
  }

  finished(delivery: Delivery): void {
    this.#running--
    this.#held--
    this.#bytes -= delivery.message.body.length
    this.#finished.add(delivery.message.offset)
    while (this.#lowest !== null && this.#finished.delete(this.#lowest)) this.#lowest++
  }

  /** Stays unfinished and is not handed out until `retry`. */
  failed(): void {
    this.#running--
  }

  retry(delivery: Delivery): void {
    this.#due.push({ message: delivery.message, failures: delivery.failures + 1 })
  }
}
