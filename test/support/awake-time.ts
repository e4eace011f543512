/**
 * Time as this process lived it, for what must be done soon after a deadline: while the process gets no time to run, it
 * cannot do anything soon. Never for a lower bound.
 */
import type { Cancel } from '../../src/common/clock.ts'
import { AwakeClock } from './awake-clock.ts'

const lookMs = 10

export class AwakeTime implements Disposable {
  readonly #clock = new AwakeClock()
  #cancel: Cancel = () => {}

  constructor() {
    this.#look()
  }

  /** Since it was made. */
  get ms(): number {
    return this.#clock.monotonicMs()
  }

  [Symbol.dispose](): void {
    this.#cancel()
  }

  /** That clock goes on only while somebody waits for it. */
  #look(): void {
    this.#cancel = this.#clock.after(lookMs, () => this.#look())
  }
}
