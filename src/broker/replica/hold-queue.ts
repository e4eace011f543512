/**
 * Requests held unproposed while no leader is known, leadership is handed over, or a paused leader is not confirmed.
 *
 * Owned by the replica loop, which offers them again whenever something changed. Strictly first in, first out, so
 * that a held request is never overtaken by a later one. Bounded in bytes and time: a client is better served by
 * NO_QUORUM within half its deadline than by silence.
 */
import type { LedgerError } from '../../common/errors.ts'

/** `hold` keeps the request in the queue; `settled` means that it found its way, whichever. */
export type Attempt = 'settled' | 'hold'

export interface Held {
  readonly bytes: number
  /** Monotonic time until which it may wait here. */
  readonly untilMs: number
  attempt(): Attempt
  /** Called when `untilMs` passed. */
  expired(): void
  reject(error: LedgerError): void
}

export class HoldQueue {
  readonly #bytesMax: number
  readonly #countMax: number
  #held: Held[] = []
  #bytes = 0

  constructor(limits: { readonly bytesMax: number; readonly countMax: number }) {
    this.#bytesMax = limits.bytesMax
    this.#countMax = limits.countMax
  }

  get count(): number {
    return this.#held.length
  }

  get bytes(): number {
    return this.#bytes
  }

  hasRoomFor(bytes: number): boolean {
    return this.#held.length < this.#countMax && this.#bytes + bytes <= this.#bytesMax
  }

  add(held: Held): void {
    this.#held.push(held)
    this.#bytes += held.bytes
  }

  remove(held: Held): void {
    const position = this.#held.indexOf(held)
    if (position < 0) return
    this.#held.splice(position, 1)
    this.#bytes -= held.bytes
  }

  /** Offers held requests in order until one has to go on waiting. */
  retry(): void {
    let settled = 0
    for (const held of this.#held) {
      if (held.attempt() === 'hold') break
      this.#bytes -= held.bytes
      settled++
    }
    if (settled > 0) this.#held = this.#held.slice(settled)
  }

  expire(nowMs: number): void {
    const late = this.#held.filter((held) => held.untilMs <= nowMs)
    if (late.length === 0) return
    this.#held = this.#held.filter((held) => held.untilMs > nowMs)
    for (const held of late) {
      this.#bytes -= held.bytes
      held.expired()
    }
  }

  failAll(error: LedgerError): void {
    const all = this.#held
    this.#held = []
    this.#bytes = 0
    for (const held of all) held.reject(error)
  }
}
