/**
 * What apply changed and the state store does not hold yet. The state machine takes it from here as a StateBatch.
 *
 * Tables remember which of their rows are dirty and encode them only when taken, so that a row changed a hundred
 * times between two writes is written once. Must never drop a change: what was taken counts until it is written.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { kindStart, type RowKind } from './keys.ts'

/** A part of the state that lives in memory and is kept as rows. */
export interface StateTable {
  /** Rows changed since the last `collect`. */
  readonly dirtyCount: number
  /** Adds the changed rows as they are now, deletions before puts, and forgets that they are dirty. */
  collect(into: StateOperation[]): void
  /** Everything taken up to this index is in the state store now. */
  written?(appliedIndex: number): void
}

const rowsPerPage = 1000

/** All rows of a kind in key order, read in bounded pages. */
export async function* scanRows(
  store: StateStoreApi,
  kind: RowKind,
): AsyncGenerator<readonly [key: Buffer, value: Buffer]> {
  const to = kindStart(kind + 1)
  let from = kindStart(kind)
  while (true) {
    const page = await store.range({ from, to, limit: rowsPerPage })
    yield* page
    const last = page.at(-1)
    if (!last || page.length < rowsPerPage) return
    from = Buffer.concat([last[0], Buffer.of(0)])
  }
}

export class PendingChanges {
  readonly #tables: readonly StateTable[]
  readonly #inFlight: { readonly appliedIndex: number; readonly count: number }[] = []
  #inFlightCount = 0

  constructor(tables: readonly StateTable[]) {
    this.#tables = tables
  }

  /** Rows not in the state store: dirty ones and those taken but not reported as written. */
  get count(): number {
    let count = this.#inFlightCount
    for (const table of this.#tables) count += table.dirtyCount
    return count
  }

  take(appliedIndex: number): StateOperation[] {
    const operations: StateOperation[] = []
    for (const table of this.#tables) table.collect(operations)
    this.#inFlight.push({ appliedIndex, count: operations.length })
    this.#inFlightCount += operations.length
    return operations
  }

  written(appliedIndex: number): void {
    while (this.#inFlight[0] && this.#inFlight[0].appliedIndex <= appliedIndex) {
      this.#inFlightCount -= this.#inFlight.shift()?.count ?? 0
    }
    invariant(this.#inFlightCount >= 0, 'S4: more state was written than taken')
    for (const table of this.#tables) table.written?.(appliedIndex)
  }
}
