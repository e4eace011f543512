/**
 * The deterministic state machine of a broker group: the entry and the state are its only inputs (B1).
 *
 * The replica feeds it committed entries that are on the own disk, takes the changes and writes them to the state
 * store; handlers read. It must never look at a clock, a configuration or the network, and never change anything for
 * an entry that it cannot apply in full.
 */
import type { StateBatch, StateStoreApi } from '../../../store/index.ts'
import { frameTypes } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { ApplyResult, CommittedEntry, GroupAssignment, QueueRow, StateMachineApi, TopicInfo } from '../contract.ts'
import type { PlacedMembership } from '../membership/membership.ts'
import { applyBatch } from './batches.ts'
import { decodeCommand, EntryError } from './command.ts'
import { applyCommand } from './commands.ts'
import type { StateRange } from './garbage.ts'
import { RunningHash } from './hash.ts'
import { defaultLimits, type Limits } from './limits.ts'
import { encodeMeta, loadMeta, type Meta } from './meta.ts'
import { PendingChanges } from './pending-changes.ts'
import { QueueReader } from './queue-reader.ts'
import { tailRowsMax } from './queues.ts'
import { hashResult, nothing } from './result.ts'
import { allTables, loadTables, type Tables } from './tables.ts'
import type { Trimmed } from './trim-table.ts'

export interface StateMachineOptions {
  /** Limits before any `set_limits`; the same on every replica for ever. For tests; users' limits are commands. */
  readonly limits?: Limits
  /** ConsumeQueue rows kept in memory per queue. Changes what is fast, never what is read. */
  readonly tailRowsMax?: number
}

/** Loads the small state and goes on behind `store.appliedIndex`. Throws StateFormatError for rows of a newer build. */
export async function openStateMachine(store: StateStoreApi, options: StateMachineOptions = {}): Promise<StateMachine> {
  const meta = await loadMeta(store)
  const tables = await loadTables(store, {
    limits: options.limits ?? defaultLimits,
    tailRowsMax: options.tailRowsMax ?? tailRowsMax,
  })
  return new StateMachine(store, tables, meta)
}

export class StateMachine implements StateMachineApi {
  readonly #tables: Tables
  readonly #changes: PendingChanges
  readonly #reader: QueueReader
  readonly #hash: RunningHash
  #appliedIndex: number
  #takenIndex: number
  #appliedTime: number
  #topicsVersion: number

  constructor(store: StateStoreApi, tables: Tables, meta: Meta) {
    this.#tables = tables
    this.#changes = new PendingChanges(allTables(tables))
    this.#reader = new QueueReader(store, tables.queues)
    this.#hash = new RunningHash(store.hash)
    this.#appliedIndex = store.appliedIndex
    this.#takenIndex = store.appliedIndex
    this.#appliedTime = meta.appliedTime
    this.#topicsVersion = meta.topicsVersion
  }

  get appliedIndex(): number {
    return this.#appliedIndex
  }

  get appliedTime(): number {
    return this.#appliedTime
  }

  get hash(): string {
    return this.#hash.hex
  }

  get topicsVersion(): number {
    return this.#topicsVersion
  }

  get autoCreateTopics(): boolean {
    return this.#tables.limits.current.autoCreateTopics
  }

  get bodyBytesMax(): number {
    return this.#tables.limits.current.bodyBytesMax
  }

  get producerIdleMs(): number {
    return this.#tables.limits.current.producerIdleMs
  }

  /** Limits now in force in this broker group. */
  get limits(): Limits {
    return this.#tables.limits.current
  }

  get membership(): PlacedMembership | null {
    return this.#tables.membership.current
  }

  get unwrittenCount(): number {
    return this.#changes.count
  }

  /** Throws EntryError, with nothing changed, for an entry that only a newer build can apply: stop the replica. */
  apply(entry: CommittedEntry): ApplyResult {
    invariant(entry.index === this.#appliedIndex + 1, 'S4: entries are applied in order, each once')
    invariant(entry.storeTime >= this.#appliedTime, 'B1: log time never goes back')
    const result = this.#judge(entry)
    this.#appliedIndex = entry.index
    this.#appliedTime = entry.storeTime
    this.#hash.add(entry.index)
    this.#hash.add(entry.term)
    this.#hash.add(entry.type)
    this.#hash.add(entry.storeTime)
    hashResult(this.#hash, result)
    return result
  }

  takeChanges(): StateBatch | null {
    if (this.#appliedIndex === this.#takenIndex) return null
    const appliedIndex = this.#appliedIndex
    const meta = encodeMeta({ appliedIndex, appliedTime: this.#appliedTime, topicsVersion: this.#topicsVersion })
    const operations = this.#changes.take(appliedIndex)
    this.#takenIndex = appliedIndex
    return { appliedIndex, hash: this.#hash.hex, operations: [meta, ...operations] }
  }

  changesWritten(appliedIndex: number): void {
    invariant(appliedIndex <= this.#takenIndex, 'S4: only what was taken can have been written')
    this.#changes.written(appliedIndex)
  }

  topic(name: string): TopicInfo | undefined {
    return this.#tables.topics.byName(name)
  }

  topicById(topicId: number): TopicInfo | undefined {
    return this.#tables.topics.byId(topicId)
  }

  topics(): readonly TopicInfo[] {
    return this.#tables.topics.all()
  }

  queueRange(topicId: number, queue: number): { readonly min: number; readonly max: number } | undefined {
    const state = this.#tables.queues.find(topicId, queue)
    return state && { min: state.min, max: state.max }
  }

  findRows(
    topicId: number,
    queue: number,
    offset: number,
    limit: number,
  ): Promise<readonly QueueRow[]> | readonly QueueRow[] {
    return this.#reader.findRows(topicId, queue, offset, limit)
  }

  offsetByTime(topicId: number, queue: number, time: number): Promise<number> {
    return this.#reader.offsetByTime(topicId, queue, time)
  }

  offsetByIndex(topicId: number, queue: number, index: number): Promise<number> {
    return this.#reader.offsetByIndex(topicId, queue, index)
  }

  get trimmed(): Trimmed {
    return this.#tables.trim.current
  }

  takeGarbage(): StateRange | undefined {
    return this.#tables.garbage.take()
  }

  committedOffset(group: string, topicId: number, queue: number): number | undefined {
    return this.#tables.offsets.get(group, topicId, queue)
  }

  assignment(group: string): GroupAssignment {
    return this.#tables.groups.assignment(group)
  }

  groupsWithMembers(): readonly string[] {
    return this.#tables.groups.withMembers()
  }

  /** Producers whose sequences are remembered. */
  get producerCount(): number {
    return this.#tables.producers.producerCount
  }

  /** Whether the leader should propose `expire_producers`. Looks at every producer: ask every minute, not every entry. */
  producerExpiryDue(logTime: number): boolean {
    return this.#tables.producers.expiryDue(logTime, this.limits)
  }

  #judge(entry: CommittedEntry): ApplyResult {
    switch (entry.type) {
      case frameTypes.batch:
        return applyBatch(this.#tables, entry)
      case frameTypes.command:
        return this.#applyCommand(entry)
      case frameTypes.configuration:
        return { kind: 'membership', membership: this.#tables.membership.set(entry.index, entry.body).membership }
      case frameTypes.noop:
        return nothing
      default:
        throw new EntryError('unknown_command', `entries of type ${entry.type} are not known to this build`)
    }
  }

  #applyCommand(entry: CommittedEntry): ApplyResult {
    const topics = this.#tables.topics
    const before = topics.all()
    const result = applyCommand(this.#tables, decodeCommand(entry.body), entry)
    // The list is made anew whenever a topic changed, and only then.
    if (topics.all() !== before) this.#topicsVersion = entry.index
    return result
  }
}
