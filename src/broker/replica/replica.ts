/**
 * One member of a broker group at work: core, log, state machine, peers and waiting callers, held together.
 *
 * Made by `broker.ts` after recovery; handlers and the registrar see it as `ReplicaApi`. It wires and translates; the
 * order of effects is the loop's, decisions are the core's. Nothing in it is shared with another replica.
 */
import { defaultRaftConfig, type PeerMessage, RaftCore, type RaftEvent, type RaftStatus } from '../../../raft/index.ts'
import { type CommitLogApi, type Frame, type FrameType, frameTypes } from '../../../store/index.ts'
import { sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration, Hello, Member, ReplicaStatusReply } from '../../rpc/methods.ts'
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
import { decodeMembership, encodeMembership } from '../membership/codec.ts'
import { publishMembership } from '../membership/events.ts'
import { MembershipHistory } from '../membership/history.ts'
import {
  firstMembership,
  isMember,
  type Membership,
  named,
  type PlacedMembership,
  toConfiguration,
} from '../membership/membership.ts'
import { type Standing, StandingView } from '../membership/standing.ts'
import { type BrokerOptions, type BrokerPorts, limitsOf, type ReplicaLimits, retentionOf } from '../options.ts'
import { Admission, notLeader } from './admission.ts'
import { Applier } from './applier.ts'
import type { CopySource } from './copy-server.ts'
import type { Folder } from './folder.ts'
import { LeaderFitness, patienceOf } from './leader-fitness.ts'
import { ReplicaLoop } from './loop.ts'
import { Members } from './members.ts'
import { publishRaftEvent } from './raft-events.ts'
import { type ReachablePeer, reachablePeers, successors } from './reachable-peers.ts'
import type { Recovered } from './recovery.ts'
import { RoleView } from './role-view.ts'
import { SpaceKeeper } from './space-keeper.ts'
import { SpaceWatch } from './space-watch.ts'
import { StateWriter } from './state-writer.ts'
import { replicaStatus } from './status.ts'

/** Longest wait on a graceful stop for what is staged to become durable, milliseconds. */
const drainMsMax = 5000

/** Between two looks at a transfer under way, milliseconds. */
const transferLookMs = 10

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
  /** Where peers reach this node, unless its membership says otherwise. */
  readonly raftAddress: string
  /** This member refused us. */
  refused(node: string, reason: string): void
  /** The group's log begins behind the end of ours: only a copy helps. Told again and again. */
  leftBehind(firstIndex: number): void
  /** The core says that this node may vote again. */
  quarantineEnded(): void
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
  /** The memberships in the log. */
  readonly history: MembershipHistory
  readonly #parts: ReplicaParts
  readonly #limits: ReplicaLimits
  readonly #core: RaftCore
  readonly #loop: ReplicaLoop
  readonly #admission: Admission
  readonly #applier: Applier
  readonly #writer: StateWriter
  readonly #members: Members
  readonly #space: SpaceWatch
  readonly #spaceKeeper: SpaceKeeper
  readonly #fitness: LeaderFitness
  readonly #view = new RoleView()
  readonly #standing: StandingView
  readonly #appliedListeners = new Set<(entry: CommittedEntry, result: ApplyResult) => void>()
  readonly #roleListeners = new Set<() => void>()
  readonly #startedMs: number
  #commitIndex: number
  /** The committed membership that the events told of. */
  #announced: PlacedMembership
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
    const { identity } = parts.folder
    this.history = new MembershipHistory(recovered.memberships, recovered.boot.hardState.commit)
    this.#announced = this.history.committed
    this.#standing = new StandingView(this.history, identity, isMember(firstMembership(configuration), identity))
    this.#startedMs = ports.clock.monotonicMs()
    this.#commitIndex = recovered.boot.hardState.commit
    const config = { ...defaultRaftConfig, ...options.raft, id: options.node }
    this.#core = new RaftCore(config, recovered.boot, () => ports.random.next(), this.#startedMs)
    this.#loop = this.#makeLoop()
    this.#admission = this.#makeAdmission()
    this.#space = this.#makeSpaceWatch()
    this.#fitness = this.#makeFitness()
    this.#writer = this.#makeWriter()
    this.#applier = this.#makeApplier()
    this.#members = new Members({
      ...parts,
      history: this.history,
      disk: identity.disk,
      log: this.log,
      term: () => this.term,
      step: (input) => this.#loop.step(input),
      disowned: (by) => {
        if (this.#standing.disowned(by)) this.#notifyRole()
      },
    })
    this.#spaceKeeper = this.#makeSpaceKeeper()
    this.history.onChanged(() => this.#onMembership())
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

  /** Proposes this membership; the core refuses what may not follow the one in force (CHANGE_IN_PROGRESS). */
  proposeMembership(membership: Membership, options: ProposeOptions): Promise<Applied> {
    const configuration = toConfiguration(membership, this.#parts.folder.identity)
    const body = [encodeMembership(membership)]
    return this.#admission.propose(frameTypes.configuration, body, options, configuration)
  }

  readCurrent(options: ProposeOptions): Promise<void> {
    return this.#admission.readCurrent(options)
  }

  /** The other members and those who lead us, as they are reached now. */
  get others(): readonly Member[] {
    return this.#members.others
  }

  helloTo(member: Member): Hello {
    return this.#members.hello(member)
  }

  /** False while the state machine waits for a copy of the state: then its content means nothing. */
  get hasState(): boolean {
    return !this.#parts.recovered.lacksState
  }

  /** Rot was found while it runs: no vote and no leadership until `healed`. */
  quarantine(): void {
    this.#loop.step({ kind: 'quarantine' })
  }

  /** No hole is left that could be filled. */
  healed(): void {
    this.#loop.step({ kind: 'healed' })
  }

  /** What was unreadable may be readable now. */
  resumeApply(): void {
    if (this.#stopped === null) this.#applier.resume()
  }

  /** What peers may copy from this one. */
  copySource(): CopySource {
    const { store } = this.#parts.recovered
    return {
      log: this.log,
      commitIndex: this.#commitIndex,
      appliedIndex: this.hasState ? store.appliedIndex : 0,
      leads: this.#view.role === 'leader',
      image: () => store.image(),
    }
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
    this.#spaceKeeper.start()
    this.#space.start()
    // It could win an election, but neither serve nor propose anything.
    if (!this.hasState) this.#fitness.set('no_state', true)
  }

  /** A message of a member whose Hello was checked. */
  receive(message: PeerMessage, wallMs: number, frames: readonly Frame[]): void {
    if (this.#stopped) return
    this.#members.heard(message.from, wallMs)
    this.#loop.receive(message, frames)
  }

  /** A node dialled us, was let in, and told where it is reached. */
  greeted(hello: Hello): void {
    if (this.#members.greeted(hello)) this.#notifyRole()
  }

  /** What this node is to its group. */
  get standing(): Standing {
    return this.#standing.now
  }

  raftStatus(): RaftStatus {
    return this.#core.status(this.#parts.ports.clock.monotonicMs())
  }

  isConnected(node: string): boolean {
    return this.#members.isConnected(node)
  }

  problemOf(node: string): string | null {
    return this.#members.problemOf(node)
  }

  /** Where clients reach this member; empty until its first Hello. */
  addressOf(node: string): string {
    return this.#members.addressOf(node)
  }

  /**
   * Resolves when another node leads, after a transfer was begun. Rejects with NOT_CAUGHT_UP or
   * SERVICE_NOT_AVAILABLE when it ended otherwise, and with DEADLINE_EXCEEDED.
   */
  handedOver(options: ProposeOptions): Promise<void> {
    const { clock } = this.#parts.ports
    const { transferringTo: to } = this.raftStatus()
    const endMs = clock.monotonicMs() + options.timeoutMs
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const leader = this.#view.leader
        const raft = this.raftStatus()
        if (this.#stopped) reject(this.#stopped)
        else if (leader && leader.node !== this.node) resolve()
        else if (raft.role === 'leader' && raft.transferringTo === null) reject(notTaken(to, raft))
        else if (clock.monotonicMs() >= endMs || options.signal?.aborted) {
          reject(new LedgerError('DEADLINE_EXCEEDED', 'leadership is still being handed over'))
        } else clock.after(transferLookMs, look, { background: true })
      }
      look()
    })
  }

  /** Begins to hand leadership to this voter. Throws NOT_LEADER, NOT_A_MEMBER or CHANGE_IN_PROGRESS. */
  transferTo(node: string): void {
    if (!named(this.history.newest.membership.voters, node)) {
      throw new LedgerError('NOT_A_MEMBER', `${node} is no voter of ${this.group}`)
    }
    const result = this.#loop.step({ kind: 'transfer', to: node })
    if (result.kind !== 'refused') return
    const { refusal } = result
    if (refusal.kind === 'not_leader') throw notLeader(this.leader(), refusal.leader ?? '', refusal.term)
    throw new LedgerError('CHANGE_IN_PROGRESS', `leadership cannot be handed over now: ${refusal.kind}`)
  }

  status(): ReplicaStatusReply {
    const { ports, configuration, address } = this.#parts
    const nowMs = ports.clock.monotonicMs()
    const standing = this.#standing.now
    return replicaStatus({
      node: this.node,
      configuration,
      membership: this.history.newest.membership,
      role: standing === 'voter' ? null : standing,
      raft: this.#core.status(nowMs),
      log: this.log,
      machine: this.machine,
      space: this.#spaceKeeper.space,
      reason: this.#standing.reason ?? this.#view.reason,
      pid: ports.pid ?? 0,
      uptimeMs: nowMs - this.#startedMs,
      address,
      isConnected: (node) => this.#members.isConnected(node),
      problemOf: (node) => this.#members.problemOf(node),
    })
  }

  /** Hands leadership to the peer that holds most of the log; false when this node does not lead or has no peer. */
  transferAway(): boolean {
    if (this.raftStatus().role !== 'leader') return false
    const [best] = this.#successors()
    return best !== undefined && this.#loop.step({ kind: 'transfer', to: best }).kind === 'done'
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
    this.#fitness.stop()
    this.#applier.stop()
    this.#admission.failAll('this replica stopped')
    this.#members.close()
    await Promise.all([this.#spaceKeeper.stop(), this.#space.stop()])
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
        configurationStaged: (index, body) => this.history.appended(index, decodeMembership(body)),
        cut: (fromIndex) => this.history.truncatedFrom(fromIndex),
        leftBehind: (firstIndex) => this.#parts.leftBehind(firstIndex),
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
      reserve: this.#parts.folder.reserve,
      freeBytes: async () => (await this.#parts.ports.disk.space(this.#parts.folder.directory)).freeBytes,
      retryMs: this.#limits.diskFullRetryMs,
      changed: (full) => this.#onDiskFull(full),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #onDiskFull(full: boolean): void {
    this.#parts.events.emit(full ? 'disk_full' : 'disk_space_back', this.term, {})
    this.#fitness.set('disk_full', full)
    if (full) this.#spaceKeeper.spaceEnded()
  }

  #makeFitness(): LeaderFitness {
    return new LeaderFitness({
      clock: this.#parts.ports.clock,
      step: (input) => this.#loop.step(input),
      patienceMs: patienceOf(this.#parts.options.raft),
      isLeader: () => this.#view.role === 'leader',
      hasLeader: () => this.#view.leader !== null && this.#members.isConnected(this.#view.leader.node),
      successors: () => this.#successors(),
    })
  }

  #makeWriter(): StateWriter {
    return new StateWriter({
      clock: this.#parts.ports.clock,
      machine: this.machine,
      store: this.#parts.recovered.store,
      limits: this.#limits,
      durableIndex: () => this.log.durableIndex,
      written: () => {
        this.#applier.resume()
        this.#spaceKeeper.stateWritten()
      },
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #makeSpaceKeeper(): SpaceKeeper {
    const { ports, recovered, folder, events, options, logger } = this.#parts
    const { store } = recovered
    return new SpaceKeeper({
      clock: ports.clock,
      disk: ports.disk,
      logger,
      log: this.log,
      machine: this.machine,
      store,
      directory: folder.directory,
      settings: retentionOf(options),
      roundMs: this.#limits.retentionRoundMs,
      leading: () => this.leading,
      logTime: () => this.#members.stamp(this.machine.appliedTime),
      followers: () => this.#reachablePeers(),
      propose: (body, how) => this.propose(frameTypes.command, body, { ...how, makesSpace: true }),
      leftBehind: (nodes) => events.emit('follower_left_behind', this.term, { nodes: nodes.join(' ') }),
      storedIndex: () => store.appliedIndex,
      trimmed: (firstIndex) => this.#onTrimmed(firstIndex),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #reachablePeers(): readonly ReachablePeer[] {
    return reachablePeers(this.raftStatus(), (node) => this.#members.isConnected(node))
  }

  #successors(): readonly string[] {
    return successors(this.#reachablePeers(), this.history.newest.membership)
  }

  #onTrimmed(firstIndex: number): void {
    this.#loop.step({ kind: 'compacted', first: firstIndex, previousTerm: this.log.previousTerm })
    this.#parts.events.emit('log_trimmed', this.term, { firstIndex })
  }

  #makeApplier(): Applier {
    return new Applier({
      clock: this.#parts.ports.clock,
      log: this.log,
      machine: this.machine,
      limits: this.#limits,
      paused: !this.hasState,
      applied: (entry, result) => this.#onApplied(entry, result),
      progressed: (index) => this.#onProgressed(index),
      // The log has told of the hole; its repair resumes.
      rotten: (error) => this.#parts.logger.debug('nothing can be applied before the log is repaired', { error }),
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
    if (event.kind === 'quarantine_ended') this.#parts.quarantineEnded()
    if (event.kind === 'reads_dropped') this.#admission.reads.dropped(event.contexts)
    if (changed) {
      this.#fitness.roleChanged()
      this.#notifyRole()
    }
  }

  /** Only a leader says so: others refuse for a better reason. */
  #refusesWrites(): boolean {
    if (this.log.diskFull) this.#space.notice()
    return this.log.diskFull && this.#view.role === 'leader'
  }

  /** Links, clocks and status follow the newest membership in the log. */
  #onMembership(): void {
    this.#standing.update()
    const { committed } = this.history
    if (committed.index > this.#announced.index) {
      publishMembership(this.#announced.membership, committed, this.term, this.#parts.events)
      this.#announced = committed
    }
    this.#notifyRole()
  }

  #onCommitted(index: number): void {
    this.#commitIndex = Math.max(this.#commitIndex, index)
    this.history.commitTo(index)
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
    void this.#space.stop()
    this.#fitness.stop()
    this.#writer.stop()
    void this.#spaceKeeper.stop()
    this.#admission.failAll(text)
    this.#notifyRole()
    this.#parts.failed(error)
  }
}

function notTaken(to: string | null, raft: RaftStatus): LedgerError {
  const lag = raft.lastIndex - (raft.peers.find(({ id }) => id === to)?.match ?? 0)
  if (lag > 0) return new LedgerError('NOT_CAUGHT_UP', `${to} lacks ${lag} entries, so it could not take over`)
  return new LedgerError('SERVICE_NOT_AVAILABLE', `${to} did not take over in time`)
}
