/**
 * The state that all role steps share: Raft's figure 2, and the deadlines.
 *
 * Owned by `core.ts`, changed by `roles.ts` (role, term, vote) and the step files. Holds no decisions.
 */
import { invariant } from './assert.ts'
import type { Boot, RaftConfig, Random } from './config.ts'
import { FollowerReads } from './follower-reads.ts'
import type { Leadership } from './leadership.ts'
import { RaftLog } from './log.ts'
import { Outbox } from './outbox.ts'
import { Quarantine } from './quarantine.ts'
import type { RoleChangeReason } from './ready.ts'
import type { Configuration, Health, Millis, NodeId, Role, Term } from './types.ts'
import { WriteLedger } from './write-ledger.ts'

/** Two runs of a node draw the same session once in so many times. */
export const sessionsMax: number = 2 ** 48

export class Replica {
  readonly config: RaftConfig
  readonly id: NodeId
  readonly random: Random
  readonly log: RaftLog
  readonly outbox: Outbox = new Outbox()
  readonly ledger: WriteLedger
  now: Millis

  term: Term
  vote: NodeId | null
  role: Role = 'follower'
  leader: NodeId | null = null
  /** Who led this term, also after it was lost: a second one would break R1. */
  termLeader: NodeId | null = null
  /** The disk failed; final. */
  hasFailed = false

  /** Last sign of life of `leader`. */
  leaderHeardAt: Millis = Number.NEGATIVE_INFINITY
  /**
   * Leader to which the own control connection broke, or who stepped down: it holds no lease here, and appends of it
   * that were still in the sockets are no sign of life. Only a heartbeat is.
   */
  lostLeader: NodeId | null = null

  /** When to stand for election, and why. Infinity: never. */
  electionAt: Millis = Number.POSITIVE_INFINITY
  electionReason: RoleChangeReason = 'election_timeout'
  /** Repetitions left of a pre-vote that others refuse because they still see the leader that was lost here. */
  leaderSeenRetriesLeft = 0
  /** First pre-vote since the last known leader; null while there is one. */
  seriesStartedAt: Millis | null = null
  /** Answers of the round, while (pre-)candidate. */
  votes: Map<NodeId, boolean> = new Map()
  /** The round was refused by someone, and its deadline moved up. */
  isRoundShortened = false

  /** Not null: no vote and no candidacy. */
  quarantine: Quarantine | null
  health: Health = 'well'
  /** What is left of the handicap against those who should rather lead; null while there is a leader. */
  handicap: number | null = null
  /** Peers to which the own control connection broke, until they are heard again. */
  readonly lostPeers: Set<NodeId> = new Set()
  /** Drawn at the start, so that what was meant for an earlier run of this node is recognised. */
  readonly session: number

  /** Read indexes asked of the leader; empty while leading. */
  readonly reads: FollowerReads
  /** What this node has drawn its conclusions from (`reconfiguration.ts`). */
  configurationRevision: number

  /** Present exactly while leader. */
  leadership: Leadership | null = null

  constructor(config: RaftConfig, boot: Boot, random: Random, now: Millis) {
    this.config = config
    this.id = config.id
    this.random = random
    this.now = now
    this.term = boot.hardState.term
    this.vote = boot.hardState.vote
    this.log = new RaftLog(boot, config)
    this.configurationRevision = this.log.configurations.revision
    invariant(this.term >= this.log.lastTerm, 'R2: the log holds entries of a term beyond the stored term')
    this.quarantine = boot.quarantine === null ? null : new Quarantine(boot.quarantine.untilLeaderReached)
    this.session = 1 + Math.floor(random() * sessionsMax)
    this.reads = new FollowerReads(this.session)
    this.ledger = new WriteLedger({ lastIndex: boot.lastIndex, term: this.term, vote: this.vote })
  }

  /** The newest one of the log, committed or not (Raft section 6). */
  get configuration(): Configuration {
    return this.log.configurations.newest
  }

  get otherVoters(): readonly NodeId[] {
    return this.log.configurations.otherVoters
  }

  get otherMembers(): readonly NodeId[] {
    return this.log.configurations.otherMembers
  }

  /** Has this node a vote in the newest configuration? */
  get isVoter(): boolean {
    return this.log.configurations.isVoter
  }

  /** Also true while a removal of this node is not known to be committed, see `configurations.ts`. */
  get mayStand(): boolean {
    return this.quarantine === null && this.log.configurations.mayStand
  }

  /** Stands by itself when nobody leads, a reluctant node after the others (`handicap.ts`). */
  get standsByItself(): boolean {
    return this.mayStand && this.health !== 'unable'
  }

  /** False: it would not lead if it could. */
  get isWell(): boolean {
    return this.health === 'well' && this.quarantine === null
  }

  /** The leadership of a node that must be leader here. */
  leading(): Leadership {
    invariant(this.leadership !== null, 'R1: not the leader')
    return this.leadership
  }
}
