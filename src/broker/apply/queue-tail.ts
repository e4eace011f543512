/**
 * The newest rows of one ConsumeQueue in memory: a ring of numbers, no object per message (live objects cost pauses).
 *
 * Used by `queues.ts` only. Rows leave at the old end once the ring is full, but never before the state store holds
 * them: until then the ring grows, bounded by the replica pausing apply. Rows are counted by a running number.
 */
import { invariant } from '../../common/assert.ts'
import type { QueueRow } from '../contract.ts'

/** Numbers of a row in the ring. */
const field = { baseOffset: 0, recordCount: 1, index: 2, position: 3, storeTime: 4, bytes: 5 } as const
const fieldsPerRow = 6
const rowsAtFirst = 16

export class QueueTail {
  #cells = new Float64Array(0)
  #capacity = 0
  /** Running numbers: oldest row held, first not taken, first not written, one behind the newest. */
  #first = 0
  #taken = 0
  #written = 0
  #end = 0

  /** Rows not handed out to be written yet. */
  get untakenCount(): number {
    return this.#end - this.#taken
  }

  get isEmpty(): boolean {
    return this.#first === this.#end
  }

  /** Offset from which on this holds every row; the ring must not be empty. */
  get firstOffset(): number {
    return this.#get(this.#first, field.baseOffset)
  }

  /** Log time of the oldest row held; the ring must not be empty. */
  get firstTime(): number {
    return this.#get(this.#first, field.storeTime)
  }

  /** `rowsMax`: how many rows to keep when they need not be kept. */
  push(row: QueueRow, rowsMax: number): void {
    if (this.#end > this.#first) {
      const last = this.#end - 1
      const next = this.#get(last, field.baseOffset) + this.#get(last, field.recordCount)
      invariant(row.baseOffset === next, 'B2: queue offsets are given out without gaps')
    }
    if (this.#end - this.#first === this.#capacity) this.#makeRoom(rowsMax)
    const at = (this.#end % this.#capacity) * fieldsPerRow
    this.#cells[at + field.baseOffset] = row.baseOffset
    this.#cells[at + field.recordCount] = row.recordCount
    this.#cells[at + field.index] = row.index
    this.#cells[at + field.position] = row.position
    this.#cells[at + field.storeTime] = row.storeTime
    this.#cells[at + field.bytes] = row.bytes
    this.#end++
  }

  /** Rows from the one that holds `offset` on, which must be in the ring. */
  rowsFrom(offset: number, limit: number): QueueRow[] {
    const rows: QueueRow[] = []
    for (let row = this.#find(offset); row < this.#end && rows.length < limit; row++) rows.push(this.#row(row))
    return rows
  }

  /** Hands out every row that was not handed out before. */
  take(visit: (row: QueueRow) => void): void {
    for (; this.#taken < this.#end; this.#taken++) visit(this.#row(this.#taken))
  }

  /** Rows up to this log index are in the state store now. */
  markWritten(index: number, rowsMax: number): void {
    while (this.#written < this.#taken && this.#get(this.#written, field.index) <= index) this.#written++
    // What a burst made grow is let go only when it halves, so that the ring does not breathe with every write.
    if (this.#capacity >= rowsMax * 2 && this.#end - this.#written <= rowsMax / 2) {
      this.#first = Math.max(this.#first, this.#end - rowsMax)
      this.#resize(rowsMax)
    }
  }

  #makeRoom(rowsMax: number): void {
    if (this.#capacity < rowsMax) this.#resize(Math.max(rowsAtFirst, Math.min(this.#capacity * 2, rowsMax)))
    else if (this.#first < this.#written) this.#first++
    else this.#resize(this.#capacity * 2)
  }

  #resize(capacity: number): void {
    const cells = new Float64Array(capacity * fieldsPerRow)
    for (let row = this.#first; row < this.#end; row++) {
      const from = (row % this.#capacity) * fieldsPerRow
      cells.set(this.#cells.subarray(from, from + fieldsPerRow), (row % capacity) * fieldsPerRow)
    }
    this.#cells = cells
    this.#capacity = capacity
  }

  /** Binary search for the last row whose base is at or below the offset. */
  #find(offset: number): number {
    let low = this.#first
    let high = this.#end - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if (this.#get(middle, field.baseOffset) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  #row(row: number): QueueRow {
    return {
      baseOffset: this.#get(row, field.baseOffset),
      recordCount: this.#get(row, field.recordCount),
      index: this.#get(row, field.index),
      position: this.#get(row, field.position),
      storeTime: this.#get(row, field.storeTime),
      bytes: this.#get(row, field.bytes),
    }
  }

  #get(row: number, which: number): number {
    return this.#cells[(row % this.#capacity) * fieldsPerRow + which] as number
  }
}
