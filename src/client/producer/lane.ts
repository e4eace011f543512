/**
 * One queue as the producer sees it: its sequence, whether a batch is in flight, and what was pinned to it by a
 * selector. Owned by the topic sender; the batch sender borrows it for one batch.
 *
 * Sequences are given out once and never again, whatever becomes of the batch: a sequence that meant two different
 * batches would let the broker take one for the other. Gaps are legal (design section 6).
 */
import { invariant } from '../../common/assert.ts'
import type { Random } from '../../common/clock.ts'
import type { MessageQueue } from '../types.ts'
import type { SendItem } from './send-item.ts'

export interface SequenceRange {
  readonly producerId: Buffer
  readonly baseSequence: number
  readonly firstOfProducer: boolean
}

/** All zero: the broker keeps no sequence. */
export const anonymousProducer: Buffer = Buffer.alloc(16)

export class Lane {
  readonly queue: MessageQueue
  /** Incarnation of the topic on that group: a recreated topic has no sequences. */
  readonly topicId: number
  /** At most one batch is in flight per queue: the broker remembers only the last sequence. */
  busy = false
  /** Sends of selectors, in order. */
  readonly pinned: SendItem[][] = []
  #producerId: Buffer
  #nextSequence = 0
  #acknowledged = false

  constructor(queue: MessageQueue, topicId: number, producerId: Buffer) {
    this.queue = queue
    this.topicId = topicId
    this.#producerId = producerId
  }

  get idempotent(): boolean {
    return this.#producerId !== anonymousProducer
  }

  takeSequences(count: number): SequenceRange {
    invariant(this.busy, 'B3: a sequence was taken without holding the queue')
    const baseSequence = this.idempotent ? this.#nextSequence : 0
    this.#nextSequence += count
    // The flag stays until the broker has certainly seen this producer: if the first batch was lost, its successor
    // is the first; if it was stored after all, the flag does no harm because the sequence is higher.
    const firstOfProducer = this.idempotent && !this.#acknowledged
    return { producerId: this.#producerId, baseSequence, firstOfProducer }
  }

  acknowledged(): void {
    this.#acknowledged = true
  }

  /** The broker forgot this producer: go on under a new name. Late copies of the old name stay refused. */
  renew(random: Random): void {
    if (!this.idempotent) return
    this.#producerId = random.bytes(16)
    this.#nextSequence = 0
    this.#acknowledged = false
  }
}
