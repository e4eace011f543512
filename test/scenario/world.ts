/**
 * The group of a scenario: cores with clocks, disks and a network that move only when a command says so.
 *
 * Used by `commands.ts`. Writes what happens as lines of a transcript. Honours the order of duties of a Ready
 * (`raft/README.md`), and lets the judge of `test/raft` look at everything.
 */
import type {
  EntryMeta,
  Input,
  LogIndex,
  Millis,
  NodeId,
  PeerMessage,
  RaftConfig,
  RaftStatus,
  Ready,
  StepResult,
} from '../../raft/index.ts'
import { defaultRaftConfig, InvariantError, RaftCore } from '../../raft/index.ts'
import { Judge, type JudgedGroup } from '../raft/judge.ts'
import { eventLines, messageText, rangeText, statusText, writeText } from './notation.ts'
import { bootOf, filledFrom, writeLog, writeReady } from './stored.ts'
import { Wire } from './wire.ts'
import { makeNode, type NodeSetup, randomOf, type WorldNode } from './world-node.ts'

export interface WorldSetup {
  readonly voters: readonly NodeId[]
  readonly learners: readonly NodeId[]
  readonly nodes: readonly NodeSetup[]
  readonly config: Partial<RaftConfig>
}

/** One input never leads to more. */
const readiesMax = 1000

export class World implements JudgedGroup {
  readonly wire: Wire = new Wire()
  readonly ids: readonly NodeId[]
  readonly now: Millis = 0
  lines: string[] = []
  /** While true nothing is written down. */
  isQuiet = false
  readonly #setup: WorldSetup
  readonly #nodes: ReadonlyMap<NodeId, WorldNode>
  readonly #judge: Judge

  constructor(setup: WorldSetup) {
    this.#setup = setup
    this.ids = setup.nodes.map(({ id }) => id)
    this.#judge = new Judge({ voters: setup.voters, outgoing: [], learners: setup.learners })
    this.#nodes = new Map(setup.nodes.map((node) => [node.id, makeNode(node)]))
    for (const id of this.ids) this.start(id)
  }

  node(id: NodeId): WorldNode {
    const node = this.#nodes.get(id)
    if (node === undefined) throw new Error(`there is no node ${id}`)
    return node
  }

  log(id: NodeId): readonly EntryMeta[] {
    return this.node(id).log
  }

  status(id: NodeId): RaftStatus {
    const { core, now } = this.node(id)
    if (core === null) throw new Error(`${id} is down`)
    return core.status(now)
  }

  statusText(id: NodeId): string {
    const { core, stopped, log } = this.node(id)
    if (core === null) return stopped === null ? 'down' : 'stopped'
    return statusText(this.status(id), log)
  }

  say(id: NodeId, line: string): void {
    this.node(id).said.push(line)
    if (!this.isQuiet) this.lines.push(`${id} ${line}`)
  }

  /** Feeds one input and does the duties that come of it. Null when the node is down or stops itself. */
  step(id: NodeId, input: Input): StepResult | null {
    return this.stepTogether(id, [input])
  }

  /** Feeds several inputs before the first Ready is taken, as a busy driver does. The result is that of the last. */
  stepTogether(id: NodeId, inputs: readonly Input[]): StepResult | null {
    const node = this.node(id)
    let result: StepResult | null = null
    for (const input of inputs) result = this.#guard(node, (core) => core.step(input, node.now))
    this.#pump(node)
    return result
  }

  /** The fsync of the oldest `countMax` waiting Readies returned. */
  persist(id: NodeId, countMax = Number.POSITIVE_INFINITY): void {
    const node = this.node(id)
    const durable = node.unsynced.splice(0, countMax)
    const last = durable.at(-1)
    if (last === undefined) return
    for (const ready of durable) writeReady(node.disk, ready)
    for (const ready of durable) this.#send(node, '=>', ready.sendAfterPersist)
    this.#guard(node, (core) => core.step({ kind: 'persisted', ready: last.number }, node.now))
    this.#pump(node)
  }

  deliver(message: PeerMessage): StepResult | null {
    const node = this.node(message.to)
    if (node.core === null) return null
    const saidBefore = node.said.length
    const result = this.step(message.to, { kind: 'message', message })
    const isMute = node.said.length === saidBefore && result?.kind !== 'refused'
    if (isMute) this.say(message.to, `<- ${message.from}  ${messageText(message)}: nothing to do`)
    return result
  }

  /** The process dies; of what was not fsynced the oldest `survivors` Readies reached the disk all the same. */
  crash(id: NodeId, survivors: number): void {
    const node = this.node(id)
    for (const ready of node.unsynced.slice(0, survivors)) writeReady(node.disk, ready)
    node.core = null
    node.unsynced = []
    this.say(id, 'is down')
  }

  start(id: NodeId): void {
    const node = this.node(id)
    const { hardState, entries } = node.disk
    node.log = [...entries]
    node.applied = Math.min(node.applied, hardState.commit)
    node.spoken = hardState
    node.stopped = null
    const first = { voters: this.#setup.voters, outgoing: [], learners: this.#setup.learners }
    const config = { ...defaultRaftConfig, commitNewsDelayMs: 0, ...this.#setup.config, id }
    try {
      node.core = new RaftCore(config, bootOf(node.disk, first, node.applied), randomOf(node), node.now)
      node.commitSeen = node.core.status(node.now).commit
      for (const { index, term } of node.log.slice(0, node.commitSeen)) this.#judge.committed.set(index, term)
    } catch (error) {
      this.#stop(node, error)
    }
    this.#pump(node)
  }

  /** Rot ate the end of its log; found at the next start, which is quarantined until a leader's log was reached. */
  lose(id: NodeId, first: LogIndex): void {
    const node = this.node(id)
    if (node.core !== null) throw new Error(`${id} runs: a log is found damaged at a start`)
    node.lost.push([...node.disk.entries])
    node.disk.entries.length = first - 1
    node.disk.quarantine = { untilLeaderReached: true }
  }

  /** What a catch-up does: log and state of `id`, which is down, become those of `from`, as far as they are committed. */
  copy(id: NodeId, from: NodeId): void {
    const [node, source] = [this.node(id), this.node(from)]
    if (node.core !== null) throw new Error(`${id} runs: a copy is installed by a restart`)
    const { disk, commitSeen: commit, applied } = source
    const entries = disk.entries.slice(0, commit)
    const { term, vote } = node.disk.hardState
    const isTermOld = term < (entries.at(-1)?.term ?? 0)
    const hardState = isTermOld ? { term: entries.at(-1)?.term ?? 0, vote: null, commit } : { term, vote, commit }
    Object.assign(node.disk, { entries, hardState, firstIndex: disk.firstIndex })
    node.applied = Math.min(applied, commit)
  }

  /** What must hold between any two commands. */
  check(): void {
    this.#judge.checkLogs(this)
  }

  #pump(node: WorldNode): void {
    for (let readies = 0; node.core?.hasReady(); readies++) {
      if (readies > readiesMax) throw new Error(`${node.id} always has another Ready`)
      const ready = this.#guard(node, (core) => core.ready())
      if (ready === null) return
      this.#judge.onReady(this, node, ready)
      writeLog(node.log, ready)
      const commitBefore = node.commitSeen
      node.unsynced.push(ready)
      this.#judge.afterReady(this, node, ready)
      this.#report(node, ready, commitBefore)
      if (ready.committed === undefined) continue
      node.applied = ready.committed.to
      const { to: index } = ready.committed
      this.#guard(node, (core) => core.step({ kind: 'applied', index }, node.now))
    }
    if (node.core === null) return
    if (!node.isDiskSlow) this.persist(node.id)
    else while (node.unsynced[0]?.mustSync === false) this.persist(node.id, 1)
  }

  #report(node: WorldNode, ready: Ready, commitBefore: LogIndex): void {
    const { id } = node
    for (const line of eventLines(id, ready.events)) this.say(id, line)
    const commit = node.commitSeen > commitBefore ? `commit ${node.commitSeen}` : null
    const applies = ready.committed && `applies ${rangeText(ready.committed.from, ready.committed.to)}`
    if (commit !== null || applies) this.say(id, [commit, applies].filter(Boolean).join(', '))
    if (ready.catchUp !== undefined)
      this.say(id, `needs a copy: ${ready.catchUp.from} begins at ${ready.catchUp.firstIndex}`)
    for (const { context, index } of ready.readStates) this.say(id, `answers read ${context} at ${index}`)
    node.reads.push(...ready.readStates)
    this.#send(node, '->', ready.sendNow)
    const write = writeText(ready, node.spoken)
    node.spoken = ready.hardState ?? node.spoken
    if (write !== null) this.say(id, `disk${node.isDiskSlow ? ' (not yet)' : ''}: ${write}`)
    else if (node.isDiskSlow && ready.sendAfterPersist.length > 0 && node.unsynced.length > 1) {
      this.say(id, 'disk (not yet): nothing new, but an answer that waits for what is before it')
    }
  }

  /** Same words to several peers are one line. */
  #send(node: WorldNode, arrow: '->' | '=>', messages: readonly PeerMessage[]): void {
    const receivers = new Map<string, NodeId[]>()
    for (const message of messages) {
      const text = messageText(message)
      receivers.set(text, [...(receivers.get(text) ?? []), message.to])
      this.wire.send(
        message.kind === 'append' ? { ...message, entries: filledFrom(node.log, message.entries) } : message,
      )
    }
    for (const [text, to] of receivers) this.say(node.id, `${arrow} ${to.join(' ')}  ${text}`)
  }

  #guard<T>(node: WorldNode, run: (core: RaftCore) => T): T | null {
    if (node.core === null) return null
    try {
      return run(node.core)
    } catch (error) {
      this.#stop(node, error)
      return null
    }
  }

  /** An InvariantError is final: the process stops. */
  #stop(node: WorldNode, error: unknown): void {
    if (!(error instanceof InvariantError)) throw error
    node.core = null
    node.unsynced = []
    node.stopped = error.message
    this.say(node.id, `STOPS: ${error.message}`)
  }
}
