/**
 * The rows of pending timers: in the state store, and above it those that changed since and are not written. Filled
 * by `timers.ts`, read by the timer service of the leader.
 *
 * A page shows the state as of one applied entry, to its end or to its limit, and says which: whoever delivers by it
 * must not miss one that lies in between.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { compareTimers, type TimerKey } from '../../message/extensions.ts'
import { readUint64, timerInKey, timerKey, writeUint64 } from './keys.ts'
import type { TimerPlace } from './timers.ts'

export interface TimerRow {
  readonly key: TimerKey
  readonly place: TimerPlace
}

export interface TimerPage {
  /** In the order in which they are due. Rows of deleted topics are among them until they are discarded. */
  readonly rows: readonly TimerRow[]
  /** Nothing follows up to the time asked for. */
  readonly isComplete: boolean
  /** All timers that came with entries up to this one are there, up to the last row. */
  readonly asOf: number
}

interface Change {
  readonly key: TimerKey
  /** Null: deleted. */
  readonly place: TimerPlace | null
  /** Applied index that it was taken with; null before. */
  takenAt: number | null
}

/** A read under way: it may have missed what was written behind this entry, which stays in memory for it. */
interface Reader {
  readonly writtenAt: number
}

const valueBytes = 32
const rowsPerRead = 512
/** Read beyond what is wanted: some may be deleted by changes that are not written. */
const rowsSpare = 32
const lastTime = Number.MAX_SAFE_INTEGER - 1

export class TimerRows {
  readonly #store: StateStoreApi
  readonly #changes = new Map<string, Change>()
  #untaken: Change[] = []
  /** Among those: nobody need hurry to write them. */
  #discarded = 0
  readonly #readers = new Set<Reader>()
  #writtenAt: number
  #forgottenTo: number
  /** Last entry that added or took a timer, at least: the state as of any later one is the same. */
  #changedAt: number
  /** No pending row lies before it. */
  #lowest: TimerKey = { time: 0, index: 0, record: 0 }

  constructor(store: StateStoreApi) {
    this.#store = store
    this.#writtenAt = store.appliedIndex
    this.#forgottenTo = store.appliedIndex
    this.#changedAt = store.appliedIndex
  }

  get dirtyCount(): number {
    return this.#untaken.length - this.#discarded
  }

  /** No timer is due before this time. Known without a read, so it may be far too early: the next read makes it exact. */
  get notBefore(): number {
    return this.#lowest.time
  }

  /** By entry `index`. */
  put(key: TimerKey, place: TimerPlace, index: number): void {
    this.#change({ key, place, takenAt: null })
    this.#changedAt = index
    if (compareTimers(key, this.#lowest) < 0) this.#lowest = key
  }

  /** By entry `index`. */
  delete(key: TimerKey, index: number): void {
    this.#change({ key, place: null, takenAt: null })
    this.#changedAt = index
  }

  /** Rows that are not pending any more: what a deleted topic has left. Outside of apply, since no decision sees them. */
  discard(key: TimerKey): void {
    this.#change({ key, place: null, takenAt: null })
    this.#discarded++
  }

  collect(into: StateOperation[]): void {
    for (const change of this.#untaken) {
      // Changed again before it was taken: only the last one counts.
      if (this.#changes.get(nameOf(change.key)) !== change) continue
      const key = bytesOf(change.key)
      if (change.place) into.push({ kind: 'put', key, value: encodePlace(change.place) })
      else into.push({ kind: 'delete', key })
    }
  }

  /** What was collected last is written with this applied index. */
  taken(appliedIndex: number): void {
    for (const change of this.#untaken) change.takenAt = appliedIndex
    this.#untaken = []
    this.#discarded = 0
  }

  written(appliedIndex: number): void {
    this.#writtenAt = appliedIndex
    this.#forgetWritten()
  }

  /** Timers due up to `untilMs`, the first `limit` of those behind `behind`. */
  due(untilMs: number, limit: number, behind: TimerKey | null = null): Promise<TimerPage> {
    return this.#reading(async () => {
      const begin = behind ? { ...behind, record: behind.record + 1 } : this.#lowest
      const stored = await this.#readStored(begin, untilMs, limit)
      // From here on without a wait: what changed since is all in memory.
      const end = stored.isWhole ? null : (stored.rows.at(-1)?.key ?? begin)
      const merged = this.#merge(stored.rows, { from: behind ? begin : null, untilMs, to: end })
      if (!behind) this.#raiseLowest(merged[0]?.key ?? { time: untilMs + 1, index: 0, record: 0 })
      const rows = merged.slice(0, limit)
      return { rows, isComplete: stored.isWhole && rows.length === merged.length, asOf: this.#changedAt }
    })
  }

  /** When the first pending timer is due; null when there is none. */
  async first(): Promise<number | null> {
    const { rows } = await this.due(lastTime, 1)
    return rows[0]?.key.time ?? null
  }

  /** Where this timer lies; null when it is not pending. */
  find(key: TimerKey): Promise<TimerPlace | null> {
    return this.#reading(async () => {
      const value = await this.#store.get(bytesOf(key))
      const change = this.#changes.get(nameOf(key))
      if (change) return change.place
      return value ? decodePlace(value) : null
    })
  }

  async #reading<Result>(read: () => Promise<Result>): Promise<Result> {
    const reader = { writtenAt: this.#writtenAt }
    this.#readers.add(reader)
    try {
      return await read()
    } finally {
      this.#readers.delete(reader)
      this.#forgetWritten()
    }
  }

  async #readStored(
    begin: TimerKey,
    untilMs: number,
    limit: number,
  ): Promise<{ readonly rows: readonly TimerRow[]; readonly isWhole: boolean }> {
    const rows: TimerRow[] = []
    const to = timerKey(untilMs + 1, 0, 0)
    let from = bytesOf(begin)
    while (true) {
      const wanted = Math.min(rowsPerRead, limit + rowsSpare)
      const found = from.compare(to) < 0 ? await this.#store.range({ from, to, limit: wanted }) : []
      for (const [key, value] of found) rows.push({ key: timerInKey(key), place: decodePlace(value) })
      const last = found.at(-1)
      if (!last || found.length < wanted) return { rows, isWhole: true }
      if (this.#countKept(rows) >= limit) return { rows, isWhole: false }
      from = Buffer.concat([last[0], Buffer.of(0)])
    }
  }

  #countKept(stored: readonly TimerRow[]): number {
    let count = 0
    for (const { key } of stored) if (this.#changes.get(nameOf(key))?.place !== null) count++
    return count
  }

  /** `to`: what the store holds behind it was not read. */
  #merge(
    stored: readonly TimerRow[],
    range: { readonly from: TimerKey | null; readonly untilMs: number; readonly to: TimerKey | null },
  ): TimerRow[] {
    const { from, untilMs, to } = range
    const byName = new Map(stored.map((row) => [nameOf(row.key), row]))
    for (const [name, { key, place }] of this.#changes) {
      if (key.time > untilMs || (to && compareTimers(key, to) > 0)) continue
      if (!place) byName.delete(name)
      else if (!from || compareTimers(key, from) >= 0) byName.set(name, { key, place })
    }
    return [...byName.values()].sort((a, b) => compareTimers(a.key, b.key))
  }

  /** Deleted rows cost every later read a step each: the next one begins behind them. */
  #raiseLowest(to: TimerKey): void {
    if (compareTimers(to, this.#lowest) > 0) this.#lowest = to
  }

  #change(change: Change): void {
    this.#changes.set(nameOf(change.key), change)
    this.#untaken.push(change)
  }

  #forgetWritten(): void {
    let upTo = this.#writtenAt
    for (const { writtenAt } of this.#readers) upTo = Math.min(upTo, writtenAt)
    if (upTo <= this.#forgottenTo) return
    this.#forgottenTo = upTo
    for (const [name, { takenAt }] of this.#changes) if (takenAt !== null && takenAt <= upTo) this.#changes.delete(name)
  }
}

function nameOf({ time, index, record }: TimerKey): string {
  return `${time}/${index}/${record}`
}

function bytesOf({ time, index, record }: TimerKey): Buffer {
  return timerKey(time, index, record)
}

function encodePlace({ topicId, queue, index, position, record }: TimerPlace): Buffer {
  const value = Buffer.allocUnsafe(valueBytes)
  writeUint64(value, topicId, 0)
  value.writeUInt32BE(queue, 8)
  writeUint64(value, index, 12)
  writeUint64(value, position, 20)
  value.writeUInt32BE(record, 28)
  return value
}

function decodePlace(value: Buffer): TimerPlace {
  return {
    topicId: readUint64(value, 0),
    queue: value.readUInt32BE(8),
    index: readUint64(value, 12),
    position: readUint64(value, 20),
    record: value.readUInt32BE(28),
  }
}
