/**
 * The window of append messages that a follower has not answered, limited by messages and by bytes.
 *
 * Used by `progress.ts`. A ring that grows up to its limit; the oldest message leaves first.
 */
import { invariant } from './assert.ts'
import type { LogIndex } from './types.ts'

interface Sent {
  readonly lastIndex: LogIndex
  readonly bytes: number
}

export class Inflights {
  readonly #messagesMax: number
  readonly #bytesMax: number
  readonly #ring: (Sent | undefined)[] = []
  #start = 0
  #count = 0
  #bytes = 0

  constructor(messagesMax: number, bytesMax: number) {
    this.#messagesMax = messagesMax
    this.#bytesMax = bytesMax
  }

  get messages(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Full when either limit is reached; one message larger than the limit may always leave alone. */
  isFull(): boolean {
    return this.#count >= this.#messagesMax || (this.#count > 0 && this.#bytes >= this.#bytesMax)
  }

  add(lastIndex: LogIndex, bytes: number): void {
    invariant(this.#count < this.#messagesMax, 'R5: the append window overflowed')
    this.#ring[(this.#start + this.#count) % this.#messagesMax] = { lastIndex, bytes }
    this.#count++
    this.#bytes += bytes
  }

  /** The follower holds everything up to `match`. */
  freeTo(match: LogIndex): void {
    while (this.#count > 0) {
      const oldest = this.#ring[this.#start] as Sent
      if (oldest.lastIndex > match) return
      this.#ring[this.#start] = undefined
      this.#start = (this.#start + 1) % this.#messagesMax
      this.#count--
      this.#bytes -= oldest.bytes
    }
  }

  clear(): void {
    this.freeTo(Number.POSITIVE_INFINITY)
  }
}
