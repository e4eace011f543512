/**
 * The consensus core of one replica: inputs go in by `step`, duties come out by `ready`.
 *
 * Used by the replica loop of the broker and by the simulator. Control flow only; the rules are in the files named in
 * `README.md`. Synchronous and deterministic: same inputs, same times, same random numbers, same outputs.
 */
import { invariant, unreachable } from './assert.ts'
import { campaign, countOwnVote } from './candidate.ts'
import type { Boot, RaftConfig, Random } from './config.ts'
import { checkRaftConfig } from './config.ts'
import { awaitLeader } from './election-timer.ts'
import { changeHealth, enterQuarantine, heal, maybeEndQuarantine } from './fitness.ts'
import { onPeerLost } from './follower.ts'
import { passesRound } from './handicap.ts'
import { receive } from './inbound.ts'
import {
  isReadRoundDue,
  leaderDeadline,
  onUnreachable,
  propose,
  startReadRound,
  stepDown,
  tickLeader,
} from './leader.ts'
import type { LogWrite } from './log.ts'
import { expireReads, readIndex } from './reads.ts'
import type { Input, RaftStatus, Ready, Refusal, StepResult } from './ready.ts'
import { followConfiguration } from './reconfiguration.ts'
import { Replica } from './replica.ts'
import { areAppendsDue, maybeCommit, sendAppends } from './replication.ts'
import { becomeFollower } from './roles.ts'
import { noticeStall } from './stall.ts'
import { statusOf } from './status.ts'
import { endTransfer, startTransfer } from './transfer.ts'
import type { HardState, LogIndex, Millis, NodeId } from './types.ts'

const done: StepResult = { kind: 'done' }

export class RaftCore {
  readonly #replica: Replica
  #hardState: HardState
  #lastReady = 0

  /** Starts as a follower that knows no leader. Throws an InvariantError when `boot` contradicts itself. */
  constructor(config: RaftConfig, boot: Boot, random: Random, now: Millis) {
    checkRaftConfig(config)
    this.#replica = new Replica(config, boot, random, now)
    this.#hardState = boot.hardState
    awaitLeader(this.#replica)
    // Nobody else can lead: waiting for a sign of life would only delay the start.
    if (this.#replica.mayStand && this.#replica.otherVoters.length === 0) this.#replica.electionAt = now
  }

  /**
   * Feeds one input. `now` is monotonic and never smaller than before. Messages that are out of date or implausible
   * are ignored. Throws an InvariantError when the group's promises no longer hold: stop the node.
   */
  step(input: Input, now: Millis): StepResult {
    const replica = this.#replica
    invariant(now >= replica.now, 'R4: the time went back')
    replica.now = now
    if (replica.hasFailed) return { kind: 'refused', refusal: { kind: 'storage_failed' } }
    noticeStall(replica, this.deadline())
    const result = this.#dispatch(input)
    followConfiguration(replica)
    replica.log.assertOrder()
    return result
  }

  hasReady(): boolean {
    const replica = this.#replica
    if (!replica.outbox.isEmpty()) return true
    if (replica.hasFailed) return false
    return (
      replica.log.hasUnwritten() ||
      replica.log.hasDeliverable() ||
      areAppendsDue(replica) ||
      isReadRoundDue(replica) ||
      this.#isHardStateChanged()
    )
  }

  /** Takes what there is to do. Throws an InvariantError when there is nothing. */
  ready(): Ready {
    invariant(this.hasReady(), 'S1: a Ready was taken when there was none')
    const replica = this.#replica
    const number = ++this.#lastReady
    if (replica.hasFailed) return { number, mustSync: false, append: [], ...replica.outbox.take() }
    if (isReadRoundDue(replica)) startReadRound(replica)
    if (areAppendsDue(replica)) sendAppends(replica)
    const write = replica.log.takeUnwritten()
    const mustSync = this.#recordWrite(number, write)
    const hardState = this.#takeHardState()
    return {
      number,
      mustSync,
      ...(hardState === null ? {} : { hardState }),
      ...(write.truncateFrom === null ? {} : { truncateFrom: write.truncateFrom }),
      append: write.append,
      ...(replica.log.hasDeliverable() ? { committed: replica.log.takeDeliverable() } : {}),
      ...replica.outbox.take(),
    }
  }

  /** Monotonic time at which the next `tick` is due; Infinity when none is. */
  deadline(): Millis {
    const replica = this.#replica
    if (replica.hasFailed) return Number.POSITIVE_INFINITY
    return replica.role === 'leader' ? leaderDeadline(replica) : Math.min(replica.electionAt, replica.reads.deadline())
  }

  status(now: Millis): RaftStatus {
    return statusOf(this.#replica, now)
  }

  #dispatch(input: Input): StepResult {
    const replica = this.#replica
    switch (input.kind) {
      case 'tick':
        return this.#onTick()
      case 'propose': {
        const outcome = propose(replica, input.entries)
        if ('refusal' in outcome) return { kind: 'refused', refusal: outcome.refusal }
        return { kind: 'accepted', first: outcome.first, term: replica.term }
      }
      case 'message':
        return refusedOrDone(receive(replica, input.message))
      case 'persisted':
        return this.#onPersisted(input.ready)
      case 'applied':
        replica.log.appliedTo(input.index)
        return done
      case 'read_index':
        return refusedOrDone(readIndex(replica, input.context))
      case 'transfer':
        return refusedOrDone(startTransfer(replica, input.to))
      case 'campaign':
        campaign(replica, 'ordered')
        return done
      case 'peer_lost':
        return this.#onPeerLost(input.peer)
      case 'unreachable':
        onUnreachable(replica, input.peer)
        return done
      case 'health':
        changeHealth(replica, input.health)
        return done
      case 'quarantine':
        enterQuarantine(replica)
        return done
      case 'healed':
        heal(replica)
        return done
      case 'storage_failed':
        return this.#onStorageFailed()
      case 'compacted':
        return this.#onCompacted(input.first, input.previousTerm)
      default:
        return unreachable(input)
    }
  }

  #onTick(): StepResult {
    const replica = this.#replica
    expireReads(replica)
    if (replica.role === 'leader') tickLeader(replica)
    else if (replica.now >= replica.electionAt && !passesRound(replica)) campaign(replica, replica.electionReason)
    return done
  }

  #onPersisted(number: number): StepResult {
    const replica = this.#replica
    invariant(number <= this.#lastReady, 'S1: a Ready was reported durable before it was taken')
    replica.ledger.persisted(number)
    replica.log.stableTo(replica.ledger.stableIndex())
    maybeEndQuarantine(replica)
    countOwnVote(replica)
    if (replica.role === 'leader') maybeCommit(replica)
    return done
  }

  #onPeerLost(peer: NodeId): StepResult {
    const replica = this.#replica
    replica.lostPeers.add(peer)
    if (replica.leadership?.transfer?.to === peer) endTransfer(replica, 'lost')
    onPeerLost(replica, peer)
    return done
  }

  #onStorageFailed(): StepResult {
    const replica = this.#replica
    replica.outbox.forgetMessages()
    if (replica.role === 'leader') stepDown(replica, 'storage_failed')
    else becomeFollower(replica, replica.term, null, 'storage_failed')
    replica.hasFailed = true
    return done
  }

  #onCompacted(first: LogIndex, previousTerm: number): StepResult {
    this.#replica.log.compact(first, previousTerm)
    return done
  }

  /** Notes what this Ready writes; true when it must be fsynced. */
  #recordWrite(number: number, { truncateFrom, append }: LogWrite): boolean {
    const { term, vote, ledger } = this.#replica
    const isVoteChanged = term !== this.#hardState.term || vote !== this.#hardState.vote
    if (!isVoteChanged && truncateFrom === null && append.length === 0) return false
    ledger.record({ ready: number, term, vote, truncateFrom, lastIndex: append.at(-1)?.index ?? null })
    return true
  }

  /** The commit that is stored never passes the own durable entries: after a crash it must not point beyond them. */
  #durableCommit(): LogIndex {
    const { commit, stable } = this.#replica.log
    return Math.max(this.#hardState.commit, Math.min(commit, stable))
  }

  #isHardStateChanged(): boolean {
    const { term, vote } = this.#replica
    const { term: oldTerm, vote: oldVote, commit } = this.#hardState
    return term !== oldTerm || vote !== oldVote || this.#durableCommit() !== commit
  }

  #takeHardState(): HardState | null {
    if (!this.#isHardStateChanged()) return null
    const { term, vote } = this.#replica
    this.#hardState = { term, vote, commit: this.#durableCommit() }
    return this.#hardState
  }
}

function refusedOrDone(refusal: Refusal | null): StepResult {
  return refusal === null ? done : { kind: 'refused', refusal }
}
