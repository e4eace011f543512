/**
 * Reads that must be current: each waits for a quorum to confirm the leader (ReadIndex, thesis 6.4) and then for the
 * state machine to get there. Owned by the replica loop.
 *
 * Reads that arrive in one turn of the loop share one confirmation round: nothing can have been acknowledged between
 * the first and the last of them, so the index captured for the first is right for all.
 */
import type { LedgerError } from '../../common/errors.ts'

export interface Reader {
  /** Monotonic time at which the caller stops waiting. */
  readonly deadlineMs: number
  resolve(): void
  reject(error: LedgerError): void
}

interface Round {
  readers: Reader[]
  /** Known once a quorum confirmed. */
  index: number | null
}

export class Reads {
  readonly #rounds = new Map<number, Round>()
  #nextContext = 1
  #open: Round | null = null
  #count = 0

  get count(): number {
    return this.#count
  }

  /** Joins the round of this turn; false when there is none and the core has to be asked. */
  join(reader: Reader): boolean {
    if (!this.#open) return false
    this.#open.readers.push(reader)
    this.#count++
    return true
  }

  nextContext(): number {
    return this.#nextContext
  }

  /** The core took `nextContext()`: a new round, open to others until the end of the turn. */
  began(reader: Reader): void {
    const round: Round = { readers: [reader], index: null }
    this.#rounds.set(this.#nextContext++, round)
    this.#open = round
    this.#count++
  }

  /** No reader may join from here on: messages of the round are about to leave. */
  endTurn(): void {
    this.#open = null
  }

  confirmed(context: number, index: number, appliedIndex: number): void {
    const round = this.#rounds.get(context)
    if (!round) return
    round.index = index
    if (index <= appliedIndex) this.#finish(context, round)
  }

  applied(appliedIndex: number): void {
    // Rounds are confirmed in order with growing indexes: the first that must wait ends the search.
    for (const [context, round] of this.#rounds) {
      if (round.index === null || round.index > appliedIndex) return
      this.#finish(context, round)
    }
  }

  dropped(contexts: readonly number[], error: LedgerError): void {
    for (const context of contexts) {
      const round = this.#rounds.get(context)
      if (round) this.#fail(context, round, error)
    }
  }

  failAll(error: LedgerError): void {
    for (const [context, round] of this.#rounds) this.#fail(context, round, error)
  }

  expire(nowMs: number, error: () => LedgerError): void {
    for (const round of this.#rounds.values()) {
      const late = round.readers.filter((reader) => reader.deadlineMs <= nowMs)
      if (late.length === 0) continue
      round.readers = round.readers.filter((reader) => reader.deadlineMs > nowMs)
      this.#count -= late.length
      for (const reader of late) reader.reject(error())
    }
  }

  #finish(context: number, round: Round): void {
    this.#remove(context, round)
    for (const reader of round.readers) reader.resolve()
  }

  #fail(context: number, round: Round, error: LedgerError): void {
    this.#remove(context, round)
    for (const reader of round.readers) reader.reject(error)
  }

  #remove(context: number, round: Round): void {
    this.#rounds.delete(context)
    this.#count -= round.readers.length
    if (this.#open === round) this.#open = null
  }
}
