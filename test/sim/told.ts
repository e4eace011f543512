/**
 * What users have been told so far: every read that begins now must see it, whoever answers (thesis 6.4). Written by
 * the workload, read by those who check reads. Knows only acknowledgements, not what the replicas hold.
 */
export interface Acknowledged {
  readonly value: string
  readonly queue: number
  readonly offset: number
  readonly index: number
}

/** As it was when a read began. */
export interface ToldBefore {
  /** Newest log entry that any user knows to be committed. */
  readonly index: number
  /** By queue: offset behind the last acknowledged message. */
  readonly ends: readonly number[]
  /** By queue: what the group was told to be committed. */
  readonly committed: ReadonlyMap<number, number>
}

export class Told {
  #index = 0
  readonly #ends: number[] = []
  readonly #committed = new Map<number, number>()
  /** The last message that was acknowledged. */
  newest: Acknowledged | null = null

  get committed(): ReadonlyMap<number, number> {
    return this.#committed
  }

  sent(message: Acknowledged): void {
    const { queue, offset, index } = message
    this.newest = message
    this.#index = Math.max(this.#index, index)
    this.#ends[queue] = Math.max(this.#ends[queue] ?? 0, offset + 1)
  }

  /** Something else that users know to be done. */
  changed(index: number): void {
    this.#index = Math.max(this.#index, index)
  }

  commit(queue: number, offset: number): void {
    if (offset > (this.#committed.get(queue) ?? 0)) this.#committed.set(queue, offset)
  }

  before(): ToldBefore {
    return { index: this.#index, ends: [...this.#ends], committed: new Map(this.#committed) }
  }
}
