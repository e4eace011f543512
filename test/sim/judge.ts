/**
 * Watches everything a run does and knows what may never happen: the invariants of the whole group, checked at the
 * instant at which they could break, against the bytes on the disks and not against what the replicas claim.
 *
 * The first entry that any replica applies at an index is the truth for that index; everybody else, acknowledgements
 * and consumers included, is compared with it.
 */
import type { Broker } from '../../src/broker/broker.ts'
import type { ApplyResult, CommittedEntry, StateMachineApi } from '../../src/broker/contract.ts'
import type { Membership } from '../../src/broker/membership/membership.ts'
import type { Replica } from '../../src/broker/replica/replica.ts'
import { readBatchHeader, readRecords } from '../../src/message/batch.ts'
import type { NodeEvent } from '../../src/rpc/methods.ts'
import { decodePeerFrame } from '../../src/rpc/peer-codec.ts'
import { frameHeaderBytes, frameLengthOf, isZero } from '../../store/frame.ts'
import { type Frame, frameTypes } from '../../store/index.ts'
import { segmentName } from '../../store/segment.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import { Ballots, isVoteDurable } from './ballots.ts'
import { watchSteps, wrongLeader } from './configuration-steps.ts'
import { Electorate, type Machine } from './electorate.ts'
import { KeptPromises } from './kept-promises.ts'
import { fileOffsetOf, type Place, Rot } from './rot.ts'
import type { SimNode } from './sim-node.ts'
import { TopicHistory } from './topic-history.ts'
import { Trims, wrongBeginning, wrongTrim } from './trim-checks.ts'

/** Thrown to end a run that has failed. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

/** Reasons to take no part that may be right; how long they last is a question of liveness. */
const waitsRightly = /^(NOT_BOOTSTRAPPED|CATCHING_UP|RESTARTING)/
const isOutside = /^(WIPED|NOT_A_MEMBER)/
const nothing = Buffer.alloc(0)

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

interface Progress {
  readonly commit: number
  readonly applied: number
  readonly term: number
  readonly leads: boolean
  readonly first: number
}

export interface JudgeOptions {
  readonly nodes: () => readonly SimNode[]
  /** Those that make the group. */
  readonly initial: readonly string[]
  readonly segmentBytes: number
  readonly topic: string
  readonly group: string
  readonly looksAtDisks: boolean
  /** A follower that is behind by no more is waited for. */
  readonly followerLagBytesMax: number
  /** This leader has begun a configuration. */
  reconfigures(node: SimNode, membership: Membership): void
}

export class Judge {
  readonly #options: JudgeOptions
  readonly #committed: Committed[] = []
  readonly #leaders = new Map<number, string>()
  readonly #ballots = new Ballots()
  /** Committed messages of the topic, by queue and offset. */
  readonly queues: string[][] = []
  readonly #stored = new Set<string>()
  readonly #groupOffsets = new Map<number, number>()
  readonly #promises = new KeptPromises((index) => this.committedAt(index))
  readonly #progress = new Map<string, Progress>()
  /** By node: the replica that is watched. A copy that is put in force brings a new one. */
  readonly #watched = new Map<string, Replica>()
  readonly #paths = new Map<string, Map<number, string>>()
  /** By queue: where it begins, by what was applied. */
  readonly #minOffsets: number[] = []
  /** By queue and offset: the entry of the message. */
  readonly #indexes: number[][] = []
  /** Entries before it are given up by the group. */
  trimmedBefore = 0
  trims = 0
  readonly #trimmed = new Trims()
  copies = 0
  readonly electorate: Electorate
  readonly rot: Rot
  readonly topics = new TopicHistory()
  elections = 0
  violation: Violation | null = null

  constructor(options: JudgeOptions) {
    this.#options = options
    this.electorate = new Electorate(options.nodes, options.initial)
    this.rot = new Rot({
      nodes: options.nodes,
      path: (machine, position) => this.#segmentPath(machine, this.#baseOf(position)),
      offsetOf: (position) => fileOffsetOf(position, options.segmentBytes),
      isDurableOn: (machine, entry) => this.isDurableOn(machine, entry),
      fail: (text) => this.fail(text),
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
    this.#progress.delete(lost.name)
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
      if (!replica) continue
      if (this.#watched.get(node.name) !== replica) this.#watch(node, replica)
      const { commitIndex: commit, appliedIndex: applied, term } = replica
      const first = replica.log.firstIndex
      if (replica.log.holes.length > 0) this.rot.seesHoles(node, replica)
      const before = this.#progress.get(node.name)
      if (before && before.commit === commit && before.applied === applied && before.term === term) {
        if (before.first === first) continue
      }
      const leads = replica.role === 'leader'
      this.#progress.set(node.name, { commit, applied, term, leads, first })
      this.check(
        first <= Math.max(1, this.trimmedBefore),
        () =>
          `P1: the log of ${node.name} begins at ${first}, the group has given up what is before ${this.trimmedBefore}`,
      )
      if (first !== before?.first && first > 1 && this.#options.looksAtDisks) {
        const problem = before ? this.#trimmed.wrongDeletion(node, first) : wrongBeginning(node, first)
        if (problem !== null) this.fail(`S4: ${problem}`)
      }
      const outvoted = leads ? wrongLeader(replica) : null
      if (outvoted !== null) this.fail(`R1: ${outvoted}`)
      this.check(commit <= replica.log.lastIndex, () => `R4: ${node.name} has commit ${commit} beyond its log`)
      // A log that was cut for its rotten end lies behind its state until it has caught up.
      const isOld = before ? applied === before.applied : this.rot.isCut(node)
      this.check(applied <= commit || isOld, () => `S4: ${node.name} applied ${applied} with commit ${commit}`)
      if (!before) continue
      if (leads && before.leads && before.term === term && commit > before.commit) {
        const own = this.#cachedFrame(node, commit)?.header.term ?? this.committedAt(commit)?.term ?? term
        this.check(
          own === term,
          () => `R5: ${node.name} of term ${term} commits entry ${commit} of term ${own} by count`,
        )
      }
      this.check(commit >= before.commit, () => `R4: commit of ${node.name} fell from ${before.commit} to ${commit}`)
      this.check(applied >= before.applied, () => `S4: applied of ${node.name} fell from ${before.applied}`)
      this.check(term >= before.term, () => `R1: the term of ${node.name} fell from ${before.term} to ${term}`)
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
    const stored = this.queues[queue]?.[offset]
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
    const stored = this.queues[queue]?.[offset]
    this.check(stored === value, () => `B4: ${value} was consumed at ${queue}/${offset}, where ${stored} lies`)
  }

  isStored(value: string): boolean {
    return this.#stored.has(value)
  }

  /** Where the queue begins since the last trim. */
  minOffset(queue: number): number {
    return this.#minOffsets[queue] ?? 0
  }

  groupOffset(queue: number): number | undefined {
    return this.#groupOffsets.get(queue)
  }

  /**
   * Whether the disk of this node would still hold the entry after a power cut, or its log begins behind it by a
   * decision of the group.
   */
  isDurableOn(node: Machine, entry: Place): boolean {
    if (!this.#options.looksAtDisks || this.isOnDisk(node, entry)) return true
    return entry.index < this.trimmedBefore && this.#beginsBehind(node, entry.position)
  }

  /** The disk holds it intact, or would but for bits that rotted since. */
  #isHeldBy(node: Machine, entry: Place): boolean {
    return this.isDurableOn(node, entry) || this.rot.isHeldBy(node, entry)
  }

  /** Intact and durable. */
  isOnDisk(node: Machine, { position, bytes }: Pick<Committed, 'position' | 'bytes'>): boolean {
    const offset = fileOffsetOf(position, this.#options.segmentBytes)
    return node.disk.isDurable(this.#segmentPath(node, this.#baseOf(position)), offset, bytes)
  }

  /** The first segment of the log that would survive lies behind this position. */
  #beginsBehind(node: Machine, position: number): boolean {
    const end = this.#committed.at(-1)?.position ?? 0
    for (let base = 0; base <= end; base += this.#options.segmentBytes) {
      if (node.disk.isDurable(this.#segmentPath(node, base), 0, nothing)) return base > position
    }
    return false
  }

  #baseOf(position: number): number {
    return position - (position % this.#options.segmentBytes)
  }

  #segmentPath(node: Machine, base: number): string {
    const directory = node.logDirectory
    let paths = this.#paths.get(directory)
    if (!paths) {
      paths = new Map()
      this.#paths.set(directory, paths)
    }
    let path = paths.get(base)
    if (path === undefined) {
      path = `${directory}/${segmentName(base)}`
      paths.set(base, path)
    }
    return path
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
    const problem = replica ? wrongTrim(replica, firstIndex, this.#options.followerLagBytesMax) : null
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
    this.#promises.holds(node.diskId, this.#progress.get(node.name)?.applied ?? 0)
    this.#progress.delete(node.name)
    this.rot.began(node)
    this.#checkRecovery(node, replica)
    this.#checkState(node, replica)
    watchSteps(replica, {
      begun: (membership) => this.#options.reconfigures(node, membership),
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
    this.#checkTail(node, log.endPosition)
  }

  /** Behind the tail there are only zeros. */
  #checkTail(node: SimNode, end: number): void {
    const { segmentBytes } = this.#options
    const path = this.#segmentPath(node, end - (end % segmentBytes))
    if (!node.disk.paths().includes(path)) return
    const behind = node.disk.contentOf(path).subarray(segmentHeaderBytes + (end % segmentBytes))
    this.check(isZero(behind), () => `S2: ${node.name} came back with old bytes behind its tail at ${end}`)
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
    if (result.kind === 'stored' && !result.duplicate) this.#learnBatch(entry, result)
    if (result.kind === 'membership') this.electorate.applied(entry.index, result.membership)
    if (result.kind === 'trimmed') this.#learnTrim(machine)
    if (result.kind !== 'offsets') return
    const topic = machine.topic(this.#options.topic)
    if (!topic) return
    for (let queue = 0; queue < this.queues.length; queue++) {
      const offset = machine.committedOffset(this.#options.group, topic.topicId, queue)
      if (offset === undefined) continue
      const before = this.#groupOffsets.get(queue) ?? 0
      this.check(offset >= before, () => `B5: the group's offset of queue ${queue} fell from ${before} to ${offset}`)
      this.#groupOffsets.set(queue, offset)
    }
  }

  /** Queues give up no message that the log keeps, and keep none that it gives up. */
  #learnTrim(machine: StateMachineApi): void {
    const { firstIndex } = machine.trimmed
    this.check(firstIndex >= this.trimmedBefore, () => `P1: what was given up comes back before ${firstIndex}`)
    if (firstIndex > this.trimmedBefore) this.trims++
    this.trimmedBefore = firstIndex
    this.#trimmed.decided(machine.trimmed)
    const topic = machine.topic(this.#options.topic)
    for (let queue = 0; topic && queue < this.queues.length; queue++) {
      const min = machine.queueRange(topic.topicId, queue)?.min ?? 0
      this.#minOffsets[queue] = min
      const indexes = this.#indexes[queue] ?? []
      const [last, next] = [indexes[min - 1] ?? 0, indexes[min] ?? Number.POSITIVE_INFINITY]
      this.check(
        last < firstIndex && next >= firstIndex,
        () => `P1: queue ${queue} begins at ${min} with entry ${next} after ${last}, the log at ${firstIndex}`,
      )
    }
  }

  #learnBatch(entry: CommittedEntry, result: Extract<ApplyResult, { readonly kind: 'stored' }>): void {
    const header = readBatchHeader(entry.body)
    if (header.topic !== this.#options.topic) return
    this.queues[result.queue] ??= []
    this.#indexes[result.queue] ??= []
    const messages = this.queues[result.queue] as string[]
    const indexes = this.#indexes[result.queue] as number[]
    this.check(
      result.baseOffset === messages.length,
      () => `B2: queue ${result.queue} goes on at ${result.baseOffset} after ${messages.length}`,
    )
    for (const record of readRecords(entry.body, 0)) {
      const value = valueIn(record.body)
      this.check(
        !this.#stored.has(value),
        () => `B3: ${value} is stored twice, again at ${result.queue}/${messages.length}`,
      )
      this.#stored.add(value)
      messages.push(value)
      indexes.push(entry.index)
    }
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

/** What every body is filled up with. */
export const filling: Buffer = Buffer.alloc(64 * 1024, '.')

/** The part of a body that tells it from all others; the rest is filling. Of a damaged body nothing is equal. */
export function valueIn(body: Buffer): string {
  const end = body.indexOf(' ')
  const value = body.toString('latin1', 0, end)
  const isWhole = end >= 0 && body.compare(filling, 0, body.length - end - 1, end + 1) === 0
  return isWhole ? value : `${value} with a damaged body`
}

function pick({ index, term, position }: CommittedEntry): { index: number; term: number; position: number } {
  return { index, term, position }
}
