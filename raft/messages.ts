/**
 * What replicas say to each other, as a `kind` union; written to the wire by `src/rpc/peer-codec.ts`.
 *
 * The core makes and reads these. They never carry payload: an `append` names a range of entries, the driver adds
 * the frames when it encodes, and takes them off when it decodes.
 */
import type { EntryMeta, LogIndex, NodeId, Term } from './types.ts'

interface Envelope {
  readonly from: NodeId
  readonly to: NodeId
  readonly term: Term
}

/** Raft 5.2 and thesis 9.6. `term` is the term the sender would campaign in; a pre-vote changes nobody's term. */
export interface PreVoteRequest extends Envelope {
  readonly kind: 'pre_vote_request'
  readonly lastIndex: LogIndex
  readonly lastTerm: Term
}

export type VoteRefusal =
  | 'leader_seen'
  | 'log_behind'
  | 'voted_for_other'
  | 'old_term'
  /** The voter may lack what it once acknowledged. */
  | 'quarantined'

/** On a grant `term` is the asked term, on a refusal the own term of the voter. */
export interface PreVoteResponse extends Envelope {
  readonly kind: 'pre_vote_response'
  readonly refusal: VoteRefusal | null
}

/** `transfer` is true when the election was ordered by the old leader, which bypasses the vote lease. */
export interface VoteRequest extends Envelope {
  readonly kind: 'vote_request'
  readonly lastIndex: LogIndex
  readonly lastTerm: Term
  readonly transfer: boolean
}

/** `term` is the asked term, unless the own term of the voter is higher. */
export interface VoteResponse extends Envelope {
  readonly kind: 'vote_response'
  readonly refusal: VoteRefusal | null
}

/**
 * `commit` never exceeds what the follower is known to hold. `round` numbers the quorum rounds of ReadIndex. `lastIndex`
 * is the end of the leader's log. `session` is the newest one that the follower told, 0 before it told any.
 */
export interface Heartbeat extends Envelope {
  readonly kind: 'heartbeat'
  readonly commit: LogIndex
  readonly round: number
  readonly lastIndex: LogIndex
  readonly session: number
}

/** `session` is drawn at the start of the sender: who hears it echoed knows that the echo is not of an earlier run. */
export interface HeartbeatResponse extends Envelope {
  readonly kind: 'heartbeat_response'
  readonly round: number
  readonly session: number
  /** False: the sender would not follow a `timeout_now`, so that a handover to it is in vain. */
  readonly canLead: boolean
}

/**
 * Entries (prevIndex, prevIndex + entries.length], contiguous; may be empty (probe, or carrying only `commit`). An
 * entry with `bytes: 0` that is no `noop` is one whose size the core no longer knows (README.md).
 */
export interface Append extends Envelope {
  readonly kind: 'append'
  readonly prevIndex: LogIndex
  readonly prevTerm: Term
  readonly entries: readonly EntryMeta[]
  readonly commit: LogIndex
}

/**
 * Accepted: everything up to `matchIndex` is durable on the sender's own disk and equals the leader's log.
 * Rejected: the entry at `rejectedIndex` (the prevIndex asked) does not match; the sender's log agrees with terms
 * at most `hintTerm` at most up to `hintIndex` (fast back-off, Raft 5.3). `hasLost`: the sender may lack what it once
 * acknowledged; it holds nothing beyond the hint, whatever it said before.
 */
export interface AppendResponse extends Envelope {
  readonly kind: 'append_response'
  readonly matchIndex: LogIndex
  readonly rejected: {
    readonly rejectedIndex: LogIndex
    readonly hintIndex: LogIndex
    readonly hintTerm: Term
    readonly hasLost: boolean
  } | null
}

/** Thesis 3.10: campaign now, without waiting and without a pre-vote. */
export interface TimeoutNow extends Envelope {
  readonly kind: 'timeout_now'
}

/** A leader of `term` gave up (no quorum, sick disk, shutdown): drop the lease and pre-vote at once. */
export interface SteppedDown extends Envelope {
  readonly kind: 'stepped_down'
}

/** The log of the leader begins at `firstIndex`, beyond what appends could bring the follower: it needs a copy. */
export interface CatchUp extends Envelope {
  readonly kind: 'catch_up'
  readonly firstIndex: LogIndex
}

/** A follower asks its leader for a read index (thesis 6.4). `context` is never used twice, not even by a later run. */
export interface ReadRequest extends Envelope {
  readonly kind: 'read_request'
  readonly context: number
}

/** `index` was committed after the request came, and a quorum confirmed the leader since; null: refused. */
export interface ReadResponse extends Envelope {
  readonly kind: 'read_response'
  readonly context: number
  readonly index: LogIndex | null
}

export type PeerMessage =
  | PreVoteRequest
  | PreVoteResponse
  | VoteRequest
  | VoteResponse
  | Heartbeat
  | HeartbeatResponse
  | Append
  | AppendResponse
  | TimeoutNow
  | SteppedDown
  | CatchUp
  | ReadRequest
  | ReadResponse
