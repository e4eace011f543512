/**
 * How far each replica is, looked at after every event: nothing falls back, nothing runs ahead of what it rests on, and
 * a leader counts copies only of entries of its own term. Called by the judge, which knows what was committed.
 */
import type { Replica } from '../../src/broker/replica/replica.ts'
import { wrongLeader } from './configuration-steps.ts'
import type { SimNode } from './sim-node.ts'
import { type Trims, wrongBeginning } from './trim-checks.ts'

interface Progress {
  readonly commit: number
  readonly applied: number
  readonly term: number
  readonly leads: boolean
  readonly first: number
}

export interface ProgressPorts {
  readonly looksAtDisks: boolean
  readonly trims: Trims
  /** Entries before it are given up by the group. */
  trimmedBefore(): number
  /** The end of its log was rotten, is gone, and the node knows it. */
  isCut(node: SimNode): boolean
  /** Of an entry of this node's log; undefined when nobody can tell. */
  termOf(node: SimNode, index: number): number | undefined
  check(condition: boolean, text: () => string): void
}

export class ProgressChecks {
  readonly #ports: ProgressPorts
  /** By node. */
  readonly #known = new Map<string, Progress>()

  constructor(ports: ProgressPorts) {
    this.#ports = ports
  }

  /** Another replica begins there. */
  forget(node: string): void {
    this.#known.delete(node)
  }

  appliedOf(node: string): number {
    return this.#known.get(node)?.applied ?? 0
  }

  look(node: SimNode, replica: Replica): void {
    const before = this.#known.get(node.name)
    // Closures cost something, and mostly nothing has changed.
    if (before === undefined || hasMoved(before, replica)) this.#moved(node, replica, before)
  }

  #moved(node: SimNode, replica: Replica, before: Progress | undefined): void {
    const { name } = node
    const { check } = this.#ports
    const now = progressOf(replica)
    const { commit, applied } = now
    this.#known.set(name, now)
    if (now.first !== before?.first) this.#checkBeginning(node, now.first, before !== undefined)
    const outvoted = now.leads ? wrongLeader(replica) : null
    check(outvoted === null, () => `R1: ${outvoted}`)
    check(commit <= replica.log.lastIndex, () => `R4: ${name} has commit ${commit} beyond its log`)
    // A log that was cut for its rotten end lies behind its state until it has caught up.
    const isOld = before ? applied === before.applied : this.#ports.isCut(node)
    check(applied <= commit || isOld, () => `S4: ${name} applied ${applied} with commit ${commit}`)
    if (!before) return
    this.#checkOwnTerm(node, before, now)
    check(commit >= before.commit, () => `R4: commit of ${name} fell from ${before.commit} to ${commit}`)
    check(applied >= before.applied, () => `S4: applied of ${name} fell from ${before.applied}`)
    check(now.term >= before.term, () => `R1: the term of ${name} fell from ${before.term} to ${now.term}`)
  }

  #checkBeginning(node: SimNode, first: number, isRunning: boolean): void {
    const { check, trimmedBefore, looksAtDisks, trims } = this.#ports
    const given = trimmedBefore()
    check(
      first <= Math.max(1, given),
      () => `P1: the log of ${node.name} begins at ${first}, the group has given up what is before ${given}`,
    )
    if (first <= 1 || !looksAtDisks) return
    const problem = isRunning ? trims.wrongDeletion(node, first) : wrongBeginning(node, first)
    check(problem === null, () => `S4: ${problem}`)
  }

  /** An entry of an old term is committed only by one of the own term behind it (Raft 5.4.2). */
  #checkOwnTerm(node: SimNode, before: Progress, { commit, term, leads }: Progress): void {
    if (!(leads && before.leads && before.term === term && commit > before.commit)) return
    if ((this.#ports.termOf(node, commit) ?? term) === term) return
    // A leader whose disk is behind those of the others is told of less than it has committed.
    const counted = node.broker?.replica?.raftStatus().commit ?? commit
    const own = this.#ports.termOf(node, counted) ?? term
    this.#ports.check(
      own === term,
      () => `R5: ${node.name} of term ${term} commits entry ${counted} of term ${own} by count`,
    )
  }
}

function hasMoved(before: Progress, { commitIndex, appliedIndex, term, log }: Replica): boolean {
  if (before.commit !== commitIndex || before.applied !== appliedIndex) return true
  return before.term !== term || before.first !== log.firstIndex
}

function progressOf({ commitIndex: commit, appliedIndex: applied, term, role, log }: Replica): Progress {
  return { commit, applied, term, leads: role === 'leader', first: log.firstIndex }
}
