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
    if (!state || limit < 1 || offset >= state.max) return []
    const from = Math.max(offset, state.min)
    if (covers(state, from)) return state.tail.rowsFrom(from, limit)
    return this.#stored(state, from, limit)
  }

  /** Log time never goes back along a queue, so the row is found by halving. */
  async offsetByTime(topicId: number, queue: number, time: number): Promise<number> {
    const state = this.#queues.find(topicId, queue)
    if (!state) return 0
    let low = state.min
    let high = state.max
    if (time > state.lastTime) return high
    if (!state.tail.isEmpty && state.tail.firstTime < time) low = Math.max(low, state.tail.firstOffset)
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const [row] = await this.findRows(topicId, queue, middle, 1)
      if (!row) return high
      if (row.storeTime >= time) high = Math.max(low, row.baseOffset)
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
    // Deleted meanwhile: nobody may see messages of a topic that is gone.
    if (state.dropped) return []
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
