/**
 * Storage of producer sequences: one slot per producer and one per scope (producer, topic, queue), in typed arrays.
 *
 * Used by `producers.ts`, which holds the rules. 100,000 producers on eight queues each would be 800,000 live objects
 * as a Map. Which slot something lies in depends on history and must never influence a decision (B1).
 */
import { producerIdBytes } from './keys.ts'
import { mixHash, SlotIndex } from './slot-index.ts'

/** What is remembered of the last batch stored in a scope. */
export interface LastBatch {
  readonly epoch: number
  readonly baseSequence: number
  readonly recordCount: number
  readonly bytes: number
  readonly baseOffset: number
  readonly index: number
  readonly storeTime: number
}

export interface Scope {
  /** 16 bytes; a view that is valid until the table changes. */
  readonly producerId: Buffer
  readonly topicId: number
  readonly queue: number
}

const column = { epoch: 0, baseSequence: 1, recordCount: 2, bytes: 3, baseOffset: 4, index: 5, storeTime: 6 } as const
const topicColumn = 7
const queueColumn = 8
const columns = 9
const slotsAtFirst = 64
const none = -1

export class ProducerTable {
  #ids = Buffer.alloc(slotsAtFirst * producerIdBytes)
  /** Log index and time of the producer's last stored batch; index 0 marks a free slot. */
  #lastIndex = new Float64Array(slotsAtFirst)
  #lastTime = new Float64Array(slotsAtFirst)
  #firstScope = new Int32Array(slotsAtFirst)
  #producersUsed = 0
  #producersFree: number[] = []

  #scopes = new Float64Array(slotsAtFirst * columns)
  #producerOf = new Int32Array(slotsAtFirst)
  #nextScope = new Int32Array(slotsAtFirst)
  #scopesUsed = 0
  #scopesFree: number[] = []

  readonly #producerIndex = new SlotIndex((slot) => hashId(this.#idOf(slot)))
  readonly #scopeIndex = new SlotIndex((slot) => this.#hashScope(slot))
  #soughtId: Buffer = Buffer.alloc(0)
  #soughtProducer = 0
  #soughtTopic = 0
  #soughtQueue = 0
  readonly #isSoughtProducer = (slot: number): boolean =>
    this.#ids.compare(this.#soughtId, 0, producerIdBytes, slot * producerIdBytes, (slot + 1) * producerIdBytes) === 0
  readonly #isSoughtScope = (slot: number): boolean =>
    this.#producerOf[slot] === this.#soughtProducer &&
    this.#scopes[slot * columns + topicColumn] === this.#soughtTopic &&
    this.#scopes[slot * columns + queueColumn] === this.#soughtQueue

  get producerCount(): number {
    return this.#producersUsed - this.#producersFree.length
  }

  /** Slot or -1. */
  findProducer(producerId: Buffer): number {
    this.#soughtId = producerId
    return this.#producerIndex.find(hashId(producerId), this.#isSoughtProducer)
  }

  /** Slot or -1. */
  findScope(producer: number, topicId: number, queue: number): number {
    this.#soughtProducer = producer
    this.#soughtTopic = topicId
    this.#soughtQueue = queue
    return this.#scopeIndex.find(hashScope(producer, topicId, queue), this.#isSoughtScope)
  }

  addProducer(producerId: Buffer): number {
    const slot = this.#producersFree.pop() ?? this.#producersUsed++
    if (slot === this.#lastIndex.length) this.#growProducers()
    producerId.copy(this.#ids, slot * producerIdBytes, 0, producerIdBytes)
    this.#firstScope[slot] = none
    this.#producerIndex.add(hashId(producerId), slot)
    return slot
  }

  addScope(producer: number, topicId: number, queue: number): number {
    const slot = this.#scopesFree.pop() ?? this.#scopesUsed++
    if (slot === this.#producerOf.length) this.#growScopes()
    this.#producerOf[slot] = producer
    this.#scopes[slot * columns + topicColumn] = topicId
    this.#scopes[slot * columns + queueColumn] = queue
    this.#nextScope[slot] = this.#firstScope[producer] as number
    this.#firstScope[producer] = slot
    this.#scopeIndex.add(hashScope(producer, topicId, queue), slot)
    return slot
  }

  set(scope: number, last: LastBatch): void {
    const at = scope * columns
    this.#scopes[at + column.epoch] = last.epoch
    this.#scopes[at + column.baseSequence] = last.baseSequence
    this.#scopes[at + column.recordCount] = last.recordCount
    this.#scopes[at + column.bytes] = last.bytes
    this.#scopes[at + column.baseOffset] = last.baseOffset
    this.#scopes[at + column.index] = last.index
    this.#scopes[at + column.storeTime] = last.storeTime
    const producer = this.#producerOf[scope] as number
    if (last.index > (this.#lastIndex[producer] as number)) {
      this.#lastIndex[producer] = last.index
      this.#lastTime[producer] = last.storeTime
    }
  }

  get(scope: number): LastBatch {
    const at = scope * columns
    return {
      epoch: this.#scopes[at + column.epoch] as number,
      baseSequence: this.#scopes[at + column.baseSequence] as number,
      recordCount: this.#scopes[at + column.recordCount] as number,
      bytes: this.#scopes[at + column.bytes] as number,
      baseOffset: this.#scopes[at + column.baseOffset] as number,
      index: this.#scopes[at + column.index] as number,
      storeTime: this.#scopes[at + column.storeTime] as number,
    }
  }

  scopeOf(scope: number): Scope {
    return {
      producerId: this.#idOf(this.#producerOf[scope] as number),
      topicId: this.#scopes[scope * columns + topicColumn] as number,
      queue: this.#scopes[scope * columns + queueColumn] as number,
    }
  }

  /** Log index of the last batch of every producer, ascending: the order in which they are expired. */
  lastIndexes(): Float64Array {
    return this.#lastIndex
      .subarray(0, this.#producersUsed)
      .filter((index) => index !== 0)
      .sort()
  }

  /** Producers whose last batch is older than this log time. */
  countIdle(before: number): number {
    let count = 0
    for (let slot = 0; slot < this.#producersUsed; slot++) {
      if (this.#lastIndex[slot] !== 0 && (this.#lastTime[slot] as number) < before) count++
    }
    return count
  }

  /** Removes producers whose last batch is at or below this log index, telling of each scope before it goes. */
  removeUpTo(lastIndex: number, visit: (scope: number) => void): void {
    for (let slot = 0; slot < this.#producersUsed; slot++) {
      const index = this.#lastIndex[slot] as number
      if (index === 0 || index > lastIndex) continue
      for (let scope = this.#firstScope[slot] as number; scope !== none; scope = this.#nextScope[scope] as number) {
        visit(scope)
        this.#producerOf[scope] = none
        this.#scopesFree.push(scope)
      }
      this.#lastIndex[slot] = 0
      this.#producersFree.push(slot)
    }
    this.#rebuildIndexes()
  }

  #rebuildIndexes(): void {
    this.#producerIndex.clear()
    this.#scopeIndex.clear()
    for (let slot = 0; slot < this.#producersUsed; slot++) {
      if (this.#lastIndex[slot] !== 0) this.#producerIndex.add(hashId(this.#idOf(slot)), slot)
    }
    for (let slot = 0; slot < this.#scopesUsed; slot++) {
      if (this.#producerOf[slot] !== none) this.#scopeIndex.add(this.#hashScope(slot), slot)
    }
  }

  #idOf(slot: number): Buffer {
    return this.#ids.subarray(slot * producerIdBytes, (slot + 1) * producerIdBytes)
  }

  #hashScope(slot: number): number {
    const at = slot * columns
    return hashScope(
      this.#producerOf[slot] as number,
      this.#scopes[at + topicColumn] as number,
      this.#scopes[at + queueColumn] as number,
    )
  }

  #growProducers(): void {
    this.#ids = Buffer.concat([this.#ids, Buffer.alloc(this.#ids.length)])
    this.#lastIndex = grown(this.#lastIndex, Float64Array)
    this.#lastTime = grown(this.#lastTime, Float64Array)
    this.#firstScope = grown(this.#firstScope, Int32Array)
  }

  #growScopes(): void {
    this.#scopes = grown(this.#scopes, Float64Array)
    this.#producerOf = grown(this.#producerOf, Int32Array)
    this.#nextScope = grown(this.#nextScope, Int32Array)
  }
}

function hashId(id: Buffer): number {
  let hash = 0
  for (let at = 0; at < producerIdBytes; at += 4) hash = mixHash(hash, id.readUInt32LE(at))
  return hash
}

function hashScope(producer: number, topicId: number, queue: number): number {
  return mixHash(mixHash(mixHash(producer, topicId), topicId / 0x1_0000_0000), queue)
}

function grown<Numbers extends Float64Array | Int32Array>(
  old: Numbers,
  Type: new (length: number) => Numbers,
): Numbers {
  const larger = new Type(old.length * 2)
  larger.set(old)
  return larger
}
