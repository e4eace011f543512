/**
 * One member of a broker group at work: core, log, state machine, peers and waiting callers, held together.
 *
 * Made by `broker.ts` after recovery; handlers and the registrar see it as `ReplicaApi`. It wires and translates; the
 * order of effects is the loop's, decisions are the core's. Nothing in it is shared with another replica.
 */
import { defaultRaftConfig, type PeerMessage, RaftCore, type RaftEvent } from '../../../raft/index.ts'
import type { CommitLogApi, Frame, FrameType } from '../../../store/index.ts'
import { sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration, ReplicaStatusReply } from '../../rpc/methods.ts'
import type {
  Applied,
  ApplyResult,
  CommittedEntry,
  LeaderView,
  ProposeOptions,
  ReplicaApi,
  StateMachineApi,
} from '../contract.ts'
import type { EventSink } from '../events.ts'
import { type BrokerOptions, type BrokerPorts, limitsOf, type ReplicaLimits } from '../options.ts'
import { Admission, notLeader } from './admission.ts'
import { Applier } from './applier.ts'
import type { Folder } from './folder.ts'
import { ReplicaLoop } from './loop.ts'
import { Members } from './members.ts'
import { publishRaftEvent } from './raft-events.ts'
import type { Recovered } from './recovery.ts'
import { RoleView } from './role-view.ts'
import { SpaceWatch } from './space-watch.ts'
import { StateWriter } from './state-writer.ts'
import { replicaStatus } from './status.ts'

/** Longest wait on a graceful stop for what is staged to become durable, milliseconds. */
const drainMsMax = 5000

export interface ReplicaParts {
  readonly options: BrokerOptions
  readonly ports: BrokerPorts
  readonly events: EventSink
  readonly logger: Logger
  readonly folder: Folder
  readonly configuration: FirstConfiguration
  readonly recovered: Recovered
  /** Where clients reach this node. */
  readonly address: string
  /** This member refused us. */
  refused(node: string, reason: string): void
  /** The replica has stopped for good and answers nobody. */
  failed(error: unknown): void
}

export class Replica implements ReplicaApi {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly incarnation: string
  readonly log: CommitLogApi
  readonly machine: StateMachineApi
  readonly #parts: ReplicaParts
  readonly #limits: ReplicaLimits
  readonly #core: RaftCore
  readonly #loop: ReplicaLoop
  readonly #admission: Admission
  readonly #applier: Applier
  readonly #writer: StateWriter
  readonly #members: Members
  readonly #space: SpaceWatch
  readonly #view = new RoleView()
  readonly #appliedListeners = new Set<(entry: CommittedEntry, result: ApplyResult) => void>()
  readonly #roleListeners = new Set<() => void>()
  readonly #startedMs: number
  #commitIndex: number
  #wasLeading = false
  #stopped: LedgerError | null = null

  constructor(parts: ReplicaParts) {
    const { options, ports, recovered, configuration } = parts
    this.#parts = parts
    this.#limits = limitsOf(options)
    this.cluster = options.cluster
    this.group = options.group
    this.node = options.node
    this.incarnation = configuration.incarnation
    this.log = recovered.log
    this.machine = recovered.machine
    this.#startedMs = ports.clock.monotonicMs()
    this.#commitIndex = recovered.boot.hardState.commit
    const config = { ...defaultRaftConfig, ...options.raft, id: options.node }
    this.#core = new RaftCore(config, recovered.boot, () => ports.random.next(), this.#startedMs)
    this.#loop = this.#makeLoop()
    this.#admission = this.#makeAdmission()
    this.#space = this.#makeSpaceWatch()
    this.#writer = this.#makeWriter()
    this.#applier = this.#makeApplier()
    this.#members = new Members({
      ...parts,
      disk: parts.folder.identity.disk,
      log: this.log,
      term: () => this.term,
      step: (input) => this.#loop.step(input),
    })
  }

  get commitIndex(): number {
    return this.#commitIndex
  }

  get appliedIndex(): number {
    return this.machine.appliedIndex
  }

  get term(): number {
    return this.#loop.term
  }

  get leading(): boolean {
    return this.#stopped === null && this.#view.leading(this.machine.appliedIndex)
  }

  get nodes(): readonly { readonly node: string; readonly address: string }[] {
    return this.#members.nodes
  }

  leader(): LeaderView | null {
    const leader = this.#view.leader
    return leader && { ...leader, address: this.#members.addressOf(leader.node) }
  }

  propose(type: FrameType, body: readonly Uint8Array[], options: ProposeOptions): Promise<Applied> {
    return this.#admission.propose(type, body, options)
  }

  readCurrent(options: ProposeOptions): Promise<void> {
    return this.#admission.readCurrent(options)
  }

  onApplied(listener: (entry: CommittedEntry, result: ApplyResult) => void): () => void {
    this.#appliedListeners.add(listener)
    return () => this.#appliedListeners.delete(listener)
  }

  onRoleChanged(listener: () => void): () => void {
    this.#roleListeners.add(listener)
    return () => this.#roleListeners.delete(listener)
  }

  start(): void {
    this.#members.open()
    this.#loop.start()
  }

  /** A message of a member whose Hello was checked. */
  receive(message: PeerMessage, wallMs: number, frames: readonly Frame[]): void {
    if (this.#stopped) return
    this.#members.heard(message.from, wallMs)
    this.#loop.receive(message, frames)
  }

  /** A member dialled us and told where clients reach it. */
  greeted(node: string, address: string): void {
    if (this.#members.greeted(node, address)) this.#notifyRole()
  }

  status(): ReplicaStatusReply {
    const { ports, configuration, address } = this.#parts
    const nowMs = ports.clock.monotonicMs()
    return replicaStatus({
      node: this.node,
      configuration,
      raft: this.#core.status(nowMs),
      log: this.log,
      machine: this.machine,
      reason: this.#view.reason,
      pid: ports.pid ?? 0,
      uptimeMs: nowMs - this.#startedMs,
      address,
      isConnected: (node) => this.#members.isConnected(node),
      problemOf: (node) => this.#members.problemOf(node),
    })
  }

  /** Hands leadership to the peer that holds most of the log; false when this node does not lead or has no peer. */
  transferAway(): boolean {
    const raft = this.#core.status(this.#parts.ports.clock.monotonicMs())
    if (raft.role !== 'leader') return false
    const [best] = raft.peers
      .filter((peer) => peer.id !== this.node && this.#members.isConnected(peer.id))
      .sort((a, b) => b.match - a.match)
    return best !== undefined && this.#loop.step({ kind: 'transfer', to: best.id }).kind === 'done'
  }

  get role(): string {
    return this.#view.role
  }

  /** Refuses new work, lets what is staged become durable, writes the state and closes log and hard state. */
  async close(): Promise<void> {
    this.#stopped = new LedgerError('SERVICE_NOT_AVAILABLE', 'this replica is stopping')
    this.#loop.pump()
    // A full disk may never take what is staged; nobody was promised it.
    await Promise.race([this.#loop.drained(), sleep(this.#parts.ports.clock, drainMsMax)])
    this.#loop.stop()
    this.#space.stop()
    this.#applier.stop()
    this.#admission.failAll('this replica stopped')
    this.#members.close()
    await this.#writer.finish()
    const raft = this.#core.status(this.#parts.ports.clock.monotonicMs())
    const commit = Math.min(raft.commit, this.log.durableIndex)
    await this.#parts.recovered.hardState.save({ term: raft.term, vote: raft.vote, commit })
    await this.log.close()
    await this.#parts.recovered.hardState.close()
    this.#notifyRole()
  }

  #makeLoop(): ReplicaLoop {
    const { ports, recovered, events } = this.#parts
    return new ReplicaLoop(
      {
        clock: ports.clock,
        limits: this.#limits,
        core: this.#core,
        log: this.log,
        hardState: recovered.hardState,
        stamp: (previous) => this.#members.stamp(previous),
        send: (message) => this.#members.send(message),
        event: (event) => this.#onEvent(event),
        readConfirmed: (context, index) => this.#admission.reads.confirmed(context, index, this.appliedIndex),
        committed: (index) => this.#onCommitted(index),
        turnEnded: () => this.#onTurnEnded(),
        diskFull: () => this.#space.notice(),
        slowFsync: (tookMs) => events.emit('slow_fsync', this.term, { tookMs: Math.round(tookMs) }),
        failed: (error) => this.#fail(error),
      },
      { lastStoreTime: recovered.lastStoreTime, term: recovered.boot.hardState.term },
    )
  }

  #makeAdmission(): Admission {
    return new Admission({
      clock: this.#parts.ports.clock,
      limits: this.#limits,
      frameBytesMax: this.#parts.configuration.segmentBytes,
      step: (input) => this.#loop.step(input),
      leader: () => this.leader(),
      diskFull: () => this.#refusesWrites(),
      stopped: () => this.#stopped,
      keepBody: (index, term, type, body) => this.#loop.keepBody(index, term, type, body),
    })
  }

  #makeSpaceWatch(): SpaceWatch {
    return new SpaceWatch({
      clock: this.#parts.ports.clock,
      log: this.log,
      retryMs: this.#limits.diskFullRetryMs,
      changed: (full) => this.#parts.events.emit(full ? 'disk_full' : 'disk_space_back', this.term, {}),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #makeWriter(): StateWriter {
    return new StateWriter({
      clock: this.#parts.ports.clock,
      machine: this.machine,
      store: this.#parts.recovered.store,
      limits: this.#limits,
      durableIndex: () => this.log.durableIndex,
      written: () => this.#applier.resume(),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #makeApplier(): Applier {
    return new Applier({
      clock: this.#parts.ports.clock,
      log: this.log,
      machine: this.machine,
      limits: this.#limits,
      applied: (entry, result) => this.#onApplied(entry, result),
      progressed: (index) => this.#onProgressed(index),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #onEvent(event: RaftEvent): void {
    publishRaftEvent(event, this.term, this.#parts.events)
    const changed = this.#view.take(event)
    if (event.kind === 'role_changed') {
      const { from, to, term, leader, reason } = event
      this.#parts.logger.info('role changed', { from, to, term, leader, reason })
    }
    if (event.kind === 'role_changed' && event.from === 'leader') {
      const { commit } = this.#core.status(this.#parts.ports.clock.monotonicMs())
      this.#admission.proposals.deposed(commit, this.leader())
    }
    if (event.kind === 'reads_dropped') this.#admission.reads.dropped(event.contexts, this.#readsDropped())
    if (changed) this.#notifyRole()
  }

  /** Only a leader says so: others refuse for a better reason. */
  #refusesWrites(): boolean {
    if (this.log.diskFull) this.#space.notice()
    return this.log.diskFull && this.#view.role === 'leader'
  }

  #readsDropped(): LedgerError {
    const leader = this.#view.leader
    if (leader && leader.node !== this.node) return notLeader(this.leader(), leader.node, leader.term)
    return new LedgerError('NO_QUORUM', 'this replica lost its quorum while the read waited')
  }

  #onCommitted(index: number): void {
    this.#commitIndex = Math.max(this.#commitIndex, index)
    this.#applier.applyTo(index)
  }

  #onApplied(entry: CommittedEntry, result: ApplyResult): void {
    this.#admission.proposals.applied(entry.index, entry.term, result)
    for (const listener of this.#appliedListeners) listener(entry, result)
    if (result.kind === 'topic' || result.kind === 'topic_deleted') this.#notifyRole()
  }

  #onProgressed(index: number): void {
    this.#loop.step({ kind: 'applied', index })
    this.#admission.reads.applied(index)
    this.#writer.changed()
    if (this.leading !== this.#wasLeading) this.#notifyRole()
  }

  #onTurnEnded(): void {
    this.#admission.reads.endTurn()
    this.#admission.retryHeld()
  }

  #notifyRole(): void {
    this.#wasLeading = this.leading
    for (const listener of this.#roleListeners) listener()
  }

  #fail(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error)
    this.#stopped = new LedgerError('SERVICE_NOT_AVAILABLE', `this replica failed: ${text}`)
    this.#parts.events.emit('storage_failed', this.term, { error: text })
    this.#applier.stop()
    this.#space.stop()
    this.#writer.stop()
    this.#admission.failAll(text)
    this.#notifyRole()
    this.#parts.failed(error)
  }
}
