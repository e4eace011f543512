/**
 * Makes a damaged log whole again: fetches the entries of every hole from the other members and puts them back.
 * Owned by `upkeep.ts`, one for each replica that runs.
 *
 * The store checks what comes against the chain on both sides of the hole, so it may be taken from anyone, committed
 * or not. Only when every member was asked and has the same entry rotten it is lost: then the node goes on without
 * it, and reads of exactly that range fail.
 */
import { type CommitLogApi, type LogHole, StoreError, splitFrames } from '../../../../store/index.ts'
import { type Clock, sleep } from '../../../common/clock.ts'
import { LedgerError } from '../../../common/errors.ts'
import type { Logger } from '../../../common/logger.ts'
import type { LogRange } from '../../../rpc/methods.ts'
import type { EventSink } from '../../events.ts'
import type { Sources } from '../catch-up/sources.ts'
import { isLost } from './damage.ts'
import type { Quarantine } from './quarantine.ts'

/** Pause after a round that left holes. */
const roundMinMs = 100
const roundMaxMs = 5000

export interface HealerPorts {
  readonly clock: Clock
  readonly logger: Logger
  readonly events: EventSink
  readonly log: CommitLogApi
  readonly sources: Sources
  readonly quarantine: Quarantine
  /** Only a whole copy can make this log good: what it holds is repaired, and the node does not vote all the same. */
  readonly isBeyondRepair: boolean
  term(): number
  /** The core must know: no vote, no leadership. */
  quarantined(): void
  /** Nothing is left that could be filled. */
  healed(): void
  /** These entries can be read again. */
  repaired(): void
  /** Nobody has these entries any more. */
  lost(range: LogRange): void
  /** A bug, or a disk that takes nothing any more. */
  failed(error: unknown): void
}

/** What asking all others for one hole came to. */
type Outcome =
  | { readonly kind: 'repaired' }
  | { readonly kind: 'lost'; readonly range: LogRange }
  /** Somebody who may have it gave no answer. */
  | { readonly kind: 'unknown'; readonly reason: string }

export class Healer {
  readonly #ports: HealerPorts
  readonly #stop = new AbortController()
  #running: Promise<void> | null = null

  constructor(ports: HealerPorts) {
    this.#ports = ports
  }

  /** Begins with what recovery found, and with what was found since. */
  start(): void {
    if (this.#ports.quarantine.isPending) this.#run()
    else for (const hole of this.#open()) this.onRot(hole)
  }

  /** Rot was found while the replica runs. */
  onRot(hole: LogHole): void {
    const { events, quarantine, quarantined, logger, term } = this.#ports
    const { fromIndex, toIndex, reason } = hole
    events.emit('rot_found', term(), { fromIndex, toIndex, reason })
    logger.error('entries of the log do not pass their check', { fromIndex, toIndex, reason })
    if (isLost(hole, quarantine.lost)) return
    quarantined()
    quarantine.begin(reason).catch((error: unknown) => this.#ports.failed(error))
    this.#run()
  }

  /** The core says that this node may vote again. */
  ended(): void {
    this.#ports.quarantine.end().catch((error: unknown) => this.#ports.failed(error))
  }

  async close(): Promise<void> {
    this.#stop.abort(new LedgerError('CLOSED', 'the replica stops'))
    await this.#running
  }

  #run(): void {
    if (this.#stop.signal.aborted) return
    this.#running ??= this.#heal(this.#stop.signal)
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#ports.failed(error)
      })
      .finally(() => {
        this.#running = null
        // Rot that was found behind the last look is healed by a run of its own.
        if (this.#open().length > 0) this.#run()
      })
  }

  async #heal(signal: AbortSignal): Promise<void> {
    let pauseMs = roundMinMs
    while (this.#open().length > 0) {
      const before = this.#open().length
      await this.#ports.sources.describe(signal)
      for (const hole of this.#open()) await this.#healOne(hole, signal)
      signal.throwIfAborted()
      if (this.#open().length === 0) break
      pauseMs = this.#open().length < before ? roundMinMs : Math.min(pauseMs * 2, roundMaxMs)
      await sleep(this.#ports.clock, pauseMs, signal)
    }
    if (!this.#ports.isBeyondRepair) this.#ports.healed()
  }

  #open(): readonly LogHole[] {
    return this.#ports.log.holes.filter((hole) => !isLost(hole, this.#ports.quarantine.lost))
  }

  async #healOne(hole: LogHole, signal: AbortSignal): Promise<void> {
    const { fromIndex, toIndex } = hole
    const { events, logger, quarantine, term } = this.#ports
    const outcome = await this.#ask(hole, signal)
    switch (outcome.kind) {
      case 'repaired':
        events.emit('rot_repaired', term(), { fromIndex, toIndex })
        this.#ports.repaired()
        return
      case 'lost':
        await quarantine.addLost(outcome.range)
        events.emit('data_loss', term(), { ...outcome.range })
        logger.error('entries are rotten on every member: they are lost', { ...outcome.range })
        this.#ports.lost(outcome.range)
        return
      default:
        logger.info('a hole cannot be filled yet', { fromIndex, toIndex, reason: outcome.reason })
    }
  }

  /** Asks one after the other until the hole is filled, or all have said that they do not have its first entry. */
  async #ask(hole: LogHole, signal: AbortSignal): Promise<Outcome> {
    const { sources } = this.#ports
    const rotten: LogRange[] = []
    let reason = 'no other member'
    const { nodes } = sources
    for (const node of nodes) {
      try {
        const range = await this.#fill(node, hole, signal)
        if (range === null) return { kind: 'repaired' }
        rotten.push(range)
      } catch (error) {
        signal.throwIfAborted()
        if (isOwnFailure(error)) throw error
        sources.failed(node, error)
        reason = `${node}: ${error instanceof Error ? error.message : String(error)}`
      }
    }
    if (nodes.length === 0 || rotten.length < nodes.length) return { kind: 'unknown', reason }
    // What lies behind the first lost entries cannot be placed, but whoever has it whole can serve it.
    return { kind: 'lost', range: { fromIndex: hole.fromIndex, toIndex: hole.toIndex } }
  }

  /** Null when the hole is gone; else the range that is rotten there, too. */
  async #fill(node: string, hole: LogHole, signal: AbortSignal): Promise<LogRange | null> {
    const { log, sources } = this.#ports
    let next = hole.fromIndex
    while (next <= hole.toIndex) {
      const range = { fromIndex: next, toIndex: hole.toIndex, uncommitted: true }
      const reply = await sources.fetchLog(node, range, signal)
      if (reply.rotten) return reply.rotten
      const frames = splitFrames(reply.frames)
      const last = frames.at(-1)
      if (!last) throw new LedgerError('DATA_LOSS', `${node} does not have entry ${next}`)
      await log.repair(frames)
      next = last.header.index + 1
    }
    return null
  }
}

/** Frames that do not fit are the peer's fault, a hole that changed is nobody's; anything else is the own disk's. */
function isOwnFailure(error: unknown): boolean {
  if (error instanceof LedgerError) return false
  if (!(error instanceof StoreError)) return true
  return error.code === 'STORAGE_FAILED' || error.code === 'CLOSED'
}
