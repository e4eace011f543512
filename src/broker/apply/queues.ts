/**
 * The ConsumeQueues: which batch holds which offset of which queue, one row per batch.
 *
 * Apply appends, reads go through `queue-reader.ts`. Offsets are given out here and nowhere else, without gaps (B2).
 * The queues of a deleted topic are forgotten at once; their rows stay in the state store for a cleaner.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { QueueRow } from '../contract.ts'
import { queueKey, readUint64, rowKinds, writeQueueRowKey, writeUint64 } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { QueueTail } from './queue-tail.ts'

/** Rows kept in memory per queue, and over all queues; with many queues each keeps fewer. */
export const tailRowsMax: number = 512
export const tailRowsTotalMax: number = 1_000_000
const tailRowsMin = 32

const rowKeyBytes = 21
const rowValueBytes = 32

export interface QueueState {
  readonly topicId: number
  readonly queue: number
  min: number
  /** One behind the last message. */
  max: number
  /** Log time of the last batch. */
  lastTime: number
  readonly tail: QueueTail
  dirty: boolean
  /** The topic was deleted. */
  dropped: boolean
}

export class QueueTable implements StateTable {
  readonly #byTopic = new Map<number, QueueState[]>()
  readonly #tailRowsMax: number
  #queueCount = 0
  #dirty: QueueState[] = []
  #untakenCount = 0
  #deletedKeys: Buffer[] = []
  /** Taken but not reported as written: the queues with new rows, and the last log index among them. */
  readonly #inFlight: { readonly index: number; readonly states: readonly QueueState[] }[] = []
  #lastAppended = 0

  constructor(rowsMax: number) {
    this.#tailRowsMax = rowsMax
  }

  get dirtyCount(): number {
    return this.#dirty.length + this.#untakenCount + this.#deletedKeys.length
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.queue)) {
      const state = this.#add(readUint64(key, 1))
      invariant(state.queue === key.readUInt32BE(9), 'B2: a topic has every queue up to its last')
      state.min = readUint64(value, 0)
      state.max = readUint64(value, 8)
      state.lastTime = readUint64(value, 16)
    }
  }

  find(topicId: number, queue: number): QueueState | undefined {
    return this.#byTopic.get(topicId)?.[queue]
  }

  /** Makes queues up to this count; never fewer than there are. Each gets a row, so that it outlives a smaller count. */
  ensure(topicId: number, count: number): void {
    for (let have = this.#byTopic.get(topicId)?.length ?? 0; have < count; have++) this.#markDirty(this.#add(topicId))
  }

  drop(topicId: number): void {
    const queues = this.#byTopic.get(topicId) ?? []
    this.#byTopic.delete(topicId)
    this.#queueCount -= queues.length
    for (const state of queues) {
      state.dropped = true
      this.#untakenCount -= state.tail.untakenCount
      this.#deletedKeys.push(queueKey(topicId, state.queue))
    }
    this.#dirty = this.#dirty.filter((state) => !state.dropped)
  }

  /** Gives the batch the next offsets of its queue. */
  append(state: QueueState, batch: Omit<QueueRow, 'baseOffset'>): number {
    const baseOffset = state.max
    invariant(batch.recordCount > 0, 'B2: a batch holds at least one record')
    invariant(batch.index > this.#lastAppended, 'B2: batches reach the queues in the order of the log')
    invariant(batch.storeTime >= state.lastTime, 'B1: log time never goes back')
    const { recordCount, index, position, storeTime, bytes } = batch
    state.tail.push({ baseOffset, recordCount, index, position, storeTime, bytes }, this.#rowsPerTail())
    state.max = baseOffset + recordCount
    state.lastTime = storeTime
    this.#lastAppended = index
    this.#untakenCount++
    this.#markDirty(state)
    return baseOffset
  }

  /** Messages below `min` are gone for every reader from now on. */
  raiseMin(state: QueueState, min: number): void {
    invariant(min > state.min && min <= state.max, 'B2: the minimum of a queue only grows, up to its end')
    state.min = min
    this.#markDirty(state)
  }

  /** Every queue of every living topic. */
  *all(): Generator<QueueState> {
    for (const queues of this.#byTopic.values()) yield* queues
  }

  collect(into: StateOperation[]): void {
    for (const key of this.#deletedKeys) into.push({ kind: 'delete', key })
    this.#deletedKeys = []
    for (const state of this.#dirty) {
      state.tail.take((row) => into.push(encodeRow(state, row)))
      into.push(encodeRange(state))
      state.dirty = false
    }
    if (this.#dirty.length > 0) this.#inFlight.push({ index: this.#lastAppended, states: this.#dirty })
    this.#dirty = []
    this.#untakenCount = 0
  }

  written(appliedIndex: number): void {
    const rowsMax = this.#rowsPerTail()
    while (this.#inFlight[0] && this.#inFlight[0].index <= appliedIndex) {
      for (const state of this.#inFlight.shift()?.states ?? []) state.tail.markWritten(appliedIndex, rowsMax)
    }
  }

  #add(topicId: number): QueueState {
    const queues = this.#byTopic.get(topicId) ?? []
    if (queues.length === 0) this.#byTopic.set(topicId, queues)
    const queue = queues.length
    const tail = new QueueTail()
    const state = { topicId, queue, min: 0, max: 0, lastTime: 0, tail, dirty: false, dropped: false }
    queues.push(state)
    this.#queueCount++
    return state
  }

  #markDirty(state: QueueState): void {
    if (!state.dirty) this.#dirty.push(state)
    state.dirty = true
  }

  #rowsPerTail(): number {
    const share = Math.floor(tailRowsTotalMax / Math.max(1, this.#queueCount))
    return Math.min(this.#tailRowsMax, Math.max(tailRowsMin, share))
  }
}

function encodeRow(state: QueueState, row: QueueRow): StateOperation {
  const bytes = Buffer.allocUnsafe(rowKeyBytes + rowValueBytes)
  writeQueueRowKey(bytes, state.topicId, state.queue, row.baseOffset + row.recordCount - 1)
  bytes.writeUInt32BE(row.recordCount, rowKeyBytes)
  writeUint64(bytes, row.index, rowKeyBytes + 4)
  writeUint64(bytes, row.position, rowKeyBytes + 12)
  writeUint64(bytes, row.storeTime, rowKeyBytes + 20)
  bytes.writeUInt32BE(row.bytes, rowKeyBytes + 28)
  return { kind: 'put', key: bytes.subarray(0, rowKeyBytes), value: bytes.subarray(rowKeyBytes) }
}

/** The row as it lies in the state store. */
export function decodeRow(key: Buffer, value: Buffer): QueueRow {
  invariant(key.length === rowKeyBytes && value.length === rowValueBytes, 'B2: a ConsumeQueue row has another size')
  const recordCount = value.readUInt32BE(0)
  return {
    baseOffset: readUint64(key, 13) - recordCount + 1,
    recordCount,
    index: readUint64(value, 4),
    position: readUint64(value, 12),
    storeTime: readUint64(value, 20),
    bytes: value.readUInt32BE(28),
  }
}

function encodeRange(state: QueueState): StateOperation {
  const value = Buffer.allocUnsafe(24)
  writeUint64(value, state.min, 0)
  writeUint64(value, state.max, 8)
  writeUint64(value, state.lastTime, 16)
  return { kind: 'put', key: queueKey(state.topicId, state.queue), value }
}
