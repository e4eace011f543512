/**
 * The two sides of the core: what goes in (`Input`) and what comes out (`Ready`, `RaftEvent`, `StepResult`).
 *
 * The driver feeds one input at a time with the monotonic time, then takes Readies until there is none. The order
 * of duties for one Ready is in `raft/README.md`; the heart of it: nothing of `sendAfterPersist` leaves before
 * everything of this and all earlier Readies is fsynced.
 */
import type { PeerMessage } from './messages.ts'
import type {
  Configuration,
  EntryKind,
  EntryMeta,
  HardState,
  Health,
  LogIndex,
  Millis,
  NodeId,
  Role,
  Term,
} from './types.ts'

/** An entry to be. One of kind `configuration` says which, and is proposed alone. */
export interface ProposedEntry {
  readonly kind: EntryKind
  readonly bytes: number
  readonly configuration?: Configuration
}

export type Input =
  /** Time passed; feed when `deadline()` is reached, at most one per wake-up. */
  | { readonly kind: 'tick' }
  | { readonly kind: 'propose'; readonly entries: readonly ProposedEntry[] }
  | { readonly kind: 'message'; readonly message: PeerMessage }
  /** Everything of the Ready with this number, and of all before it, is fsynced. */
  | { readonly kind: 'persisted'; readonly ready: number }
  | { readonly kind: 'applied'; readonly index: LogIndex }
  /** `context` comes back in a ReadState once a quorum confirmed that this node still leads (thesis 6.4). */
  | { readonly kind: 'read_index'; readonly context: number }
  | { readonly kind: 'transfer'; readonly to: NodeId }
  /** Stand for election now (a pre-vote first). Does nothing on a node that may not stand or is unable to lead. */
  | { readonly kind: 'campaign' }
  /** The own control connection to this peer broke, as opposed to: could not be made. */
  | { readonly kind: 'peer_lost'; readonly peer: NodeId }
  /** Messages to the peer were dropped: fall back to probing it. */
  | { readonly kind: 'unreachable'; readonly peer: NodeId }
  /** How well the node could lead; `well` until told otherwise. A leader leads on until a `transfer` is ordered. */
  | { readonly kind: 'health'; readonly health: Health }
  /** Rot was found: no vote and no candidacy from here on, a leader hands over or steps down. */
  | { readonly kind: 'quarantine' }
  /** No holes are left in the log. */
  | { readonly kind: 'healed' }
  /** A write or fsync failed: give up leadership, vote and acknowledge nothing any more. Final. */
  | { readonly kind: 'storage_failed' }
  /** Entries up to `first - 1` are gone from the log (retention); `previousTerm` is the term of `first - 1`. */
  | { readonly kind: 'compacted'; readonly first: LogIndex; readonly previousTerm: Term }

/**
 * Why a configuration may not be proposed now, or ever: the no-op of this term is not committed yet, the newest
 * configuration is not, or the step is none that Raft section 6 allows (`membership.ts`).
 */
export type ChangeRefusal = 'term_not_started' | 'change_under_way' | 'illegal_step'

export type Refusal =
  | { readonly kind: 'not_leader'; readonly leader: NodeId | null; readonly term: Term }
  /** Leadership is being handed over to `to`. */
  | { readonly kind: 'transferring'; readonly to: NodeId }
  /** Uncommitted entries or bytes are at their limit. */
  | { readonly kind: 'full'; readonly uncommittedBytes: number }
  /** As many reads wait for their index as may. */
  | { readonly kind: 'reads_full'; readonly readsMax: number }
  /** This leader was paused and has not heard a quorum since. */
  | { readonly kind: 'unconfirmed' }
  | { readonly kind: 'storage_failed' }
  | { readonly kind: 'unknown_peer'; readonly peer: NodeId }
  /** Of a transfer: the peer said that it is not well enough to lead. */
  | { readonly kind: 'cannot_lead'; readonly peer: NodeId }
  | { readonly kind: 'change_refused'; readonly reason: ChangeRefusal }

/** `accepted` answers `propose`: the entries got the indexes first, first + 1, … in `term`. */
export type StepResult =
  | { readonly kind: 'done' }
  | { readonly kind: 'accepted'; readonly first: LogIndex; readonly term: Term }
  | { readonly kind: 'refused'; readonly refusal: Refusal }

/** Reads that asked with `context` may be served once the state machine applied up to `index`. */
export interface ReadState {
  readonly context: number
  readonly index: LogIndex
}

export type RoleChangeReason =
  | 'started'
  | 'election_timeout'
  | 'connection_lost'
  | 'leader_stepped_down'
  | 'ordered'
  | 'pre_vote_won'
  | 'vote_won'
  | 'pre_vote_lost'
  | 'higher_term'
  | 'leader_found'
  | 'quorum_lost'
  | 'storage_failed'
  | 'transferred'
  | 'sole_voter'
  /** Not fit to lead any more: rot, or no longer well enough to stand. */
  | 'sick'
  /** The committed configuration gives this node no vote. */
  | 'removed'

/** Facts for logs, the event stream and the driver's waiting callers. Never an instruction. */
export type RaftEvent =
  | {
      readonly kind: 'role_changed'
      readonly from: Role
      readonly to: Role
      readonly term: Term
      readonly leader: NodeId | null
      readonly reason: RoleChangeReason
    }
  /** The known leader changed (null: none known). On the leader itself: emitted when it is elected. */
  | { readonly kind: 'leader_changed'; readonly leader: NodeId | null; readonly term: Term }
  /** Emitted by the new leader; `tookMs` runs from its first pre-vote of this election series. */
  | { readonly kind: 'leader_elected'; readonly term: Term; readonly tookMs: Millis; readonly votes: readonly NodeId[] }
  /** The no-op of the own term is committed: this leader may serve current reads and tell the namesrv. */
  | { readonly kind: 'term_started'; readonly term: Term; readonly index: LogIndex }
  | { readonly kind: 'vote_cast'; readonly candidate: NodeId; readonly term: Term; readonly refusal: string | null }
  | { readonly kind: 'stalled'; readonly lateMs: Millis }
  | { readonly kind: 'transfer_ended'; readonly to: NodeId; readonly outcome: TransferOutcome }
  /**
   * Another configuration is the newest of the log: appended, or back in force because newer ones were cut. Also
   * emitted when the newest one is known to be committed.
   */
  | {
      readonly kind: 'configuration_changed'
      readonly index: LogIndex
      readonly configuration: Configuration
      readonly isCommitted: boolean
    }
  | { readonly kind: 'quarantine_started' }
  /** The log holds again all that this node ever acknowledged, without holes: it votes again. */
  | { readonly kind: 'quarantine_ended' }
  /** ReadIndex requests that will never be answered because the leader or its quorum was lost, or it did not answer. */
  | { readonly kind: 'reads_dropped'; readonly contexts: readonly number[] }

/** `refused`: the target said that it cannot lead. */
export type TransferOutcome = 'done' | 'timed_out' | 'lost' | 'refused'

export interface Ready {
  /** Strictly increasing from 1. */
  readonly number: number
  /** Present when it changed since the last Ready. */
  readonly hardState?: HardState
  /** True when term, vote or entries changed: the driver must fsync before `sendAfterPersist` and `persisted`. */
  readonly mustSync: boolean
  /** Drop all entries from this index before appending. Always above commit (R6). */
  readonly truncateFrom?: LogIndex
  /** Contiguous, starting right after the last entry that remains. */
  readonly append: readonly EntryMeta[]
  /** May leave at once. */
  readonly sendNow: readonly PeerMessage[]
  /** May leave only after this and all earlier Readies are fsynced. */
  readonly sendAfterPersist: readonly PeerMessage[]
  /** Newly committed and held durably by this node's own disk: (from - 1, to] may be applied. */
  readonly committed?: { readonly from: LogIndex; readonly to: LogIndex }
  /** The log of this leader begins at `firstIndex`, behind the end of the own one: fetch a copy. Repeated until done. */
  readonly catchUp?: { readonly from: NodeId; readonly firstIndex: LogIndex }
  readonly readStates: readonly ReadState[]
  readonly events: readonly RaftEvent[]
}

/** What a quarantined node still waits for. */
export interface QuarantineStatus {
  /** The driver has not said yet that no holes are left. */
  readonly hasHoles: boolean
  /** The log may lack acknowledged entries and has not yet reached the end of a leader's log. */
  readonly awaitsLeader: boolean
  /** Where the end of the leader's log is, null before a leader told. */
  readonly target: LogIndex | null
}

/** Per peer, for status and lag; on a follower only the own line is meaningful. */
export interface PeerStatus {
  readonly id: NodeId
  readonly match: LogIndex
  readonly next: LogIndex
  readonly state: 'probe' | 'replicate' | 'snapshot'
  readonly inflightMessages: number
  readonly inflightBytes: number
  /** False: it said that it is not well enough to lead. */
  readonly canLead: boolean
  /** Milliseconds since the last answer, null if never. */
  readonly silentMs: Millis | null
}

export interface RaftStatus {
  readonly id: NodeId
  readonly role: Role
  readonly term: Term
  readonly vote: NodeId | null
  readonly leader: NodeId | null
  readonly firstIndex: LogIndex
  readonly lastIndex: LogIndex
  readonly lastTerm: Term
  readonly stableIndex: LogIndex
  readonly commit: LogIndex
  readonly applied: LogIndex
  /** On a leader: the no-op of its term is committed. */
  readonly termStarted: boolean
  /** On a leader: paused for too long and not yet confirmed by a quorum. */
  readonly unconfirmed: boolean
  readonly transferringTo: NodeId | null
  /** Null: the node votes. */
  readonly quarantine: QuarantineStatus | null
  readonly health: Health
  /** The newest configuration of the log, which is in force whether committed or not. */
  readonly configuration: Configuration
  readonly configurationIndex: LogIndex
  readonly configurationCommitted: boolean
  readonly peers: readonly PeerStatus[]
}
