/**
 * Reads that must be current, on the leader and on its followers (ReadIndex, thesis 6.4).
 *
 * Used by `core.ts` and `inbound.ts`. Why an index from the leader is safe on a follower: the leader takes its commit
 * after the request came, so after everything that was acknowledged before the read began, and answers once a quorum
 * confirmed that nobody else led then. The follower serves the read when it has itself applied up to that index. It
 * must only be sure that the answer is for this very request: not of an earlier leader, whose commit ends where the new
 * one's begins, and not of an earlier run of this node. So all waiting reads are dropped when the leader or the term
 * changes, answers of an older term are turned away before they come here, and contexts are never used again.
 */
import type { ReadRequest, ReadResponse } from './messages.ts'
import type { ReadState, Refusal } from './ready.ts'
import type { Replica } from './replica.ts'

export function readIndex(replica: Replica, context: number): Refusal | null {
  if (replica.leadership === null) return askLeader(replica, context)
  const refusal = refusalToRead(replica)
  if (refusal === null) replica.leadership.reads.add({ context, from: null })
  return refusal
}

export function onReadRequest(replica: Replica, { from, context }: ReadRequest): void {
  if (refusalToRead(replica) === null) replica.leadership?.reads.add({ context, from })
  else
    replica.outbox.sendNow({
      kind: 'read_response',
      from: replica.id,
      to: from,
      term: replica.term,
      context,
      index: null,
    })
}

export function onReadResponse(replica: Replica, response: ReadResponse): void {
  if (replica.leader !== response.from) return
  const context = replica.reads.take(response.context)
  if (context === undefined) return
  if (response.index === null) replica.outbox.emit({ kind: 'reads_dropped', contexts: [context] })
  else replica.outbox.answerReads([{ context, index: response.index }])
}

/** Rounds up to `round` are proven: the own reads and those of followers may go on. */
export function answerReads(replica: Replica, round: number): void {
  const own: ReadState[] = []
  for (const { context, from, index } of replica.leading().reads.confirm(round)) {
    if (from === null) own.push({ context, index })
    else
      replica.outbox.sendNow({ kind: 'read_response', from: replica.id, to: from, term: replica.term, context, index })
  }
  replica.outbox.answerReads(own)
}

/** Nobody answered in time. */
export function expireReads(replica: Replica): void {
  const contexts = replica.reads.expire(replica.now)
  if (contexts.length > 0) replica.outbox.emit({ kind: 'reads_dropped', contexts })
}

/** A request promises nothing, so it leaves at once. */
function askLeader(replica: Replica, context: number): Refusal | null {
  const { leader, id: from, term, config, now, reads } = replica
  // Through a broken connection the request would not arrive; who asks waits better for the next leader.
  const to = leader === replica.lostLeader ? null : leader
  if (to === null) return { kind: 'not_leader', leader: null, term }
  const { pendingReadsMax: readsMax } = config
  if (reads.size >= readsMax) return { kind: 'reads_full', readsMax }
  const onWire = reads.add(context, now + config.electionTimeoutMaxMs)
  replica.outbox.sendNow({ kind: 'read_request', from, to, term, context: onWire })
  return null
}

function refusalToRead({ leadership, config, leader, term }: Replica): Refusal | null {
  if (leadership === null) return { kind: 'not_leader', leader, term }
  if (leadership.confirmingRound !== null) return { kind: 'unconfirmed' }
  const { pendingReadsMax: readsMax } = config
  return leadership.reads.size < readsMax ? null : { kind: 'reads_full', readsMax }
}
