/**
 * Makes a damaged log whole again: fetches the entries of every hole from the other members and puts them back.
 * Owned by `upkeep.ts`, one for each replica that runs.
 *
 * How one hole is filled is in `hole-filler.ts`. Only when every member was asked and has the same entry rotten, or does
 * not have it although it was applied, it is lost: then the node goes on without it, and reads of exactly that range fail. When what the others have committed
 * does not follow the entries beside the hole, those are wrong, and only a whole copy helps.
 */
import type { CommitLogApi, LogHole } from '../../../../store/index.ts'
import { type Clock, sleep } from '../../../common/clock.ts'
import { LedgerError } from '../../../common/errors.ts'
import type { Logger } from '../../../common/logger.ts'
import type { LogRange } from '../../../rpc/methods.ts'
import type { EventSink } from '../../events.ts'
import type { CopySourceView } from '../catch-up/planner.ts'
import type { Sources } from '../catch-up/sources.ts'
import { isLost } from './damage.ts'
import { fillHole, firstOpen } from './hole-filler.ts'
import type { Quarantine } from './quarantine.ts'

/** Pause after a round that left holes. */
const roundMinMs = 100
const roundMaxMs = 5000
/** Attempts in a row at one hole, before it is the entries beside it that are wrong. */
const misfitsMax = 3

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
  appliedIndex(): number
  /** The core must know: no vote, no leadership. */
  quarantined(): void
  /**
   * Before each round, for a log that may hide a membership: asks who else is a member, so that nothing is taken for
   * lost that a member has whom nobody here knows. They are among the sources from then on.
   */
  findMembers(signal: AbortSignal): Promise<void>
  /** Nothing is left that could be filled. */
  healed(): void
  /**
   * Instead of `healed`, when what was missing at the start hid terms or memberships: the replica has to begin again.
   * Null when it hid nothing.
   */
  readonly beginAgain: (() => void) | null
  /** These entries can be read again. */
  repaired(): void
  /** Nobody has these entries any more. */
  lost(range: LogRange): void
  /** Nobody has anything that follows what lies before this hole: the log has to be copied anew. */
  unrepairable(range: LogRange, reason: string): void
  /** A bug, or a disk that takes nothing any more. */
  failed(error: unknown): void
}

export class Healer {
  readonly #ports: HealerPorts
  readonly #stop = new AbortController()
  #running: Promise<void> | null = null
  /** By the last entry of a hole, which stays: it shrinks from its beginning. */
  readonly #misfits = new Map<number, number>()
  #hasRepaired = false

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
    await this.#ports.quarantine.settled()
  }

  #run(): void {
    if (this.#stop.signal.aborted) return
    this.#running ??= this.#heal(this.#stop.signal)
      .catch((error: unknown) => {
        if (this.#stop.signal.aborted) return
        // The node stops soon; until then another run would only fail the same way, as fast as it can.
        this.#stop.abort()
        this.#ports.failed(error)
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
      await this.#ports.findMembers(signal)
      const views = await this.#ports.sources.describe(signal)
      for (const hole of this.#open()) await this.#healOne(hole, views, signal)
      signal.throwIfAborted()
      if (this.#open().length === 0) break
      pauseMs = this.#open().length < before ? roundMinMs : Math.min(pauseMs * 2, roundMaxMs)
      await sleep(this.#ports.clock, pauseMs, signal)
    }
    const { isBeyondRepair, beginAgain, healed } = this.#ports
    if (isBeyondRepair) return
    if (beginAgain && this.#hasRepaired) beginAgain()
    else healed()
  }

  #open(): readonly LogHole[] {
    return this.#ports.log.holes.filter((hole) => !isLost(hole, this.#ports.quarantine.lost))
  }

  async #healOne(hole: LogHole, views: readonly CopySourceView[], signal: AbortSignal): Promise<void> {
    const { fromIndex, toIndex } = hole
    const { events, logger, quarantine, term } = this.#ports
    await quarantine.mends(hole)
    const outcome = await fillHole(this.#ports, hole, views, signal)
    // Also when only its first part is back: what is lost behind it hides no less of what was there.
    if (firstOpen(this.#ports.log, hole) !== fromIndex) {
      this.#hasRepaired = true
      this.#ports.repaired()
    }
    if (outcome.kind !== 'misfit') this.#misfits.delete(toIndex)
    switch (outcome.kind) {
      case 'repaired':
        events.emit('rot_repaired', term(), { fromIndex, toIndex })
        return
      case 'lost':
        await quarantine.addLost(outcome.range)
        events.emit('data_loss', term(), { ...outcome.range })
        logger.error('no member has these entries any more: they are lost', { ...outcome.range })
        this.#ports.lost(outcome.range)
        return
      case 'misfit':
        this.#onMisfit(hole, outcome.reason)
        return
      default:
        logger.info('a hole cannot be filled yet', { fromIndex, toIndex, reason: outcome.reason })
    }
  }

  /** Once may be a frame that was changed on its way, or a log that was cut meanwhile. */
  #onMisfit({ fromIndex, toIndex }: LogHole, reason: string): void {
    const misfits = (this.#misfits.get(toIndex) ?? 0) + 1
    this.#misfits.set(toIndex, misfits)
    this.#ports.logger.warn('what the others have does not fit into a hole', { fromIndex, toIndex, reason })
    if (misfits === misfitsMax) this.#ports.unrepairable({ fromIndex, toIndex }, reason)
  }
}
