/**
 * A consistent copy of all rows of the state store, read in pieces while the store goes on. Opened by
 * `state-store.ts`, read by whoever sends the state to a peer.
 *
 * The store's own rows (markers) are left out: they prove the history of one disk and mean nothing on another.
 */
import { invariant } from './assert.ts'
import type { StateImage, StateRow } from './contract.ts'
import type { KeyValueSnapshot } from './key-value.ts'
import { firstUserKey, keyBehind, userKeyEnd } from './user-keys.ts'

const rowsPerRead = 256

export class StoreImage implements StateImage {
  readonly appliedIndex: number
  readonly hash: string
  readonly #snapshot: KeyValueSnapshot
  readonly #closed: () => void
  #from: Buffer = firstUserKey
  /** Read already; what does not fit into one piece begins the next. */
  #read: readonly StateRow[] = []
  #isClosed = false

  constructor(parts: {
    readonly appliedIndex: number
    readonly hash: string
    readonly snapshot: KeyValueSnapshot
    /** Called once when the image is closed. */
    closed(): void
  }) {
    this.appliedIndex = parts.appliedIndex
    this.hash = parts.hash
    this.#snapshot = parts.snapshot
    this.#closed = parts.closed
  }

  async next(bytesMax: number): Promise<readonly StateRow[] | null> {
    invariant(bytesMax > 0, `an image is not read in pieces of ${bytesMax} bytes`)
    const piece: StateRow[] = []
    let left = bytesMax
    for (;;) {
      if (this.#read.length === 0) await this.#readMore()
      const taken = piece.length
      for (const row of this.#read) {
        if (piece.length > 0 && rowBytes(row) > left) break
        piece.push(row)
        left -= rowBytes(row)
      }
      const count = piece.length - taken
      if (count === 0) return piece.length > 0 ? piece : null
      this.#read = this.#read.slice(count)
      if (this.#read.length > 0) return piece
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#closed()
    await this.#snapshot.close()
  }

  async #readMore(): Promise<void> {
    const from = this.#from
    const rows = await this.#snapshot.range({ from, to: userKeyEnd, limit: rowsPerRead })
    invariant(from === this.#from, 'an image is read by one reader, one piece after the other')
    const last = rows.at(-1)
    if (last) this.#from = keyBehind(last[0])
    this.#read = rows
  }
}

function rowBytes([key, value]: StateRow): number {
  return key.length + value.length
}
