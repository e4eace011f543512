/**
 * The read indexes that this node asked its leader for (thesis 6.4) and that have no answer yet.
 *
 * Part of `replica.ts`; used by `reads.ts`. Bounded by `pendingReadsMax` and, per read, by electionTimeoutMax. The
 * contexts on the wire count on from the session, which is random: an answer that was meant for an earlier run of this
 * node fits no read of this one, though it may be of the same leader and the same term.
 */
import type { Millis } from './types.ts'

interface Pending {
  readonly context: number
  readonly deadline: Millis
}

export class FollowerReads {
  /** By context on the wire, in the order of asking, which is the order of the deadlines. */
  readonly #pending = new Map<number, Pending>()
  #nextContext: number

  constructor(session: number) {
    this.#nextContext = session
  }

  get size(): number {
    return this.#pending.size
  }

  /** Returns the context for the wire. */
  add(context: number, deadline: Millis): number {
    const onWire = this.#nextContext++
    this.#pending.set(onWire, { context, deadline })
    return onWire
  }

  /** The context that this answer is for; undefined when nobody waits for it. */
  take(onWire: number): number | undefined {
    const pending = this.#pending.get(onWire)
    this.#pending.delete(onWire)
    return pending?.context
  }

  /** When the oldest read is given up; Infinity when there is none. */
  deadline(): Millis {
    for (const { deadline } of this.#pending.values()) return deadline
    return Number.POSITIVE_INFINITY
  }

  /** Gives up what is overdue. */
  expire(now: Millis): number[] {
    const expired: number[] = []
    for (const [onWire, { context, deadline }] of this.#pending) {
      if (deadline > now) break
      this.#pending.delete(onWire)
      expired.push(context)
    }
    return expired
  }

  /** Gives up everything. */
  drop(): number[] {
    const contexts = [...this.#pending.values()].map(({ context }) => context)
    this.#pending.clear()
    return contexts
  }
}
