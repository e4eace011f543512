/**
 * Messages that are to be delivered later (RocketMQ: SCHEDULE_TOPIC_XXXX and the timer wheel). One row per message in
 * the order in which they are due; memory holds how far each queue was served, never the timers.
 *
 * Exactly once without looking a row up: a delivery takes all timers of its queue up to its last one that came with
 * entries up to `asOf`, and counts only behind the delivery that it was made after. A timer that came later stays
 * pending wherever it lies. That nothing is left out is what apply cannot see: the leader answers for it.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import type { TimerKey } from '../../message/extensions.ts'
import {
  carriedTimersKey,
  idAndNumberInKey,
  readUint64,
  recalledTimerKey,
  rowKinds,
  timerInKey,
  timerQueueKey,
  writeUint64,
} from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { type Taken, TimerQueue } from './timer-queue.ts'
import { TimerRows } from './timer-rows.ts'

/** Where a message is delivered to. */
export interface TimerTarget {
  readonly topicId: number
  readonly queue: number
}

/** Where its bytes lie now: the entry that it came with, or the one that it was carried with. */
export interface TimerPlace extends TimerTarget {
  readonly index: number
  readonly position: number
  readonly record: number
}

interface RecalledChange {
  readonly key: TimerKey
  /** Null: passed by a delivery. */
  readonly target: TimerTarget | null
}

export class TimerTable implements StateTable {
  readonly rows: TimerRows
  readonly #queues = new Map<string, TimerQueue>()
  readonly #recalledChanges = new Map<string, RecalledChange>()
  #dirty: TimerQueue[] = []
  #pending = 0
  #recalledCount = 0
  #carriedUpTo = 0
  #carriedDirty = false

  constructor(store: StateStoreApi) {
    this.rows = new TimerRows(store)
  }

  /** Timers that are not delivered. */
  get pending(): number {
    return this.#pending
  }

  /** Recalled ones that still take memory. */
  get recalledCount(): number {
    return this.#recalledCount
  }

  /** No pending timer lies in an entry up to this one. */
  get carriedUpTo(): number {
    return this.#carriedUpTo
  }

  get dirtyCount(): number {
    return this.rows.dirtyCount + this.#dirty.length + this.#recalledChanges.size + (this.#carriedDirty ? 1 : 0)
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.timerQueue)) {
      const [topicId, queue] = idAndNumberInKey(key)
      const known = new TimerQueue(topicId, queue, value)
      this.#queues.set(nameOf(known), known)
      this.#pending += known.pending
    }
    for await (const [key, value] of scanRows(store, rowKinds.recalledTimer)) {
      this.#ensure({ topicId: readUint64(value, 0), queue: value.readUInt32BE(8) }).wasRecalled(timerInKey(key))
      this.#recalledCount++
    }
    const carried = await store.get(carriedTimersKey)
    if (carried) this.#carriedUpTo = readUint64(carried, 0)
  }

  /** The entry by which timers of this queue were delivered last, 0 before any. */
  takenAt(target: TimerTarget): number {
    return this.#queues.get(nameOf(target))?.takenAt ?? 0
  }

  add(key: TimerKey, place: TimerPlace): void {
    const queue = this.#ensure(place)
    queue.add()
    this.#pending++
    this.#markDirty(queue)
    this.rows.put(key, place, place.index)
  }

  /** By entry `index`. They were found to be right. */
  take(target: TimerTarget, taken: Taken, index: number): void {
    const queue = this.#ensure(target)
    for (const source of taken.sources) this.rows.delete(source, index)
    this.#forgetRecalled(queue.take(taken, index))
    this.#pending -= taken.sources.length
    this.#markDirty(queue)
  }

  /** Exact for timers of this queue; one that never was cannot be told from one that waits. */
  isPending(target: TimerTarget, key: TimerKey): boolean {
    return this.#queues.get(nameOf(target))?.isPending(key) ?? false
  }

  leftCount(target: TimerTarget): number {
    return this.#queues.get(nameOf(target))?.leftCount ?? 0
  }

  /** Pending, and passed by a delivery because it could not be read. */
  isLeft(target: TimerTarget, key: TimerKey): boolean {
    return this.#queues.get(nameOf(target))?.isLeft(key) ?? false
  }

  /** By entry `index`; the leader has seen that this timer is one of this queue. False when it waits no more. */
  recall(target: TimerTarget, key: TimerKey, index: number): boolean {
    const queue = this.#queues.get(nameOf(target))
    if (!queue || queue.pending === 0 || !queue.isPending(key)) return false
    this.#pending--
    this.#markDirty(queue)
    this.rows.delete(key, index)
    if (!queue.recall(key)) return true
    this.#recalledCount++
    this.#recalledChanges.set(timerName(key), { key, target: { topicId: queue.topicId, queue: queue.queue } })
    return true
  }

  /** Nothing of a deleted topic is delivered. Its rows stay as garbage, which the next reader of them discards. */
  dropTopic(topicId: number, index: number): void {
    for (const queue of this.#queues.values()) {
      if (queue.topicId !== topicId) continue
      // Without rows there is nothing that anybody could take for pending.
      if (queue.pending === 0) this.#queues.delete(nameOf(queue))
      this.#pending -= queue.pending
      this.#forgetRecalled(queue.drop(index))
      this.#markDirty(queue)
    }
  }

  /** It lies there from now on, unless it was delivered or recalled meanwhile. */
  carry(key: TimerKey, place: TimerPlace): void {
    if (this.isPending(place, key)) this.rows.put(key, place, place.index)
  }

  /** The leader has found no pending timer in an entry up to this one. */
  carried(upTo: number): void {
    if (upTo <= this.#carriedUpTo) return
    this.#carriedUpTo = upTo
    this.#carriedDirty = true
  }

  collect(into: StateOperation[]): void {
    for (const { key: timer, target } of this.#recalledChanges.values()) {
      const key = recalledTimerKey(timer.time, timer.index, timer.record)
      into.push(target ? { kind: 'put', key, value: targetValue(target) } : { kind: 'delete', key })
    }
    this.#recalledChanges.clear()
    this.rows.collect(into)
    for (const queue of this.#dirty) {
      queue.isDirty = false
      const key = timerQueueKey(queue.topicId, queue.queue)
      const isKept = this.#queues.get(nameOf(queue)) === queue
      into.push(isKept ? { kind: 'put', key, value: queue.encode() } : { kind: 'delete', key })
    }
    this.#dirty = []
    if (!this.#carriedDirty) return
    this.#carriedDirty = false
    const value = Buffer.allocUnsafe(8)
    writeUint64(value, this.#carriedUpTo, 0)
    into.push({ kind: 'put', key: carriedTimersKey, value })
  }

  written(appliedIndex: number): void {
    this.rows.written(appliedIndex)
  }

  taken(appliedIndex: number): void {
    this.rows.taken(appliedIndex)
  }

  #forgetRecalled(gone: readonly TimerKey[]): void {
    for (const key of gone) this.#recalledChanges.set(timerName(key), { key, target: null })
    this.#recalledCount -= gone.length
  }

  #ensure({ topicId, queue }: TimerTarget): TimerQueue {
    const name = nameOf({ topicId, queue })
    const known = this.#queues.get(name) ?? new TimerQueue(topicId, queue)
    this.#queues.set(name, known)
    return known
  }

  #markDirty(queue: TimerQueue): void {
    if (!queue.isDirty) this.#dirty.push(queue)
    queue.isDirty = true
  }
}

function timerName({ time, index, record }: TimerKey): string {
  return `${time}/${index}/${record}`
}

function nameOf({ topicId, queue }: TimerTarget): string {
  return `${topicId}/${queue}`
}

function targetValue({ topicId, queue }: TimerTarget): Buffer {
  const value = Buffer.allocUnsafe(12)
  writeUint64(value, topicId, 0)
  value.writeUInt32BE(queue, 8)
  return value
}
