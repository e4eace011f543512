/**
 * Hands what the client has to tell to everyone who iterates over `mq.status()`. Each reader has a bounded buffer: a
 * slow one loses the oldest and is told how many. Emitting never blocks and never throws.
 */
import type { ClientStatus } from './types.ts'

/** Statuses that wait for one reader. */
export const statusBufferMax = 256

interface Reader {
  readonly buffer: ClientStatus[]
  missed: number
  wake: (() => void) | null
}

export class StatusHub {
  readonly #readers = new Set<Reader>()
  #closed = false

  emit(status: ClientStatus): void {
    for (const reader of this.#readers) {
      if (reader.buffer.length >= statusBufferMax) {
        reader.buffer.shift()
        reader.missed++
      }
      reader.buffer.push(status)
      reader.wake?.()
    }
  }

  /** From now on; ends when the signal aborts or the client closes. */
  watch(signal?: AbortSignal): AsyncIterableIterator<ClientStatus> {
    const reader: Reader = { buffer: [], missed: 0, wake: null }
    this.#readers.add(reader)
    return this.#iterate(reader, signal)
  }

  close(): void {
    this.#closed = true
    for (const reader of this.#readers) reader.wake?.()
  }

  async *#iterate(reader: Reader, signal?: AbortSignal): AsyncGenerator<ClientStatus, void, undefined> {
    const wake = (): void => reader.wake?.()
    signal?.addEventListener('abort', wake, { once: true })
    try {
      while (true) {
        if (reader.missed > 0) {
          const count = reader.missed
          reader.missed = 0
          yield { kind: 'missed', count }
        }
        const status = reader.buffer.shift()
        if (status) yield status
        else if (this.#closed || signal?.aborted) return
        else await new Promise<void>((resolve) => (reader.wake = resolve))
        reader.wake = null
      }
    } finally {
      signal?.removeEventListener('abort', wake)
      this.#readers.delete(reader)
    }
  }
}
