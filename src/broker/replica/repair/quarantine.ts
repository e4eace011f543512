/**
 * The memory of a node that must make something good before it may vote: the record file `quarantine`. Owned by
 * `healer.ts`; first written by `recovery.ts`.
 *
 * Changes are written one after the other, so that an older one never covers a newer one. What is found and not
 * written in time does no harm: the next start finds the damage itself. What is lost no more must be written in time.
 */
import type { LogHole } from '../../../../store/index.ts'
import type { LogRange } from '../../../rpc/methods.ts'
import type { FolderRecords, Mending, QuarantineRecord } from '../identity.ts'
import { areSame, isLost, stillLost } from './damage.ts'

/** Ranges that the record names. */
const mendingMax = 32

export class Quarantine {
  readonly #records: FolderRecords
  #record: QuarantineRecord | null
  #last: Promise<unknown> = Promise.resolve()

  constructor(records: FolderRecords, found: QuarantineRecord | null) {
    this.#records = records
    this.#record = found
  }

  get isPending(): boolean {
    return this.#record?.pending ?? false
  }

  /** Why it is not allowed to vote, for people; null when it is. */
  get reason(): string | null {
    return this.#record?.pending ? this.#record.reason : null
  }

  /** Ranges that no member has. */
  get lost(): readonly LogRange[] {
    return this.#record?.lost ?? []
  }

  begin(reason: string): Promise<void> {
    if (this.isPending) return Promise.resolve()
    return this.#save({ pending: true, untilLeaderReached: false, reason, lost: this.lost })
  }

  addLost(range: LogRange): Promise<void> {
    if (isLost(range, this.lost)) return Promise.resolve()
    const before = this.#record ?? { pending: true, untilLeaderReached: false, reason: 'entries are lost' }
    return this.#save({ ...before, lost: [...this.lost, range] })
  }

  /**
   * The log was cut or trimmed, and has these holes now: what was lost elsewhere is forgotten. Durable when fulfilled,
   * null when there is nothing to forget. Entries that take the place of lost ones must not be acknowledged before:
   * the next start would take their rot for the old loss, and nobody would put them back.
   */
  shortened(holes: readonly LogHole[]): Promise<void> | null {
    const left = stillLost(this.lost, holes)
    if (!this.#record || areSame(left, this.lost)) return null
    return this.#save(this.isPending || left.length > 0 ? { ...this.#record, lost: left } : null)
  }

  /** Entries are about to be put back there. Durable when fulfilled. */
  mends({ position, end, reason }: Mending & { readonly reason: string }): Promise<void> {
    const before = this.#record?.pending
      ? this.#record
      : { pending: true, untilLeaderReached: false, reason, lost: this.lost }
    const mending = before.mending ?? []
    if (mending.some((each) => each.position <= position && end <= each.end)) return this.settled()
    return this.#save({ ...before, mending: atMost([...mending, { position, end }]) })
  }

  /**
   * A leader gives up the log from inside this damage on, or from right behind it. What is cut for that may have been
   * acknowledged, so it is on record before. Durable when fulfilled.
   */
  cuts({ fromIndex, reason }: { readonly fromIndex: number; readonly reason: string }): Promise<void> {
    const before = this.#record?.pending ? this.#record : { reason, lost: this.lost }
    return this.#save({ ...before, pending: true, untilLeaderReached: true, cutFrom: fromIndex })
  }

  /** Everything is made good, as far as anyone can. */
  end(): Promise<void> {
    if (this.lost.length === 0) return this.#save(null)
    return this.#save({ pending: false, untilLeaderReached: false, reason: '', lost: this.lost })
  }

  /** Resolves when nothing is being written: a record has one writer, and the next one is that of another replica. */
  async settled(): Promise<void> {
    await this.#last
  }

  #save(record: QuarantineRecord | null): Promise<void> {
    this.#record = record
    const run = this.#last.then(() =>
      record ? this.#records.saveQuarantine(record) : this.#records.removeQuarantine(),
    )
    this.#last = run.catch(() => {})
    return run
  }
}

/** Too many become one that covers them all: more is written again at a start, and nothing is forgotten. */
function atMost(mending: readonly Mending[]): readonly Mending[] {
  if (mending.length <= mendingMax) return mending
  const position = Math.min(...mending.map((each) => each.position))
  return [{ position, end: Math.max(...mending.map(({ end }) => end)) }]
}
