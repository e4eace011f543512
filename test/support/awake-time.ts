/**
 * Time as this process lived it, for what must be done soon after a deadline: while the process gets no time to run, it
 * cannot do anything soon. Never for a lower bound.
 */
const stepMs = 10

export class AwakeTime implements Disposable {
  readonly #timer: NodeJS.Timeout
  #lastMs = performance.now()
  /** Since it was made: of every pause one step counts. */
  ms = 0

  constructor() {
    this.#timer = setInterval(() => {
      const nowMs = performance.now()
      this.ms += Math.min(nowMs - this.#lastMs, stepMs * 2)
      this.#lastMs = nowMs
    }, stepMs)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}
