/**
 * The open batch of one topic: messages that wait for a queue. A batch is bound to its queue only when it leaves, so
 * no message waits behind a stuck queue. Used by the topic sender; holds no timers and calls nobody.
 */
import { batchBytesTarget, recordsPerBatchMax } from '../../message/limits.ts'
import type { SendItem } from './send-item.ts'

/** Messages that must lie in one batch: one for `send`, all of a `sendBatch`. */
export type Unit = readonly SendItem[]

export class Accumulator {
  /** Units from `#head` on wait; the part before is cut off in large steps. */
  #units: Unit[] = []
  #head = 0
  #bytes = 0
  #records = 0

  get bytes(): number {
    return this.#bytes
  }

  get records(): number {
    return this.#records
  }

  /** Enough for a batch of the target size: it need not wait for others to come back. */
  get full(): boolean {
    return this.#bytes >= batchBytesTarget || this.#records >= recordsPerBatchMax
  }

  add(unit: Unit): void {
    this.#units.push(unit)
    this.#count(unit, 1)
  }

  /** Puts back what was definitely not stored, in front of all that came later. */
  putBack(units: readonly Unit[]): void {
    this.#units = [...units, ...this.#units.slice(this.#head)]
    this.#head = 0
    for (const unit of units) this.#count(unit, 1)
  }

  /** The next batch in order: as many units as fit; a unit larger than the target goes alone. */
  take(): SendItem[] {
    const taken: SendItem[] = []
    let bytes = 0
    while (this.#head < this.#units.length) {
      const unit = this.#units[this.#head]
      if (!unit) break
      const unitBytes = bytesOf(unit)
      const fits = bytes + unitBytes <= batchBytesTarget && taken.length + unit.length <= recordsPerBatchMax
      if (taken.length > 0 && !fits) break
      this.#head++
      this.#count(unit, -1)
      // A message that timed out or was aborted while it waited is already answered; a batch of several goes as one.
      if (unit.every((item) => item.done === null)) continue
      bytes += unitBytes
      for (const item of unit) taken.push(item)
    }
    if (this.#head > 1024 && this.#head * 2 > this.#units.length) {
      this.#units = this.#units.slice(this.#head)
      this.#head = 0
    }
    return taken
  }

  /** What waits, in order. */
  units(): readonly Unit[] {
    return this.#units.slice(this.#head)
  }

  /** Takes out the units that match, for example those whose time is up. */
  remove(match: (unit: Unit) => boolean): readonly Unit[] {
    const removed: Unit[] = []
    const kept: Unit[] = []
    for (let index = this.#head; index < this.#units.length; index++) {
      const unit = this.#units[index]
      if (unit) (match(unit) ? removed : kept).push(unit)
    }
    if (removed.length === 0) return removed
    this.#units = kept
    this.#head = 0
    for (const unit of removed) this.#count(unit, -1)
    return removed
  }

  #count(unit: Unit, sign: 1 | -1): void {
    this.#bytes += sign * bytesOf(unit)
    this.#records += sign * unit.length
  }
}

function bytesOf(unit: Unit): number {
  const [first] = unit
  if (unit.length === 1 && first) return first.bytes
  return unit.reduce((sum, item) => sum + item.bytes, 0)
}
