/**
 * Reads of the ConsumeQueues: from memory when the tail covers them, else from the state store. Never changes state.
 *
 * Apply goes on while a read waits for the store. That is safe because the store always holds a prefix of each queue
 * and rows leave memory only after they are in it; what an answer lacks behind its last row, the next read finds.
 */
import type { StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { QueueRow } from '../contract.ts'
import { queueRowKey } from './keys.ts'
import { decodeRow, type QueueState, type QueueTable } from './queues.ts'

export class QueueReader {
  readonly #store: StateStoreApi
  readonly #queues: QueueTable

  constructor(store: StateStoreApi, queues: QueueTable) {
    this.#store = store
    this.#queues = queues
  }

  findRows(
    topicId: number,
    queue: number,
    offset: number,
    limit: number,
  ): Promise<readonly QueueRow[]> | readonly QueueRow[] {
    const state = this.#queues.find(topicId, queue)
    if (!state || limit < 1) return []
    const from = Math.max(offset, state.min)
    if (from >= state.max) return []
    if (covers(state, from)) return state.tail.rowsFrom(from, limit)
    return this.#stored(state, from, limit)
  }

  /** Log time never goes back along a queue, so the row is found by halving. */
  async offsetByTime(topicId: number, queue: number, time: number): Promise<number> {
    const state = this.#queues.find(topicId, queue)
    if (!state) return 0
    if (time > state.lastTime) return state.max
    const low = !state.tail.isEmpty && state.tail.firstTime < time ? state.tail.firstOffset : 0
    return this.#firstOffset(state, low, (row) => row.storeTime >= time)
  }

  /** Along a queue the indexes of the entries only grow, too. */
  async offsetByIndex(topicId: number, queue: number, index: number): Promise<number> {
    const state = this.#queues.find(topicId, queue)
    if (!state) return 0
    // Mostly nothing or everything is behind the index: two looks instead of a search.
    const [first] = await this.findRows(topicId, queue, state.min, 1)
    // None: the queue is empty, or its first rows were trimmed while the store was read. That is no end of the queue.
    if (first && first.index >= index) return first.baseOffset
    const [last] = await this.findRows(topicId, queue, state.max - 1, 1)
    if (last && last.index < index) return last.baseOffset + last.recordCount
    return this.#firstOffset(state, 0, (row) => row.index >= index)
  }

  /** First offset, from `from` on, of the first row that is far enough; the end of the queue when none is. */
  async #firstOffset(state: QueueState, from: number, isEnough: (row: QueueRow) => boolean): Promise<number> {
    let low = Math.max(from, state.min)
    let high = state.max
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const [row] = await this.findRows(state.topicId, state.queue, middle, 1)
      if (state.dropped) return high
      if (!row) low = Math.max(low, state.min)
      else if (isEnough(row)) high = Math.max(low, row.baseOffset)
      else low = row.baseOffset + row.recordCount
    }
    return low
  }

  async #stored(state: QueueState, offset: number, limit: number): Promise<readonly QueueRow[]> {
    const { topicId, queue } = state
    const found = await this.#store.range({
      from: queueRowKey(topicId, queue, offset),
      to: queueRowKey(topicId, queue, state.max),
      limit,
    })
    // Deleted or trimmed meanwhile: nobody may see messages that are gone, and rows of them may be missing.
    if (state.dropped || offset < state.min) return []
    const rows = found.map(([key, value]) => decodeRow(key, value))
    const next = checkRun(rows, offset)
    if (rows.length < limit && next < state.max && covers(state, next)) {
      return [...rows, ...state.tail.rowsFrom(next, limit - rows.length)]
    }
    return rows
  }
}

function covers(state: QueueState, offset: number): boolean {
  return !state.tail.isEmpty && state.tail.firstOffset <= offset
}

/** The store must hold the row of this offset and all behind it without gaps. Returns the offset behind the last. */
function checkRun(rows: readonly QueueRow[], offset: number): number {
  const first = rows[0]
  invariant(first !== undefined && first.baseOffset <= offset, 'B2: the state store holds every row of a queue')
  let next = first.baseOffset
  for (const row of rows) {
    invariant(row.baseOffset === next, 'B2: rows of a queue follow each other without gaps')
    next += row.recordCount
  }
  return next
}
