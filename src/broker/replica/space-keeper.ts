/**
 * What a replica does so that log and state do not grow for ever: as a leader it proposes what to give up, on every
 * replica it deletes what was given up. Owned by the replica, which tells it when the state store moved.
 */
import type { DiskSpace } from '../../../store/index.ts'
import { LogRetention, type LogRetentionPorts } from '../retention/log-retention.ts'
import { RowCleaner, type RowCleanerPorts } from './row-cleaner.ts'
import { Trimmer, type TrimmerPorts } from './trimmer.ts'

export interface SpaceKeeperPorts extends LogRetentionPorts, TrimmerPorts, RowCleanerPorts {
  readonly log: LogRetentionPorts['log'] & TrimmerPorts['log']
  readonly machine: LogRetentionPorts['machine']
}

export class SpaceKeeper {
  readonly #retention: LogRetention
  readonly #trimmer: Trimmer
  readonly #cleaner: RowCleaner

  constructor(ports: SpaceKeeperPorts) {
    this.#retention = new LogRetention(ports)
    this.#trimmer = new Trimmer(ports)
    this.#cleaner = new RowCleaner(ports)
  }

  /** Of the disk, as last measured. */
  get space(): DiskSpace | null {
    return this.#retention.space
  }

  start(): void {
    this.#retention.start()
    this.stateWritten()
  }

  /** Nobody waits for the next round. */
  spaceEnded(): void {
    this.#retention.lookNow()
  }

  /** The state store holds more than before. */
  stateWritten(): void {
    this.#trimmer.check()
    this.#cleaner.check()
  }

  /** Resolves when nothing of it touches log or state store any more. */
  async stop(): Promise<void> {
    await Promise.all([this.#retention.stop(), this.#trimmer.stop(), this.#cleaner.stop()])
  }
}
