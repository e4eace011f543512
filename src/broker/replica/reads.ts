/**
 * Reads that must be current, on the leader and on followers: each waits for a quorum to confirm the leader (ReadIndex,
 * thesis 6.4) and then for the state machine of this node to get there. Owned by the replica loop.
 *
 * Reads that arrive in one turn of the loop share one confirmation round: its index is taken when the turn ends, here or on
 * the leader, so it covers all that was acknowledged before the last of them came.
 */
import type { LedgerError } from '../../common/errors.ts'

export interface Reader {
  /** Monotonic time at which the caller stops waiting. */
  readonly deadlineMs: number
  resolve(): void
  /** The round came to nothing, because leader or quorum was lost: another one may be tried. */
  again(): void
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

  /** Rounds that somebody waits for. */
  get rounds(): number {
    return this.#rounds.size
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
    // All of them, not the first ones: the answer to an earlier round may have been lost on its way.
    for (const [context, round] of this.#rounds) {
      if (round.index !== null && round.index <= appliedIndex) this.#finish(context, round)
    }
  }

  /** These rounds will never be confirmed. */
  dropped(contexts: readonly number[]): void {
    for (const context of contexts) {
      const round = this.#rounds.get(context)
      if (!round) continue
      this.#remove(context, round)
      for (const reader of round.readers) reader.again()
    }
  }

  failAll(error: LedgerError): void {
    for (const [context, round] of this.#rounds) {
      this.#remove(context, round)
      for (const reader of round.readers) reader.reject(error)
    }
  }

  expire(nowMs: number, error: () => LedgerError): void {
    for (const [context, round] of this.#rounds) {
      const late = round.readers.filter((reader) => reader.deadlineMs <= nowMs)
      if (late.length === 0) continue
      round.readers = round.readers.filter((reader) => reader.deadlineMs > nowMs)
      this.#count -= late.length
      // Where apply stands still, its index would never be reached, and one would be left of every turn with reads.
      if (round.readers.length === 0) this.#remove(context, round)
      for (const reader of late) reader.reject(error())
    }
  }

  #finish(context: number, round: Round): void {
    this.#remove(context, round)
    for (const reader of round.readers) reader.resolve()
  }

  #remove(context: number, round: Round): void {
    this.#rounds.delete(context)
    this.#count -= round.readers.length
    if (this.#open === round) this.#open = null
  }
}
