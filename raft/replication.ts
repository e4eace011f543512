/**
 * Whom a leader serves, the appends to them, and the commit they allow (Raft 5.3, 5.4.2).
 *
 * Used by `core.ts` when a Ready is taken: all that is new goes into one append per follower, up to the limits.
 * Entries whose size is no longer known count as a share of `appendBytesMax`.
 */
import { invariant } from './assert.ts'
import type { RaftLog } from './log.ts'
import { Progress } from './progress.ts'
import { quorumValue } from './quorum.ts'
import type { Replica } from './replica.ts'
import type { EntryMeta, NodeId } from './types.ts'

/** An append holds at most so many entries of unknown size. */
export const unknownEntriesMax = 16

/**
 * Makes the followers those whom the configuration names. One that it names no more is served until that is committed,
 * but not sent the entry that removes it: with an entry that the others may lack it would refuse them the vote that
 * they may still need. Then it gets the news, as far as one append can bring them, and is let go.
 */
export function serveMembers(replica: Replica): void {
  const { log, now, config, otherMembers } = replica
  const { followers } = replica.leading()
  const window = { messagesMax: config.inflightMessagesMax, bytesMax: config.inflightBytesMax }
  for (const id of otherMembers) {
    const endMax = log.configurations.isLeaving(id) ? log.configurations.index - 1 : Number.POSITIVE_INFINITY
    const progress = followers.get(id) ?? new Progress(Math.min(log.lastIndex, endMax + 1), now, window)
    progress.endMax = endMax
    followers.set(id, progress)
  }
  for (const [id, progress] of followers) {
    if (otherMembers.includes(id)) continue
    progress.endMax = Number.POSITIVE_INFINITY
    sendAppend(replica, id, progress)
    followers.delete(id)
  }
}

export function areAppendsDue(replica: Replica): boolean {
  const { leadership } = replica
  if (leadership === null) return false
  const isNewsDue = replica.now >= leadership.newsAt
  for (const progress of leadership.followers.values()) if (isDue(progress, replica.log, isNewsDue)) return true
  return false
}

/** A follower may know less of the commit than it could: it is told soon, unless an append does. */
export function planNews(replica: Replica): void {
  const leadership = replica.leading()
  if (leadership.followers.size === 0) return
  leadership.newsAt = Math.min(leadership.newsAt, replica.now + replica.config.commitNewsDelayMs)
}

export function sendAppends(replica: Replica): void {
  const leadership = replica.leading()
  const isNewsDue = replica.now >= leadership.newsAt
  for (const [to, progress] of leadership.followers) {
    while (isDue(progress, replica.log, isNewsDue)) sendAppend(replica, to, progress)
  }
  // Whoever still has appends under way is told with the next, or when it has answered.
  if (isNewsDue) leadership.newsAt = Number.POSITIVE_INFINITY
}

/** Moves the commit to what a majority holds durably (R5), the own disk counted like any other. */
export function maybeCommit(replica: Replica): void {
  const { log, term, configuration, outbox } = replica
  const leadership = replica.leading()
  const before = log.commit
  const index = quorumValue(configuration, (id) =>
    id === replica.id ? log.stable : (leadership.followers.get(id)?.match ?? 0),
  )
  // An older entry is safe only under one of the own term (Raft figure 8).
  if (index <= before || log.termAt(index) !== term) return
  invariant(index <= log.lastIndex, 'R5: a quorum cannot hold what the leader lacks')
  log.commitTo(index)
  planNews(replica)
  for (let i = before + 1; i <= index; i++) leadership.uncommittedBytes -= log.entryAt(i).bytes
  if (leadership.isTermStarted) return
  leadership.isTermStarted = true
  outbox.emit({ kind: 'term_started', term, index: leadership.termStart })
}

/** True when an append must leave to this follower: something is new, a commit is news, or a check is due. */
function isDue(progress: Progress, log: RaftLog, isNewsDue: boolean): boolean {
  if (progress.isCheckDue && (progress.state === 'replicate' || progress.canSend())) return true
  if (!progress.canSend() || progress.state === 'snapshot') return false
  if (progress.hasMore(log.lastIndex)) return true
  // Under load a commit rides on the next append; only when nothing is under way does it get one of its own.
  if (!isNewsDue || progress.state !== 'replicate' || progress.inflights.messages > 0) return false
  return progress.sentCommit < Math.min(log.commit, progress.next - 1)
}

function sendAppend(replica: Replica, to: NodeId, progress: Progress): void {
  const { log, id: from, term } = replica
  progress.isCheckDue = false
  if (log.termAt(progress.next - 1) === null) progress.becomeSnapshot()
  const isBehindLog = progress.state === 'snapshot'
  const prevIndex = isBehindLog ? log.firstIndex - 1 : progress.next - 1
  const prevTerm = log.termAt(prevIndex) as number
  const { entries, bytes } = isBehindLog || !progress.canSend() ? nothing : takeEntries(replica, progress)
  const last = prevIndex + entries.length
  progress.sent(last, bytes, replica.now)
  progress.sentCommit = Math.max(progress.sentCommit, Math.min(log.commit, last))
  replica.outbox.sendNow({ kind: 'append', from, to, term, prevIndex, prevTerm, entries, commit: log.commit })
}

const nothing: { readonly entries: readonly EntryMeta[]; readonly bytes: number } = { entries: [], bytes: 0 }

/** As many of the next entries as one append may hold, at least one if there is one. */
function takeEntries(
  { log, config }: Replica,
  { next, endMax }: Progress,
): { readonly entries: readonly EntryMeta[]; readonly bytes: number } {
  const unknownBytes = Math.ceil(config.appendBytesMax / unknownEntriesMax)
  const entries: EntryMeta[] = []
  const end = Math.min(log.lastIndex, endMax)
  let bytes = 0
  for (let index = next; index <= end && entries.length < config.appendEntriesMax; index++) {
    const entry = log.entryAt(index)
    const size = log.knows(index) ? entry.bytes : unknownBytes
    if (entries.length > 0 && bytes + size > config.appendBytesMax) break
    entries.push(entry)
    bytes += size
  }
  return { entries, bytes }
}
