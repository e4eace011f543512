/**
 * Producer sequences: a batch that is sent again is stored once (B3). The rules of design section 6.
 *
 * Called by apply for every batch, in two steps: `judge` decides and changes nothing, `record` follows the storing.
 * Nothing expires by itself; `expire` is a command of the leader, judged against the log time of its entry.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { BatchHeader } from '../../message/types.ts'
import { producerIdBytes, readUint64, rowKinds, writeUint64 } from './keys.ts'
import type { Limits } from './limits.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { type LastBatch, ProducerTable, type Scope } from './producer-table.ts'
import { type Refusal, refusal } from './result.ts'

export type Judgement =
  /** Not stored before. `checked` is false for batches without a producer id. */
  | { readonly kind: 'new'; readonly checked: boolean }
  | { readonly kind: 'duplicate'; readonly original: LastBatch }
  | Refusal

const keyBytes = 1 + producerIdBytes + 12
const valueBytes = 48
const judgedNew: Judgement = { kind: 'new', checked: true }
const judgedUnchecked: Judgement = { kind: 'new', checked: false }

export class ProducerSequences implements StateTable {
  readonly #table = new ProducerTable()
  #isDirty = new Uint8Array(64)
  #dirty: number[] = []
  #dirtyCount = 0
  #deletedKeys: Buffer[] = []

  get dirtyCount(): number {
    return this.#dirtyCount + this.#deletedKeys.length
  }

  get producerCount(): number {
    return this.#table.producerCount
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.producer)) {
      const producerId = key.subarray(1, 1 + producerIdBytes)
      const at = 1 + producerIdBytes
      this.#table.set(this.#scopeFor(producerId, readUint64(key, at), key.readUInt32BE(at + 8)), decodeLast(value))
    }
  }

  judge(batch: BatchHeader, topicId: number, limits: Limits): Judgement {
    if (isZero(batch.producerId)) return judgedUnchecked
    const producer = this.#table.findProducer(batch.producerId)
    const scope = producer < 0 ? -1 : this.#table.findScope(producer, topicId, batch.queue)
    if (scope < 0) return this.#judgeUnknown(batch, producer >= 0, limits)
    const last = this.#table.get(scope)
    if (batch.producerEpoch !== last.epoch) return judgeOtherEpoch(batch, last)
    if (batch.baseSequence > last.baseSequence + last.recordCount - 1) return judgedNew
    const isSame =
      batch.baseSequence === last.baseSequence &&
      batch.recordCount === last.recordCount &&
      batch.totalLength === last.bytes
    if (isSame) return { kind: 'duplicate', original: last }
    return refusal(
      'SEQUENCE_TOO_OLD',
      `sequence ${batch.baseSequence} of this producer is not above ${last.baseSequence + last.recordCount - 1}`,
    )
  }

  /** The batch that was judged new is stored as `last` says. */
  record(batch: BatchHeader, topicId: number, last: LastBatch): void {
    const scope = this.#scopeFor(batch.producerId, topicId, batch.queue)
    const previous = this.#table.get(scope)
    invariant(
      last.epoch > previous.epoch ||
        previous.index === 0 ||
        last.baseSequence >= previous.baseSequence + previous.recordCount,
      'B3: the sequence of a stored batch is above all stored before it',
    )
    this.#table.set(scope, last)
    this.#markDirty(scope)
  }

  /** Whether the leader should propose `expire_producers` now. Costs a look at every producer: ask seldom. */
  expiryDue(logTime: number, limits: Limits): boolean {
    return this.#table.producerCount > limits.producersMax || this.#table.countIdle(logTime - limits.producerIdleMs) > 0
  }

  /** Removes at most `removeMax`, oldest first: the idle ones, and those beyond the limit. Returns how many. */
  expire(options: { readonly idleBefore: number; readonly removeMax: number }, limits: Limits): number {
    const idle = this.#table.countIdle(options.idleBefore)
    const beyond = this.#table.producerCount - limits.producersMax
    const count = Math.min(options.removeMax, Math.max(idle, beyond))
    if (count < 1) return 0
    // Log time follows the log index, so the oldest by index are the idle ones; the index has no ties.
    const threshold = this.#table.lastIndexes()[count - 1]
    invariant(threshold !== undefined, 'B1: as many producers as were counted')
    this.#table.removeUpTo(threshold, (scope) => {
      this.#deletedKeys.push(encodeKey(this.#table.scopeOf(scope)))
      if (this.#isDirty[scope] === 1) this.#dirtyCount--
      this.#isDirty[scope] = 0
      this.#table.set(scope, empty)
    })
    return count
  }

  collect(into: StateOperation[]): void {
    for (const key of this.#deletedKeys) into.push({ kind: 'delete', key })
    this.#deletedKeys = []
    for (const scope of this.#dirty) {
      // A slot that was freed and used again is in the list twice.
      if (this.#isDirty[scope] !== 1) continue
      this.#isDirty[scope] = 0
      into.push({
        kind: 'put',
        key: encodeKey(this.#table.scopeOf(scope)),
        value: encodeLast(this.#table.get(scope)),
      })
    }
    this.#dirty = []
    this.#dirtyCount = 0
  }

  #judgeUnknown(batch: BatchHeader, producerKnown: boolean, limits: Limits): Judgement {
    if (!batch.firstOfProducer) {
      return refusal('UNKNOWN_PRODUCER', 'this producer has no sequence in this queue, and the batch is not its first')
    }
    if (!producerKnown && this.#table.producerCount >= limits.producersMax * 2) {
      return refusal('FLOW_CONTROL', 'too many producers at once; old ones are about to be expired')
    }
    return judgedNew
  }

  #scopeFor(producerId: Buffer, topicId: number, queue: number): number {
    const known = this.#table.findProducer(producerId)
    const producer = known >= 0 ? known : this.#table.addProducer(producerId)
    const scope = this.#table.findScope(producer, topicId, queue)
    return scope >= 0 ? scope : this.#table.addScope(producer, topicId, queue)
  }

  #markDirty(scope: number): void {
    if (scope >= this.#isDirty.length) {
      const larger = new Uint8Array(Math.max(this.#isDirty.length * 2, scope + 1))
      larger.set(this.#isDirty)
      this.#isDirty = larger
    }
    if (this.#isDirty[scope] === 1) return
    this.#isDirty[scope] = 1
    this.#dirty.push(scope)
    this.#dirtyCount++
  }
}

const empty: LastBatch = {
  epoch: 0,
  baseSequence: 0,
  recordCount: 0,
  bytes: 0,
  baseOffset: 0,
  index: 0,
  storeTime: 0,
}

function judgeOtherEpoch(batch: BatchHeader, last: LastBatch): Judgement {
  if (batch.producerEpoch < last.epoch) {
    return refusal('SEQUENCE_TOO_OLD', `epoch ${batch.producerEpoch} of this producer was superseded by ${last.epoch}`)
  }
  if (batch.firstOfProducer) return judgedNew
  return refusal(
    'UNKNOWN_PRODUCER',
    'this producer epoch has no sequence in this queue, and the batch is not its first',
  )
}

function isZero(producerId: Buffer): boolean {
  for (let at = 0; at < producerIdBytes; at++) if (producerId[at] !== 0) return false
  return true
}

function encodeKey(scope: Scope): Buffer {
  const key = Buffer.allocUnsafe(keyBytes)
  key[0] = rowKinds.producer
  scope.producerId.copy(key, 1)
  writeUint64(key, scope.topicId, 1 + producerIdBytes)
  key.writeUInt32BE(scope.queue, 9 + producerIdBytes)
  return key
}

function encodeLast(last: LastBatch): Buffer {
  const value = Buffer.allocUnsafe(valueBytes)
  writeUint64(value, last.epoch, 0)
  writeUint64(value, last.baseSequence, 8)
  value.writeUInt32BE(last.recordCount, 16)
  value.writeUInt32BE(last.bytes, 20)
  writeUint64(value, last.baseOffset, 24)
  writeUint64(value, last.index, 32)
  writeUint64(value, last.storeTime, 40)
  return value
}

function decodeLast(value: Buffer): LastBatch {
  return {
    epoch: readUint64(value, 0),
    baseSequence: readUint64(value, 8),
    recordCount: value.readUInt32BE(16),
    bytes: value.readUInt32BE(20),
    baseOffset: readUint64(value, 24),
    index: readUint64(value, 32),
    storeTime: readUint64(value, 40),
  }
}
