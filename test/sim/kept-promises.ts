/**
 * What each disk may never fall behind again: entries that are committed, and that its node applied, acknowledged or
 * held for sure when a process ended. Asked whenever a replica begins, with its own log or with a copy (S1).
 */
import type { Committed } from './judge.ts'

interface Acknowledged {
  readonly index: number
  /** Of the entry. */
  readonly term: number
}

export class KeptPromises {
  readonly #committedAt: (index: number) => Committed | undefined
  /** By node. */
  readonly #held = new Map<string, number>()
  readonly #acknowledged = new Map<string, Acknowledged>()

  constructor(committedAt: (index: number) => Committed | undefined) {
    this.#committedAt = committedAt
  }

  /** The disk of the node holds what is committed up to here. */
  holds(node: string, index: number): void {
    this.#held.set(node, Math.max(index, this.#held.get(node) ?? 0))
  }

  /** A leader was told so. Whether the entry is what the group commits there shows later. */
  acknowledges(node: string, acknowledged: Acknowledged): void {
    this.#acknowledged.set(node, acknowledged)
  }

  /** Its disk is gone. */
  forget(node: string): void {
    this.#held.delete(node)
    this.#acknowledged.delete(node)
  }

  /** Last entry that the node must have. */
  of(node: string): number {
    const held = this.#held.get(node) ?? 0
    const acknowledged = this.#acknowledged.get(node)
    // Two logs with the same term at an index are the same up to there (R2).
    const isCommitted = acknowledged && this.#committedAt(acknowledged.index)?.term === acknowledged.term
    return isCommitted ? Math.max(held, acknowledged.index) : held
  }
}
