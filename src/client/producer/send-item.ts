/**
 * One message on its way, from `send` to its answer. Made by the producer, carried by the accumulator and the batch
 * sender. Settled exactly once, by whoever knows first: the broker's answer, the deadline, the caller's abort.
 */
import type { LedgerError } from '../../common/errors.ts'
import type { RecordFields } from '../../message/types.ts'
import type { SendResult } from '../types.ts'

export type SendCallback = (error: LedgerError | null, result: SendResult | null) => void

export interface SendItem {
  readonly record: RecordFields
  /** Wall time of `send`, milliseconds. */
  readonly bornTime: number
  /** What it takes in a batch. */
  readonly bytes: number
  /** Monotonic milliseconds. */
  readonly deadlineMs: number
  /** The last of those that must lie in one batch; they stand next to each other, and are settled together. */
  readonly endsUnit: boolean
  /** Where its bytes are counted while it is not settled. */
  readonly buffer: SendBuffer
  /** Null once settled. */
  done: SendCallback | null
}

export function settle(item: SendItem, error: LedgerError | null, result: SendResult | null): void {
  const { done } = item
  if (done === null) return
  item.done = null
  item.buffer.give(item.bytes)
  done(error, result)
}

/** Bounds what one producer holds in memory. */
export class SendBuffer {
  readonly bytesMax: number
  #bytes = 0
  #waiters: (() => void)[] = []

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  get hasRoom(): boolean {
    return this.#bytes * 2 <= this.bytesMax
  }

  take(bytes: number): void {
    this.#bytes += bytes
  }

  give(bytes: number): void {
    this.#bytes -= bytes
    if (this.#waiters.length > 0 && this.hasRoom) this.wake()
  }

  /** Calls back once when half of the buffer is free. */
  onRoom(callback: () => void): void {
    this.#waiters.push(callback)
  }

  wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter()
  }
}
