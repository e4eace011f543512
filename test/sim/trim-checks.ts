/**
 * What giving up the beginning of the log must not cost: a state that a power cut would lose, and entries that a
 * follower within its bound still needs. Used by the judge at the instant of the deletion and of the decision.
 */
import type { Replica } from '../../src/broker/replica/replica.ts'
import type { SimNode } from './sim-node.ts'

/** What the group has decided, in order. */
export class Trims {
  readonly #trims: { readonly index: number; readonly firstIndex: number }[] = []

  decided(trim: { readonly index: number; readonly firstIndex: number }): void {
    this.#trims.push(trim)
  }

  /** A running replica has deleted what is before `firstIndex`: its state on disk must know that it was to. */
  wrongDeletion(node: SimNode, firstIndex: number): string | null {
    const { storedIndex } = node
    const trim = this.#trims.find((decided) => decided.firstIndex >= firstIndex)
    if (trim && trim.index <= storedIndex) return null
    const decided = trim ? `entry ${trim.index} gave up what is before ${trim.firstIndex}` : 'nobody gave that up'
    return `${node.name} deletes what is before ${firstIndex}, its disk has the state of ${storedIndex}; ${decided}`
  }
}

/** Null when the disk alone could go on from where the log begins. */
export function wrongBeginning(node: SimNode, firstIndex: number): string | null {
  const { storedIndex } = node
  if (firstIndex <= storedIndex + 1) return null
  return `the log of ${node.name} begins at ${firstIndex}, its disk has the state of ${storedIndex}`
}

/** A leader is about to propose that the log begins at `firstIndex`. */
export function wrongTrim(replica: Replica, firstIndex: number, lagBytesMax: number): string | null {
  const { log, members, node } = replica
  const segments = log.segments()
  for (const { id, match } of replica.raftStatus().peers) {
    if (id === node || match + 1 >= firstIndex || !members.isConnected(id)) continue
    const needed = segments.findLast((segment) => segment.firstIndex <= match + 1)
    if (!needed || log.endPosition - needed.base > lagBytesMax) continue
    return `${node} gives up what is before ${firstIndex}, ${id} needs ${match + 1}, ${log.endPosition - needed.base} bytes before the end`
  }
  return null
}
