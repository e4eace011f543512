/**
 * Limits that apply judges by. They are state, changed by `set_limits` alone: local configuration that differed
 * between replicas would make them decide differently (B1). Read by handlers too.
 *
 * The defaults are part of the format: an old log applied by a newer build must give the same state.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import type { ApplyResult } from '../contract.ts'
import { readLimits, writeLimits } from './command-payloads.ts'
import { limitsKey } from './keys.ts'
import type { StateTable } from './pending-changes.ts'
import { ProtobufReader, ProtobufWriter } from './protobuf.ts'
import { nothing, refusal } from './result.ts'

export interface Limits {
  /** Whether clients may have topics created by sending to them (`autoCreateTopicEnable`). */
  readonly autoCreateTopics: boolean
  /** Largest body of one message (`maxMessageSize`); handlers check it, apply does not look into batches. */
  readonly bodyBytesMax: number
  readonly queuesPerTopicMax: number
  readonly topicsMax: number
  /** Consumer groups with offsets, and consumer groups with an assignment. */
  readonly groupsMax: number
  readonly membersPerGroupMax: number
  /** Producers whose sequences are kept; the oldest beyond it may be expired. Twice as many: new ones are refused. */
  readonly producersMax: number
  /** Log time without a stored batch after which a producer may be expired. */
  readonly producerIdleMs: number
}

export const defaultLimits: Limits = {
  autoCreateTopics: true,
  bodyBytesMax: 4 * 1024 * 1024,
  queuesPerTopicMax: 1024,
  topicsMax: 20_000,
  groupsMax: 20_000,
  membersPerGroupMax: 1000,
  producersMax: 100_000,
  producerIdleMs: 24 * 60 * 60 * 1000,
}

export class LimitTable implements StateTable {
  #current: Limits
  #dirty = false

  constructor(initial: Limits) {
    this.#current = initial
  }

  get current(): Limits {
    return this.#current
  }

  get dirtyCount(): number {
    return this.#dirty ? 1 : 0
  }

  async load(store: StateStoreApi): Promise<void> {
    const row = await store.get(limitsKey)
    if (row) this.#current = { ...this.#current, ...readLimits(new ProtobufReader(row)) }
  }

  set(changes: Partial<Limits>): ApplyResult {
    for (const [name, value] of Object.entries(changes)) {
      if (value === 0) return refusal('INVALID_PARAMETER', `limit ${name} must be at least 1`)
    }
    this.#current = { ...this.#current, ...changes }
    this.#dirty = true
    return nothing
  }

  collect(into: StateOperation[]): void {
    if (!this.#dirty) return
    this.#dirty = false
    const writer = new ProtobufWriter()
    writeLimits(writer, this.#current)
    into.push({ kind: 'put', key: limitsKey, value: writer.finish() })
  }
}
