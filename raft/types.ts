/**
 * The words of consensus: positions, hard state, configuration, descriptors.
 *
 * Used by every file of `raft/` and by the replica loop of the broker. Holds no behaviour and no payload bytes:
 * an entry is known here only by its descriptor, the bytes stay with whoever drives the core.
 */

declare const flavor: unique symbol

/** A number that must not be mixed up with another kind of number; plain literals are accepted. */
export type Flavored<Name extends string> = number & { readonly [flavor]?: Name }

/** Raft term: at least 0, only grows. 0 means "before any election". */
export type Term = Flavored<'Term'>

/** Position of an entry in the replicated log: the first entry has index 1, 0 means "before the log". */
export type LogIndex = Flavored<'LogIndex'>

/** Monotonic time in milliseconds as the driver tells it; may have a fraction. Never wall-clock time. */
export type Millis = Flavored<'Millis'>

/** Name of a replica, unique within its broker group, for example `n0`. */
export type NodeId = string

/**
 * How well a node could lead. `reluctant`: only badly (a slow disk, a full one), so it lets others stand first and
 * refuses a handover, but leads when nobody else does. `unable`: not at all, it never stands.
 */
export type Health = 'well' | 'reluctant' | 'unable'

export interface EntryId {
  readonly index: LogIndex
  readonly term: Term
}

/** `noop` opens a term (Raft thesis 6.4); `configuration` is the membership; everything else is `normal`. */
export type EntryKind = 'normal' | 'noop' | 'configuration'

/** What the core knows of an entry. `bytes` is the size it counts in windows and limits. */
export interface EntryMeta extends EntryId {
  readonly kind: EntryKind
  readonly bytes: number
  /** Present exactly when `kind` is `configuration`: what the body of the entry says. */
  readonly configuration?: Configuration
}

/** What must survive a restart besides the log (Raft figure 2, "persistent state"); `commit` is a lower bound. */
export interface HardState {
  readonly term: Term
  readonly vote: NodeId | null
  readonly commit: LogIndex
}

/**
 * Who decides. `voters` is never empty. `outgoing` is non-empty only inside a joint configuration (Raft section 6): the
 * voters of the one before, of whom a majority is needed as well. `learners` receive the log and do not count; none of
 * them is in `voters`, but a voter that is on its way to become a learner is in `outgoing` too.
 */
export interface Configuration {
  readonly voters: readonly NodeId[]
  readonly outgoing: readonly NodeId[]
  readonly learners: readonly NodeId[]
  /** Who should rather lead: the higher number. Nodes without one have 0. */
  readonly priorities?: readonly (readonly [NodeId, number])[]
  /**
   * Made by an operator outside of consensus, after the majority was lost for good: it follows any configuration. The
   * core takes it from the log as it is and never proposes one.
   */
  readonly isForced?: boolean
}

/** A configuration and the index of its entry; 0 for the first configuration of a group, which no entry holds. */
export interface LoggedConfiguration {
  readonly index: LogIndex
  readonly configuration: Configuration
}

export type Role = 'follower' | 'pre_candidate' | 'candidate' | 'leader'

/** A run of entries of one term: `first` is the index of its first entry. Runs are in ascending order. */
export interface TermRun {
  readonly first: LogIndex
  readonly term: Term
}
