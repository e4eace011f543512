/**
 * The clocks of the voters as heard in their messages; gives the loop its stamps. Owned by the replica.
 */
import type { Clock } from '../../common/clock.ts'
import type { EventSink } from '../events.ts'
import { type ClockSample, judgeClocks, nextStamp } from './log-time.ts'

export class VoterClocks {
  readonly #clock: Clock
  readonly #events: EventSink
  readonly #samples = new Map<string, ClockSample>()
  #off = false

  constructor(clock: Clock, events: EventSink) {
    this.#clock = clock
    this.#events = events
  }

  /** `node` is a member, checked by its Hello, so this map has at most as many entries as the group. */
  heard(node: string, wallMs: number): void {
    if (wallMs > 0) this.#samples.set(node, { wallMs, atMs: this.#clock.monotonicMs() })
  }

  stamp(previous: number, term: number): number {
    const judgement = judgeClocks({
      ownWallMs: this.#clock.wallMs(),
      nowMs: this.#clock.monotonicMs(),
      samples: [...this.#samples.values()],
    })
    if (judgement.ownIsOff && !this.#off) this.#events.emit('clock_off', term, { offMs: judgement.ownOffMs })
    this.#off = judgement.ownIsOff
    return nextStamp(previous, judgement)
  }
}
