/**
 * The configurations that the log holds and that may still change: the newest committed one and all after it. The newest
 * is in force from the moment its entry is in the log, and falls back when the entry is cut (Raft section 6).
 *
 * Owned by `log.ts`, which tells it of every entry, cut and commit; read by all roles. Decides nothing.
 */
import { invariant } from './assert.ts'
import { isLegalStep, isWellFormed } from './membership.ts'
import { isVoter, membersOf, votersOf } from './quorum.ts'
import type { Configuration, LoggedConfiguration, LogIndex, NodeId } from './types.ts'

/** What the newest configuration means for this node. */
interface View {
  readonly otherVoters: readonly NodeId[]
  readonly otherMembers: readonly NodeId[]
  readonly isVoter: boolean
  readonly mayStand: boolean
}

export class Configurations {
  readonly #id: NodeId
  /** Ascending, never empty. The first is committed, the others are not known to be. */
  readonly #list: LoggedConfiguration[]
  #view: View
  #revision = 0

  /** `list` as in `Boot.configurations`. */
  constructor(id: NodeId, list: readonly LoggedConfiguration[], commit: LogIndex) {
    this.#id = id
    this.#list = [...list]
    const [first] = list
    invariant(first !== undefined && first.index <= commit, 'R3: no committed configuration is known')
    for (const [i, { index, configuration }] of list.entries()) {
      invariant(isWellFormed(configuration), `R1: the configuration at ${index} is malformed`)
      invariant(i === 0 || index > (list[i - 1] as LoggedConfiguration).index, 'R2: configurations must ascend')
    }
    this.#view = this.#look()
    this.commitTo(commit)
  }

  get newest(): Configuration {
    return this.#newest.configuration
  }

  /** Index of the entry of the newest one. */
  get index(): LogIndex {
    return this.#newest.index
  }

  /** Is the newest one known to be committed? */
  get isCommitted(): boolean {
    return this.#list.length === 1
  }

  /** Grows whenever something here changed. */
  get revision(): number {
    return this.#revision
  }

  /** Voters except this node. */
  get otherVoters(): readonly NodeId[] {
    return this.#view.otherVoters
  }

  /** Whom a leader serves: all members except this node, and until the newest one is committed those of the one before. */
  get otherMembers(): readonly NodeId[] {
    return this.#view.otherMembers
  }

  /** Has this node a vote in the newest configuration? */
  get isVoter(): boolean {
    return this.#view.isVoter
  }

  /**
   * May this node stand for election? A voter may, and so may one whose removal is not known to be committed: it may be
   * the only one whose log is complete enough (thesis 4.2.2, figure 4.6). Its own vote does not count then.
   */
  get mayStand(): boolean {
    return this.#view.mayStand
  }

  /** True when `id` has its last entries before the newest configuration, which it is not part of. */
  isLeaving(id: NodeId): boolean {
    return !this.isCommitted && !membersOf(this.newest).includes(id)
  }

  /**
   * An entry with this configuration was appended. `mayJump`: it need not follow from the list. It was committed here
   * before the log was cut, so that the list may begin with what followed from it; or the list has gaps.
   */
  push(index: LogIndex, configuration: Configuration, mayJump: boolean = false): void {
    invariant(index > this.index, 'R2: configurations must ascend')
    invariant(
      mayJump || isLegalStep(this.newest, configuration),
      `R1: the configuration at ${index} does not follow the one before`,
    )
    this.#list.push({ index, configuration })
    this.#change()
  }

  /** The log was cut: no entry from `index` on is left. */
  cut(index: LogIndex): void {
    const { length } = this.#list
    while (this.index >= index) {
      invariant(this.#list.length > 1, 'R6: a committed configuration was cut')
      this.#list.pop()
    }
    if (this.#list.length < length) this.#change()
  }

  /** Everything up to `commit` is committed. */
  commitTo(commit: LogIndex): void {
    let outdated = 0
    while (outdated + 1 < this.#list.length && (this.#list[outdated + 1] as LoggedConfiguration).index <= commit) {
      outdated++
    }
    if (outdated === 0) return
    this.#list.splice(0, outdated)
    this.#change()
  }

  get #newest(): LoggedConfiguration {
    return this.#list.at(-1) as LoggedConfiguration
  }

  #change(): void {
    this.#revision++
    this.#view = this.#look()
  }

  #look(): View {
    const { newest } = this
    const before = this.#list.at(-2)?.configuration
    const isOther = (id: NodeId) => id !== this.#id
    const members =
      before === undefined ? membersOf(newest) : [...new Set([...membersOf(newest), ...membersOf(before)])]
    return {
      otherVoters: votersOf(newest).filter(isOther),
      otherMembers: members.filter(isOther),
      isVoter: isVoter(newest, this.#id),
      mayStand: isVoter(newest, this.#id) || (before !== undefined && isVoter(before, this.#id)),
    }
  }
}
