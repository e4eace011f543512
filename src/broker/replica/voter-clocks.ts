/**
 * The clocks of the voters as heard in their messages; gives the loop its stamps. Owned by the replica.
 */
import type { Clock } from '../../common/clock.ts'
import type { EventSink } from '../events.ts'
import { type ClockSample, judgeClocks, nextStamp } from './log-time.ts'

export class VoterClocks {
  readonly #clock: Clock
  readonly #events: EventSink
  readonly #isVoter: (node: string) => boolean
  readonly #samples = new Map<string, ClockSample>()
  #off = false

  constructor(clock: Clock, events: EventSink, isVoter: (node: string) => boolean) {
    this.#clock = clock
    this.#events = events
    this.#isVoter = isVoter
  }

  /** `node` was let in by its Hello, so this map has hardly more entries than the group had members. */
  heard(node: string, wallMs: number): void {
    if (wallMs > 0) this.#samples.set(node, { wallMs, atMs: this.#clock.monotonicMs() })
  }

  stamp(previous: number, term: number): number {
    const judgement = judgeClocks({
      ownWallMs: this.#clock.wallMs(),
      nowMs: this.#clock.monotonicMs(),
      samples: [...this.#samples].filter(([node]) => this.#isVoter(node)).map(([, sample]) => sample),
    })
    if (judgement.ownIsOff && !this.#off) this.#events.emit('clock_off', term, { offMs: judgement.ownOffMs })
    this.#off = judgement.ownIsOff
    return nextStamp(previous, judgement)
  }
}
