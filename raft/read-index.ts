/**
 * ReadIndex (thesis 6.4): many reads share one round of heartbeats that proves that this node still leads.
 *
 * Used by `leader.ts`. A read waits for the next round, a round waits for a quorum to answer its number or a later
 * one. The index of a round is taken when it starts, so it is never older than the reads in it.
 */
import type { ReadState } from './ready.ts'
import type { LogIndex } from './types.ts'

/** So many rounds may be under way; further reads wait and share the next one. */
export const readRoundsMax = 8

interface Round {
  readonly round: number
  readonly index: LogIndex
  readonly contexts: readonly number[]
}

export class ReadIndex {
  #waiting: number[] = []
  #rounds: Round[] = []
  #size = 0

  /** Contexts that have no answer yet. */
  get size(): number {
    return this.#size
  }

  add(context: number): void {
    this.#waiting.push(context)
    this.#size++
  }

  wantsRound(): boolean {
    return this.#waiting.length > 0 && this.#rounds.length < readRoundsMax
  }

  /** All waiting contexts join the round, whose heartbeats leave after this. */
  start(round: number, index: LogIndex): void {
    this.#rounds.push({ round, index, contexts: this.#waiting })
    this.#waiting = []
  }

  /** A quorum answered `round`: all rounds up to it are proven. */
  confirm(round: number): ReadState[] {
    const states: ReadState[] = []
    while (this.#rounds.length > 0 && (this.#rounds[0] as Round).round <= round) {
      const proven = this.#rounds.shift() as Round
      for (const context of proven.contexts) states.push({ context, index: proven.index })
    }
    this.#size -= states.length
    return states
  }

  /** Everything that will never be answered, because the leadership ended. */
  drop(): number[] {
    const contexts = this.#rounds.flatMap((round) => round.contexts).concat(this.#waiting)
    this.#rounds = []
    this.#waiting = []
    this.#size = 0
    return contexts
  }
}
