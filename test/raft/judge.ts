/**
 * Watches over a whole group in tests: sees all logs, disks and commits at once, and throws when R1-R6 do not hold.
 *
 * Used by `support.ts` and `test/scenario/world.ts`, which show it every Ready before and after the driver took it.
 */
import type {
  Configuration,
  EntryMeta,
  LoggedConfiguration,
  LogIndex,
  Millis,
  NodeId,
  RaftCore,
  ReadState,
  Ready,
  Term,
} from '../../raft/index.ts'

/** A node as the judge sees it. `log` is ahead of `disk`; both begin at index 1. */
export interface JudgedNode {
  readonly id: NodeId
  readonly core: RaftCore | null
  readonly disk: { readonly entries: readonly EntryMeta[] }
  readonly log: readonly EntryMeta[]
  commitSeen: LogIndex
  /** The logs of a quarantined node as they were before its disk lost their ends. */
  readonly lost?: readonly (readonly EntryMeta[])[]
}

export interface JudgedGroup {
  readonly now: Millis
  readonly ids: readonly NodeId[]
  node(id: NodeId): JudgedNode
  log(id: NodeId): readonly EntryMeta[]
}

/** Sees everything at once and throws when an invariant of Raft does not hold. */
export class Judge {
  readonly committed = new Map<LogIndex, Term>()
  /** The term in which each entry was committed first: only leaders of later terms must hold it (Raft figure 3). */
  readonly #committedIn = new Map<LogIndex, Term>()
  readonly #leaders = new Map<Term, NodeId>()
  /** What was committed anywhere when a read began. */
  readonly #readFloors = new Map<number, LogIndex>()
  readonly #first: Configuration

  /** `first` is the configuration that no entry holds. */
  constructor(first: Configuration) {
    this.#first = first
  }

  onReady(_cluster: JudgedGroup, node: JudgedNode, ready: Ready): void {
    if (ready.truncateFrom !== undefined) {
      check(ready.truncateFrom > node.commitSeen, `R6: ${node.id} cuts committed entries`)
    }
  }

  afterReady(cluster: JudgedGroup, node: JudgedNode, ready: Ready): void {
    for (const event of ready.events) {
      if (event.kind !== 'leader_elected') continue
      const other = this.#leaders.get(event.term)
      check(other === undefined || other === node.id, `R1: ${other} and ${node.id} lead term ${event.term}`)
      this.#leaders.set(event.term, node.id)
      const configuration = this.#newestOf(node.log).configuration
      const votes = event.votes.join(' ')
      check(
        isQuorum(configuration, (id) => event.votes.includes(id)),
        `R1: ${node.id} was elected by ${votes} only`,
      )
      for (const [index, term] of this.committed) {
        if ((this.#committedIn.get(index) as Term) >= event.term) continue
        check(node.log[index - 1]?.term === term, `R3: leader ${node.id} of term ${event.term} lacks entry ${index}`)
      }
    }
    if (ready.events.some((event) => event.kind === 'quarantine_ended')) this.#checkQuarantineEnd(node)
    this.#checkChanges(cluster, node, ready)
    this.#checkCommit(cluster, node, ready)
    if (ready.committed !== undefined) {
      for (let index = ready.committed.from; index <= ready.committed.to; index++) {
        const term = node.log[index - 1]?.term as Term
        check(this.committed.get(index) === term, `R3: ${node.id} applies entry ${index} of term ${term}`)
        check(node.disk.entries[index - 1]?.term === term, `S4: ${node.id} applies ${index} before it is durable`)
      }
    }
  }

  onReadStarted(context: number): void {
    this.#readFloors.set(context, Math.max(0, ...this.committed.keys()))
  }

  /** Thesis 6.4: whatever was acknowledged before the read began is seen by it, on whichever node it was asked. */
  onRead(node: JudgedNode, { context, index }: ReadState): void {
    const floor = this.#readFloors.get(context)
    if (floor === undefined) return
    check(index >= floor, `a read on ${node.id} gets index ${index}, but ${floor} was committed when it began`)
  }

  /** R2: where two logs agree on one entry they agree on all before it. */
  checkLogs(cluster: JudgedGroup): void {
    for (const a of cluster.ids) {
      for (const b of cluster.ids) {
        if (a >= b) continue
        const [logA, logB] = [cluster.log(a), cluster.log(b)]
        let common = Math.min(logA.length, logB.length)
        while (common > 0 && logA[common - 1]?.term !== logB[common - 1]?.term) common--
        for (let i = 0; i < common; i++) check(logA[i]?.term === logB[i]?.term, `R2: ${a} and ${b} differ at ${i + 1}`)
      }
    }
  }

  /** Whoever votes again holds, on its disk, all that was committed by counting its word. */
  #checkQuarantineEnd({ id, disk, lost = [] }: JudgedNode): void {
    for (const [index, term] of this.committed) {
      if (!lost.some((log) => log[index - 1]?.term === term)) continue
      check(disk.entries[index - 1]?.term === term, `R3: ${id} votes again and lacks entry ${index}`)
    }
  }

  /** The newest configuration of the log is in force, and of the changes in a log at most one may still be undone. */
  #checkChanges(cluster: JudgedGroup, node: JudgedNode, ready: Ready): void {
    const { role, term, configurationIndex } = (node.core as RaftCore).status(cluster.now)
    const newest = this.#newestOf(node.log)
    check(configurationIndex === newest.index, `R2: ${node.id} acts on ${configurationIndex}, not ${newest.index}`)
    const open = node.log.filter((entry) => entry.configuration && this.committed.get(entry.index) !== entry.term)
    check(open.length <= 1, `R3: the log of ${node.id} holds ${open.length} uncommitted changes`)
    if (role !== 'leader' || !ready.append.some((entry) => entry.configuration && entry.term === term)) return
    const isStarted = node.log.some((entry) => entry.term === term && this.committed.get(entry.index) === term)
    check(isStarted, `R3: ${node.id} changes the members before an entry of its term ${term} is committed`)
  }

  #newestOf(log: readonly EntryMeta[]): LoggedConfiguration {
    const entry = log.findLast(({ configuration }) => configuration !== undefined)
    return { index: entry?.index ?? 0, configuration: entry?.configuration ?? this.#first }
  }

  #checkCommit(cluster: JudgedGroup, node: JudgedNode, ready: Ready): void {
    const status = (node.core as RaftCore).status(cluster.now)
    const { commit, role, term } = status
    check(commit >= node.commitSeen, `R4: the commit of ${node.id} went back`)
    check(commit <= status.lastIndex, `R4: the commit of ${node.id} is beyond its log`)
    if (commit === node.commitSeen) return
    if (role === 'leader' && !this.committed.has(commit)) {
      const commitTerm = node.log[commit - 1]?.term
      check(commitTerm === term, `R5: ${node.id} commits entry ${commit} of term ${commitTerm} in term ${term}`)
      const holds = (log: readonly EntryMeta[]) => log[commit - 1]?.term === commitTerm
      const holders = cluster.ids.filter((id) => {
        const { disk, lost = [] } = cluster.node(id)
        // What a quarantined node lost was durable when it said so, and without it the node casts no vote.
        return holds(disk.entries) || lost.some(holds)
      })
      // A change in the same Ready may have been proposed behind the commit: then the majority before it counted.
      const change = ready.append.find((entry) => entry.configuration !== undefined)?.index ?? 0
      const logs = change > commit ? [node.log, node.log.slice(0, change - 1)] : [node.log]
      const isHeld = logs.some((log) => isQuorum(this.#newestOf(log).configuration, (id) => holders.includes(id)))
      check(isHeld, `R5: entry ${commit} is committed, durable only on ${holders}`)
    }
    for (let index = commit; index > node.commitSeen; index--) {
      const entryTerm = node.log[index - 1]?.term as Term
      const known = this.committed.get(index)
      check(
        known === undefined || known === entryTerm,
        `R3: entry ${index} is committed in terms ${known}, ${entryTerm}`,
      )
      this.committed.set(index, entryTerm)
      if (known === undefined) this.#committedIn.set(index, term)
    }
    node.commitSeen = commit
  }
}

/** Counted anew, not by the code under test: a majority of the voters, and of the outgoing ones if there are any. */
function isQuorum({ voters, outgoing }: Configuration, has: (id: NodeId) => boolean): boolean {
  const isMajority = (ids: readonly NodeId[]) => ids.length === 0 || ids.filter(has).length * 2 > ids.length
  return isMajority(voters) && isMajority(outgoing)
}

function check(condition: boolean, message: string): void {
  if (!condition) throw new Error(message)
}
