/**
 * What only a leader has: the progress of its followers, its rounds, reads and a transfer under way.
 *
 * Made by `roles.ts` when an election is won, dropped with the role. Holds no decisions.
 */
import type { Progress } from './progress.ts'
import { ReadIndex } from './read-index.ts'
import type { LogIndex, Millis, NodeId } from './types.ts'

/** A handover of leadership (thesis 3.10). */
export interface Transfer {
  readonly to: NodeId
  readonly deadline: Millis
}

export class Leadership {
  /** Everyone who is sent the log; changes with the configuration (`serveMembers`). */
  readonly followers: Map<NodeId, Progress> = new Map()
  /** Index of the no-op of this term. */
  readonly termStart: LogIndex
  readonly reads: ReadIndex = new ReadIndex()
  isTermStarted = false
  heartbeatAt: Millis = Number.POSITIVE_INFINITY
  /** When the quorum window ends unless someone answers before. */
  quorumEndsAt: Millis = Number.POSITIVE_INFINITY
  /** When followers are told of a commit that no append has carried to them. */
  newsAt: Millis = Number.POSITIVE_INFINITY
  /** Silence counts from here at the earliest: the election, the end of an own pause, another configuration. */
  silenceFrom: Millis
  /** Number of the newest heartbeat round. */
  round = 0
  /** After a pause: the first round that started afterwards and that no quorum has answered yet; null: confirmed. */
  confirmingRound: number | null = null
  transfer: Transfer | null = null
  /** Bytes of own entries beyond commit. */
  uncommittedBytes = 0

  constructor(start: { readonly termStart: LogIndex; readonly now: Millis }) {
    this.termStart = start.termStart
    this.silenceFrom = start.now
  }
}
