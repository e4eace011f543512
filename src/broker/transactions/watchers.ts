/**
 * The producers that can be asked, by producer group: any of a group may be asked about any of its transactions. Filled
 * by the handler of WatchTransactions, read by the check service. Memory of the leader only; a new leader starts empty.
 */
import type { LedgerError } from '../../common/errors.ts'
import type { TransactionQuestion } from '../../rpc/transaction-messages.ts'

export interface TransactionWatcher {
  /** Reads too slowly to be asked now. */
  readonly full: boolean
  ask(question: TransactionQuestion): void
  cut(error: LedgerError): void
}

export class TransactionWatchers {
  readonly #groups = new Map<string, TransactionWatcher[]>()
  #count = 0

  get count(): number {
    return this.#count
  }

  add(producerGroup: string, watcher: TransactionWatcher): void {
    const group = this.#groups.get(producerGroup) ?? []
    group.push(watcher)
    this.#groups.set(producerGroup, group)
    this.#count++
  }

  remove(producerGroup: string, watcher: TransactionWatcher): void {
    const group = this.#groups.get(producerGroup) ?? []
    const at = group.indexOf(watcher)
    if (at < 0) return
    group.splice(at, 1)
    this.#count--
    if (group.length === 0) this.#groups.delete(producerGroup)
  }

  /** The one whose turn it is; null when nobody of the group can be asked now. */
  next(producerGroup: string): TransactionWatcher | null {
    const group = this.#groups.get(producerGroup) ?? []
    for (let tried = 0; tried < group.length; tried++) {
      const watcher = group.shift()
      if (!watcher) break
      group.push(watcher)
      if (!watcher.full) return watcher
    }
    return null
  }

  /** This replica does not lead any more, or stops: they go to the new leader. */
  cutAll(error: LedgerError): void {
    const all = [...this.#groups.values()].flat()
    this.#groups.clear()
    this.#count = 0
    for (const watcher of all) watcher.cut(error)
  }
}
