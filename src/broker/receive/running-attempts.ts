/**
 * Receives that may be asked again, while they are served. One that comes while the first goes on has lost the answer to
 * it: the first ends before it, because what that one is being granted belongs to both, and nothing else does.
 */
interface Running {
  readonly abort: AbortController
  readonly ended: Promise<void>
}

export class RunningAttempts {
  readonly #running = new Map<string, Running>()

  /** `serve` ends soon when its signal aborts, by that of the caller or by the next one of this name. */
  async run<Result>(
    name: string,
    signal: AbortSignal,
    serve: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    for (let before = this.#running.get(name); before; before = this.#running.get(name)) {
      before.abort.abort()
      await before.ended
    }
    const abort = new AbortController()
    let ended = (): void => {}
    this.#running.set(name, { abort, ended: new Promise<void>((resolve) => (ended = resolve)) })
    try {
      return await serve(AbortSignal.any([signal, abort.signal]))
    } finally {
      this.#running.delete(name)
      ended()
    }
  }
}
