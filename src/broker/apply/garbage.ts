/**
 * ConsumeQueue rows that no reader reaches any more: below the minimum of their queue, or of a deleted topic. Collected
 * by apply, taken by the replica, which deletes them in slices outside of apply.
 *
 * A range is given out only after the state store holds the change that made it garbage: a crash would otherwise
 * bring back a minimum below which the rows are gone. What a crash forgets, the next start finds again.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { deadTopicKey, queueRowKey, readUint64, rowKinds, topicRowsStart } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'

export interface StateRange {
  readonly from: Buffer
  /** Exclusive. */
  readonly to: Buffer
}

interface Waiting {
  readonly index: number
  readonly name: string
  readonly range: StateRange
}

export class Garbage implements StateTable {
  /** Nothing of this is a row. */
  readonly dirtyCount: number = 0
  #waiting: Waiting[] = []
  /** By queue or topic, so that a queue that is trimmed again and again counts once. */
  readonly #ready = new Map<string, StateRange>()

  /** What was garbage at the last stop may still be there. */
  async load(
    store: StateStoreApi,
    queues: Iterable<{ readonly topicId: number; readonly queue: number; readonly min: number }>,
  ): Promise<void> {
    for (const { topicId, queue, min } of queues) {
      if (min > 0) this.#merge(queueName(topicId, queue), rowsBetween(topicId, queue, { from: 0, to: min }))
    }
    for await (const [key] of scanRows(store, rowKinds.deadTopic)) this.#addDead(readUint64(key, 1))
  }

  /** Offsets [from, to) of this queue are below its minimum since entry `index`. */
  addQueue(
    gone: { readonly topicId: number; readonly queue: number; readonly from: number; readonly to: number },
    index: number,
  ): void {
    const { topicId, queue } = gone
    this.#waiting.push({ index, name: queueName(topicId, queue), range: rowsBetween(topicId, queue, gone) })
  }

  /** The topic was deleted by entry `index`. */
  addTopic(topicId: number, index: number): void {
    for (const [name, range] of deadRanges(topicId)) this.#waiting.push({ index, name, range })
  }

  take(): StateRange | undefined {
    for (const [name, range] of this.#ready) {
      this.#ready.delete(name)
      return range
    }
    return undefined
  }

  collect(_into: StateOperation[]): void {}

  written(appliedIndex: number): void {
    let count = 0
    for (const { index, name, range } of this.#waiting) {
      if (index > appliedIndex) break
      this.#merge(name, range)
      count++
    }
    if (count > 0) this.#waiting = this.#waiting.slice(count)
  }

  #addDead(topicId: number): void {
    for (const [name, range] of deadRanges(topicId)) this.#merge(name, range)
  }

  #merge(name: string, range: StateRange): void {
    const known = this.#ready.get(name)
    this.#ready.set(name, known ? { from: known.from, to: range.to } : range)
  }
}

function queueName(topicId: number, queue: number): string {
  return `${topicId}/${queue}`
}

/** Rows lie under their last offset, so the row that holds `to` is not among them. */
function rowsBetween(
  topicId: number,
  queue: number,
  offsets: { readonly from: number; readonly to: number },
): StateRange {
  return { from: queueRowKey(topicId, queue, offsets.from), to: queueRowKey(topicId, queue, offsets.to) }
}

/** The row that names the dead topic goes last: while it is there, the next start looks again. */
function deadRanges(topicId: number): readonly (readonly [name: string, range: StateRange])[] {
  const own = deadTopicKey(topicId)
  return [
    [`${topicId}`, { from: topicRowsStart(topicId), to: topicRowsStart(topicId + 1) }],
    [`dead ${topicId}`, { from: own, to: Buffer.concat([own, Buffer.of(0)]) }],
  ]
}
