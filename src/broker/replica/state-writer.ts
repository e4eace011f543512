/**
 * Carries the state machine's changes to the state store in the background, and makes them durable now and then.
 * Owned by the applier.
 *
 * One write at a time, in order, each atomic with its appliedIndex (S4). Losing the last writes in a crash is
 * harmless, because the log is applied again; writing late and in bulk is what makes a row cost under a microsecond.
 */
import type { StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import type { StateMachineApi } from '../contract.ts'
import type { ReplicaLimits } from '../options.ts'

export interface StateWriterPorts {
  readonly clock: Clock
  readonly machine: StateMachineApi
  readonly store: StateStoreApi
  readonly limits: ReplicaLimits
  /** Last index on this node's own disk. */
  durableIndex(): number
  /** A write finished: apply may go on if it had paused. */
  written(): void
  failed(error: unknown): void
}

export class StateWriter {
  readonly #ports: StateWriterPorts
  #timer: Cancel | null = null
  #writing: Promise<void> | null = null
  #stopped = false
  #checkpointAtMs: number
  #checkpointIndex: number

  constructor(ports: StateWriterPorts) {
    this.#ports = ports
    this.#checkpointAtMs = ports.clock.monotonicMs()
    this.#checkpointIndex = ports.store.appliedIndex
  }

  /** Entries were applied: write their changes soon, or now when they pile up. */
  changed(): void {
    if (this.#stopped || this.#writing) return
    const { clock, limits, machine } = this.#ports
    if (machine.unwrittenCount * 2 > limits.unwrittenMax) {
      this.#start()
      return
    }
    this.#timer ??= clock.after(limits.stateWriteDelayMs, () => this.#start(), { background: true })
  }

  /** Writes everything and makes it durable. For a clean stop, after the last entry was applied. */
  async finish(): Promise<void> {
    this.stop()
    await this.#writing
    await this.#write()
    await this.#ports.store.checkpoint()
  }

  /** No new write starts. */
  stop(): void {
    this.#stopped = true
    this.#timer?.()
    this.#timer = null
  }

  /** Resolves when no write runs. */
  async settled(): Promise<void> {
    await this.#writing
  }

  #start(): void {
    this.#timer?.()
    this.#timer = null
    if (this.#stopped || this.#writing) return
    this.#writing = this.#writeAndCheckpoint()
      .catch((error: unknown) => {
        this.stop()
        this.#ports.failed(error)
      })
      .finally(() => {
        this.#writing = null
        if (this.#stopped) return
        if (this.#ports.machine.unwrittenCount > 0) this.changed()
        this.#ports.written()
      })
  }

  async #writeAndCheckpoint(): Promise<void> {
    await this.#write()
    const { clock, limits, store } = this.#ports
    const nowMs = clock.monotonicMs()
    const behind = store.appliedIndex - this.#checkpointIndex
    const due = nowMs - this.#checkpointAtMs >= limits.checkpointMs || behind >= limits.checkpointEntries
    if (behind === 0 || !due) return
    this.#checkpointAtMs = nowMs
    this.#checkpointIndex = store.appliedIndex
    await store.checkpoint()
  }

  async #write(): Promise<void> {
    const batch = this.#ports.machine.takeChanges()
    if (!batch) return
    invariant(batch.appliedIndex <= this.#ports.durableIndex(), 'S4: state never runs ahead of the own durable log')
    await this.#ports.store.write(batch)
    this.#ports.machine.changesWritten(batch.appliedIndex)
  }
}
