/**
 * One member of a broker group at work: core, log, state machine, peers and waiting callers, held together.
 *
 * Made by `broker.ts` after recovery; handlers and the registrar see it as `ReplicaApi`. It wires and translates; the
 * order of effects is the loop's, decisions are the core's. Nothing in it is shared with another replica.
 */
import {
  defaultRaftConfig,
  type EntryId,
  type LogIndex,
  type PeerMessage,
  RaftCore,
  type RaftEvent,
  type RaftStatus,
} from '../../../raft/index.ts'
import { type CommitLogApi, type Frame, type FrameType, frameTypes, type LogHole } from '../../../store/index.ts'
import { sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Hello, LogRange, ReplicaStatusReply } from '../../rpc/methods.ts'
import type {
  Applied,
  ApplyResult,
  CommittedEntry,
  LeaderView,
  ProposeOptions,
  ReplicaApi,
  StateMachineApi,
} from '../contract.ts'
import { encodeMembership } from '../membership/codec.ts'
import type { MembershipHistory } from '../membership/history.ts'
import { type Membership, toConfiguration } from '../membership/membership.ts'
import type { Standing } from '../membership/standing.ts'
import { limitsOf, type ReplicaLimits } from '../options.ts'
import { Admission } from './admission.ts'
import { Applying } from './applying.ts'
import { type CopySource, copySourceOf } from './copy-server.ts'
import { patienceOf } from './leader-fitness.ts'
import { Leadership } from './leadership.ts'
import { ReplicaLoop } from './loop.ts'
import type { Members } from './members.ts'
import { MembershipView } from './membership-view.ts'
import { publishRaftEvent } from './raft-events.ts'
import type { ReplicaParts } from './replica-parts.ts'
import { ReplicaSpace } from './replica-space.ts'
import { RoleView } from './role-view.ts'
import { replicaStatus } from './status.ts'

/** Longest wait on a graceful stop for what is staged to become durable, milliseconds. */
const drainMsMax = 5000

export class Replica implements ReplicaApi {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly incarnation: string
  readonly log: CommitLogApi
  readonly machine: StateMachineApi
  /** Gives leadership away, and watches whether it should. */
  readonly leadership: Leadership
  readonly #parts: ReplicaParts
  readonly #limits: ReplicaLimits
  readonly #core: RaftCore
  readonly #loop: ReplicaLoop
  readonly #admission: Admission
  readonly #applying: Applying
  readonly #space: ReplicaSpace
  readonly #membership: MembershipView
  readonly #view = new RoleView()
  readonly #appliedListeners = new Set<(entry: CommittedEntry, result: ApplyResult) => void>()
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
    // A log that was cut may end before what was committed.
    this.#commitIndex = Math.min(recovered.boot.hardState.commit, recovered.boot.lastIndex)
    const config = { ...defaultRaftConfig, ...options.raft, id: options.node }
    this.#core = new RaftCore(config, recovered.boot, () => ports.random.next(), this.#startedMs)
    this.#loop = this.#makeLoop()
    this.#membership = this.#makeMembership()
    this.#admission = this.#makeAdmission()
    this.leadership = this.#makeLeadership()
    this.#space = this.#makeSpace()
    this.#applying = this.#makeApplying()
  }

  /** The memberships in the log. */
  get history(): MembershipHistory {
    return this.#membership.history
  }

  /** The other members: connections and addresses. */
  get members(): Members {
    return this.#membership.members
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

  get running(): boolean {
    return this.#stopped === null
  }

  get leading(): boolean {
    return this.#stopped === null && this.#view.leading(this.machine.appliedIndex)
  }

  get nodes(): readonly { readonly node: string; readonly address: string }[] {
    return this.members.nodes
  }

  leader(): LeaderView | null {
    const leader = this.#view.leader
    return leader && { ...leader, address: this.members.addressOf(leader.node) }
  }

  propose(type: FrameType, body: readonly Uint8Array[], options: ProposeOptions): Promise<Applied> {
    return this.#admission.propose(type, body, options)
  }

  /**
   * Proposes this membership, made from the one at `basis`. Refused with CHANGE_IN_PROGRESS when another one is in force
   * by then: it would be undone, as far as the core lets it.
   */
  proposeMembership(membership: Membership, basis: LogIndex, options: ProposeOptions): Promise<Applied> {
    const configuration = toConfiguration(membership, this.#parts.folder.identity)
    const isCurrent = (): boolean => this.history.newest.index === basis
    const body = [encodeMembership(membership)]
    return this.#admission.propose(frameTypes.configuration, body, options, { configuration, isCurrent })
  }

  readCurrent(options: ProposeOptions): Promise<void> {
    return this.#admission.readCurrent(options)
  }

  /**
   * False while a copy has to bring what clients would miss: a state, without which the state machine means nothing,
   * or the beginning of the log.
   */
  get isPresentable(): boolean {
    const { lacksState, lostFront } = this.#parts.recovered
    return !lacksState && lostFront === null
  }

  /** Rot was found while it runs: no vote and no leadership until `healed`. */
  quarantine(): void {
    this.#loop.step({ kind: 'quarantine' })
  }

  /** No hole is left that could be filled. */
  healed(): void {
    this.#loop.step({ kind: 'healed' })
  }

  /** Nothing up to here is sent to anyone any more. */
  givesUpTo({ index, term }: EntryId): void {
    this.#loop.step({ kind: 'compacted', first: index + 1, previousTerm: term })
  }

  /** What was unreadable may be readable now. */
  resumeApply(): void {
    if (this.#stopped === null) this.#applying.resume()
  }

  /** What peers may copy from this one; `lost` are the entries that no member has. */
  copySource(lost: readonly LogRange[]): CopySource {
    const now = { committed: this.#commitIndex, leads: this.#view.role === 'leader', lost }
    return copySourceOf(this.#parts.recovered, now)
  }

  onApplied(listener: (entry: CommittedEntry, result: ApplyResult) => void): () => void {
    this.#appliedListeners.add(listener)
    return () => this.#appliedListeners.delete(listener)
  }

  onRoleChanged(listener: () => void): () => void {
    return this.#view.onChanged(listener)
  }

  start(): void {
    this.members.open()
    this.#loop.start()
    this.#space.start()
    // It could win an election, but neither serve nor propose anything.
    if (this.#parts.recovered.lacksState) this.leadership.unfit('no_state')
    this.leadership.start()
  }

  /** A message of a member whose Hello was checked. */
  receive(message: PeerMessage, wallMs: number, frames: readonly Frame[]): void {
    if (this.#stopped) return
    this.members.heard(message.from, wallMs)
    this.leadership.received(message)
    this.#loop.receive(message, frames)
  }

  /** A node dialled us, was let in, and told where it is reached. */
  greeted(hello: Hello): void {
    if (this.members.greeted(hello)) this.#notifyRole()
  }

  /** What this node is to its group. */
  get standing(): Standing {
    return this.#membership.standing
  }

  raftStatus(): RaftStatus {
    return this.#core.status(this.#parts.ports.clock.monotonicMs())
  }

  status(): ReplicaStatusReply {
    return replicaStatus({
      parts: this.#parts,
      membership: this.#membership,
      raft: this.raftStatus(),
      space: this.#space.measured,
      reason: this.#view.reason,
      unfit: this.leadership.unfitReason,
      uptimeMs: this.#parts.ports.clock.monotonicMs() - this.#startedMs,
    })
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
    this.leadership.stop()
    this.#applying.stop()
    this.#admission.failAll('this replica stopped')
    this.members.close()
    await this.#space.stop()
    await this.#applying.finish()
    const raft = this.raftStatus()
    // Not that of the core: it may count entries in place of some that could not be cut.
    const commit = Math.min(this.#commitIndex, this.log.durableIndex)
    await this.#parts.recovered.hardState.save({ term: raft.term, vote: raft.vote, commit })
    await this.log.close()
    await this.#parts.recovered.hardState.close()
    this.#notifyRole()
  }

  #makeLoop(): ReplicaLoop {
    const { ports, recovered } = this.#parts
    return new ReplicaLoop(
      {
        clock: ports.clock,
        limits: this.#limits,
        core: this.#core,
        log: this.log,
        hardState: recovered.hardState,
        stamp: (previous) => this.members.stamp(previous),
        send: (message) => this.#send(message),
        event: (event) => this.#onEvent(event),
        readConfirmed: (context, index) => this.#admission.reads.confirmed(context, index, this.appliedIndex),
        committed: (index) => this.#onCommitted(index),
        configurationStaged: (index, body) => this.#membership.staged(index, body),
        cut: (fromIndex) => this.#onCut(fromIndex),
        cutInHole: (fromIndex, hole) => this.#onCutInHole(fromIndex, hole),
        leftBehind: (firstIndex) => this.#parts.leftBehind(firstIndex),
        turnEnded: () => this.#onTurnEnded(),
        diskFull: () => this.#space.notice(),
        patience: this.#parts.patience,
        staysFull: () => this.#onStaysFull(),
        flushBegan: () => this.leadership.health.flushBegan(),
        flushEnded: () => this.leadership.health.flushEnded(),
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

  #makeMembership(): MembershipView {
    return new MembershipView(this.#parts, {
      term: () => this.term,
      step: (input) => this.#loop.step(input),
      changed: () => this.#notifyRole(),
    })
  }

  #makeLeadership(): Leadership {
    return new Leadership({
      clock: this.#parts.ports.clock,
      node: this.node,
      group: this.group,
      patienceMs: patienceOf(this.#parts.options.raft),
      step: (input) => this.#loop.step(input),
      raftStatus: () => this.raftStatus(),
      view: this.#view,
      members: this.members,
      history: this.history,
      leader: () => this.leader(),
      stopped: () => this.#stopped,
      limits: this.#limits,
      emit: (kind, details) => this.#parts.events.emit(kind, this.term, details),
    })
  }

  #makeSpace(): ReplicaSpace {
    return new ReplicaSpace(this.#parts, {
      term: () => this.term,
      leading: () => this.leading,
      logTime: () => this.members.stamp(this.machine.appliedTime),
      reachablePeers: () => this.leadership.reachablePeers(),
      propose: (body, how) => this.propose(frameTypes.command, body, { ...how, makesSpace: true }),
      changed: (isFull) => (isFull ? this.leadership.unfit('disk_full') : this.leadership.fitAgain('disk_full')),
      trimmed: (first) => this.#loop.step({ kind: 'compacted', first, previousTerm: this.log.previousTerm }),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #makeApplying(): Applying {
    return new Applying(this.#parts, {
      applied: (entry, result) => this.#onApplied(entry, result),
      progressed: (index) => this.#onProgressed(index),
      written: () => this.#space.stateWritten(),
      failed: (error) => this.#loop.storageFailed(error),
    })
  }

  #send(message: PeerMessage): void {
    this.leadership.sent(message)
    this.members.send(message)
  }

  #onEvent(event: RaftEvent): void {
    publishRaftEvent(event, this.term, this.#parts.events, this.#parts.logger)
    const changed = this.#view.take(event)
    if (event.kind === 'role_changed' && event.from === 'leader') {
      this.#admission.proposals.deposed(this.raftStatus().commit, this.leader())
    }
    if (event.kind === 'quarantine_ended') this.#parts.quarantineEnded()
    if (event.kind === 'reads_dropped') this.#admission.reads.dropped(event.contexts)
    if (changed) {
      this.leadership.roleChanged()
      this.#notifyRole()
    }
  }

  /** Only a leader says so: others refuse for a better reason. */
  #refusesWrites(): boolean {
    if (this.log.diskFull) this.#space.notice()
    return this.log.diskFull && this.#view.role === 'leader'
  }

  #onCommitted(index: number): void {
    this.#commitIndex = Math.max(this.#commitIndex, index)
    this.history.commitTo(index)
    this.#applying.applyTo(index)
  }

  #onApplied(entry: CommittedEntry, result: ApplyResult): void {
    this.#admission.proposals.applied(entry.index, entry.term, result)
    for (const listener of this.#appliedListeners) listener(entry, result)
    if (result.kind === 'topic' || result.kind === 'topic_deleted') this.#notifyRole()
  }

  #onProgressed(index: number): void {
    this.#loop.step({ kind: 'applied', index })
    this.#admission.reads.applied(index)
    if (this.leading !== this.#wasLeading) this.#notifyRole()
  }

  #onTurnEnded(): void {
    this.#admission.reads.endTurn()
    this.#admission.retryHeld()
  }

  #onCut(fromIndex: number): Promise<void> | null {
    this.history.truncatedFrom(fromIndex)
    return this.#parts.shortened()
  }

  /** It says nothing any more until it has begun again with a log that was cut before the hole. */
  #onCutInHole(fromIndex: number, hole: LogHole): void {
    this.#stopped = new LedgerError('SERVICE_NOT_AVAILABLE', 'this replica begins again: its log is cut inside damage')
    const details = { fromIndex: hole.fromIndex, toIndex: hole.toIndex, cutFrom: fromIndex }
    this.#parts.logger.warn('the leader cuts the log inside damage: it is cut where the damage begins', details)
    this.#parts.events.emit('rot_cut', this.term, details)
    this.#notifyRole()
    this.#parts.cutInHole(hole)
  }

  /** It says nothing any more until it has begun again without what is staged. */
  #onStaysFull(): void {
    this.#stopped = new LedgerError(
      'SERVICE_NOT_AVAILABLE',
      'this replica begins again: its log waited for space in vain',
    )
    const { stagedBytes, durableIndex } = this.log
    const details = { stagedBytes, durableIndex }
    this.#parts.logger.warn('the disk has no space for what waits: it is forgotten, nobody was promised it', details)
    this.#parts.events.emit('staged_forgotten', this.term, details)
    this.#notifyRole()
    this.#parts.staysFull()
  }

  #notifyRole(): void {
    this.#wasLeading = this.leading
    this.#view.notify()
  }

  #fail(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error)
    this.#stopped = new LedgerError('SERVICE_NOT_AVAILABLE', `this replica failed: ${text}`)
    this.#parts.events.emit('storage_failed', this.term, { error: text })
    this.#applying.abandon()
    void this.#space.stop()
    this.leadership.stop()
    this.#admission.failAll(text)
    this.#notifyRole()
    this.#parts.failed(error)
  }
}
