/**
 * Watches everything a run does and knows what may never happen: the invariants of the whole group, checked at the
 * instant at which they could break, against the bytes on the disks and not against what the replicas claim.
 *
 * The first entry that any replica applies at an index is the truth for that index; everybody else, acknowledgements
 * and consumers included, is compared with it.
 */
import type { Broker } from '../../src/broker/broker.ts'
import type { ApplyResult, CommittedEntry } from '../../src/broker/contract.ts'
import type { Membership } from '../../src/broker/membership/membership.ts'
import type { Replica } from '../../src/broker/replica/replica.ts'
import type { NodeEvent } from '../../src/rpc/methods.ts'
import { decodePeerFrame } from '../../src/rpc/peer-codec.ts'
import { frameHeaderBytes, frameLengthOf } from '../../store/frame.ts'
import { type Frame, frameTypes } from '../../store/index.ts'
import { Ballots, isVoteDurable } from './ballots.ts'
import { watchSteps } from './configuration-steps.ts'
import { Electorate, type Machine } from './electorate.ts'
import { KeptPromises } from './kept-promises.ts'
import { LogDisks } from './log-disks.ts'
import { MessageHistory } from './message-history.ts'
import { ProgressChecks } from './progress-checks.ts'
import { type Place, Rot } from './rot.ts'
import type { SimNode } from './sim-node.ts'
import { TopicHistory } from './topic-history.ts'
import { Trims, wrongTrim } from './trim-checks.ts'

/** Thrown to end a run that has failed. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

/** Reasons to take no part that may be right; how long they last is a question of liveness. */
const waitsRightly = /^(NOT_BOOTSTRAPPED|CATCHING_UP|RESTARTING)/
const isOutside = /^(WIPED|NOT_A_MEMBER)/

/** What lies at one index of the log for ever. */
export interface Committed {
  readonly index: number
  readonly term: number
  readonly position: number
  /** The frame. Compared as a whole: a CRC over a header that ends with its own CRC is the same for all headers. */
  readonly bytes: Buffer
  readonly hash: string
  /** It was committed in this term or before. */
  readonly knownInTerm: number
}

export interface JudgeOptions {
  readonly nodes: () => readonly SimNode[]
  /** Those that make the group. */
  readonly initial: readonly string[]
  readonly segmentBytes: number
  readonly topic: string
  readonly group: string
  readonly looksAtDisks: boolean
  /** Virtual. */
  nowMs(): number
  /** A follower that is behind by no more is waited for. */
  readonly followerLagBytesMax: number | null
  /** This leader has begun a configuration. */
  reconfigures(node: SimNode, membership: Membership): void
}

export class Judge {
  readonly #options: JudgeOptions
  readonly #committed: Committed[] = []
  readonly #leaders = new Map<number, string>()
  readonly #ballots = new Ballots()
  readonly #promises = new KeptPromises((index) => this.committedAt(index))
  /** By node: the replica that is watched. A copy that is put in force brings a new one. */
  readonly #watched = new Map<string, Replica>()
  readonly #trims = new Trims()
  readonly #progress: ProgressChecks
  readonly #disks: LogDisks
  readonly messages: MessageHistory
  copies = 0
  readonly electorate: Electorate
  readonly rot: Rot
  readonly topics = new TopicHistory()
  elections = 0
  violation: Violation | null = null

  constructor(options: JudgeOptions) {
    this.#options = options
    this.electorate = new Electorate(options.nodes, options.initial)
    this.#disks = new LogDisks(options.segmentBytes)
    const check = (condition: boolean, text: () => string): void => this.check(condition, text)
    this.messages = new MessageHistory({ topic: options.topic, group: options.group, check })
    this.rot = new Rot({
      nodes: options.nodes,
      path: (machine, position) => this.#disks.path(machine, position),
      offsetOf: (position) => this.#disks.offsetOf(position),
      isDurableOn: (machine, entry) => this.isDurableOn(machine, entry),
      isMember: (node) => this.electorate.isMember(node),
      nowMs: options.nowMs,
      fail: (text) => this.fail(text),
    })
    this.#progress = new ProgressChecks({
      looksAtDisks: options.looksAtDisks,
      trims: this.#trims,
      trimmedBefore: () => this.messages.trimmedBefore,
      isCut: (node) => this.rot.isCut(node),
      termOf: (node, index) => this.#cachedFrame(node, index)?.header.term ?? this.committedAt(index)?.term,
      check,
    })
  }

  get lastCommitted(): number {
    return this.#committed.length
  }

  committedAt(index: number): Committed | undefined {
    return this.#committed[index - 1]
  }

  /** Notes the first violation; the run ends at the next event. */
  fail(text: string): void {
    this.violation ??= new Violation(text)
  }

  check(condition: boolean, text: () => string): void {
    if (!condition) this.fail(text())
  }

  /** A broker knows what it is to its group; its replica has not done anything yet. */
  started(node: SimNode, broker: Broker): void {
    broker.events.subscribe((event) => this.#onEvent(node, event))
    if (broker.replica) return
    // Stopped or still waiting for the others to make the group: whether it ever joins is a question of liveness.
    const { reason } = broker.status()
    if (node.sick || waitsRightly.test(reason) || (node.mayBeOutside && isOutside.test(reason))) return
    this.fail(`P6: ${node.name} takes no part: ${reason}`)
  }

  /** A process is about to end; what its disk holds for sure is remembered. */
  ending(node: SimNode): void {
    const replica = node.broker?.replica
    if (!replica) return
    let promised = Math.min(replica.log.durableIndex, this.lastCommitted)
    // What lies behind the own commit may be of a deposed leader and not what the group has committed.
    while (promised > 0 && !this.#isHeldBy(node, this.#committed[promised - 1] as Committed)) promised--
    this.#promises.holds(node.diskId, promised)
  }

  /** A disk is gone for good, and with it all that was promised on it. */
  wiped(lost: Machine): void {
    this.electorate.lost(lost)
    this.#promises.forget(lost.name)
    this.rot.wiped(lost.name)
    this.#progress.forget(lost.name)
    this.#watched.delete(lost.name)
  }

  /**
   * Whether this voter may lose its disk: all others hold everything that was committed, nothing of the membership is
   * under way, and a majority is left to bring it back.
   */
  maySpare(node: SimNode): boolean {
    const { electorate, lastCommitted } = this
    const last = this.committedAt(lastCommitted)
    const { voters } = electorate
    if (!last || !this.rot.isHealed || !electorate.isSimple || !electorate.isVoter(node) || voters.length < 3)
      return false
    return this.#options.nodes().every((other) => {
      if (other === node || !voters.includes(other.name)) return true
      const history = other.broker?.replica?.history
      if (history?.newest.index !== electorate.current.index) return false
      return electorate.isVoter(other) && this.isDurableOn(other, last)
    })
  }

  /** Cheap look at every node, after every event or so. */
  look(): void {
    for (const node of this.#options.nodes()) {
      const replica = node.broker?.replica
      if (!replica) {
        if (node.broker && this.#watched.delete(node.name)) this.rot.ended(node)
        continue
      }
      if (this.#watched.get(node.name) !== replica) this.#watch(node, replica)
      if (replica.log.holes.length > 0) this.rot.seesHoles(node, replica)
      this.#progress.look(node, replica)
    }
  }

  /** A message of a peer leaves: what it promises must be true now, on the disk. */
  onPeerMessage(node: SimNode, to: string, bytes: Buffer): void {
    const frame = decodePeerFrame(bytes, { from: node.name, to })
    if (frame.kind === 'hello') return
    const { message } = frame
    if (message.kind === 'vote_request') {
      this.#ballots.stands(message.term, node.name, { index: message.lastIndex, term: message.lastTerm })
      this.#onVote(node, message.term, node.name)
    }
    if (message.kind === 'vote_response' && message.refusal === null) {
      const problem = this.#ballots.grants(node, message.term, to)
      if (problem !== null) this.fail(`R3: ${problem}`)
      this.#onVote(node, message.term, to)
    }
    if (message.kind === 'append_response' && message.rejected === null) {
      this.#checkAcknowledged(node, message.term, message.matchIndex)
    }
  }

  /** A send was acknowledged. */
  onAcknowledged(
    value: string,
    place: { readonly queue: number; readonly offset: number; readonly index: number },
  ): void {
    const { queue, offset, index } = place
    const stored = this.messages.queues[queue]?.[offset]
    this.check(stored === value, () => `P1: ${value} was acknowledged at ${queue}/${offset}, where ${stored} lies`)
    const entry = this.committedAt(index)
    if (!entry) this.fail(`P1: ${value} was acknowledged with index ${index}, which nobody has applied`)
    else this.#checkMajority(entry, 'S1: acknowledged')
  }

  /** A change by this entry was acknowledged. */
  onChanged(index: number, what: string): void {
    const entry = this.committedAt(index)
    if (entry) this.#checkMajority(entry, what)
  }

  /** A consumer got a message. */
  onConsumed(value: string, place: { readonly queue: number; readonly offset: number; readonly index: number }): void {
    const { queue, offset, index } = place
    this.check(
      index <= this.lastCommitted,
      () => `B4: ${queue}/${offset} was consumed before its entry ${index} committed`,
    )
    const stored = this.messages.queues[queue]?.[offset]
    this.check(stored === value, () => `B4: ${value} was consumed at ${queue}/${offset}, where ${stored} lies`)
  }

  /**
   * Whether the disk of this node would still hold the entry after a power cut, or its log begins behind it by a
   * decision of the group.
   */
  isDurableOn(node: Machine, entry: Place): boolean {
    if (!this.#options.looksAtDisks || this.isOnDisk(node, entry)) return true
    if (entry.index >= this.messages.trimmedBefore) return false
    return this.#disks.beginsBehind(node, entry.position, this.#committed.at(-1)?.position ?? 0)
  }

  /** The disk holds it intact, or would but for bits that rotted since. */
  #isHeldBy(node: Machine, entry: Place): boolean {
    return this.isDurableOn(node, entry) || this.rot.isHeldBy(node, entry)
  }

  /** Intact and durable. */
  isOnDisk(node: Machine, entry: Pick<Committed, 'position' | 'bytes'>): boolean {
    return this.#disks.holds(node, entry)
  }

  #checkMajority(entry: Committed, what: string): void {
    const holds = (machine: Machine): boolean => this.isDurableOn(machine, entry) || this.rot.wasHeldBy(machine, entry)
    this.check(this.electorate.isMajority(entry.index, holds), () => {
      const holders = this.#options.nodes().filter(holds)
      const names = holders.map(({ name }) => name).join(' ') || 'none'
      return `${what}, but entry ${entry.index} is durable only on: ${names}, of the voters ${this.electorate.voters.join(' ')}`
    })
  }

  #onEvent(node: SimNode, event: NodeEvent): void {
    if (event.kind === 'catch_up_finished') this.copies++
    if (event.kind === 'trim_proposed') this.#checkTrim(node, Number(event.details['firstIndex']))
    if (event.kind === 'data_loss') this.fail(`P6: ${node.name} gives up entries that others have`)
    if (event.kind === 'rot_cut') this.rot.cutting(node)
    if (event.kind === 'quarantine_ended') {
      this.#checkPromised(node, 'ends its quarantine')
      this.rot.quarantineEnded(node)
    }
    if (event.kind !== 'leader_elected') return
    this.elections++
    const known = this.#leaders.get(event.term)
    this.check(
      known === undefined || known === node.name,
      () => `R1: ${known} and ${node.name} lead term ${event.term}`,
    )
    this.#leaders.set(event.term, node.name)
    this.#checkVotes(node, event.term)
    this.#checkCompleteness(node, event.term)
  }

  #checkTrim(node: SimNode, firstIndex: number): void {
    const replica = node.broker?.replica
    // What is not set is a share of the disk, and one that is full here has nothing, or had nothing a moment ago.
    const lagBytesMax = this.#options.followerLagBytesMax ?? (node.sick ? 0 : Number.POSITIVE_INFINITY)
    const problem = replica ? wrongTrim(replica, firstIndex, lagBytesMax) : null
    if (problem !== null) this.fail(`P1: ${problem}`)
  }

  #checkVotes(node: SimNode, term: number): void {
    const replica = node.broker?.replica
    if (!replica) return
    // The only voter asks nobody, so no vote was seen.
    if (!this.#options.looksAtDisks || isVoteDurable(node, term, node.name))
      this.#ballots.cast(term, { node: node.name, disk: node.diskId }, node.name)
    const problem = this.#ballots.elected(term, node.name, replica.history.newest.membership)
    if (problem !== null) this.fail(`R1: ${problem}`)
  }

  /** The chain of checksums makes one equal frame prove everything before it. */
  #checkCompleteness(node: SimNode, term: number): void {
    const last = this.committedAt(heldByLeaderOf(term, this.#committed))
    const log = node.broker?.replica?.log
    if (!last || !log) return
    this.check(
      log.lastIndex >= last.index,
      () => `R3: ${node.name} leads term ${term} with ${log.lastIndex} entries, ${last.index} are committed`,
    )
    this.#compareFrame(node, last, `R3: ${node.name} leads term ${term}`)
  }

  /** A replica begins: after a start, or with a copy. */
  #watch(node: SimNode, replica: Replica): void {
    this.#watched.set(node.name, replica)
    this.#promises.holds(node.diskId, this.#progress.appliedOf(node.name))
    this.#progress.forget(node.name)
    this.rot.began(node, replica)
    this.#checkRecovery(node, replica)
    this.#checkState(node, replica)
    watchSteps(replica, {
      begun: (placed) => {
        this.electorate.begun(placed)
        this.#options.reconfigures(node, placed.membership)
      },
      fail: (text) => this.fail(`R1: ${text}`),
    })
    replica.onApplied((entry, result) => this.#onApplied(node, replica, entry, result))
  }

  /** The state that was found or copied is that of the group at this entry. */
  #checkState(node: SimNode, replica: Replica): void {
    const { appliedIndex, machine, log } = replica
    this.check(
      replica.isPresentable,
      () => `S4: ${node.name} begins without a state, its log begins at ${log.firstIndex}`,
    )
    if (!replica.isPresentable || appliedIndex === 0) return
    const entry = this.committedAt(appliedIndex)
    if (!entry) this.fail(`S4: ${node.name} begins with a state of entry ${appliedIndex}, which nobody has applied`)
    else this.check(entry.hash === machine.hash, () => `B1: ${node.name} begins with another state of ${appliedIndex}`)
  }

  /** Nothing that was durable and committed is gone after a restart. */
  #checkRecovery(node: SimNode, { log }: Replica): void {
    const promised = this.#promises.of(node)
    this.check(
      log.lastIndex >= promised || this.rot.isCut(node),
      () => `S1: ${node.name} came back with ${log.lastIndex} entries, ${promised} were durable and committed`,
    )
    const entry = this.committedAt(Math.min(promised, log.lastIndex))
    if (entry) this.#compareFrame(node, entry, `S2: ${node.name} came back`)
    this.check(
      this.#disks.isCleanBehind(node, log.endPosition),
      () => `S2: ${node.name} came back with old bytes behind its tail at ${log.endPosition}`,
    )
  }

  #compareFrame(node: SimNode, entry: Committed, what: string): void {
    const frame = this.#cachedFrame(node, entry.index)
    if (!frame) return
    const same = frame.header.position === entry.position && frame.bytes.equals(entry.bytes)
    this.check(same, () => `${what} with another entry at ${entry.index} than the committed one`)
  }

  #cachedFrame(node: SimNode, index: number): Frame | undefined {
    const log = node.broker?.replica?.log
    if (!log || index > log.lastIndex) return undefined
    const frames = log.cached(index, 1)
    return frames?.find((frame) => frame.header.index === index && frame.header.type !== frameTypes.padding)
  }

  #onVote(node: SimNode, term: number, candidate: string): void {
    const voter = node.name
    this.#checkPromised(node, 'votes')
    this.rot.onVote(node, term)
    this.check(
      !this.#options.looksAtDisks || isVoteDurable(node, term, candidate),
      () => `R1: the vote of ${voter} for ${candidate} in term ${term} leaves before it is on its disk`,
    )
    const problem = this.#ballots.cast(term, { node: voter, disk: node.diskId }, candidate)
    if (problem !== null) this.fail(`R1: ${problem}`)
  }

  /** Whoever has a say in elections holds what it has once promised. */
  #checkPromised(node: SimNode, what: string): void {
    const entry = this.committedAt(this.#promises.of(node))
    this.check(
      !entry || this.#isHeldBy(node, entry),
      () => `S1: ${node.name} ${what} without entry ${entry?.index}, which was durable and committed there`,
    )
  }

  #checkAcknowledged(node: SimNode, term: number, index: number): void {
    if (index === 0 || node.broker?.replica?.term !== term) return
    const frame = this.#cachedFrame(node, index)
    if (!frame) return
    this.#promises.acknowledges(node.name, frame.header)
    const entry = { index, position: frame.header.position, bytes: frame.bytes }
    this.check(
      !this.#options.looksAtDisks || this.isOnDisk(node, entry) || this.rot.isHeldBy(node, entry),
      () => `S1: ${node.name} acknowledges entry ${index} before it is on its disk`,
    )
  }

  #onApplied(node: SimNode, replica: Replica, entry: CommittedEntry, result: ApplyResult): void {
    const { body } = entry
    // The body is a view into its frame, behind the header.
    const bytes = Buffer.from(body.buffer, body.byteOffset - frameHeaderBytes, frameLengthOf(body.length))
    const { hash } = replica.machine
    const committed = { ...pick(entry), bytes, hash, knownInTerm: replica.term }
    const known = this.committedAt(entry.index)
    this.check(
      !this.#options.looksAtDisks || this.isOnDisk(node, committed) || this.rot.isHeldBy(node, committed),
      () => `S4: ${node.name} applied entry ${entry.index} that is not on its own disk`,
    )
    if (known) {
      const isSame = known.term === entry.term && known.bytes.equals(bytes)
      this.check(isSame, () => `R2: ${node.name} applied another entry ${entry.index} than the group`)
      this.check(known.position === entry.position, () => `S2: entry ${entry.index} lies elsewhere on ${node.name}`)
      this.check(known.hash === hash, () => `B1: the state of ${node.name} differs after entry ${entry.index}`)
      return
    }
    this.check(entry.index === this.lastCommitted + 1, () => `R2: ${node.name} applied ${entry.index} out of order`)
    this.#committed.push({ ...committed, bytes: Buffer.from(bytes) })
    this.#checkMajority(committed, `R5: ${node.name} applied`)
    this.#learn(replica, entry, result)
  }

  /** The first time that this entry is applied anywhere. */
  #learn({ machine }: Replica, entry: CommittedEntry, result: ApplyResult): void {
    this.topics.learn(entry.index, result)
    this.messages.learn(machine, entry, result)
    if (result.kind === 'membership') this.electorate.applied(entry.index, result.membership)
    if (result.kind === 'trimmed') this.#trims.decided(machine.trimmed)
  }
}

/**
 * Index up to which a leader of this term must hold what is committed. Raft 5.4.3 speaks of leaders of later terms: a
 * candidate of an old term may collect its last vote after a newer leader has committed, and lead the old term for a
 * moment, without harm.
 */
export function heldByLeaderOf(term: number, committed: readonly Pick<Committed, 'knownInTerm'>[]): number {
  return committed.findLastIndex(({ knownInTerm }) => knownInTerm < term) + 1
}

function pick({ index, term, position }: CommittedEntry): { index: number; term: number; position: number } {
  return { index, term, position }
}
