/** The numbers of the core, with the relations between them that safety and liveness need. */
import { invariant } from './assert.ts'
import type { HardState, LoggedConfiguration, LogIndex, Millis, NodeId, Term, TermRun } from './types.ts'

export interface RaftConfig {
  readonly id: NodeId
  /** A leader beats this often. */
  readonly heartbeatMs: Millis
  /** Silence of the leader before a pre-vote: drawn anew from [min, max). Also the CheckQuorum window (min). */
  readonly electionTimeoutMinMs: Millis
  readonly electionTimeoutMaxMs: Millis
  /** After the own connection to the leader broke: pre-vote after a random wait in [0, max). */
  readonly connectionLostWaitMaxMs: Millis
  /** A pre-vote refused with `leader_seen` after a lost connection is repeated this often, this many times. */
  readonly leaderSeenRetryMs: Millis
  readonly leaderSeenRetriesMax: number
  /** A split round is retried after a random wait in [min, max). */
  readonly splitRetryMinMs: Millis
  readonly splitRetryMaxMs: Millis
  /** A leadership transfer that takes longer is given up and proposals are accepted again. */
  readonly transferTimeoutMs: Millis
  /**
   * A commit that no append carries is told to the followers after this long. A client that waits for each answer sends
   * its next message sooner, and the commit rides on that: half the messages between the replicas are saved.
   */
  readonly commitNewsDelayMs: Millis
  /** Limits of one append message; at least one entry is always sent. */
  readonly appendBytesMax: number
  readonly appendEntriesMax: number
  /** Window of unanswered append messages per follower. */
  readonly inflightMessagesMax: number
  readonly inflightBytesMax: number
  /** Proposals are refused with `full` beyond these; one proposal is always accepted when nothing is uncommitted. */
  readonly uncommittedBytesMax: number
  readonly uncommittedEntriesMax: number
  /** Waiting ReadIndex contexts; more are refused with `full`. */
  readonly pendingReadsMax: number
  /** Sizes of at least so many of the newest entries are known without asking the driver. */
  readonly recentEntriesMin: number
}

export const defaultRaftConfig: Omit<RaftConfig, 'id'> = {
  heartbeatMs: 75,
  electionTimeoutMinMs: 500,
  electionTimeoutMaxMs: 1000,
  connectionLostWaitMaxMs: 30,
  leaderSeenRetryMs: 25,
  leaderSeenRetriesMax: 10,
  splitRetryMinMs: 50,
  splitRetryMaxMs: 150,
  transferTimeoutMs: 1000,
  commitNewsDelayMs: 2,
  appendBytesMax: 1024 * 1024,
  appendEntriesMax: 4096,
  inflightMessagesMax: 64,
  inflightBytesMax: 16 * 1024 * 1024,
  uncommittedBytesMax: 64 * 1024 * 1024,
  uncommittedEntriesMax: 65_536,
  pendingReadsMax: 16_384,
  recentEntriesMin: 32_768,
}

/** Throws an InvariantError when the numbers contradict each other; the operator's input is checked before. */
export function checkRaftConfig(config: RaftConfig): void {
  const positive: readonly number[] = [
    config.heartbeatMs,
    config.electionTimeoutMinMs,
    config.transferTimeoutMs,
    config.appendBytesMax,
    config.appendEntriesMax,
    config.inflightMessagesMax,
    config.inflightBytesMax,
    config.pendingReadsMax,
    config.recentEntriesMin,
  ]
  invariant(
    positive.every((value) => Number.isFinite(value) && value > 0),
    'config: times and limits must be positive',
  )
  invariant(
    config.commitNewsDelayMs >= 0 && config.commitNewsDelayMs <= config.heartbeatMs,
    'config: heartbeats would bring the news of a commit sooner',
  )
  // Two lost heartbeats must not look like a dead leader.
  invariant(config.heartbeatMs * 3 <= config.electionTimeoutMinMs, 'config: heartbeats are too rare for the timeout')
  invariant(config.electionTimeoutMinMs < config.electionTimeoutMaxMs, 'config: the election timeout needs jitter')
  invariant(config.splitRetryMinMs <= config.splitRetryMaxMs, 'config: the split retry range is empty')
}

/** What the driver found on its disk. */
export interface Boot {
  readonly hardState: HardState
  /**
   * Ascending. The first is a committed one (index 0: the first one of the group), then all that follow it in the log,
   * committed or not. The last is in force.
   */
  readonly configurations: readonly LoggedConfiguration[]
  /** First index still in the log, and the term of the entry before it (0 for a log that starts at 1). */
  readonly firstIndex: LogIndex
  readonly previousTerm: Term
  /** Last index in the log, firstIndex - 1 when it is empty. Everything up to it is fsynced. */
  readonly lastIndex: LogIndex
  readonly termRuns: readonly TermRun[]
  /**
   * Terms up to this committed index may be guesses, because their entries are lost (default 0: none are). Nothing is
   * concluded from them; once the entries are back, the core must begin again, before it is told that it is healed.
   */
  readonly termsGuessedTo?: LogIndex
  /**
   * `configurations` may lack some that were in force after those it names, because what would tell of them is lost
   * (default false). Such a node must not stand for election, and begins again once they are back.
   */
  readonly mayLackConfigurations?: boolean
  /** What the state machine had applied; entries after it are handed out again. */
  readonly applied: LogIndex
  /**
   * Not null: the log is damaged, or was. `untilLeaderReached`: it was cut, perhaps below what was acknowledged; then
   * `hardState.commit` and `applied` may lie beyond `lastIndex`. The hard state itself must be the last one saved.
   */
  readonly quarantine: { readonly untilLeaderReached: boolean } | null
}

/** Uniform in [0, 1). Injected, so that a seed decides every jitter. */
export type Random = () => number
