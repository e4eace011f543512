/**
 * What each disk may never fall behind again: entries that are committed, and that its node applied, acknowledged or
 * held for sure when a process ended. Asked whenever a replica begins, with its own log or with a copy (S1).
 */
import type { Machine } from './electorate.ts'
import type { Committed } from './judge.ts'

interface Acknowledged {
  readonly index: number
  /** Of the entry. */
  readonly term: number
}

export class KeptPromises {
  readonly #committedAt: (index: number) => Committed | undefined
  /** By disk: a node that comes back with the disk it had must have what was on it. */
  readonly #held = new Map<string, number>()
  /** By node. */
  readonly #acknowledged = new Map<string, Acknowledged>()

  constructor(committedAt: (index: number) => Committed | undefined) {
    this.#committedAt = committedAt
  }

  /** The disk holds what is committed up to here. */
  holds(diskId: string, index: number): void {
    this.#held.set(diskId, Math.max(index, this.#held.get(diskId) ?? 0))
  }

  /** A leader was told so. Whether the entry is what the group commits there shows later. */
  acknowledges(node: string, acknowledged: Acknowledged): void {
    this.#acknowledged.set(node, acknowledged)
  }

  /** The node comes back with another disk, if it comes back. */
  forget(node: string): void {
    this.#acknowledged.delete(node)
  }

  /** Last entry that the node must have. */
  of({ name, diskId }: Pick<Machine, 'name' | 'diskId'>): number {
    const held = this.#held.get(diskId) ?? 0
    const acknowledged = this.#acknowledged.get(name)
    // Two logs with the same term at an index are the same up to there (R2).
    const isCommitted = acknowledged && this.#committedAt(acknowledged.index)?.term === acknowledged.term
    return isCommitted ? Math.max(held, acknowledged.index) : held
  }
}
