/**
 * Which messages carry a key (RocketMQ: IndexFile). One row per key of a message, in buckets of an hour of log time, so
 * that a look-up is bounded by time and what the log gives up goes bucket by bucket. Messages without keys cost nothing.
 *
 * A row names a hash: whoever looks up reads the message and compares. Nothing of it but the beginnings of the buckets
 * is held in memory.
 */
import { crc32 } from 'node:zlib'
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { StateRange } from './garbage.ts'
import { readUint64, rowKinds, writeUint64 } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'

/** Log time of one bucket, milliseconds. */
export const bucketMs = 3_600_000
/** Rows looked at by one look-up, whatever it finds. */
const rowsPerLookUpMax = 10_000

export interface KeyedMessage {
  readonly queue: number
  readonly offset: number
  readonly index: number
  readonly record: number
  /** Where the frame of its batch lies. */
  readonly position: number
}

export interface KeyLookUp {
  readonly topicId: number
  readonly key: string
  /** Log time, milliseconds: buckets that touch this span are looked at. */
  readonly fromTime: number
  readonly toTime: number
  readonly limit: number
}

interface Row {
  readonly key: Buffer
  readonly value: Buffer
  takenAt: number | null
}

const rowStartBytes = 17
const keyBytes = 29
/** Behind every index and record that may follow the start of a row. */
const behindAll = Buffer.alloc(keyBytes - rowStartBytes + 1, 0xff)
const valueBytes = 20

export class KeyIndex implements StateTable {
  readonly #store: StateStoreApi
  /** Index of the first entry of each bucket that has rows. */
  readonly #firstIndexes = new Map<number, number>()
  readonly #bucketsDirty = new Map<number, number | null>()
  /** Not in the state store yet, in the order of the log. */
  #rows: Row[] = []
  #untaken = 0

  constructor(store: StateStoreApi) {
    this.#store = store
  }

  get dirtyCount(): number {
    return this.#untaken + this.#bucketsDirty.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.keyBucket))
      this.#firstIndexes.set(key.readUInt32BE(1), readUint64(value, 0))
  }

  /** The message was stored by an entry of this log time. */
  add(topicId: number, key: string, message: KeyedMessage, storeTime: number): void {
    const bucket = bucketOf(storeTime)
    if (!this.#firstIndexes.has(bucket)) {
      this.#firstIndexes.set(bucket, message.index)
      this.#bucketsDirty.set(bucket, message.index)
    }
    this.#rows.push({ key: rowKey(bucket, topicId, hashOf(key), message), value: rowValue(message), takenAt: null })
    this.#untaken++
  }

  /** Entries before `firstIndex` are given up: buckets that lie before it whole are garbage, as ranges of rows. */
  trimmed(firstIndex: number): readonly StateRange[] {
    const buckets = [...this.#firstIndexes.keys()].sort((a, b) => a - b)
    const gone = buckets.filter((_bucket, at) => {
      const next = buckets[at + 1]
      return next !== undefined && (this.#firstIndexes.get(next) ?? 0) <= firstIndex
    })
    for (const bucket of gone) {
      this.#firstIndexes.delete(bucket)
      this.#bucketsDirty.set(bucket, null)
    }
    return gone.map((bucket) => ({ from: bucketStart(bucket), to: bucketStart(bucket + 1) }))
  }

  /** What a crash may have left of buckets that are gone. */
  get garbage(): StateRange {
    const first = [...this.#firstIndexes.keys()].reduce((low, bucket) => Math.min(low, bucket), 0xffff_ffff)
    return { from: bucketStart(0), to: bucketStart(first) }
  }

  /** The newest first. Their keys may only have the same hash: read and compare. */
  async find({ topicId, key, fromTime, toTime, limit }: KeyLookUp): Promise<readonly KeyedMessage[]> {
    const hash = hashOf(key)
    const buckets = [...this.#firstIndexes.keys()]
      .filter((bucket) => bucket >= bucketOf(fromTime) && bucket <= bucketOf(toTime))
      .sort((a, b) => b - a)
    const found: KeyedMessage[] = []
    let left = rowsPerLookUpMax
    for (const bucket of buckets) {
      if (found.length >= limit || left === 0) break
      const from = rowStart(bucket, topicId, hash)
      const to = Buffer.concat([from, behindAll])
      // Before the store is read: what is written meanwhile leaves memory.
      const unwritten = this.#rows.filter((row) => row.key.compare(from) >= 0 && row.key.compare(to) < 0)
      const stored = await this.#store.range({ from, to, limit: left })
      left -= stored.length
      const rows = new Map(stored.map(([at, value]) => [at.toString('hex'), decodeRow(at, value)]))
      for (const row of unwritten) rows.set(row.key.toString('hex'), decodeRow(row.key, row.value))
      found.push(...[...rows.values()].sort((a, b) => b.index - a.index || b.record - a.record))
    }
    return found.slice(0, limit)
  }

  collect(into: StateOperation[]): void {
    for (const [bucket, firstIndex] of this.#bucketsDirty) {
      const key = Buffer.allocUnsafe(5)
      key[0] = rowKinds.keyBucket
      key.writeUInt32BE(bucket, 1)
      if (firstIndex === null) into.push({ kind: 'delete', key })
      else {
        const value = Buffer.allocUnsafe(8)
        writeUint64(value, firstIndex, 0)
        into.push({ kind: 'put', key, value })
      }
    }
    this.#bucketsDirty.clear()
    for (let at = this.#rows.length - this.#untaken; at < this.#rows.length; at++) {
      const row = this.#rows[at]
      if (row) into.push({ kind: 'put', key: row.key, value: row.value })
    }
  }

  taken(appliedIndex: number): void {
    for (let at = this.#rows.length - this.#untaken; at < this.#rows.length; at++) {
      const row = this.#rows[at]
      if (row) row.takenAt = appliedIndex
    }
    this.#untaken = 0
  }

  written(appliedIndex: number): void {
    const left = this.#rows.findIndex((row) => row.takenAt === null || row.takenAt > appliedIndex)
    this.#rows = left < 0 ? [] : this.#rows.slice(left)
  }
}

function bucketOf(time: number): number {
  return Math.floor(Math.min(Math.max(0, time), Number.MAX_SAFE_INTEGER) / bucketMs) % 2 ** 32
}

function hashOf(key: string): number {
  return crc32(key)
}

function bucketStart(bucket: number): Buffer {
  const start = Buffer.allocUnsafe(5)
  start[0] = rowKinds.messageKey
  start.writeUInt32BE(bucket, 1)
  return start
}

/** Everything that the rows of this hash begin with. */
function rowStart(bucket: number, topicId: number, hash: number): Buffer {
  const start = Buffer.allocUnsafe(rowStartBytes)
  bucketStart(bucket).copy(start)
  writeUint64(start, topicId, 5)
  start.writeUInt32BE(hash, 13)
  return start
}

function rowKey(bucket: number, topicId: number, hash: number, { index, record }: KeyedMessage): Buffer {
  const key = Buffer.allocUnsafe(keyBytes)
  rowStart(bucket, topicId, hash).copy(key)
  writeUint64(key, index, rowStartBytes)
  key.writeUInt32BE(record, rowStartBytes + 8)
  return key
}

function rowValue({ queue, offset, position }: KeyedMessage): Buffer {
  const value = Buffer.allocUnsafe(valueBytes)
  value.writeUInt32BE(queue, 0)
  writeUint64(value, offset, 4)
  writeUint64(value, position, 12)
  return value
}

function decodeRow(key: Buffer, value: Buffer): KeyedMessage {
  invariant(key.length === keyBytes && value.length === valueBytes, 'S4: a row of the key index has another size')
  return {
    queue: value.readUInt32BE(0),
    offset: readUint64(value, 4),
    index: readUint64(key, rowStartBytes),
    record: key.readUInt32BE(rowStartBytes + 8),
    position: readUint64(value, 12),
  }
}
