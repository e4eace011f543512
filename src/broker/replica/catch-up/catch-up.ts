/**
 * Brings back a replica that the group's log has left behind: copies log and state of other members beside the own
 * ones, then has the copy put in force. Started by `broker.ts`; what comes next is the planner's to say.
 *
 * The replica goes on with what it has meanwhile. Every frame is checked as one that a leader sends, every state
 * image as a whole; nothing of a copy counts before it is complete and durable. It may be stopped at any moment.
 */
import type { EntryId } from '../../../../raft/index.ts'
import { isForLackOfSpace, type KeyValueEngine, StoreError, splitFrames } from '../../../../store/index.ts'
import { unreachable } from '../../../common/assert.ts'
import { type Clock, sleep } from '../../../common/clock.ts'
import { LedgerError } from '../../../common/errors.ts'
import type { Logger } from '../../../common/logger.ts'
import type { LogRange } from '../../../rpc/methods.ts'
import { stateFormatVersion } from '../../apply/meta.ts'
import type { EventSink } from '../../events.ts'
import { type Generations, type LogEnd, stateDirectory } from '../generations.ts'
import { Incoming, type IncomingPorts } from './incoming.ts'
import {
  type CopyProgress,
  type CopySourceView,
  type CopyStep,
  mayReplace,
  type OwnLog,
  type OwnReplica,
  planCopy,
  planStateEnd,
  planStateOnly,
} from './planner.ts'
import type { Sources } from './sources.ts'
import { copyState } from './state-copy.ts'
import { TokenBucket } from './token-bucket.ts'

/** Pieces of the copy that are flushed together. */
const piecesPerFlush = 4
const waitMs = 500
/** Pause after the own disk or a source that lied made an end of an attempt. */
const retryMs = 2000
/** Looks for space, `waitMs` apart, before a copy that found none is tried again all the same. */
const spaceLooksMax = 120
/** Without any progress for this long the copy is said to have failed; it goes on trying. */
const patienceMs = 60_000
const progressEveryMs = 2000

const noEnd: EntryId = { index: 0, term: 0 }

/** A copy that is complete, and what the own log was when it was found to be. */
interface Complete {
  readonly generations: Generations
  /** Infinity when the own log stays. */
  readonly copyEnd: number
  readonly planned: LogEnd
}

/** What is to be replaced: all, or the state alone of a replica whose log is whole. */
export type CatchUpKind = 'whole' | 'state'

interface Wanted {
  readonly kind: CatchUpKind
  readonly reason: string
}

export interface CatchUpStatus {
  /** Node that is being copied from; empty while none can be. */
  readonly source: string
  /** `space`: waits until the disk is not full any more. */
  readonly phase: 'log' | 'state' | 'install' | 'wait' | 'space'
  readonly fetchedBytes: number
  readonly totalBytes: number
  /** Why nothing can be copied now; empty while something is. */
  readonly problem: string
}

export interface OwnState extends OwnReplica, OwnLog {
  readonly lastTerm: number
  /** Earliest index of a state that the own log can go on from. */
  readonly stateFrom: number
}

export interface CatchUpPorts extends IncomingPorts {
  readonly clock: Clock
  readonly engine: KeyValueEngine
  readonly logger: Logger
  readonly events: EventSink
  readonly sources: Sources
  readonly bytesPerSecond: number
  term(): number
  /** The own disk is full: what is left of it is the reserve, which a copy must not eat. */
  isDiskFull(): boolean
  /** The own replica; `end` is the last entry of the copy. */
  own(end: EntryId): Promise<OwnState>
  /** False: the own log has outgrown the copy meanwhile, and goes on. */
  install(generations: Generations, mayReplace: (own: LogEnd) => boolean): Promise<boolean>
  /** The copy could not be put in force: the node cannot go on. */
  failed(error: unknown): void
}

export class CatchUp {
  readonly #ports: CatchUpPorts
  readonly #incoming: Incoming
  readonly #bucket: TokenBucket
  readonly #stop = new AbortController()
  #running: Promise<void> | null = null
  #kind: CatchUpKind = 'whole'
  #status: CatchUpStatus | null = null
  #stateBytes = 0
  /** The last entry that the copied state holds, as a member knows it committed. */
  #stateEnd: EntryId | null = null
  #movedAtMs = 0
  #toldAtMs = 0
  /** Sources in a row whose log did not continue the copy. */
  #misfits = 0
  /** The copy is being put in force: a new replica begins meanwhile, and this one does not help it any more. */
  #isInstalling = false
  /** What that replica finds missing all the same. */
  #next: Wanted | null = null

  constructor(ports: CatchUpPorts) {
    this.#ports = ports
    this.#incoming = new Incoming(ports)
    this.#bucket = new TokenBucket(ports.clock, ports.bytesPerSecond)
  }

  /** Null while nothing is copied. */
  get status(): CatchUpStatus | null {
    return this.#status
  }

  /** Starts copying unless it does already. A state alone is not enough once the log is left behind, too. */
  start(kind: CatchUpKind, reason: string): void {
    if (this.#stop.signal.aborted) return
    if (this.#running) {
      if (this.#isInstalling) this.#next = this.#next?.kind === 'whole' ? this.#next : { kind, reason }
      else if (kind === 'whole') this.#kind = kind
      return
    }
    this.#kind = kind
    this.#status = { source: '', phase: 'wait', fetchedBytes: 0, totalBytes: 0, problem: '' }
    this.#movedAtMs = this.#ports.clock.monotonicMs()
    this.#emit('catch_up_started', { what: kind, reason })
    this.#running = this.#run().finally(() => this.#ended())
  }

  /**
   * What the replica that is replaced went on to ask for is done: its leader repeats that it is left behind until the
   * copy answers. Without this every copy would be made a second time.
   */
  inForce(): void {
    this.#next = null
  }

  /** What was copied stays for the next start. */
  async close(): Promise<void> {
    this.#stop.abort(new LedgerError('CLOSED', 'the broker stops'))
    await this.#running
  }

  #ended(): void {
    const next = this.#next
    this.#running = null
    this.#status = null
    this.#isInstalling = false
    this.#next = null
    if (next) this.start(next.kind, next.reason)
  }

  async #run(): Promise<void> {
    const { clock } = this.#ports
    const { signal } = this.#stop
    const startMs = clock.monotonicMs()
    while (!signal.aborted) {
      try {
        const complete = await this.#copy(signal)
        if (complete && (await this.#install(complete, startMs))) return
      } catch (error) {
        if (signal.aborted) break
        await this.#onFailure(error)
      }
      await sleep(clock, retryMs, signal).catch(() => {})
    }
    await this.#incoming.close().catch(() => {})
  }

  async #copy(signal: AbortSignal): Promise<Complete | null> {
    await this.#resume()
    for (;;) {
      await this.#untilSpace(signal)
      // What the full disk did not take.
      await this.#incoming.log?.flush()
      const views = await this.#ports.sources.describe(signal)
      signal.throwIfAborted()
      const { log } = this.#incoming
      const end = log ? { index: log.lastIndex, term: log.lastTerm } : this.#stateEnd
      const own = await this.#ports.own(end ?? noEnd)
      const step = this.#plan(views, own)
      this.#noteTotal(views)
      if (step.kind === 'install') return this.#complete(own)
      await this.#take(step, views.length > 0, signal)
    }
  }

  async #resume(): Promise<void> {
    if (this.#incoming.record) return
    const found = await this.#incoming.resume()
    // A whole copy brings the state, too, and its log took long to come: it is gone on with, whatever is missing now.
    if (found?.origin) this.#kind = 'whole'
    else if (found && this.#kind === 'whole') await this.#incoming.discard()
  }

  #plan(views: readonly CopySourceView[], own: OwnState): CopyStep {
    const { record, log } = this.#incoming
    const stateIndex = record?.stateIndex ?? null
    if (this.#kind === 'whole') {
      const progress: CopyProgress = { log, stateIndex }
      return planCopy(progress, own, views, this.#roundBytes)
    }
    if (stateIndex === null) return planStateOnly(own.stateFrom, views)
    return planStateEnd(stateIndex, own, this.#stateEnd, views)
  }

  get #roundBytes(): number {
    return piecesPerFlush * this.#ports.limits.copyBytesMax
  }

  async #take(
    step: Exclude<CopyStep, { readonly kind: 'install' }>,
    hasSources: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    switch (step.kind) {
      case 'wait':
        this.#phase('wait', '')
        // What the last source failed at says more than that it is left alone now.
        if (hasSources || this.#status?.problem === '') this.#stuck(step.reason)
        this.#complain(step.reason)
        await sleep(this.#ports.clock, waitMs, signal)
        return
      case 'discard':
        this.#ports.logger.warn('an unfinished copy is thrown away', { reason: step.reason })
        await this.#incoming.discard()
        return
      case 'begin':
        await this.#incoming.begin(step.origin)
        return
      case 'log':
        this.#phase('log', step.node)
        return this.#fromSource(step.node, () => this.#fetchLog(step, signal))
      case 'state':
        this.#phase('state', step.node)
        return this.#fromSource(step.node, () => this.#fetchState(step.node, signal))
      case 'entry':
        return this.#fromSource(step.node, () => this.#fetchEntry(step, signal))
      default:
        unreachable(step)
    }
  }

  /** What a source fails at is the source's: the others are tried. What the own disk fails at is thrown. */
  async #fromSource(node: string, work: () => Promise<void>): Promise<void> {
    const { sources, logger } = this.#ports
    try {
      await work()
      sources.served(node)
    } catch (error) {
      if (error instanceof StoreError && error.code !== 'BAD_FRAME' && error.code !== 'BAD_IMAGE') throw error
      if (error instanceof Error && error.name === 'InvariantError') throw error
      sources.failed(node, error)
      this.#stuck(error instanceof Error ? error.message : String(error))
      logger.info('a copy from a peer was cut short', { node, error: String(error) })
      this.#complain(String(error))
      // One source that does not fit is wrong; when another one does not fit either, the copy is.
      if (error instanceof StoreError && error.code === 'BAD_FRAME' && ++this.#misfits > 1) {
        this.#misfits = 0
        await this.#incoming.discard()
      }
    }
  }

  async #fetchLog(step: Extract<CopyStep, { readonly kind: 'log' }>, signal: AbortSignal): Promise<void> {
    const { log } = this.#incoming
    if (!log) return
    const { copyStretchBytes } = this.#ports.limits
    const startPosition = log.endPosition
    try {
      while (log.lastIndex < step.toIndex && log.endPosition - startPosition < copyStretchBytes) {
        const startMs = this.#ports.clock.monotonicMs()
        const range = { fromIndex: log.lastIndex + 1, toIndex: step.toIndex, uncommitted: false }
        const reply = await this.#ports.sources.fetchLog(step.node, range, signal)
        if (reply.frames.length === 0) throw nothingGiven(step.node, range.fromIndex, reply.rotten)
        for (const { bytes } of splitFrames(reply.frames)) log.appendFrame(bytes)
        if (this.#ports.isDiskFull()) return
        if (log.stagedBytes >= this.#roundBytes) await log.flush()
        this.#moved()
        await this.#rest(reply.frames.length, startMs, signal)
      }
    } finally {
      // Also what came before a failure is kept. On a full disk it stays staged until there is space.
      if (!this.#ports.isDiskFull()) await log.flush()
    }
  }

  async #fetchState(node: string, signal: AbortSignal): Promise<void> {
    const { engine, disk, directory } = this.#ports
    if (!this.#incoming.record) await this.#incoming.begin(null)
    this.#stateBytes = 0
    const state = this.#incoming.record?.state ?? 0
    let startMs = this.#ports.clock.monotonicMs()
    const index = await copyState({
      clock: this.#ports.clock,
      sources: this.#ports.sources,
      node,
      place: { engine, disk, directory: stateDirectory(directory, state), schema: stateFormatVersion },
      signal,
      received: async (bytes) => {
        this.#stateBytes += bytes
        this.#moved()
        await this.#untilSpace(signal)
        await this.#rest(bytes, startMs, signal)
        startMs = this.#ports.clock.monotonicMs()
      },
    })
    await this.#incoming.stateCopied(index)
  }

  async #fetchEntry(
    { node, index }: Extract<CopyStep, { readonly kind: 'entry' }>,
    signal: AbortSignal,
  ): Promise<void> {
    const range = { fromIndex: index, toIndex: index, uncommitted: false }
    const reply = await this.#ports.sources.fetchLog(node, range, signal)
    const [frame] = splitFrames(reply.frames)
    if (frame?.header.index !== index) throw nothingGiven(node, index, reply.rotten)
    this.#stateEnd = { index, term: frame.header.term }
  }

  /** Whoever has got a full disk needs the last of it to vote and to trim; a source that gets tired of it is asked anew. */
  async #untilSpace(signal: AbortSignal): Promise<void> {
    const { phase, source } = this.#status ?? { phase: 'wait', source: '' }
    if (!this.#ports.isDiskFull()) return
    this.#phase('space', source)
    while (this.#ports.isDiskFull()) {
      this.#complain('the disk is full: the copy waits for space')
      await sleep(this.#ports.clock, waitMs, signal)
    }
    this.#phase(phase, source)
  }

  /**
   * After a piece: as long as the limit wants, and at least half as long as the piece took. Where the group and the
   * copy share a disk or a processor, pieces take longer, and the copy steps back by itself.
   */
  async #rest(bytes: number, startMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#ports
    const nowMs = clock.monotonicMs()
    const restedMs = nowMs + (nowMs - startMs) / 2
    await this.#bucket.take(bytes, signal)
    const leftMs = restedMs - clock.monotonicMs()
    if (leftMs > 1) await sleep(clock, leftMs, signal)
  }

  async #complete(own: OwnState): Promise<Complete | null> {
    const { record, log } = this.#incoming
    if (!record) return null
    this.#phase('install', this.#status?.source ?? '')
    const copyEnd = log?.lastIndex ?? Number.POSITIVE_INFINITY
    await this.#incoming.close()
    const { lastIndex, lastTerm } = own
    const { log: logGeneration, state, logFirstIndex = 1 } = record
    return { generations: { log: logGeneration, state, logFirstIndex }, copyEnd, planned: { lastIndex, lastTerm } }
  }

  /** True when there is nothing left to do. */
  async #install({ generations, copyEnd, planned }: Complete, startMs: number): Promise<boolean> {
    const { install, failed, clock } = this.#ports
    this.#isInstalling = true
    try {
      if (!(await install(generations, (now) => mayReplace(copyEnd, planned, now)))) {
        this.#notInstalled()
        return false
      }
      await this.#incoming.installed()
      const { fetchedBytes } = this.#status ?? { fetchedBytes: 0 }
      const tookMs = Math.round(clock.monotonicMs() - startMs)
      this.#emit('catch_up_finished', { what: this.#kind, fetchedBytes, tookMs })
    } catch (error) {
      if (!this.#stop.signal.aborted) failed(error)
    }
    return true
  }

  /** This copy goes on, and helps with what was missed meanwhile; only a whole one is more than it was to be. */
  #notInstalled(): void {
    this.#isInstalling = false
    if (this.#next?.kind === 'whole') this.#kind = 'whole'
    this.#next = null
  }

  /** The own disk did not take the copy. It may be full: then the copy is kept. Or bad: the replica on it will tell. */
  async #onFailure(error: unknown): Promise<void> {
    if (error instanceof Error && error.name === 'InvariantError') {
      this.#ports.failed(error)
      this.#stop.abort()
      return
    }
    this.#ports.logger.warn('the copy could not be written', { error: String(error) })
    this.#complain(String(error))
    if (!isForLackOfSpace(error)) {
      await this.#incoming.discard().catch(() => {})
      return
    }
    // Anything else that had a lack of space at its bottom is final for the open files, but not for what they hold.
    if (!(error instanceof StoreError) || error.code !== 'DISK_FULL') await this.#incoming.close().catch(() => {})
    await this.#untilRoom(this.#stop.signal).catch(() => {})
  }

  /** For a while: before its first replica a node has nobody else who would notice that there is space again. */
  async #untilRoom(signal: AbortSignal): Promise<void> {
    const { clock, disk, directory, limits, isDiskFull } = this.#ports
    const roomBytes = Math.max(limits.reserveBytes, limits.copyBytesMax)
    this.#phase('space', this.#status?.source ?? '')
    this.#stuck('DISK_FULL: the copy waits for space')
    for (let look = 0; look < spaceLooksMax; look++) {
      await sleep(clock, waitMs, signal)
      if (!isDiskFull() && (await disk.space(directory)).freeBytes >= roomBytes) break
      this.#complain('the disk is full: the copy waits for space')
    }
    this.#phase('wait', '')
  }

  #phase(phase: CatchUpStatus['phase'], source: string): void {
    const before = this.#status ?? { fetchedBytes: 0, totalBytes: 0, problem: '' }
    this.#status = { ...before, phase, source }
  }

  #stuck(problem: string): void {
    if (this.#status) this.#status = { ...this.#status, problem }
  }

  #fetchedBytes(): number {
    const { log } = this.#incoming
    return (log ? log.endPosition - log.origin.position : 0) + this.#stateBytes
  }

  #noteTotal(views: readonly CopySourceView[]): void {
    const { log } = this.#incoming
    const end = Math.max(0, ...views.map(({ endPosition }) => endPosition))
    const totalBytes = (log ? Math.max(end, log.endPosition) - log.origin.position : 0) + this.#stateBytes
    if (this.#status) this.#status = { ...this.#status, fetchedBytes: this.#fetchedBytes(), totalBytes }
  }

  #moved(): void {
    const nowMs = this.#ports.clock.monotonicMs()
    this.#movedAtMs = nowMs
    this.#misfits = 0
    if (!this.#status) return
    const fetchedBytes = this.#fetchedBytes()
    const totalBytes = Math.max(this.#status.totalBytes, fetchedBytes)
    this.#status = { ...this.#status, fetchedBytes, totalBytes, problem: '' }
    if (nowMs - this.#toldAtMs < progressEveryMs) return
    this.#toldAtMs = nowMs
    const { source, phase } = this.#status
    this.#emit('catch_up_progress', { source, phase, fetchedBytes, totalBytes })
  }

  /** Once a minute at most: a replica that nobody can help says so, again and again. */
  #complain(reason: string): void {
    const nowMs = this.#ports.clock.monotonicMs()
    if (nowMs - this.#movedAtMs < patienceMs) return
    this.#movedAtMs = nowMs
    this.#emit('catch_up_failed', { reason })
  }

  #emit(kind: Parameters<EventSink['emit']>[0], details: Parameters<EventSink['emit']>[2]): void {
    this.#ports.events.emit(kind, this.#ports.term(), details)
  }
}

function nothingGiven(node: string, index: number, rotten: LogRange | undefined): LedgerError {
  if (!rotten) return new LedgerError('DATA_LOSS', `entry ${index} is not there any more (${node})`)
  const { fromIndex, toIndex } = rotten
  const cure = 'when no member has them, a copy begins behind them once the log goes on in another segment'
  return new LedgerError('DATA_LOSS', `entries ${fromIndex} to ${toIndex} are rotten on ${node}: ${cure}`)
}
