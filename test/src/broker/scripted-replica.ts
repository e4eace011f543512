/**
 * A replica whose role, quorum and delays a test decides: real state machine, real frames, no consensus. For what a
 * running group shows only by chance: a leader that does not know that it was deposed, a follower that lags, rot.
 * `broker-calls.test.ts` runs the same handlers on a real broker.
 */
import { openStateMachine, type StateMachine } from '../../../src/broker/apply/state-machine.ts'
import type {
  Applied,
  ApplyResult,
  CommittedEntry,
  LeaderView,
  ProposeOptions,
  ReplicaApi,
} from '../../../src/broker/contract.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { chainStart, encodeFrame } from '../../../store/frame.ts'
import {
  type CommitLogApi,
  type Frame,
  type FrameType,
  frameTypes,
  MemoryKeyValueEngine,
  openStateStore,
  type Position,
  StoreError,
} from '../../../store/index.ts'
import { MemoryDisk } from '../../../store/memory-disk.ts'

/** Frames in memory; some of them only "on disk", some of them rotten there. */
class TinyLog {
  readonly frames = new Map<Position, Frame>()
  readonly cold = new Set<Position>()
  readonly rotten = new Set<Position>()
  endPosition: Position = 0
  origin = { position: 0, index: 0, term: 0 }
  readCount = 0

  append(entry: { index: number; term: number; type: Exclude<FrameType, 5>; storeTime: number; body: Buffer }): Frame {
    const place = { position: this.endPosition, previousChecksum: chainStart }
    const frame = encodeFrame({ ...entry, body: [entry.body] }, place)
    this.frames.set(this.endPosition, frame)
    this.endPosition += frame.bytes.length
    return frame
  }

  cachedAt(position: Position): Frame | undefined {
    return this.cold.has(position) ? undefined : this.frames.get(position)
  }

  async readAt(position: Position): Promise<Frame> {
    this.readCount += 1
    await new Promise((resolve) => setImmediate(resolve))
    if (position < this.origin.position) throw new StoreError('OUT_OF_RANGE', `${position}: no position of an entry`)
    const frame = this.frames.get(position)
    if (!frame || this.rotten.has(position)) throw new StoreError('ROTTEN', `body checksum at ${position}`)
    return frame
  }
}

export class ScriptedReplica implements ReplicaApi {
  readonly cluster = 'c'
  readonly group = 'g'
  readonly node = 'n0'
  readonly incarnation = 'i'
  readonly nodes: ReplicaApi['nodes'] = []
  readonly machine: StateMachine
  readonly tinyLog: TinyLog = new TinyLog()
  term = 1
  running = true
  leading = true
  commitIndex = 0
  /** False: the leader has been deposed and does not know it. */
  quorum = true
  /** True: entries are committed but not applied yet. */
  holdApply = false
  /** True: proposals are not committed until it is false again. */
  holdProposals = false
  proposeError: LedgerError | null = null
  proposals: { readonly type: FrameType; readonly options: ProposeOptions }[] = []
  quorumRounds = 0
  readonly #applied = new Set<(entry: CommittedEntry, result: ApplyResult) => void>()
  readonly #roles = new Set<() => void>()
  #leader: LeaderView | null = { node: 'n0', address: 'n0:1', term: 1 }
  #held: CommittedEntry[] = []
  #waiting: (() => void)[] = []
  #nextIndex = 1

  private constructor(machine: StateMachine) {
    this.machine = machine
  }

  static async open(): Promise<ScriptedReplica> {
    const store = await openStateStore({
      engine: new MemoryKeyValueEngine(),
      disk: new MemoryDisk(),
      directory: '/state',
      trusted: true,
    })
    return new ScriptedReplica(await openStateMachine(store))
  }

  get log(): CommitLogApi {
    return this.tinyLog as unknown as CommitLogApi
  }

  get appliedIndex(): number {
    return this.machine.appliedIndex
  }

  leader(): LeaderView | null {
    return this.#leader
  }

  lead(term: number): void {
    this.#change(true, term, { node: this.node, address: 'n0:1', term })
  }

  follow(leader: LeaderView | null): void {
    this.#change(false, leader?.term ?? this.term, leader)
  }

  /** The replica has ended, and the next one has not begun. */
  end(): void {
    this.running = false
    this.quorum = false
    this.follow(null)
  }

  /** An entry is committed, by this leader or another. */
  commit(type: Exclude<FrameType, 5>, body: Buffer): Applied | null {
    const header = { index: this.#nextIndex++, term: this.term, type, storeTime: 1_000_000 + this.#nextIndex, body }
    const { position } = this.tinyLog.append(header).header
    this.commitIndex = header.index
    const entry: CommittedEntry = { ...header, position }
    if (!this.holdApply) return this.#apply(entry)
    this.#held.push(entry)
    return null
  }

  applyHeld(): void {
    this.holdApply = false
    for (const entry of this.#held.splice(0)) this.#apply(entry)
  }

  commitHeld(): void {
    this.holdProposals = false
    for (const commit of this.#waiting.splice(0)) commit()
  }

  async propose(type: FrameType, body: readonly Uint8Array[], options: ProposeOptions): Promise<Applied> {
    this.proposals.push({ type, options })
    if (this.proposeError) throw this.proposeError
    if (!this.leading) throw this.#notLeader()
    if (this.holdProposals) await this.#waitForCommit(options)
    const applied = this.commit(type === frameTypes.batch ? frameTypes.batch : frameTypes.command, Buffer.concat(body))
    if (!applied) throw new LedgerError('OUTCOME_UNKNOWN', 'apply is held')
    return applied
  }

  async readCurrent(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    this.quorumRounds += 1
    if (!this.leading) throw this.#notLeader()
    if (!this.quorum) throw new LedgerError('NO_QUORUM', 'no majority answers')
  }

  onApplied(listener: (entry: CommittedEntry, result: ApplyResult) => void): () => void {
    this.#applied.add(listener)
    return () => this.#applied.delete(listener)
  }

  onRoleChanged(listener: () => void): () => void {
    this.#roles.add(listener)
    return () => this.#roles.delete(listener)
  }

  #apply(entry: CommittedEntry): Applied {
    const result = this.machine.apply(entry)
    for (const listener of this.#applied) listener(entry, result)
    return { index: entry.index, term: entry.term, result }
  }

  #waitForCommit(options: ProposeOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve)
      options.signal?.addEventListener('abort', () => reject(new LedgerError('ABORTED', 'the wait was aborted')))
    })
  }

  #change(leading: boolean, term: number, leader: LeaderView | null): void {
    this.leading = leading
    this.term = term
    this.#leader = leader
    for (const listener of this.#roles) listener()
  }

  #notLeader(): LedgerError {
    const leader = this.#leader
    return new LedgerError('NOT_LEADER', 'not the leader', {
      term: this.term,
      ...(leader ? { leader: { node: leader.node, address: leader.address } } : {}),
    })
  }
}
