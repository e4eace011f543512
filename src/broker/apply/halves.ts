/**
 * Half messages: stored, and visible to nobody until their transaction is committed (RocketMQ:
 * RMQ_SYS_TRANS_HALF_TOPIC). Held whole, so that a resolution is judged in memory; their number is a limit.
 *
 * A transaction is resolved once. What became of the last ones is remembered, so that a producer that asks again gets
 * the same answer, and one that says the opposite is refused.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { type Schema, schema, text, uint } from '../../common/protobuf-schema.ts'
import type { SourceRecord } from '../../message/extensions.ts'
import { halfKey, idAndNumberInKey, readUint64, resolvedHalfKey, rowKinds, writeUint64 } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { type Refusal, refusal } from './result.ts'

/** Resolutions that are remembered, the newest ones. */
export const resolvedHalvesMax = 100_000

export type Outcome = 'committed' | 'rolled_back'

export interface Half extends SourceRecord {
  readonly topicId: number
  readonly queue: number
  readonly producerGroup: string
  /** Log time at which it was stored first. */
  readonly storeTime: number
  /** Entry that holds its bytes now, where that lies, and which record of it they are. */
  readonly atIndex: number
  readonly atPosition: number
  readonly atRecord: number
  /** How often its producers were asked what became of its transaction. */
  readonly checks: number
  /** Log time before which they are not asked again. */
  readonly nextCheck: number
}

export interface HalfPlace {
  readonly index: number
  readonly position: number
  readonly record: number
}

type HalfFields = Omit<Half, 'index' | 'record'>

const halfSchema: Schema<HalfFields> = schema<HalfFields>({
  topicId: uint(1),
  queue: uint(2),
  producerGroup: text(3),
  storeTime: uint(4),
  atIndex: uint(5),
  atPosition: uint(6),
  atRecord: uint(7),
  checks: uint(8),
  nextCheck: uint(9),
})

interface Resolved {
  readonly outcome: Outcome
  /** Entry that resolved it: the oldest ones are forgotten first. */
  readonly index: number
  /** Log time at which the half message was stored: part of its name to producers. */
  readonly storeTime: number
}

export class HalfTable implements StateTable {
  readonly #pending = new Map<string, Half>()
  /** In the order in which they were resolved. */
  readonly #resolved = new Map<string, Resolved>()
  readonly #dirty = new Map<string, SourceRecord>()
  readonly #resolvedDirty = new Map<string, SourceRecord>()

  get dirtyCount(): number {
    return this.#dirty.size + this.#resolvedDirty.size
  }

  get pendingCount(): number {
    return this.#pending.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.half)) {
      const [index, record] = idAndNumberInKey(key)
      this.#pending.set(nameOf({ index, record }), { ...halfSchema.decode(value), index, record })
    }
    const resolved: [string, Resolved][] = []
    for await (const [key, value] of scanRows(store, rowKinds.resolvedHalf)) {
      const [index, record] = idAndNumberInKey(key)
      const outcome = value.readUInt8(16) === 1 ? 'committed' : 'rolled_back'
      const by = { index: readUint64(value, 0), storeTime: readUint64(value, 8) }
      resolved.push([nameOf({ index, record }), { outcome, ...by }])
    }
    // The order in which `resolve` put them there.
    resolved.sort(([a, left], [b, right]) => left.index - right.index || compareSources(sourceOf(a), sourceOf(b)))
    for (const [name, one] of resolved) this.#resolved.set(name, one)
  }

  /** In the order in which they were stored. */
  pending(): Iterable<Half> {
    return this.#pending.values()
  }

  find(source: SourceRecord): Half | undefined {
    return this.#pending.get(nameOf(source))
  }

  /**
   * What became of it; undefined when it is pending, was never there, or is long forgotten. With a store time: of the
   * message that was stored then. A log that lost its end by force gives the same index to another one.
   */
  outcome(source: SourceRecord & { readonly storeTime?: number }): Outcome | undefined {
    const resolved = this.#resolved.get(nameOf(source))
    if (source.storeTime !== undefined && resolved?.storeTime !== source.storeTime) return undefined
    return resolved?.outcome
  }

  /** Oldest entry that still holds the bytes of a half message; null without any. */
  firstIndex(): number | null {
    let first: number | null = null
    for (const { atIndex } of this.#pending.values()) first = Math.min(first ?? atIndex, atIndex)
    return first
  }

  add(half: Half): void {
    this.#put(half)
  }

  /** Why these cannot be committed by a batch for this queue now, or null. */
  findProblem(sources: readonly SourceRecord[], target: { topicId: number; queue: number }): Refusal | null {
    const seen = new Set<string>()
    for (const source of sources) {
      const half = this.#pending.get(nameOf(source))
      if (!half) return refusal('SUPERSEDED', 'a transaction of the delivery was resolved meanwhile')
      if (half.topicId !== target.topicId || half.queue !== target.queue)
        return refusal('INVALID_PARAMETER', 'a half message is delivered to another queue than its own')
      if (seen.has(nameOf(source))) return refusal('INVALID_PARAMETER', 'a half message is delivered twice')
      seen.add(nameOf(source))
    }
    return sources.length > 0 ? null : refusal('INVALID_PARAMETER', 'the delivery names no half message')
  }

  /** Those that are still pending; `index`: the entry that says so. */
  resolve(sources: readonly SourceRecord[], outcome: Outcome, index: number): void {
    // The oldest are forgotten first. The order within an entry must be the one in which rows are loaded (B1): a
    // replica that started again would forget another one than those that did not.
    for (const source of [...sources].sort(compareSources)) this.#resolveOne(source, outcome, index)
    this.#forgetOldest()
  }

  /**
   * Its producers are asked now, and not again before `intervalMs` have passed: two leaders that propose it at the same
   * time count once. 0: it is not to be asked about.
   */
  noteCheck(source: SourceRecord, logTime: number, intervalMs: number): number {
    const half = this.#pending.get(nameOf(source))
    if (!half || logTime < half.nextCheck) return 0
    const checks = half.checks + 1
    this.#put({ ...half, checks, nextCheck: logTime + intervalMs })
    return checks
  }

  /** Its bytes lie there from now on. */
  carry(source: SourceRecord, place: HalfPlace): void {
    const half = this.#pending.get(nameOf(source))
    if (half) this.#put({ ...half, atIndex: place.index, atPosition: place.position, atRecord: place.record })
  }

  /** Half messages of a deleted topic can be committed nowhere. */
  dropTopic(topicId: number, index: number): void {
    const lost = [...this.#pending.values()].filter((half) => half.topicId === topicId)
    this.resolve(lost, 'rolled_back', index)
  }

  collect(into: StateOperation[]): void {
    for (const [name, { index, record }] of this.#dirty) {
      const half = this.#pending.get(name)
      const key = halfKey(index, record)
      into.push(half ? { kind: 'put', key, value: halfSchema.encode(half) } : { kind: 'delete', key })
    }
    this.#dirty.clear()
    for (const [name, { index, record }] of this.#resolvedDirty) {
      const resolved = this.#resolved.get(name)
      const key = resolvedHalfKey(index, record)
      into.push(resolved ? { kind: 'put', key, value: encodeResolved(resolved) } : { kind: 'delete', key })
    }
    this.#resolvedDirty.clear()
  }

  #resolveOne(source: SourceRecord, outcome: Outcome, index: number): void {
    const name = nameOf(source)
    const half = this.#pending.get(name)
    if (!half) return
    invariant(!this.#resolved.has(name), 'B3: a transaction is resolved once')
    this.#pending.delete(name)
    this.#dirty.set(name, half)
    this.#resolved.set(name, { outcome, index, storeTime: half.storeTime })
    this.#resolvedDirty.set(name, half)
  }

  #put(half: Half): void {
    this.#pending.set(nameOf(half), half)
    this.#dirty.set(nameOf(half), half)
  }

  #forgetOldest(): void {
    for (const name of this.#resolved.keys()) {
      if (this.#resolved.size <= resolvedHalvesMax) return
      this.#resolved.delete(name)
      this.#resolvedDirty.set(name, sourceOf(name))
    }
  }
}

function nameOf({ index, record }: SourceRecord): string {
  return `${index}/${record}`
}

function sourceOf(name: string): SourceRecord {
  const [index = 0, record = 0] = name.split('/').map(Number)
  return { index, record }
}

function compareSources(left: SourceRecord, right: SourceRecord): number {
  return left.index - right.index || left.record - right.record
}

function encodeResolved({ outcome, index, storeTime }: Resolved): Buffer {
  const value = Buffer.allocUnsafe(17)
  writeUint64(value, index, 0)
  writeUint64(value, storeTime, 8)
  value.writeUInt8(outcome === 'committed' ? 1 : 2, 16)
  return value
}
