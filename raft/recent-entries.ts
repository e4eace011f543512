/**
 * The descriptors of the newest entries, so that appends and windows know sizes without a disk.
 *
 * Used by `log.ts` only. Bounded: beyond `keptMin` committed entries the oldest are forgotten, and an
 * append that names them carries `bytes: 0`, "not known here" (see README.md, "Entries of unknown size").
 */
import { invariant } from './assert.ts'
import type { EntryMeta, LogIndex } from './types.ts'

export class RecentEntries {
  /** So many descriptors stay at least; twice as many may be held before the older half is dropped at once. */
  readonly #keptMin: number
  #entries: EntryMeta[] = []
  /** Index of the first descriptor held; one beyond the last entry of the log when none is held. */
  #first: LogIndex

  constructor(nextIndex: LogIndex, keptMin: number) {
    this.#keptMin = keptMin
    this.#first = nextIndex
  }

  push(entry: EntryMeta): void {
    invariant(entry.index === this.#first + this.#entries.length, 'R2: entries must be contiguous')
    this.#entries.push(entry)
  }

  get(index: LogIndex): EntryMeta | undefined {
    return index < this.#first ? undefined : this.#entries[index - this.#first]
  }

  /** Descriptors of [from, to], all of which must be held. */
  range(from: LogIndex, to: LogIndex): EntryMeta[] {
    if (from > to) return []
    invariant(
      from >= this.#first && to < this.#first + this.#entries.length,
      'R2: descriptors were forgotten too early',
    )
    return this.#entries.slice(from - this.#first, to + 1 - this.#first)
  }

  truncateFrom(index: LogIndex): void {
    if (index < this.#first) {
      this.#entries = []
      this.#first = index
      return
    }
    this.#entries.length = Math.min(this.#entries.length, index - this.#first)
  }

  /** Drops the oldest ones when too many are held; `needed` and all after it stay. Amortised constant cost. */
  trim(needed: LogIndex): void {
    if (this.#entries.length <= 2 * this.#keptMin) return
    const drop = Math.min(this.#entries.length - this.#keptMin, Math.max(0, needed - this.#first))
    if (drop < this.#keptMin / 2) return
    this.#entries.splice(0, drop)
    this.#first += drop
  }
}
