/**
 * Reads records and remembers which entries could not be read: those are tried again later, less and less often, while
 * others go. Owned by the timer service, for one term.
 */
import { StoreError } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { Pauses } from './pauses.ts'
import type { RecordPlace, StoredRecord, StoredRecords } from './stored-records.ts'

export class UnreadableEntries {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #pauses = new Pauses<number>()

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock
    this.#logger = logger
  }

  get isEmpty(): boolean {
    return this.#pauses.isEmpty
  }

  /** Not to be tried now. */
  has(index: number): boolean {
    return this.#pauses.isPaused(index, this.#clock.monotonicMs())
  }

  /** Null when its bytes cannot be read now. */
  async read(records: StoredRecords, place: RecordPlace): Promise<StoredRecord | null> {
    const { index } = place
    if (this.has(index)) return null
    try {
      const stored = await records.read(place)
      this.#pauses.end(index)
      return stored
    } catch (error) {
      if (!(error instanceof StoreError || error instanceof LedgerError)) throw error
      this.#logger.warn('a due message cannot be read', { index, error: error.message })
      this.#pauses.pause(index, this.#clock.monotonicMs())
      return null
    }
  }

  forgetOver(): void {
    this.#pauses.forgetOver(this.#clock.monotonicMs())
  }

  clear(): void {
    this.#pauses.clear()
  }
}
