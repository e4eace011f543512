/**
 * A small driver and network for tests of the core: virtual time, a disk that can lose what was not fsynced, a
 * network that loses, repeats and reorders. `judge.ts` watches over R1-R6.
 *
 * `ManualNode` drives one core by hand; `Cluster` drives several. Both honour the order of duties of a Ready. Same
 * seed, same run.
 */
import type {
  Boot,
  Configuration,
  EntryMeta,
  Input,
  LoggedConfiguration,
  LogIndex,
  MembershipTarget,
  Millis,
  NodeId,
  PeerMessage,
  RaftConfig,
  RaftEvent,
  RaftStatus,
  Random,
  ReadState,
  Ready,
  StepResult,
  Term,
  TermRun,
} from '../../raft/index.ts'
import { defaultRaftConfig, enterJoint, leaveJoint, membersOf, RaftCore } from '../../raft/index.ts'
import { Judge } from './judge.ts'
import { type Disk, type RunningNode, writeLog, writeReady } from './running-node.ts'

/** mulberry32: small, seeded, good enough for jitter. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface BootOptions {
  readonly voters?: readonly NodeId[]
  readonly outgoing?: readonly NodeId[]
  readonly learners?: readonly NodeId[]
  /** Instead of the three above: what the log holds. */
  readonly configurations?: readonly LoggedConfiguration[]
  /** Terms of the entries from `firstIndex` on. */
  readonly terms?: readonly Term[]
  readonly firstIndex?: LogIndex
  readonly previousTerm?: Term
  readonly term?: Term
  readonly vote?: NodeId | null
  readonly commit?: LogIndex
  readonly applied?: LogIndex
  readonly quarantine?: Boot['quarantine']
  readonly termsGuessedTo?: LogIndex
  readonly mayLackConfigurations?: boolean
  readonly priorities?: NonNullable<Configuration['priorities']>
}

export function configurationOf(options: Partial<Configuration> = {}): Configuration {
  const { voters = ['n0', 'n1', 'n2'], outgoing = [], learners = [], priorities = [] } = options
  return { voters, outgoing, learners, priorities }
}

/** What a driver tells the core of the configurations in a log that starts at its first entry. */
export function configurationsOf(first: Configuration, entries: readonly EntryMeta[]): LoggedConfiguration[] {
  const logged = entries.flatMap(({ index, configuration }) => (configuration ? [{ index, configuration }] : []))
  return [{ index: 0, configuration: first }, ...logged]
}

export function runsOf(terms: readonly Term[], firstIndex: LogIndex): TermRun[] {
  const runs: TermRun[] = []
  terms.forEach((term, i) => {
    if (runs.at(-1)?.term !== term) runs.push({ first: firstIndex + i, term })
  })
  return runs
}

export function makeBoot(options: BootOptions = {}): Boot {
  const { terms = [], firstIndex = 1, previousTerm = 0 } = options
  const commit = options.commit ?? firstIndex - 1
  return {
    hardState: { term: options.term ?? terms.at(-1) ?? previousTerm, vote: options.vote ?? null, commit },
    configurations: options.configurations ?? [{ index: 0, configuration: configurationOf(options) }],
    firstIndex,
    previousTerm,
    lastIndex: firstIndex + terms.length - 1,
    termRuns: runsOf(terms, firstIndex),
    applied: options.applied ?? commit,
    quarantine: options.quarantine ?? null,
    termsGuessedTo: options.termsGuessedTo ?? 0,
    mayLackConfigurations: options.mayLackConfigurations ?? false,
  }
}

export function entriesOf(first: LogIndex, terms: readonly Term[], bytes = 10): EntryMeta[] {
  return terms.map((term, i) => ({ index: first + i, term, kind: 'normal', bytes }))
}

export function changeEntry(index: LogIndex, term: Term, configuration: Configuration): EntryMeta {
  return { index, term, kind: 'configuration', bytes: 10, configuration }
}

/** One core, driven by hand: nothing is durable before `persist()`. */
export class ManualNode {
  readonly core: RaftCore
  readonly id: NodeId
  now: Millis
  /** Messages that were allowed to leave and were not taken yet. */
  sent: PeerMessage[] = []
  readonly events: RaftEvent[] = []
  readonly reads: ReadState[] = []
  readonly readies: Ready[] = []
  /** Taken but not durable yet. */
  unsynced: Ready[] = []

  constructor(
    options: BootOptions & { id?: NodeId; config?: Partial<RaftConfig>; random?: Random; now?: Millis } = {},
  ) {
    this.id = options.id ?? 'n0'
    this.now = options.now ?? 0
    // Moved by hand, a node tells news at once; the group below keeps the delay of the real thing.
    const config = { ...defaultRaftConfig, commitNewsDelayMs: 0, id: this.id, ...options.config }
    this.core = new RaftCore(config, makeBoot(options), options.random ?? (() => 0.5), this.now)
  }

  get status(): RaftStatus {
    return this.core.status(this.now)
  }

  step(input: Input): StepResult {
    const result = this.core.step(input, this.now)
    this.drain()
    return result
  }

  receive(message: PeerMessage): StepResult {
    return this.step({ kind: 'message', message })
  }

  propose(...bytes: number[]): StepResult {
    return this.step({ kind: 'propose', entries: bytes.map((size) => ({ kind: 'normal', bytes: size })) })
  }

  change(configuration: Configuration): StepResult {
    return this.step({ kind: 'propose', entries: [{ kind: 'configuration', bytes: 10, configuration }] })
  }

  /** Lets the time pass, ticking whenever something is due. */
  wait(ms: Millis): void {
    const end = this.now + ms
    while (this.core.deadline() <= end) {
      this.now = Math.max(this.now, this.core.deadline())
      this.step({ kind: 'tick' })
    }
    this.now = end
  }

  drain(): void {
    while (this.core.hasReady()) {
      const ready = this.core.ready()
      this.readies.push(ready)
      this.unsynced.push(ready)
      this.sent.push(...ready.sendNow)
      this.events.push(...ready.events)
      this.reads.push(...ready.readStates)
    }
  }

  /** The fsync of everything taken so far, or of all up to a Ready, returned. */
  persist(upTo = this.readies.at(-1)?.number ?? 0): void {
    const durable = this.unsynced.filter((ready) => ready.number <= upTo)
    this.unsynced = this.unsynced.filter((ready) => ready.number > upTo)
    for (const ready of durable) this.sent.push(...ready.sendAfterPersist)
    this.core.step({ kind: 'persisted', ready: upTo }, this.now)
    this.drain()
    if (this.unsynced.some((ready) => !ready.mustSync) && this.unsynced.every((ready) => !ready.mustSync)) {
      for (const ready of this.unsynced) this.sent.push(...ready.sendAfterPersist)
      this.unsynced = []
    }
  }

  /** All messages that left since the last call, of one kind if given. */
  take(): PeerMessage[]
  take<K extends PeerMessage['kind']>(kind: K): Extract<PeerMessage, { kind: K }>[]
  take(kind?: string): PeerMessage[] {
    const taken = this.sent
    this.sent = []
    return kind === undefined ? taken : taken.filter((message) => message.kind === kind)
  }

  eventsOf<K extends RaftEvent['kind']>(kind: K): Extract<RaftEvent, { kind: K }>[] {
    return this.events.filter((event): event is Extract<RaftEvent, { kind: K }> => event.kind === kind)
  }
}

/** Makes a voter of `voters` the leader of the next term, its no-op committed unless told otherwise. */
export function electByHand(node: ManualNode, others: readonly NodeId[], commit = true): void {
  node.step({ kind: 'campaign' })
  const preVoteTerm = node.status.term + 1
  for (const from of others) {
    node.receive({ kind: 'pre_vote_response', from, to: node.id, term: preVoteTerm, refusal: null })
  }
  node.persist()
  const { term } = node.status
  for (const from of others) node.receive({ kind: 'vote_response', from, to: node.id, term, refusal: null })
  if (!commit) return
  node.persist()
  for (const from of others) acknowledge(node, from)
  node.persist()
  node.take()
}

/** `from` holds everything that the leader has, or everything up to `match`. */
export function acknowledge(node: ManualNode, from: NodeId, match: LogIndex = node.status.lastIndex): void {
  node.receive({
    kind: 'append_response',
    from,
    to: node.id,
    term: node.status.term,
    matchIndex: match,
    rejected: null,
  })
}

export interface ClusterOptions {
  readonly nodes?: readonly NodeId[]
  readonly learners?: readonly NodeId[]
  /** Nodes that are up without being members. */
  readonly spares?: readonly NodeId[]
  readonly seed?: number
  readonly priorities?: NonNullable<Configuration['priorities']>
  readonly config?: Partial<RaftConfig>
  readonly fsyncMs?: (random: Random) => Millis
  readonly delayMs?: (random: Random) => Millis
  /** Disks to start from. */
  readonly boots?: Readonly<Record<NodeId, { readonly terms: readonly Term[]; readonly term?: Term }>>
}

interface Scheduled {
  readonly at: Millis
  readonly order: number
  readonly run: () => void
}

export class Cluster {
  now: Millis = 0
  readonly ids: readonly NodeId[]
  readonly random: Random
  readonly judge: Judge
  /** The first configuration, which no entry holds. */
  readonly first: Configuration
  readonly events: { readonly id: NodeId; readonly at: Millis; readonly event: RaftEvent }[] = []
  readonly reads: { readonly id: NodeId; readonly read: ReadState; readonly at: Millis }[] = []
  /** Return false to lose a message. */
  filter: (message: PeerMessage) => boolean = () => true
  lossRate = 0
  duplicateRate = 0
  messagesSent = 0
  readonly #options: ClusterOptions
  readonly #nodes = new Map<NodeId, RunningNode>()
  readonly #queue: Scheduled[] = []
  #order = 0
  #lastRead = 0

  constructor(options: ClusterOptions = {}) {
    this.#options = options
    const { nodes: voters = ['n0', 'n1', 'n2'], learners = [], spares = [], priorities = [] } = options
    this.first = configurationOf({ voters, learners, priorities })
    this.ids = [...voters, ...learners, ...spares]
    this.random = seededRandom(options.seed ?? 1)
    this.judge = new Judge(this.first)
    for (const id of this.ids) {
      const entries = entriesOf(1, options.boots?.[id]?.terms ?? [])
      const term = options.boots?.[id]?.term ?? entries.at(-1)?.term ?? 0
      const disk: Disk = { hardState: { term, vote: null, commit: 0 }, entries }
      this.#nodes.set(id, {
        id,
        core: null,
        disk,
        log: [],
        unsynced: [],
        isSyncing: false,
        isPaused: false,
        backlog: [],
        incarnation: 0,
        applied: 0,
        commitSeen: 0,
        lost: [],
      })
      this.start(id)
    }
  }

  node(id: NodeId): RunningNode {
    return this.#nodes.get(id) as RunningNode
  }

  status(id: NodeId): RaftStatus {
    return (this.node(id).core as RaftCore).status(this.now)
  }

  isUp(id: NodeId): boolean {
    return this.node(id).core !== null
  }

  log(id: NodeId): readonly EntryMeta[] {
    return this.node(id).log
  }

  /** The running leader of the highest term, if any. */
  leader(): NodeId | null {
    const leaders = this.ids.filter((id) => this.isUp(id) && this.status(id).role === 'leader')
    return leaders.sort((a, b) => this.status(b).term - this.status(a).term)[0] ?? null
  }

  step(id: NodeId, input: Input): StepResult | null {
    const node = this.node(id)
    if (node.core === null) return null
    if (node.isPaused) {
      node.backlog.push(input)
      return null
    }
    const result = node.core.step(input, this.now)
    this.#pump(node)
    return result
  }

  propose(id: NodeId, count = 1, bytes = 10): StepResult | null {
    const entries = Array.from({ length: count }, () => ({ kind: 'normal' as const, bytes }))
    return this.step(id, { kind: 'propose', entries })
  }

  change(id: NodeId, configuration: Configuration): StepResult | null {
    return this.step(id, { kind: 'propose', entries: [{ kind: 'configuration', bytes: 10, configuration }] })
  }

  /** What the membership driver of a leader does by itself: it leaves a joint configuration that is committed. */
  leaveJoint(): void {
    const leader = this.leader()
    if (leader === null || this.node(leader).isPaused) return
    const { configuration, configurationCommitted, termStarted } = this.status(leader)
    if (configuration.outgoing.length === 0 || !configurationCommitted || !termStarted) return
    this.change(leader, leaveJoint(configuration))
  }

  /** Brings the group to these members, through a joint configuration; whoever leads. */
  reconfigure(target: MembershipTarget, ms: Millis = 10_000): void {
    const isReached = () => {
      this.leaveJoint()
      const leader = this.leader()
      if (leader === null) return false
      const { configuration, configurationCommitted } = this.status(leader)
      if (!configurationCommitted || configuration.outgoing.length > 0) return false
      if (`${configuration.voters}|${configuration.learners}` === `${target.voters}|${target.learners}`) return true
      this.change(leader, enterJoint(configuration, target))
      return false
    }
    this.runUntil(isReached, ms, 'the change of members')
  }

  run(ms: Millis): void {
    const end = this.now + ms
    while (this.#runNext(end)) {}
    this.now = end
  }

  /** Runs until the condition holds; throws when it does not within `ms`. Returns how long it took. */
  runUntil(condition: () => boolean, ms: Millis, what = 'the condition'): Millis {
    const start = this.now
    while (!condition()) {
      if (!this.#runNext(start + ms)) throw new Error(`${what} did not come true within ${ms} ms`)
    }
    return this.now - start
  }

  /** Runs until a leader has committed its no-op and every member that is up knows it. */
  runUntilLed(ms: Millis = 5_000): NodeId {
    const isLed = () => {
      const leader = this.leader()
      if (leader === null || !this.status(leader).termStarted) return false
      const members = membersOf(this.status(leader).configuration)
      return members.every((id) => !this.isUp(id) || this.node(id).isPaused || this.status(id).leader === leader)
    }
    this.runUntil(isLed, ms, 'an election')
    return this.leader() as NodeId
  }

  cut(...groups: (readonly NodeId[])[]): void {
    const groupOf = (id: NodeId) => groups.findIndex((group) => group.includes(id))
    this.filter = (message) => groupOf(message.from) === groupOf(message.to)
  }

  heal(): void {
    this.filter = () => true
  }

  /** The process dies: what was not fsynced is lost, except for a part that reached the disk anyway. */
  crash(id: NodeId, options: { readonly survivingReadies?: number; readonly torn?: boolean } = {}): void {
    const node = this.node(id)
    if (node.core === null) return
    const surviving = options.survivingReadies ?? 0
    for (const ready of node.unsynced.slice(0, surviving)) writeReady(node.disk, ready)
    const torn = node.unsynced[surviving]
    if (options.torn && torn !== undefined) {
      const { hardState: _, ...rest } = torn
      writeReady(node.disk, { ...rest, append: torn.append.slice(0, Math.floor(torn.append.length / 2)) })
    }
    node.core = null
    node.unsynced = []
    node.backlog = []
    node.isSyncing = false
    node.isPaused = false
    node.incarnation++
  }

  /** The process dies and its peers notice the broken connections. */
  kill(id: NodeId): void {
    this.crash(id)
    for (const other of this.ids) if (other !== id) this.step(other, { kind: 'peer_lost', peer: id })
  }

  start(id: NodeId): void {
    const node = this.node(id)
    if (node.core !== null) return
    const { disk } = node
    const { hardState, entries } = disk
    node.log = [...entries]
    // The state machine of these tests forgets nothing that it applied, as long as the log holds it.
    node.commitSeen = 0
    node.applied = Math.min(node.applied, hardState.commit)
    const config = { ...defaultRaftConfig, id, ...this.#options.config }
    const boot = {
      hardState,
      configurations: configurationsOf(this.first, entries),
      firstIndex: 1,
      previousTerm: 0,
      lastIndex: entries.length,
      termRuns: runsOf(
        entries.map((entry) => entry.term),
        1,
      ),
      applied: node.applied,
      quarantine: node.lost.length === 0 ? null : { untilLeaderReached: true },
    }
    node.core = new RaftCore(config, boot, seededRandom(Math.floor(this.random() * 2 ** 32)), this.now)
    // The end is gone, but there are no holes before it.
    node.core.step({ kind: 'healed' }, this.now)
    this.#pump(node)
  }

  /** Between two runs: the disk loses all entries after `kept`, and the node knows it. */
  cutLog(id: NodeId, kept: LogIndex): void {
    const { core, disk, lost } = this.node(id)
    if (core !== null) throw new Error('test driver: the disk of a running node is cut')
    lost.push([...disk.entries])
    disk.entries.length = Math.min(disk.entries.length, kept)
  }

  /** Starts a current read; the judge sees to it that its answer is. */
  read(id: NodeId): void {
    const context = ++this.#lastRead
    this.judge.onReadStarted(context)
    this.step(id, { kind: 'read_index', context })
  }

  pause(id: NodeId): void {
    this.node(id).isPaused = true
  }

  /** Goes on: first what waited in the sockets, then a single tick. */
  resume(id: NodeId): void {
    const node = this.node(id)
    node.isPaused = false
    const { backlog } = node
    node.backlog = []
    for (const input of backlog) this.step(id, input)
    this.step(id, { kind: 'tick' })
    this.#sync(node)
  }

  /** Runs the next thing that is due by `end`; false when there is none. */
  #runNext(end: Millis): boolean {
    const scheduled = this.#queue[0]
    let tickAt = Number.POSITIVE_INFINITY
    let ticking: RunningNode | null = null
    for (const node of this.#nodes.values()) {
      if (node.core === null || node.isPaused) continue
      const deadline = Math.max(this.now, node.core.deadline())
      if (deadline < tickAt) {
        tickAt = deadline
        ticking = node
      }
    }
    if (scheduled !== undefined && scheduled.at <= tickAt) {
      if (scheduled.at > end) return false
      this.#queue.shift()
      this.now = scheduled.at
      scheduled.run()
      return true
    }
    if (ticking === null || tickAt > end) return false
    this.now = tickAt
    this.step(ticking.id, { kind: 'tick' })
    return true
  }

  #after(ms: Millis, run: () => void): void {
    const item = { at: this.now + ms, order: this.#order++, run }
    let position = this.#queue.length
    while (position > 0 && (this.#queue[position - 1] as Scheduled).at > item.at) position--
    this.#queue.splice(position, 0, item)
  }

  #pump(node: RunningNode): void {
    while (node.core?.hasReady()) {
      const ready = node.core.ready()
      this.judge.onReady(this, node, ready)
      writeLog(node.log, ready)
      for (const event of ready.events) this.events.push({ id: node.id, at: this.now, event })
      for (const read of ready.readStates) {
        this.reads.push({ id: node.id, read, at: this.now })
        this.judge.onRead(node, read)
      }
      for (const message of ready.sendNow) this.#send(message)
      node.unsynced.push(ready)
      this.judge.afterReady(this, node, ready)
      if (ready.events.some((event) => event.kind === 'quarantine_ended')) node.lost = []
      if (ready.committed !== undefined) {
        node.applied = ready.committed.to
        node.core.step({ kind: 'applied', index: ready.committed.to }, this.now)
      }
    }
    this.#sync(node)
  }

  /** One fsync at a time, for all that came while the last one ran. */
  #sync(node: RunningNode): void {
    if (node.isSyncing || node.unsynced.length === 0 || node.isPaused) return
    const batch = node.unsynced.length
    const mustSync = node.unsynced.some((ready) => ready.mustSync)
    const { incarnation } = node
    const finish = () => {
      if (node.incarnation !== incarnation || node.core === null) return
      if (node.isPaused) {
        this.#after(1, finish)
        return
      }
      node.isSyncing = false
      const durable = node.unsynced.splice(0, batch)
      for (const ready of durable) writeReady(node.disk, ready)
      for (const ready of durable) for (const message of ready.sendAfterPersist) this.#send(message)
      this.step(node.id, { kind: 'persisted', ready: (durable.at(-1) as Ready).number })
    }
    node.isSyncing = true
    if (mustSync) this.#after(this.#options.fsyncMs?.(this.random) ?? 1, finish)
    else finish()
  }

  #send(message: PeerMessage): void {
    this.messagesSent++
    if (!this.filter(message) || this.random() < this.lossRate) return
    const sender = this.node(message.from)
    // The driver adds the frames, and with them sizes that the core no longer knows.
    const filled =
      message.kind === 'append'
        ? { ...message, entries: message.entries.map((entry) => sender.log[entry.index - 1] ?? entry) }
        : message
    if (
      filled.kind === 'append' &&
      filled.entries.some((e, i) => e.term !== (message as typeof filled).entries[i]?.term)
    )
      throw new Error('test driver: an append names entries that its sender no longer has')
    const copies = this.random() < this.duplicateRate ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const delayMs = this.#options.delayMs?.(this.random) ?? 0.5
      this.#after(delayMs, () => {
        if (!this.filter(message)) return
        this.step(message.to, { kind: 'message', message: filled })
      })
    }
  }
}
