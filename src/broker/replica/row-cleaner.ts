/**
 * Deletes rows of the state store that no reader reaches any more, in slices with pauses, so that it never competes
 * with the writes that readers and producers wait for. Owned by the replica's upkeep.
 */
import type { StateStoreApi } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'
import type { StateMachineApi } from '../contract.ts'

const rowsPerSlice = 1000
const pauseMs = 20

export interface RowCleanerPorts {
  readonly clock: Clock
  readonly machine: Pick<StateMachineApi, 'takeGarbage'>
  readonly store: Pick<StateStoreApi, 'deleteRange'>
  failed(error: unknown): void
}

export class RowCleaner {
  readonly #ports: RowCleanerPorts
  #left: { readonly from: Buffer; readonly to: Buffer } | undefined
  #waiting = false
  #running: Promise<void> | null = null
  #stopped = false

  constructor(ports: RowCleanerPorts) {
    this.#ports = ports
  }

  /** There may be something to delete. */
  check(): void {
    if (this.#waiting || this.#running || this.#stopped) return
    this.#left ??= this.#ports.machine.takeGarbage()
    if (!this.#left) return
    this.#waiting = true
    this.#ports.clock.after(pauseMs, () => this.#start(), { background: true })
  }

  /** Resolves when no deletion runs. What is left is found again at the next start. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  #start(): void {
    this.#waiting = false
    if (this.#stopped) return
    this.#running = this.#slice().finally(() => {
      this.#running = null
      this.check()
    })
  }

  async #slice(): Promise<void> {
    const range = this.#left
    if (!range) return
    try {
      const from = await this.#ports.store.deleteRange(range.from, range.to, rowsPerSlice)
      this.#left = from ? { from, to: range.to } : undefined
    } catch (error) {
      this.#stopped = true
      this.#ports.failed(error)
    }
  }
}
