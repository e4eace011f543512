/**
 * The one loop that owns a replica: inputs go into the core, its Readies are staged, sent, made durable, applied.
 *
 * Driven by `replica.ts`. Inputs are stepped at once; what comes out of them is collected to the end of the turn, so
 * that proposals and messages that arrive together share one Ready and one fsync. The order within a Ready (Raft
 * thesis 10.2.1; `raft/README.md`) is: stage the log, send what need not wait, persist, and only then the rest.
 */
import type { Input, PeerMessage, RaftCore, RaftEvent, Ready, StepResult } from '../../../raft/index.ts'
import {
  type CommitLogApi,
  type Frame,
  frameBody,
  frameTypes,
  type HardStateApi,
  type LogEntry,
  type LogHole,
  StoreError,
} from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { ReplicaLimits } from '../options.ts'
import { InboundFrames } from './inbound-frames.ts'
import { Persister } from './persister.ts'
import type { SpacePatience } from './space-patience.ts'
import { Ticker } from './ticker.ts'

export interface LoopPorts {
  readonly clock: Clock
  readonly limits: ReplicaLimits
  readonly core: RaftCore
  readonly log: CommitLogApi
  readonly hardState: HardStateApi
  /** Log time for the entries of one Ready, never before `previous`. */
  stamp(previous: number): number
  send(message: PeerMessage): void
  event(event: RaftEvent): void
  readConfirmed(context: number, index: number): void
  /** Entries up to `index` are committed and on the own disk. */
  committed(index: number): void
  /** A configuration entry is staged: it counts from now on (Raft section 6). */
  configurationStaged(index: number, body: Buffer): void
  /** Entries from this one on are cut. What comes in their place is durable only after what is returned. */
  cut(fromIndex: number): Promise<void> | null
  /**
   * The leader cuts the log from `fromIndex` on, inside this hole or right behind it, and nobody can say where the log
   * would end. Nothing is changed, and the loop has stopped: what the core took from this leader is on no disk.
   */
  cutInHole(fromIndex: number, hole: LogHole): void
  /** The leader's log begins with this index, behind the end of ours. */
  leftBehind(firstIndex: number): void
  /** All Readies of this turn are taken. */
  turnEnded(): void
  diskFull(): void
  readonly patience: SpacePatience
  /** What is staged finds no space: the loop has stopped, and only what is durable counts. */
  staysFull(): void
  flushBegan(): void
  flushEnded(): void
  /** Storage failed or an invariant broke: the loop has stopped for good. */
  failed(error: unknown): void
}

interface KeptBody {
  readonly term: number
  readonly type: LogEntry['type']
  readonly body: readonly Uint8Array[]
}

export class ReplicaLoop {
  readonly #ports: LoopPorts
  readonly #persister: Persister
  readonly #ticker: Ticker
  readonly #inbound = new InboundFrames()
  /** Bodies of accepted proposals, from the step to the Ready that stages them. */
  readonly #bodies = new Map<number, KeptBody>()
  #lastStoreTime: number
  #term: number
  #scheduled = false
  #pumping = false
  #stopped = false

  constructor(ports: LoopPorts, boot: { readonly lastStoreTime: number; readonly term: number }) {
    this.#ports = ports
    this.#lastStoreTime = boot.lastStoreTime
    this.#term = boot.term
    this.#persister = new Persister({
      ...ports,
      persisted: (ready, messages) => this.#guard(() => this.#onPersisted(ready, messages)),
      released: (messages) => this.#guard(() => this.#onReleased(messages)),
      staysFull: () => this.#guard(() => this.#onStaysFull()),
      failed: (error) => this.storageFailed(error),
    })
    this.#ticker = new Ticker({
      clock: ports.clock,
      deadline: () => ports.core.deadline(),
      tick: () => this.step({ kind: 'tick' }),
    })
  }

  /** Newest term that the core announced. */
  get term(): number {
    return this.#term
  }

  start(): void {
    this.#schedule()
  }

  /** Feeds one input; its effects follow at the end of the turn. */
  step(input: Input): StepResult {
    if (this.#stopped) return { kind: 'refused', refusal: { kind: 'storage_failed' } }
    let result: StepResult = { kind: 'done' }
    this.#guard(() => {
      result = this.#ports.core.step(input, this.#ports.clock.monotonicMs())
      // A refusal changed nothing: a turn for it would offer held requests again, only to be refused again, for ever.
      if (result.kind !== 'refused' || this.#ports.core.hasReady()) this.#schedule()
    })
    return result
  }

  receive(message: PeerMessage, frames: readonly Frame[]): void {
    this.#inbound.add(frames)
    this.step({ kind: 'message', message })
    if (this.#inbound.full) this.pump()
  }

  keepBody(index: number, term: number, type: LogEntry['type'], body: readonly Uint8Array[]): void {
    this.#bodies.set(index, { term, type, body })
  }

  /** Takes all Readies now. */
  pump(): void {
    // A Ready without anything to persist comes back here while the loop below still runs; it goes on by itself.
    if (this.#pumping || this.#stopped) return
    this.#pumping = true
    this.#guard(() => {
      while (!this.#stopped && this.#ports.core.hasReady()) this.#process(this.#ports.core.ready())
      this.#inbound.clear()
      this.#bodies.clear()
      this.#ticker.update()
    })
    this.#pumping = false
    if (!this.#stopped) this.#guard(() => this.#ports.turnEnded())
  }

  /** A write or fsync failed: tell the peers, then never again say anything that would need the disk. */
  storageFailed(error: unknown): void {
    if (this.#stopped) return
    this.#persister.stop()
    this.#guard(() => {
      this.#ports.core.step({ kind: 'storage_failed' }, this.#ports.clock.monotonicMs())
      while (this.#ports.core.hasReady()) {
        const ready = this.#ports.core.ready()
        for (const message of ready.sendNow) this.#ports.send(message)
        for (const event of ready.events) this.#ports.event(event)
      }
    })
    this.#die(error)
  }

  /** Resolves when everything staged is durable. */
  drained(): Promise<void> {
    return this.#persister.drained()
  }

  stop(): void {
    this.#stopped = true
    this.#ticker.stop()
    this.#persister.stop()
  }

  #schedule(): void {
    if (this.#scheduled || this.#stopped) return
    this.#scheduled = true
    this.#ports.clock.defer(() => {
      this.#scheduled = false
      this.pump()
    })
  }

  #process(ready: Ready): void {
    if (ready.hardState) this.#term = ready.hardState.term
    if (ready.truncateFrom !== undefined && !this.#cut(ready.truncateFrom)) return
    this.#stage(ready)
    for (const message of ready.sendNow) this.#ports.send(message)
    for (const event of ready.events) this.#ports.event(event)
    this.#persister.add(ready)
    if (ready.committed) this.#ports.committed(ready.committed.to)
    if (ready.catchUp) this.#ports.leftBehind(ready.catchUp.firstIndex)
    for (const read of ready.readStates) this.#ports.readConfirmed(read.context, read.index)
  }

  /** False when the log cannot be cut there: then the loop has stopped. */
  #cut(fromIndex: number): boolean {
    const { log } = this.#ports
    if (fromIndex > log.lastIndex) return true
    try {
      log.truncateFrom(fromIndex)
    } catch (error) {
      const hole = log.holes.find((each) => each.fromIndex < fromIndex && fromIndex <= each.toIndex + 1)
      if (!hole || !(error instanceof StoreError) || error.code !== 'ROTTEN') throw error
      this.stop()
      this.#ports.cutInHole(fromIndex, hole)
      return false
    }
    const recorded = this.#ports.cut(fromIndex)
    if (recorded) this.#persister.after(recorded)
    return true
  }

  #stage(ready: Ready): void {
    const { log } = this.#ports
    let stamp: number | null = null
    for (const { index, term, kind } of ready.append) {
      const received = this.#inbound.find(index, term)
      if (received) {
        this.#lastStoreTime = log.appendFrame(received.bytes).header.storeTime
        if (kind === 'configuration') this.#ports.configurationStaged(index, frameBody(received))
        continue
      }
      stamp ??= this.#ports.stamp(this.#lastStoreTime)
      this.#lastStoreTime = stamp
      const own = kind === 'noop' ? noop : this.#bodies.get(index)
      invariant(own !== undefined && (own === noop || own.term === term), `R2: entry ${index}/${term} has no body`)
      log.append({ index, term, type: own.type, storeTime: stamp, body: own.body })
      if (kind === 'configuration') this.#ports.configurationStaged(index, Buffer.concat(own.body))
    }
  }

  #onPersisted(ready: number, messages: readonly PeerMessage[]): void {
    if (this.#stopped) return
    this.#ports.core.step({ kind: 'persisted', ready }, this.#ports.clock.monotonicMs())
    for (const message of messages) {
      // What was acknowledged in an older term may have been cut since by the log of a newer leader.
      if (message.kind === 'append_response' && message.term < this.#term) continue
      if (message.kind === 'append_response' && message.rejected === null) {
        const durable = this.#ports.log.durableIndex
        invariant(
          message.matchIndex <= durable,
          `S1: entry ${message.matchIndex} is acknowledged, ${durable} is durable`,
        )
      }
      this.#ports.send(message)
    }
    this.pump()
  }

  /** Says nothing to the core: to it the Readies of these messages are still on their way to the disk. */
  #onReleased(messages: readonly PeerMessage[]): void {
    if (this.#stopped) return
    for (const message of messages) this.#ports.send(message)
  }

  #onStaysFull(): void {
    if (this.#stopped) return
    this.stop()
    this.#ports.staysFull()
  }

  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#die(error)
    }
  }

  #die(error: unknown): void {
    if (this.#stopped) return
    this.stop()
    this.#ports.failed(error)
  }
}

const noop: KeptBody = {
  type: frameTypes.noop,
  body: [],
  term: 0,
}
