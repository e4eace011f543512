/**
 * How much of the log the group has given up, kept as one row. Changed by `trim` commands alone.
 *
 * The replica deletes segments by it, later and by itself: only once its state store holds the entry that says so.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { trimKey } from './keys.ts'
import type { StateTable } from './pending-changes.ts'
import { ProtobufReader, ProtobufWriter } from './protobuf.ts'

export interface Trimmed {
  /** Entries before it are given up; 0 before any. */
  readonly firstIndex: number
  /** The entry that decided so. */
  readonly index: number
}

export class TrimTable implements StateTable {
  #current: Trimmed = { firstIndex: 0, index: 0 }
  #dirty = false

  get current(): Trimmed {
    return this.#current
  }

  get dirtyCount(): number {
    return this.#dirty ? 1 : 0
  }

  async load(store: StateStoreApi): Promise<void> {
    const row = await store.get(trimKey)
    if (row) this.#current = decodeTrimmed(row)
  }

  /** Never goes back. Returns the first index now in force. */
  raise(firstIndex: number, index: number): number {
    if (firstIndex > this.#current.firstIndex) {
      this.#current = { firstIndex, index }
      this.#dirty = true
    }
    return this.#current.firstIndex
  }

  collect(into: StateOperation[]): void {
    if (!this.#dirty) return
    this.#dirty = false
    const writer = new ProtobufWriter()
    writer.uint(1, this.#current.firstIndex)
    writer.uint(2, this.#current.index)
    into.push({ kind: 'put', key: trimKey, value: writer.finish() })
  }
}

function decodeTrimmed(row: Buffer): Trimmed {
  const reader = new ProtobufReader(row)
  let firstIndex = 0
  let index = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) firstIndex = reader.uint()
    else if (field === 2) index = reader.uint()
    else reader.unknown()
  }
  return { firstIndex, index }
}
