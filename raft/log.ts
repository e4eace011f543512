/**
 * Positions of the replicated log: its ends, terms, and how far it is written, durable, committed and applied.
 *
 * Used by every role. Never holds payload and never reads a disk. All rules about conflicts are here: matching
 * (Raft 5.3), truncation (R6), the order applied <= commit <= last and stable <= last (R4).
 *
 * Four marks run behind `lastIndex`: handed out to the driver for writing, `stable` (its fsync returned), `commit`,
 * and `applied`. `commit` may be ahead of `stable` on a follower; nothing beyond `stable` is handed out to apply.
 */
import { invariant } from './assert.ts'
import type { Boot, RaftConfig } from './config.ts'
import { Configurations } from './configurations.ts'
import type { ProposedEntry } from './ready.ts'
import { RecentEntries } from './recent-entries.ts'
import { TermRuns } from './term-runs.ts'
import type { Configuration, EntryId, EntryMeta, LogIndex, Term } from './types.ts'

/** What the driver has to do to its log: first the cut, then the append. */
export interface LogWrite {
  readonly truncateFrom: LogIndex | null
  readonly append: readonly EntryMeta[]
}

export class RaftLog {
  #first: LogIndex
  #previousTerm: Term
  #last: LogIndex
  #lastTerm: Term
  #stable: LogIndex
  #commit: LogIndex
  #applied: LogIndex
  /** What a cut log may lack although it was committed, and applied, here: up to this index. 0: nothing. */
  readonly #lostTo: LogIndex
  /** Terms up to this one may be guesses: its entries are committed, but lost here (`Boot.termsGuessedTo`). */
  readonly guessedTo: LogIndex
  /** Configurations that were in force may be missing: a new one need not follow from those that are known. */
  readonly #mayLackConfigurations: boolean
  /** Last index handed out for writing. */
  #written: LogIndex
  /** Cut that was not yet handed out. */
  #truncateFrom: LogIndex | null = null
  /** Last index handed out for applying. */
  #delivered: LogIndex
  readonly #runs: TermRuns
  readonly #recent: RecentEntries
  readonly configurations: Configurations

  constructor(boot: Boot, { id, recentEntriesMin }: Pick<RaftConfig, 'id' | 'recentEntriesMin'>) {
    this.#first = boot.firstIndex
    this.#previousTerm = boot.previousTerm
    this.#last = boot.lastIndex
    this.#stable = boot.lastIndex
    this.#written = boot.lastIndex
    // The stored commit is only a lower bound, and what was applied had been committed.
    const wasCommitted = Math.max(boot.hardState.commit, boot.applied)
    const isCut = boot.quarantine?.untilLeaderReached ?? false
    this.#commit = isCut ? Math.min(wasCommitted, boot.lastIndex) : wasCommitted
    this.#lostTo = isCut ? wasCommitted : 0
    this.guessedTo = Math.min(boot.termsGuessedTo ?? 0, this.#commit)
    this.#mayLackConfigurations = boot.mayLackConfigurations ?? false
    this.#applied = boot.applied
    this.#delivered = boot.applied
    this.#runs = new TermRuns(boot.termRuns)
    this.#recent = new RecentEntries(boot.lastIndex + 1, recentEntriesMin)
    invariant(boot.firstIndex >= 1 && boot.lastIndex >= boot.firstIndex - 1, 'R2: the ends of the log are crossed')
    invariant(boot.applied >= boot.firstIndex - 1, 'R6: the log was compacted beyond what was applied')
    invariant(this.#commit <= this.#last, 'R4: the stored commit lies beyond the last entry: the log lost entries')
    const [firstConfiguration] = boot.configurations
    invariant(
      firstConfiguration !== undefined && firstConfiguration.index <= boot.hardState.commit,
      'R3: no committed configuration is known',
    )
    invariant(
      (boot.configurations.at(-1)?.index ?? 0) <= boot.lastIndex,
      'R2: a configuration lies beyond the last entry',
    )
    this.configurations = new Configurations(id, boot.configurations, this.#commit)
    const firstRun = boot.termRuns[0]
    invariant(
      this.#first > this.#last || (firstRun !== undefined && firstRun.first <= this.#first),
      'R2: the term runs do not cover the log',
    )
    this.#lastTerm = this.#last < this.#first ? this.#previousTerm : this.#runs.termAt(this.#last)
  }

  get firstIndex(): LogIndex {
    return this.#first
  }

  get lastIndex(): LogIndex {
    return this.#last
  }

  get lastTerm(): Term {
    return this.#lastTerm
  }

  get stable(): LogIndex {
    return this.#stable
  }

  get commit(): LogIndex {
    return this.#commit
  }

  get applied(): LogIndex {
    return this.#applied
  }

  /** Term at `index`; null when it was compacted away or lies beyond the end. */
  termAt(index: LogIndex): Term | null {
    if (index === this.#last) return this.#lastTerm
    if (index > this.#last || index < this.#first - 1) return null
    return index === this.#first - 1 ? this.#previousTerm : this.#runs.termAt(index)
  }

  /** Raft 5.4.1: is a log that ends like this at least as complete as the own one? */
  isUpToDate(lastIndex: LogIndex, lastTerm: Term): boolean {
    return lastTerm > this.#lastTerm || (lastTerm === this.#lastTerm && lastIndex >= this.#last)
  }

  /** The last position at or before `index` whose term is at most `term`: where two logs may still agree (5.3). */
  lastAtMost(index: LogIndex, term: Term): EntryId {
    const end = Math.min(index, this.#last)
    const found = end < this.#first ? null : this.#runs.lastAtMost(end, term)
    // Compacted entries are committed, so they agree with every later leader.
    return found ?? { index: Math.min(end, this.#first - 1), term: Math.min(term, this.#previousTerm) }
  }

  /** Appends an entry of the own term, as its leader. */
  propose(term: Term, proposed: ProposedEntry): EntryMeta {
    const entry: EntryMeta = { ...proposed, index: this.#last + 1, term }
    this.#push(entry)
    return entry
  }

  /** Takes over `entries`, whose predecessor is known to match: skips what is there, cuts what conflicts (5.3). */
  merge(entries: readonly EntryMeta[]): void {
    let position = 0
    while (position < entries.length) {
      const { index, term } = entries[position] as EntryMeta
      if (index > this.#last) break
      // Entries before the start of the log are committed; they cannot conflict.
      if (index >= this.#first && index > this.guessedTo && this.termAt(index) !== term) {
        this.#truncate(index)
        break
      }
      position++
    }
    for (; position < entries.length; position++) this.#push(entries[position] as EntryMeta)
  }

  /** Raises the commit; a lower value changes nothing. Returns whether it rose. */
  commitTo(index: LogIndex): boolean {
    if (index <= this.#commit) return false
    invariant(index <= this.#last, `R4: commit ${index} lies beyond the last entry ${this.#last}`)
    this.#commit = index
    this.configurations.commitTo(index)
    return true
  }

  /** The driver's disk holds everything up to `index` (see `write-ledger.ts`). */
  stableTo(index: LogIndex): void {
    const standing = this.#truncateFrom === null ? index : Math.min(index, this.#truncateFrom - 1)
    invariant(standing <= this.#written && standing <= this.#last, 'R5: more is durable than was handed out')
    this.#stable = Math.max(this.#stable, standing)
  }

  appliedTo(index: LogIndex): void {
    invariant(index <= this.#delivered, `R4: applied ${index} lies beyond what was handed out (${this.#delivered})`)
    this.#applied = Math.max(this.#applied, index)
  }

  compact(first: LogIndex, previousTerm: Term): void {
    if (first <= this.#first) return
    invariant(first <= this.#applied + 1, 'R6: the log was compacted beyond what was applied')
    const isSame = this.termAt(first - 1) === previousTerm || first - 1 <= this.guessedTo
    invariant(isSame, 'R2: the term before the compacted log is wrong')
    this.#runs.compact(first, this.#last)
    this.#first = first
    this.#previousTerm = previousTerm
  }

  /** Descriptor of an entry that the log holds; `bytes` is 0 when its size is no longer known here. */
  entryAt(index: LogIndex): EntryMeta {
    const known = this.#recent.get(index)
    return known ?? { index, term: this.termAt(index) as Term, kind: 'normal', bytes: 0 }
  }

  /** True when the descriptor of `index`, and so its size, is known. */
  knows(index: LogIndex): boolean {
    return this.#recent.get(index) !== undefined
  }

  hasUnwritten(): boolean {
    return this.#written < this.#last || this.#truncateFrom !== null
  }

  takeUnwritten(): LogWrite {
    const write = { truncateFrom: this.#truncateFrom, append: this.#recent.range(this.#written + 1, this.#last) }
    this.#truncateFrom = null
    this.#written = this.#last
    this.#recent.trim(Math.min(this.#commit, this.#written) + 1)
    return write
  }

  /** A replica applies up to min(commit, its own durable index). */
  hasDeliverable(): boolean {
    return Math.min(this.#commit, this.#stable) > this.#delivered
  }

  takeDeliverable(): { readonly from: LogIndex; readonly to: LogIndex } {
    const range = { from: this.#delivered + 1, to: Math.min(this.#commit, this.#stable) }
    this.#delivered = range.to
    return range
  }

  /** Called after every input: cheap, and a broken order means that nothing here can be trusted. */
  assertOrder(): void {
    const appliedMax = Math.max(this.#commit, this.#lostTo)
    invariant(this.#applied <= appliedMax && this.#commit <= this.#last, 'R4: applied <= commit <= last is broken')
    invariant(this.#stable <= this.#last && this.#written <= this.#last, 'R5: stable <= last is broken')
  }

  #push(entry: EntryMeta): void {
    invariant(entry.index === this.#last + 1, 'R2: entries must be contiguous')
    invariant(entry.term >= this.#lastTerm, 'R2: the term of an entry is lower than that of the one before')
    if (entry.index === this.#first || entry.term !== this.#lastTerm) this.#runs.append(entry.index, entry.term)
    this.#recent.push(entry)
    const { kind, configuration } = entry
    invariant((kind === 'configuration') === (configuration !== undefined), 'R2: an entry and its kind disagree')
    if (configuration !== undefined) this.#pushConfiguration(entry.index, configuration)
    this.#last = entry.index
    this.#lastTerm = entry.term
  }

  #pushConfiguration(index: LogIndex, configuration: Configuration): void {
    this.configurations.push(index, configuration, this.#mayLackConfigurations || index <= this.#lostTo)
  }

  #truncate(from: LogIndex): void {
    invariant(from > this.#commit, `R6: truncation from ${from} would cut committed entries (commit ${this.#commit})`)
    this.#runs.truncateFrom(from)
    this.#recent.truncateFrom(from)
    this.configurations.cut(from)
    this.#last = from - 1
    this.#lastTerm = this.#last < this.#first ? this.#previousTerm : this.#runs.termAt(this.#last)
    this.#stable = Math.min(this.#stable, this.#last)
    if (from > this.#written) return
    this.#truncateFrom = Math.min(this.#truncateFrom ?? from, from)
    this.#written = from - 1
  }
}
