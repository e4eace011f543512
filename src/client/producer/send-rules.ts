/**
 * What an answer means for the batch it answers: the rules of exactly-once as one pure function. The batch sender
 * calls it after every attempt and does what it says.
 *
 * 1. A retry to the same queue carries identical bytes, so the broker recognises it by its sequence.
 * 2. A refusal is definite for the attempt it answers only. As soon as one attempt has an unknown outcome (broken
 *    stream, silence, OUTCOME_UNKNOWN) the batch may be in some log or on some wire: it is `tainted` for good, and no
 *    later refusal makes it definite again. A tainted batch goes to the same broker group and queue only, until an
 *    answer says stored or its time is up; then the caller is told "unknown".
 * 3. An untainted batch that was refused may go to another group with a new sequence there. The old sequence is never
 *    used again: gaps are legal, a second meaning is not.
 * 4. After an unknown end the queue goes on under the same producer id with higher sequences. A late copy of the lost
 *    batch is then either stored before its successors, once, or refused as SEQUENCE_TOO_OLD; it can never be taken
 *    for another batch, and the order of the queue holds. (A fresh producer id would let the late copy in behind its
 *    successors.)
 * 5. SEQUENCE_TOO_OLD and UNKNOWN_PRODUCER for a tainted batch mean that the answer is lost: unknown, never success.
 */
import type { ErrorCode, LedgerError } from '../../common/errors.ts'

/** Least and most pause between two rounds over the replicas of a group. */
export const leaderSearchBackoffMs = { min: 20, max: 200 } as const
/** A pause that a broker asks for is kept within these bounds. */
export const retryAfterMsBounds = { min: 5, max: 2_000 } as const
/** Hints followed in a row before they are treated as any refusal: two replicas may point at each other for a while. */
export const hintHopsMax = 5

export interface BatchState {
  /** Some attempt has an unknown outcome. */
  readonly tainted: boolean
  /** Whether the broker can recognise a second copy. */
  readonly idempotent: boolean
  /** Bound to its queue by a selector. */
  readonly pinned: boolean
  /** Another broker group could take it. */
  readonly elsewhere: boolean
  readonly hops: number
}

export type Verdict =
  /** Same bytes to the leader that the refusal named, at once. */
  | { readonly kind: 'follow' }
  /** Same bytes, another replica of the same group; after a pause once all were tried. */
  | { readonly kind: 'next_replica'; readonly taints: boolean }
  /** Same bytes, same replica, after this pause. */
  | { readonly kind: 'wait'; readonly ms: number; readonly taints: boolean }
  /** Another group, new sequence. `taints` only without sequences: a copy may be stored where it was. */
  | { readonly kind: 'move'; readonly taints: boolean }
  /** New producer id, same queue. */
  | { readonly kind: 'renew' }
  /** The topic is gone there: ask for the route (and create it) again. */
  | { readonly kind: 'topic_unknown' }
  | { readonly kind: 'fail' }

/** `sent` false: the request never left this process. */
export function judge(error: LedgerError, sent: boolean, state: BatchState): Verdict {
  if (!sent && error.retryable) return moveOr({ kind: 'next_replica', taints: false }, state)
  switch (error.code) {
    case 'NOT_LEADER':
      if (error.facts.leader?.address && state.hops < hintHopsMax) return { kind: 'follow' }
      return moveOr({ kind: 'next_replica', taints: false }, state)
    case 'SERVICE_NOT_AVAILABLE':
      return moveOr({ kind: 'next_replica', taints: false }, state)
    case 'NO_QUORUM':
    case 'DISK_FULL':
      return moveOr({ kind: 'next_replica', taints: false }, state)
    case 'FLOW_CONTROL':
    case 'OVERLOADED':
      return moveOr({ kind: 'wait', ms: retryAfter(error), taints: false }, state)
    case 'ROLLED_BACK':
    case 'TOPIC_ID_CHANGED':
      return { kind: 'next_replica', taints: false }
    case 'TOPIC_NOT_EXIST':
      return state.tainted ? { kind: 'fail' } : { kind: 'topic_unknown' }
    case 'UNKNOWN_PRODUCER':
      return state.tainted ? { kind: 'fail' } : { kind: 'renew' }
    default:
      if (!error.retryable) return { kind: 'fail' }
      if (error.stored === 'no') return moveOr({ kind: 'next_replica', taints: false }, state)
      if (!state.idempotent && state.elsewhere && !state.pinned) return { kind: 'move', taints: true }
      return { kind: 'next_replica', taints: true }
  }
}

/**
 * The code the caller gets when the total time is up: OUTCOME_UNKNOWN as soon as one attempt was not definitely
 * refused, whether it broke or nobody ever answered. Else not stored: the last refusal, NO_QUORUM when nobody led.
 */
export function finalCode(state: { readonly tainted: boolean; readonly last: ErrorCode | null }): ErrorCode {
  if (state.tainted) return 'OUTCOME_UNKNOWN'
  switch (state.last) {
    case null:
    case 'UNAVAILABLE':
    case 'DEADLINE_EXCEEDED':
    case 'NOT_LEADER':
    // One that starts, stops or was removed is one more replica that does not lead.
    case 'SERVICE_NOT_AVAILABLE':
      return 'NO_QUORUM'
    default:
      return state.last
  }
}

function moveOr(stay: Verdict, state: BatchState): Verdict {
  const mayMove = state.elsewhere && !state.pinned && (!state.tainted || !state.idempotent)
  return mayMove ? { kind: 'move', taints: false } : stay
}

function retryAfter(error: LedgerError): number {
  const asked = error.facts.retryAfterMs ?? 50
  return Math.min(retryAfterMsBounds.max, Math.max(retryAfterMsBounds.min, asked))
}
