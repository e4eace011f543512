/**
 * From a committed entry to durable state: applier and state writer of one replica, each waiting for the other where
 * it must. Owned by the replica. Nothing is applied while there is no state that entries could be applied to.
 */
import { limitsOf } from '../options.ts'
import { Applier, type ApplierPorts } from './applier.ts'
import type { ReplicaParts } from './replica-parts.ts'
import { StateWriter } from './state-writer.ts'

export interface ApplyingPorts extends Pick<ApplierPorts, 'applied' | 'progressed' | 'failed'> {
  /** The state store holds more than before. */
  written(): void
}

export class Applying {
  readonly #applier: Applier
  readonly #writer: StateWriter

  constructor(parts: ReplicaParts, ports: ApplyingPorts) {
    const { clock } = parts.ports
    const { log, machine, store, lacksState } = parts.recovered
    const limits = limitsOf(parts.options)
    this.#writer = new StateWriter({
      clock,
      machine,
      store,
      limits,
      durableIndex: () => log.durableIndex,
      written: () => {
        this.#applier.resume()
        ports.written()
      },
      failed: ports.failed,
    })
    this.#applier = new Applier({
      clock,
      log,
      machine,
      limits,
      paused: lacksState,
      applied: ports.applied,
      progressed: (index) => {
        ports.progressed(index)
        this.#writer.changed()
      },
      // The log has told of the hole; its repair resumes.
      rotten: (error) => parts.logger.debug('nothing can be applied before the log is repaired', { error }),
      failed: ports.failed,
    })
  }

  /** Entries up to this one are committed and on the own disk. */
  applyTo(index: number): void {
    this.#applier.applyTo(index)
  }

  /** What was unreadable may be readable now. */
  resume(): void {
    this.#applier.resume()
  }

  /** Applies no more. */
  stop(): void {
    this.#applier.stop()
  }

  /** Writes no more, whatever is not written. */
  abandon(): void {
    this.#applier.stop()
    this.#writer.stop()
  }

  /** After `stop`: writes what was applied and makes it durable. */
  finish(): Promise<void> {
    return this.#writer.finish()
  }
}
