/**
 * What a leader knows of one follower: how far it matches, where to go on, and how boldly.
 *
 *   probe      one append per heartbeat until an answer shows where the logs agree
 *   replicate  appends leave without waiting for answers, within the window
 *   snapshot   the log no longer reaches back far enough: one empty probe per heartbeat, for when it caught up elsewhere
 *
 * Used by `replication.ts` and `leader.ts`. Invariant: match < next.
 */
import { invariant } from './assert.ts'
import { Inflights } from './inflights.ts'
import type { LogIndex, Millis } from './types.ts'

export type ProgressState = 'probe' | 'replicate' | 'snapshot'

export class Progress {
  readonly inflights: Inflights
  /** Last answer of any kind in this term; null before the first. */
  heardAt: Millis | null = null
  /** Since when an answer to an append is awaited in vain. */
  silentSince: Millis
  /** Highest heartbeat round answered. */
  ackedRound = 0
  /** Newest session of the follower, 0 before it told one. */
  session = 0
  /** Would the follower lead? What it said last. */
  canLead = true
  /** Highest commit index told and coverable by what was sent. */
  sentCommit: LogIndex = 0
  /** Nothing beyond this is sent; Infinity unless the peer is on its way out of the group. */
  endMax: LogIndex = Number.POSITIVE_INFINITY
  /** An append is owed even if there is nothing new: it finds out what was lost. */
  isCheckDue = false
  #state: ProgressState = 'probe'
  /** When the unanswered probe left; null when another one may leave. */
  #probedAt: Millis | null = null
  #match: LogIndex = 0
  #next: LogIndex

  constructor(next: LogIndex, now: Millis, window: { readonly messagesMax: number; readonly bytesMax: number }) {
    this.#next = next
    this.silentSince = now
    this.inflights = new Inflights(window.messagesMax, window.bytesMax)
  }

  get state(): ProgressState {
    return this.#state
  }

  get match(): LogIndex {
    return this.#match
  }

  get next(): LogIndex {
    return this.#next
  }

  /** Is there an entry for this peer that it is not known to hold? */
  lacks(lastIndex: LogIndex): boolean {
    return this.#match < Math.min(lastIndex, this.endMax)
  }

  /** Is there an entry for this peer that was not sent? */
  hasMore(lastIndex: LogIndex): boolean {
    return this.#next <= Math.min(lastIndex, this.endMax)
  }

  /** May entries leave now? */
  canSend(): boolean {
    if (this.#state === 'replicate') return !this.inflights.isFull()
    return this.#probedAt === null
  }

  /** Entries up to `last` left, `bytes` in all; an empty append passes the index before them. */
  sent(last: LogIndex, bytes: number, now: Millis): void {
    if (this.#state !== 'replicate') {
      this.#probedAt = now
      return
    }
    if (last < this.#next) return
    if (this.inflights.messages === 0) this.silentSince = now
    this.inflights.add(last, bytes)
    this.#next = last + 1
  }

  /** The follower holds everything up to `match` durably. Returns whether that is news. */
  accepted(match: LogIndex): boolean {
    const isNews = match > this.#match
    this.#match = Math.max(this.#match, match)
    this.#next = Math.max(this.#next, this.#match + 1)
    this.inflights.freeTo(this.#match)
    if (this.#state !== 'replicate') {
      this.#state = 'replicate'
      this.#probedAt = null
      this.#next = this.#match + 1
    }
    return isNews
  }

  /** The follower lacks `rejected`; `next` is the first index that is worth a try. Ignores what is out of date. */
  rejected(rejected: LogIndex, next: LogIndex): void {
    // Going back further does not help: the log starts at the position that was just refused.
    if (this.#state === 'snapshot') return
    const isStale = this.#state === 'replicate' ? rejected <= this.#match : rejected !== this.#next - 1
    if (isStale) return
    this.becomeProbe(Math.max(this.#match + 1, Math.min(rejected, next)))
  }

  /** The follower holds nothing beyond `held`, whatever it acknowledged: its disk has lost the rest. */
  forget(held: LogIndex): void {
    this.#match = Math.min(this.#match, held)
    this.becomeProbe(held + 1)
  }

  becomeProbe(next: LogIndex): void {
    invariant(next > this.#match, 'R5: match < next is broken')
    this.#state = 'probe'
    this.#probedAt = null
    this.#next = next
    this.sentCommit = Math.min(this.sentCommit, this.#match)
    this.inflights.clear()
  }

  becomeSnapshot(): void {
    this.#state = 'snapshot'
    this.inflights.clear()
  }

  /**
   * The peer is alive but lacks something, and was silent about it for `silentMs`: appends or their answers may have
   * been lost. A check is due: an append at the end of what was sent, refused if something before it is missing.
   */
  suspectLoss(now: Millis, silentMs: Millis): void {
    if (this.#state === 'replicate') {
      if (now - this.silentSince >= silentMs) this.isCheckDue = true
      return
    }
    if (this.#probedAt !== null && now - this.#probedAt < silentMs) return
    this.#probedAt = null
    this.isCheckDue = true
  }
}
