/**
 * What a consumer gets: a stored batch, or a part of one, with its messages decoded only when they are asked for.
 * Made by the queue reader. Bodies are views of the received bytes.
 */
import { readRecords } from '../../message/batch.ts'
import type { RecordFields } from '../../message/types.ts'
import type { MessageQueue } from '../types.ts'

/** Which replica a batch came from and how far it knew when it answered. */
export interface ReplicaKnowledge {
  readonly node: string
  /** Log index that the replica had applied: what it can serve. */
  readonly appliedIndex: number
  /** Highest log index that it knew to be committed. */
  readonly commitIndex: number
}

/** One message as it is stored. */
export class ConsumedMessage {
  readonly queue: MessageQueue
  readonly offset: number
  readonly #record: RecordFields
  readonly #stored: StoredBatch

  constructor(stored: StoredBatch, record: RecordFields, offset: number) {
    this.queue = stored.queue
    this.offset = offset
    this.#record = record
    this.#stored = stored
  }

  get topic(): string {
    return this.queue.topic
  }
  get messageId(): string {
    return this.#record.messageId
  }
  get body(): Buffer {
    return this.#record.body
  }
  /** Empty when the message has none. */
  get tag(): string {
    return this.#record.tag
  }
  get keys(): readonly string[] {
    return this.#record.keys
  }
  get properties(): Readonly<Record<string, string>> {
    return this.#record.properties
  }
  /** When the producer's `send` was called, by its clock; milliseconds since the epoch. */
  get bornTime(): number {
    return this.#stored.baseBornTime + this.#record.bornDelta
  }
  /** Log time of the entry that holds it, milliseconds since the epoch. */
  get storeTime(): number {
    return this.#stored.storeTime
  }
  /** 0 on the first delivery. */
  get attempt(): number {
    return this.#record.attempt
  }
}

/** A batch as received; shared by the parts that are handed out. */
export class StoredBatch {
  readonly queue: MessageQueue
  /** Queue offset of the first record that was asked for. */
  readonly firstOffset: number
  readonly count: number
  readonly index: number
  readonly storeTime: number
  readonly baseBornTime: number
  readonly replica: ReplicaKnowledge
  readonly bytes: Buffer
  readonly #startRecord: number
  #messages: readonly ConsumedMessage[] | null = null

  constructor(fields: {
    readonly queue: MessageQueue
    readonly baseOffset: number
    readonly startRecord: number
    readonly recordCount: number
    readonly index: number
    readonly storeTime: number
    readonly baseBornTime: number
    readonly replica: ReplicaKnowledge
    readonly bytes: Buffer
  }) {
    this.queue = fields.queue
    this.firstOffset = fields.baseOffset + fields.startRecord
    this.count = fields.recordCount - fields.startRecord
    this.index = fields.index
    this.storeTime = fields.storeTime
    this.baseBornTime = fields.baseBornTime
    this.replica = fields.replica
    this.bytes = fields.bytes
    this.#startRecord = fields.startRecord
  }

  messages(): readonly ConsumedMessage[] {
    this.#messages ??= readRecords(this.bytes, this.#startRecord).map(
      (record, position) => new ConsumedMessage(this, record, this.firstOffset + position),
    )
    return this.#messages
  }
}

/** Messages of one queue, next to each other and in order. */
export class ConsumedBatch {
  readonly queue: MessageQueue
  readonly replica: ReplicaKnowledge
  /** Offset of the first message. */
  readonly firstOffset: number
  /** Number of messages. */
  readonly count: number
  /** Log index of the entry that holds them. */
  readonly index: number
  /** Log time of that entry, milliseconds since the epoch. */
  readonly storeTime: number
  readonly #stored: StoredBatch
  #messages: readonly ConsumedMessage[] | null = null

  constructor(stored: StoredBatch, firstOffset: number, count: number) {
    this.queue = stored.queue
    this.replica = stored.replica
    this.firstOffset = firstOffset
    this.count = count
    this.index = stored.index
    this.storeTime = stored.storeTime
    this.#stored = stored
  }

  /** Offset behind the last message. */
  get nextOffset(): number {
    return this.firstOffset + this.count
  }

  /** Decoded at the first access. */
  get messages(): readonly ConsumedMessage[] {
    const start = this.firstOffset - this.#stored.firstOffset
    const all = this.#stored.messages()
    this.#messages ??= this.count === all.length ? all : all.slice(start, start + this.count)
    return this.#messages
  }
}
