/** One receive of a queue by a group is chosen at a time: two at once would choose the same messages. */
export class QueueTurns {
  readonly #taken = new Set<string>()
  /** Turns that somebody came for in vain. */
  readonly #wanted = new Set<string>()

  /** Null: somebody has it; `onFree` of that one tells. Else the function that gives it back. */
  take(
    at: { readonly group: string; readonly topicId: number; readonly queue: number },
    onFree: () => void,
  ): (() => void) | null {
    const name = `${at.group}/${at.topicId}/${at.queue}`
    if (this.#taken.has(name)) {
      this.#wanted.add(name)
      return null
    }
    this.#taken.add(name)
    return () => {
      this.#taken.delete(name)
      if (this.#wanted.delete(name)) onFree()
    }
  }
}
