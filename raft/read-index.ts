/**
 * ReadIndex (thesis 6.4): many reads share one round of heartbeats that proves that this node still leads.
 *
 * Used by `leader.ts`. A read waits for the next round, a round waits for a quorum to answer its number or a later
 * one. The index of a round is taken when it starts, so it is never older than the reads in it.
 */
import type { LogIndex, NodeId } from './types.ts'

/** So many rounds may be under way; further reads wait and share the next one. */
export const readRoundsMax = 8

/** Who asked: this node itself (null) or a follower. */
export interface Reader {
  readonly context: number
  readonly from: NodeId | null
}

export interface ProvenRead extends Reader {
  readonly index: LogIndex
}

interface Round {
  readonly round: number
  readonly index: LogIndex
  readonly readers: readonly Reader[]
}

export class ReadIndex {
  #waiting: Reader[] = []
  #rounds: Round[] = []
  #size = 0

  /** Readers that have no answer yet. */
  get size(): number {
    return this.#size
  }

  add(reader: Reader): void {
    this.#waiting.push(reader)
    this.#size++
  }

  wantsRound(): boolean {
    return this.#waiting.length > 0 && this.#rounds.length < readRoundsMax
  }

  /** All waiting readers join the round, whose heartbeats leave after this. */
  start(round: number, index: LogIndex): void {
    this.#rounds.push({ round, index, readers: this.#waiting })
    this.#waiting = []
  }

  /** A quorum answered `round`: all rounds up to it are proven. */
  confirm(round: number): ProvenRead[] {
    const reads: ProvenRead[] = []
    while (this.#rounds.length > 0 && (this.#rounds[0] as Round).round <= round) {
      const proven = this.#rounds.shift() as Round
      for (const reader of proven.readers) reads.push({ ...reader, index: proven.index })
    }
    this.#size -= reads.length
    return reads
  }

  /**
   * Contexts of the own readers that will never be answered, because the leadership ended. Followers see the end of it
   * for themselves.
   */
  drop(): number[] {
    const readers = this.#rounds.flatMap((round) => round.readers).concat(this.#waiting)
    this.#rounds = []
    this.#waiting = []
    this.#size = 0
    return readers.filter(({ from }) => from === null).map(({ context }) => context)
  }
}
