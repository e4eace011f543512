/**
 * Deletes the segments that the group has given up. Owned by the replica's upkeep, on every replica.
 *
 * Never before the state store holds the entry that said so, durably: until then a restart would apply entries again
 * that are no longer there.
 */
import { type CommitLogApi, StoreError } from '../../../store/index.ts'
import type { StateMachineApi } from '../contract.ts'

export interface TrimmerPorts {
  readonly log: Pick<CommitLogApi, 'firstIndex' | 'trim'>
  readonly machine: Pick<StateMachineApi, 'trimmed'>
  /** Up to which entry the state store is durable. */
  storedIndex(): number
  /** The log begins here now. */
  trimmed(firstIndex: number): void
  failed(error: unknown): void
}

export class Trimmer {
  readonly #ports: TrimmerPorts
  #running: Promise<void> | null = null
  #stopped = false
  /** Deleted up to here as far as it can be: the log keeps whole segments, so it may begin earlier than asked. */
  #triedIndex = 0

  constructor(ports: TrimmerPorts) {
    this.#ports = ports
  }

  /** The state store holds more, or was just opened. */
  check(): void {
    const { machine, storedIndex } = this.#ports
    const { firstIndex, index } = machine.trimmed
    if (this.#running || this.#stopped || firstIndex <= this.#triedIndex || storedIndex() < index) return
    this.#running = this.#trim(firstIndex).finally(() => {
      this.#running = null
      this.check()
    })
  }

  /** Resolves when no deletion runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async #trim(firstIndex: number): Promise<void> {
    const { log } = this.#ports
    const before = log.firstIndex
    try {
      this.#triedIndex = firstIndex
      if (before < firstIndex) await log.trim(firstIndex)
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'CLOSED')) this.#ports.failed(error)
    }
    if (log.firstIndex > before) this.#ports.trimmed(log.firstIndex)
  }
}
