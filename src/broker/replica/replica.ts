/**
 * One member of a broker group at work: core, log, state machine, peers and waiting callers, held together.
 *
 * Made by `broker.ts` after recovery; handlers and the registrar see it as `ReplicaApi`. It wires and translates; the
 * order of effects is the loop's, decisions are the core's. Nothing in it is shared with another replica.
 */
import { defaultRaftConfig, type PeerMessage, RaftCore, type RaftEvent } from '../../../raft/index.ts'
import type { CommitLogApi, Frame, FrameType, HardStateApi } from '../../../store/index.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration, Member, ReplicaStatusReply } from '../../rpc/methods.ts'
import type { Hello } from '../../rpc/peer-codec.ts'
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
import { type BrokerOptions, type BrokerPorts, limitsOf } from '../options.ts'
import { Admission, notLeader } from './admission.ts'
import { Applier } from './applier.ts'
import { otherMembers } from './bootstrap.ts'
import type { Folder } from './folder.ts'
import { ReplicaLoop } from './loop.ts'
import { buildName, featureLevel, protocolVersion } from './peer-server.ts'
import { Peers } from './peers.ts'
import { publishRaftEvent } from './raft-events.ts'
import type { Recovered } from './recovery.ts'
import { RoleView } from './role-view.ts'
import { SpaceWatch } from './space-watch.ts'
import { StateWriter } from './state-writer.ts'
import { replicaStatus } from './status.ts'
import { VoterClocks } from './voter-clocks.ts'

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
  readonly #hardState: HardStateApi
  readonly #core: RaftCore
  readonly #loop: ReplicaLoop
  readonly #admission: Admission
  readonly #applier: Applier
  readonly #writer: StateWriter
  readonly #peers: Peers
  readonly #space: SpaceWatch
  readonly #clocks: VoterClocks
  readonly #view = new RoleView()
  readonly #addresses = new Map<string, string>()
  readonly #appliedListeners = new Set<(entry: CommittedEntry, result: ApplyResult) => void>()
  readonly #roleListeners = new Set<() => void>()
  readonly #startedMs: number
  #commitIndex: number
  #wasLeading = false
  #stopped: LedgerError | null = null

  constructor(parts: ReplicaParts) {
    const { options, ports, recovered, configuration } = parts
    const { clock, random } = ports
    const { log, machine, hardState } = recovered
    const limits = limitsOf(options)
    this.#parts = parts
    this.cluster = options.cluster
    this.group = options.group
    this.node = options.node
    this.incarnation = configuration.incarnation
    this.log = log
    this.machine = machine
    this.#hardState = hardState
    this.#startedMs = clock.monotonicMs()
    this.#commitIndex = recovered.boot.hardState.commit
    this.#addresses.set(options.node, parts.address)
    this.#clocks = new VoterClocks(clock, parts.events)
    const config = { ...defaultRaftConfig, ...options.raft, id: options.node }
    this.#core = new RaftCore(config, recovered.boot, () => random.next(), clock.monotonicMs())
    this.#loop = new ReplicaLoop(
      {
        clock,
        limits,
        core: this.#core,
        log,
        hardState,
        stamp: (previous) => this.#clocks.stamp(previous, this.term),
        send: (message) => this.#peers.send(message),
        event: (event) => this.#onEvent(event),
        readConfirmed: (context, index) => this.#admission.reads.confirmed(context, index, machine.appliedIndex),
        committed: (index) => this.#onCommitted(index),
        turnEnded: () => this.#onTurnEnded(),
        diskFull: () => this.#space.notice(),
        slowFsync: (tookMs) => parts.events.emit('slow_fsync', this.term, { tookMs: Math.round(tookMs) }),
        failed: (error) => this.#fail(error),
      },
      { lastStoreTime: recovered.lastStoreTime, term: recovered.boot.hardState.term },
    )
    this.#admission = new Admission({
      clock,
      limits,
      step: (input) => this.#loop.step(input),
      leader: () => this.leader(),
      diskFull: () => this.#isDiskFull(),
      stopped: () => this.#stopped,
      keepBody: (index, term, type, body) => this.#loop.keepBody(index, term, type, body),
    })
    this.#space = new SpaceWatch({
      clock,
      log,
      retryMs: limits.diskFullRetryMs,
      changed: (full) => parts.events.emit(full ? 'disk_full' : 'disk_space_back', this.term, {}),
      failed: (error) => this.#loop.storageFailed(error),
    })
    this.#writer = new StateWriter({
      clock,
      machine,
      store: parts.folder.store,
      limits,
      durableIndex: () => log.durableIndex,
      written: () => this.#applier.resume(),
      failed: (error) => this.#loop.storageFailed(error),
    })
    this.#applier = new Applier({
      clock,
      log,
      machine,
      limits,
      applied: (entry, result) => this.#onApplied(entry, result),
      progressed: (index) => this.#onProgressed(index),
      failed: (error) => this.#loop.storageFailed(error),
    })
    this.#peers = new Peers(otherMembers(configuration, options), {
      clock,
      random,
      transport: ports.transport,
      logger: parts.logger,
      log,
      limits,
      hello: (to) => this.#hello(to),
      connected: (node) => parts.events.emit('peer_connected', this.term, { node }),
      lost: (node, error) => this.#onPeerLost(node, error),
      refused: (node, error) => this.#onPeerRefused(node, error),
      unreachable: (node) => clock.defer(() => this.#loop.step({ kind: 'unreachable', peer: node })),
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
    return [...this.#addresses].map(([node, address]) => ({ node, address }))
  }

  leader(): LeaderView | null {
    const leader = this.#view.leader
    return leader && { ...leader, address: this.#addresses.get(leader.node) ?? '' }
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
    this.#peers.open()
    this.#loop.start()
  }

  /** A message of a member whose Hello was checked. */
  receive(message: PeerMessage, wallMs: number, frames: readonly Frame[]): void {
    if (this.#stopped) return
    this.#clocks.heard(message.from, wallMs)
    this.#loop.receive(message, frames)
  }

  /** A member dialled us and told where clients reach it. */
  greeted(node: string, address: string): void {
    if (address === '' || this.#addresses.get(node) === address) return
    this.#addresses.set(node, address)
    this.#notifyRole()
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
      isConnected: (node) => this.#peers.isConnected(node),
    })
  }

  /** Hands leadership to the peer that holds most of the log; false when this node does not lead or has no peer. */
  transferAway(): boolean {
    const raft = this.#core.status(this.#parts.ports.clock.monotonicMs())
    if (raft.role !== 'leader') return false
    const [best] = raft.peers
      .filter((peer) => peer.id !== this.node && this.#peers.isConnected(peer.id))
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
    await this.#loop.drained()
    this.#loop.stop()
    this.#space.stop()
    this.#applier.stop()
    this.#admission.failAll('this replica stopped')
    this.#peers.close()
    await this.#writer.finish()
    const raft = this.#core.status(this.#parts.ports.clock.monotonicMs())
    const commit = Math.min(raft.commit, this.log.durableIndex)
    await this.#hardState.save({ term: raft.term, vote: raft.vote, commit })
    await this.log.close()
    await this.#hardState.close()
    this.#notifyRole()
  }

  #hello(to: Member): Hello {
    const { folder, address } = this.#parts
    return {
      cluster: this.cluster,
      group: this.group,
      incarnation: this.incarnation,
      fromNode: this.node,
      fromDisk: folder.identity.disk,
      toNode: to.node,
      toDisk: to.disk,
      fromAddress: address,
      protocolMin: protocolVersion,
      protocolMax: protocolVersion,
      build: buildName,
      featureLevel,
    }
  }

  #onEvent(event: RaftEvent): void {
    publishRaftEvent(event, this.term, this.#parts.events)
    const changed = this.#view.take(event)
    if (event.kind === 'role_changed' && event.from === 'leader') {
      const { commit } = this.#core.status(this.#parts.ports.clock.monotonicMs())
      this.#admission.proposals.deposed(commit, this.leader())
    }
    if (event.kind === 'reads_dropped') this.#admission.reads.dropped(event.contexts, this.#readsDropped())
    if (changed) this.#notifyRole()
  }

  #isDiskFull(): boolean {
    if (this.log.diskFull) this.#space.notice()
    return this.log.diskFull
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

  #onPeerLost(node: string, error: LedgerError | undefined): void {
    this.#parts.events.emit('peer_lost', this.term, { node, why: error?.code ?? 'ended' })
    this.#loop.step({ kind: 'peer_lost', peer: node })
  }

  #onPeerRefused(node: string, error: LedgerError): void {
    if (error.code === 'WRONG_CLUSTER') this.#parts.refused(node, error.message)
    else this.#parts.logger.debug('peer not reached', { node, code: error.code, why: error.message })
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
