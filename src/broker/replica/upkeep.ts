/**
 * What keeps a replica whole: copies when the group has left it behind, repair of rot, and the scrub that finds it.
 * Owned by `lifecycle.ts`; healer and scrubber live as long as one replica, the catch-up outlives it.
 *
 * It decides when something is needed; how it is done is in `catch-up/`, `repair/` and `scrubber.ts`.
 */
import type { EntryId } from '../../../raft/index.ts'
import type { LogHole } from '../../../store/index.ts'
import { sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Hello, LogRange, Member } from '../../rpc/methods.ts'
import { limitsOf } from '../options.ts'
import { Scrubber } from '../scrubber.ts'
import { CatchUp, type CatchUpKind, type OwnState } from './catch-up/catch-up.ts'
import { type FoundMembers, findMembers } from './catch-up/find-members.ts'
import { isPending } from './catch-up/incoming.ts'
import { agreesAt, holds } from './catch-up/own-log.ts'
import type { CopySourceView } from './catch-up/planner.ts'
import { Sources } from './catch-up/sources.ts'
import { copyOrigin } from './copy-server.ts'
import type { Generations, LogEnd } from './generations.ts'
import type { LifecycleParts } from './lifecycle.ts'
import { buildName, featureLevel, protocolVersion } from './peer-server.ts'
import type { Recovered } from './recovery.ts'
import { Healer } from './repair/healer.ts'
import { Quarantine } from './repair/quarantine.ts'
import type { Replica } from './replica.ts'
import { type UpkeepStatus, upkeepStatus } from './upkeep-status.ts'

/** Rounds of asking what the group has, before a node without any log begins all the same. */
const askRoundsMax = 20
const askPauseMs = 250
/** Between two looks for other members while a first copy gets no answer. */
const askAgainMs = 1000

export interface UpkeepParts extends LifecycleParts {
  /** The one that runs, null in between. */
  replica(): Replica | null
  generations(): Generations
  install(generations: Generations, mayReplace: (own: LogEnd) => boolean): Promise<boolean>
  /** Recovers once more what is in force, as after a restart. */
  beginAgain(): Promise<void>
}

export class Upkeep {
  readonly #parts: UpkeepParts
  readonly #catchUp: CatchUp
  readonly #copySources: Sources
  readonly #stop = new AbortController()
  #healer: Healer | null = null
  #repairSources: Sources | null = null
  #scrubber: Scrubber | null = null
  #quarantine: Quarantine | null = null
  /** The disk was full when the last replica ended: nobody else notices before the next one runs. */
  #endedFull = false
  /** Whom a node without a membership of its own can ask. */
  #found: readonly Member[] = []

  constructor(parts: UpkeepParts) {
    this.#parts = parts
    this.#copySources = this.#makeSources(() => parts.replica()?.members.others ?? this.#found)
    this.#catchUp = this.#makeCatchUp()
  }

  get status(): UpkeepStatus {
    return upkeepStatus({
      catchUp: this.#catchUp.status,
      scrub: this.#scrubber?.status ?? null,
      quarantine: this.#quarantine,
      holes: this.#parts.replica()?.log.holes ?? [],
    })
  }

  /**
   * True: this node was brought into a group whose log is long, and has nothing of it; a copy is made first, so that
   * the leader need not send it all. False: begin with what there is.
   */
  async copiesFirst(recovered: Recovered): Promise<boolean> {
    const { folder, configuration } = this.#parts
    const { node, disk } = folder.identity
    if (recovered.log.lastIndex > 0 || recovered.quarantine?.pending) return false
    // An initial member may be all that the group has.
    if (configuration.members.some((member) => member.node === node && member.disk === disk)) return false
    const isWorthIt = await this.#isWorthCopying()
    if (!isWorthIt) return false
    // No replica runs that would notice space: the copy looks for itself.
    this.#endedFull = false
    this.#catchUp.start('whole', 'this node has nothing of the log')
    void this.#keepAsking()
    return true
  }

  /** A replica begins. */
  begin(replica: Replica, recovered: Recovered): void {
    const { folder, ports, options, logger, events, failed } = this.#parts
    const { clock } = ports
    const limits = limitsOf(options)
    const quarantine = new Quarantine(folder.records, recovered.quarantine)
    this.#quarantine = quarantine
    let told: FoundMembers | null = null
    this.#repairSources = this.#makeSources(() => withTold(replica, told))
    this.#healer = new Healer({
      clock,
      logger,
      events,
      log: replica.log,
      sources: this.#repairSources,
      quarantine,
      isBeyondRepair: recovered.lostFront !== null,
      term: () => replica.term,
      appliedIndex: () => replica.appliedIndex,
      quarantined: () => replica.quarantine(),
      findMembers: async (signal) => {
        if (!recovered.isBlind) return
        const addresses = withTold(replica, told).map(({ raftAddress }) => raftAddress)
        told = (await this.#askMembers(addresses, signal)) ?? told
      },
      healed: () => replica.healed(),
      beginAgain: recovered.isBlind ? () => void this.#parts.beginAgain().catch(failed) : null,
      repaired: () => replica.resumeApply(),
      lost: (range) => this.#onLost(replica, range),
      unrepairable: ({ fromIndex }, reason) =>
        this.#catchUp.start('whole', `entry ${fromIndex} cannot be put back: ${reason}`),
      failed,
    })
    this.#scrubber = new Scrubber({
      clock,
      log: replica.log,
      passMs: limits.scrubPassMs,
      pieceBytes: limits.scrubPieceBytes,
      bytesPerSecondMax: limits.scrubBytesPerSecond,
      failed,
    })
    this.#healer.start()
    this.#scrubber.start()
    void this.#goOn(replica, recovered)
  }

  /** Its log is to be cut inside this hole. Fulfilled once that is on record: then the replica must begin again. */
  async cutInHole(hole: LogHole): Promise<void> {
    await this.#quarantine?.cuts(hole)
  }

  /** The log was cut or trimmed, see `Quarantine.shortened`. */
  shortened(holes: readonly LogHole[]): Promise<void> | null {
    return this.#quarantine?.shortened(holes) ?? null
  }

  /** Resolves when the replica that has ended writes no record any more. */
  async settled(): Promise<void> {
    await this.#quarantine?.settled()
  }

  /** The replica has ended and its copy has taken its place; the next one has not begun. */
  copyInForce(): void {
    this.#catchUp.inForce()
  }

  /** The replica is about to end. */
  async end(): Promise<void> {
    this.#endedFull = this.#parts.replica()?.log.diskFull ?? false
    await Promise.all([this.#healer?.close(), this.#scrubber?.close()])
    this.#repairSources?.close()
    this.#healer = null
    this.#scrubber = null
    this.#repairSources = null
  }

  /** Asks nobody any more what there is to copy. */
  stop(): void {
    this.#stop.abort(new LedgerError('CLOSED', 'the broker stops'))
  }

  /** Stops copying, for good. */
  async close(): Promise<void> {
    this.stop()
    await this.#catchUp.close()
    this.#copySources.close()
  }

  onRot(hole: LogHole): void {
    // Rot that is found before the replica runs is among the holes that its healer begins with.
    this.#healer?.onRot(hole)
  }

  quarantineEnded(): void {
    this.#healer?.ended()
  }

  leftBehind(firstIndex: number): void {
    this.#catchUp.start('whole', `the log of the leader begins at ${firstIndex}`)
  }

  /**
   * A member lacks these entries and they cannot be read here. What nobody has cannot be sent to it ever: for the core
   * the log begins behind it from now on, where a copy begins, too, so that the member is told to fetch one. Asked again
   * with every attempt to send, until the log goes on in another segment.
   */
  unreadable({ fromIndex, toIndex }: LogRange): void {
    const replica = this.#parts.replica()
    const lost = this.#quarantine?.lost ?? []
    if (!replica || !lost.some((range) => range.fromIndex <= toIndex && fromIndex <= range.toIndex)) return
    const origin = copyOrigin(replica.log, lost, replica.raftStatus().applied)
    if (origin.index > replica.log.origin.index) replica.givesUpTo(origin)
  }

  /** A copy that was begun before the last stop, or a state that has to come before anything can be applied. */
  async #goOn(replica: Replica, recovered: Recovered): Promise<void> {
    if (recovered.lostFront !== null) {
      this.#catchUp.start('whole', recovered.lostFront)
      return
    }
    const lost = recovered.lacksState ? 0 : this.#lostBehind(recovered.store.appliedIndex)
    if (lost > 0) lacksState(replica, lost)
    const pending = await this.#pendingCopy().catch(() => null)
    if (recovered.lacksState) {
      const reason = `the log begins at ${recovered.log.firstIndex}, the state ends before it`
      this.#catchUp.start(pending ?? 'state', reason)
      return
    }
    if (lost > 0 && pending !== 'whole') this.#catchUp.start('state', `entry ${lost} is lost, the state ends before it`)
    else if (pending) this.#catchUp.start(pending, 'a copy was begun before')
  }

  async #pendingCopy(): Promise<CatchUpKind | null> {
    const record = await this.#parts.folder.records.incoming()
    if (!record || !isPending(record, this.#parts.generations())) return null
    return record.origin ? 'whole' : 'state'
  }

  /** What nobody has cannot be applied either: a member that had applied it before has the state. */
  #onLost(replica: Replica, range: LogRange): void {
    if (replica.appliedIndex >= range.toIndex) return
    lacksState(replica, range.fromIndex)
    this.#catchUp.start('state', `entry ${range.fromIndex} is lost`)
  }

  /** The last entry behind this one that should be in the log and that nobody has; 0 without any. */
  #lostBehind(index: number): number {
    const holes = this.#parts.replica()?.log.holes ?? []
    const lost = (this.#quarantine?.lost ?? []).filter(({ fromIndex, toIndex }) =>
      holes.some((hole) => hole.fromIndex <= toIndex && fromIndex <= hole.toIndex),
    )
    return Math.max(0, ...lost.map(({ toIndex }) => toIndex).filter((toIndex) => toIndex > index))
  }

  async #isWorthCopying(): Promise<boolean> {
    if (await this.#pendingCopy()) {
      await this.#findMembers()
      return true
    }
    const { clock } = this.#parts.ports
    for (let round = 1; round <= askRoundsMax && !this.#stop.signal.aborted; round++) {
      await this.#findMembers()
      const views = await this.#copySources.describe(this.#stop.signal)
      if (views.length > 0) return views.some((view) => this.#isLarge(view))
      await sleep(clock, askPauseMs, this.#stop.signal).catch(() => {})
    }
    return false
  }

  #isLarge({ endPosition, origin }: CopySourceView): boolean {
    return origin.index > 0 || endPosition - origin.position > limitsOf(this.#parts.options).copyFirstBytes
  }

  /**
   * Those that were found may all be replaced while this node copies, and after an outage of the whole group it may have
   * begun before anybody else could tell who belongs to it.
   */
  async #keepAsking(): Promise<void> {
    const { clock } = this.#parts.ports
    while (this.#parts.replica() === null && !this.#stop.signal.aborted) {
      if (this.#copySources.silent.length === this.#copySources.nodes.length) await this.#findMembers()
      await sleep(clock, askAgainMs, this.#stop.signal).catch(() => {})
    }
  }

  async #findMembers(): Promise<void> {
    const { options, configuration } = this.#parts
    const given = [...options.members, ...configuration.members].filter(({ node }) => node !== options.node)
    const addresses = [...(options.join ?? []), ...given.map(({ raftAddress }) => raftAddress)]
    const found = await this.#askMembers(addresses, this.#stop.signal)
    if (found && found.members.length > 0) this.#found = found.members
  }

  #askMembers(addresses: readonly string[], signal: AbortSignal): Promise<FoundMembers | null> {
    const { ports, logger, folder } = this.#parts
    const parts = { transport: ports.transport, logger, identity: folder.identity, addresses, signal }
    return findMembers(parts).catch(() => null)
  }

  #makeSources(members: () => readonly Member[]): Sources {
    const { clock, transport } = this.#parts.ports
    return new Sources({
      clock,
      transport,
      bytesMax: limitsOf(this.#parts.options).copyBytesMax,
      members,
      hello: (to) => this.#parts.replica()?.members.hello(to) ?? this.#ownHello(to),
    })
  }

  /** Without a log there is no membership to speak of: the other side judges by its own. */
  #ownHello(to: Member): Hello {
    const { configuration, folder, address, raftAddress } = this.#parts
    const { cluster, group, incarnation } = configuration
    const { node, disk } = folder.identity
    return {
      cluster,
      group,
      incarnation,
      fromNode: node,
      fromDisk: disk,
      toNode: to.node,
      toDisk: to.disk,
      fromAddress: address,
      protocolMin: protocolVersion,
      protocolMax: protocolVersion,
      build: buildName,
      featureLevel,
      membershipIndex: 0,
      fromRaftAddress: raftAddress,
    }
  }

  #makeCatchUp(): CatchUp {
    const { ports, folder, configuration, options, logger, events, generations, install, failed } = this.#parts
    const limits = limitsOf(options)
    return new CatchUp({
      clock: ports.clock,
      disk: ports.disk,
      engine: ports.engine,
      directory: folder.directory,
      records: folder.records,
      configuration,
      limits,
      logger,
      events,
      sources: this.#copySources,
      bytesPerSecond: limits.catchUpBytesPerSecond,
      generations,
      term: () => this.#parts.replica()?.term ?? 0,
      isDiskFull: () => this.#parts.replica()?.log.diskFull ?? this.#endedFull,
      own: (end) => this.#own(end),
      install,
      failed,
    })
  }

  async #own(end: EntryId): Promise<OwnState> {
    const replica = this.#parts.replica()
    if (!replica) return { lastIndex: 0, lastTerm: 0, agrees: true, holdsEnd: false, committed: 0, stateFrom: 0 }
    const { log } = replica
    const { lastIndex, lastTerm, firstIndex } = log
    const agrees = await agreesAt(log, end)
    const holdsEnd = await holds(log, end)
    const stateFrom = Math.max(firstIndex - 1, this.#lostBehind(replica.appliedIndex))
    const committed = Math.min(replica.commitIndex, log.durableIndex)
    return { lastIndex, lastTerm, agrees, holdsEnd, committed, stateFrom }
  }
}

/** With those whom only a newer membership names than the replica has, as a member told. */
function withTold(replica: Replica, told: FoundMembers | null): readonly Member[] {
  const { others } = replica.members
  if (!told || told.index <= replica.history.newest.index) return others
  return [...others, ...told.members.filter(({ node }) => others.every((other) => other.node !== node))]
}

/** It applies nothing more before it begins again with a state from behind this entry: as a leader it would serve nobody. */
function lacksState(replica: Replica, lostIndex: number): void {
  replica.leadership.unfit('no_state', `entry ${lostIndex} is lost, the state ends before it`)
}
