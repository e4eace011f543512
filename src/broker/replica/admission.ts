/**
 * The door of the replica for proposals and current reads: limits first, then the core, then the right waiting place.
 *
 * Owned by the replica loop. It decides what a caller is told when the core refuses; it must never let an entry that
 * the core accepted go without someone waiting for its outcome.
 */
import type { ChangeRefusal, Configuration, Input, ProposedEntry, Refusal, StepResult } from '../../../raft/index.ts'
import { type FrameType, frameLengthOf, frameTypes, type LogEntry } from '../../../store/index.ts'
import { invariant, unreachable } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Applied, LeaderView, ProposeOptions } from '../contract.ts'
import type { ReplicaLimits } from '../options.ts'
import { type Attempt, type Held, HoldQueue } from './hold-queue.ts'
import { type Caller, Proposals } from './proposals.ts'
import { type Reader, Reads } from './reads.ts'

/** How often deadlines of waiting callers are checked, milliseconds. */
const sweepMs = 25
/** So often a read is tried anew when its round came to nothing. */
const readAttemptsMax = 3

export interface AdmissionPorts {
  readonly clock: Clock
  readonly limits: ReplicaLimits
  /** Longest frame that the log takes: one segment. */
  readonly frameBytesMax: number
  step(input: Input): StepResult
  /** The leader as far as known, this node included. */
  leader(): LeaderView | null
  diskFull(): boolean
  /** Why nothing is accepted any more, null while running. */
  stopped(): LedgerError | null
  /** Keeps the body of an accepted entry until its Ready is staged. */
  keepBody(index: number, term: number, type: LogEntry['type'], body: readonly Uint8Array[]): void
}

const changeRefusals: Readonly<Record<ChangeRefusal, string>> = {
  term_not_started: 'the leader of this term has not committed its first entry yet',
  change_under_way: 'the last change is not committed yet',
  illegal_step: 'the membership has changed meanwhile',
}

/** What a configuration entry says, as the core of this node sees it, and whether it still follows what it was made from. */
export interface ProposedChange {
  readonly configuration: Configuration
  isCurrent(): boolean
}

export class Admission {
  readonly proposals: Proposals = new Proposals()
  readonly reads: Reads = new Reads()
  readonly #held: HoldQueue
  readonly #ports: AdmissionPorts
  #sweeping = false

  constructor(ports: AdmissionPorts) {
    this.#ports = ports
    this.#held = new HoldQueue({ bytesMax: ports.limits.heldBytesMax, countMax: ports.limits.proposalsMax })
  }

  /** `change` belongs to a configuration entry. */
  propose(
    type: FrameType,
    body: readonly Uint8Array[],
    options: ProposeOptions,
    change?: ProposedChange,
  ): Promise<Applied> {
    invariant(type !== frameTypes.padding, 'S2: padding is made by the layout alone')
    const bytes = frameLengthOf(body.reduce((sum, piece) => sum + piece.length, 0))
    const refusal = this.#refuseLength(bytes) ?? this.#refuse(bytes, options) ?? this.#refuseWrite(options)
    if (refusal) return Promise.reject(refusal)
    return new Promise((resolve, reject) => {
      let place: { readonly index: number; readonly term: number } | null = null
      const release = onAbort(options.signal, () => {
        if (place) this.proposals.abort(place.index, place.term)
        else this.#abandon(held)
      })
      const caller: Caller = {
        bytes,
        deadlineMs: this.#ports.clock.monotonicMs() + options.timeoutMs,
        resolve: (applied) => {
          release()
          resolve(applied)
        },
        reject: (error) => {
          release()
          reject(error)
        },
      }
      const held = this.#hold(caller, options, () => {
        // It may have been held while others led and changed the membership: the core compares no more than the voters.
        if (change && !change.isCurrent()) {
          caller.reject(new LedgerError('CHANGE_IN_PROGRESS', changeRefusals.illegal_step))
          return 'settled'
        }
        const entry: ProposedEntry = change
          ? { kind: 'configuration', bytes, configuration: change.configuration }
          : { kind: 'normal', bytes }
        const result = this.#ports.step({ kind: 'propose', entries: [entry] })
        if (result.kind !== 'accepted') return this.#judge(result, caller)
        place = { index: result.first, term: result.term }
        this.#ports.keepBody(result.first, result.term, type, body)
        this.proposals.accepted(result.first, result.term, caller)
        return 'settled'
      })
      this.#offer(held)
    })
  }

  readCurrent(options: ProposeOptions): Promise<void> {
    const refusal = this.#refuse(0, options)
    if (refusal) return Promise.reject(refusal)
    return new Promise((resolve, reject) => {
      let attempts = 0
      let isOver = false
      const release = onAbort(options.signal, () => {
        this.#abandon(held)
        reader.reject(aborted())
      })
      const end = (settle: () => void): void => {
        isOver = true
        release()
        settle()
      }
      const reader: Reader = {
        deadlineMs: this.#ports.clock.monotonicMs() + options.timeoutMs,
        resolve: () => end(resolve),
        reject: (error) => end(() => reject(error)),
        again: () => {
          if (isOver) return
          if (attempts < readAttemptsMax) this.#keep(held)
          else reader.reject(new LedgerError('NO_QUORUM', `${attempts} leaders in a row did not confirm the read`))
        },
      }
      const held = this.#hold({ ...reader, bytes: 0 }, options, () => {
        if (!this.reads.join(reader)) {
          const result = this.#ports.step({ kind: 'read_index', context: this.reads.nextContext() })
          if (result.kind !== 'done') return this.#judge(result, reader)
          this.reads.began(reader)
        }
        attempts++
        return 'settled'
      })
      this.#offer(held)
    })
  }

  /** Something changed: held requests may find their way now. */
  retryHeld(): void {
    if (this.#held.count > 0) this.#held.retry()
  }

  failAll(reason: string): void {
    this.#held.failAll(new LedgerError('SERVICE_NOT_AVAILABLE', reason))
    this.reads.failAll(new LedgerError('SERVICE_NOT_AVAILABLE', reason))
    this.proposals.failAll(reason)
  }

  #refuse(bytes: number, options: ProposeOptions): LedgerError | null {
    const { limits } = this.#ports
    const stopped = this.#ports.stopped()
    if (stopped) return stopped
    if (options.signal?.aborted) return aborted()
    if (options.timeoutMs <= 0) return new LedgerError('DEADLINE_EXCEEDED', 'no time was left to propose')
    const count = this.proposals.count + this.reads.count + this.#held.count
    const total = this.proposals.bytes + this.#held.bytes + bytes
    // One request always fits into an empty replica, whatever its size.
    if (count > 0 && (count >= limits.proposalsMax || total > limits.proposalBytesMax)) {
      return this.#full(`${count} requests with ${total} bytes are waiting`)
    }
    return null
  }

  /** S2: an entry lies in one segment. Past this door the core counts on it, and only the process can be stopped. */
  #refuseLength(bytes: number): LedgerError | null {
    const { frameBytesMax } = this.#ports
    if (bytes <= frameBytesMax) return null
    return new LedgerError(
      'MESSAGE_ILLEGAL',
      `the entry takes ${bytes} bytes of the log, its segments hold ${frameBytesMax}`,
    )
  }

  #refuseWrite(options: ProposeOptions): LedgerError | null {
    if (options.makesSpace === true) return null
    return this.#ports.diskFull() ? new LedgerError('DISK_FULL', 'the disk of the leader is full') : null
  }

  #offer(held: Held): void {
    if (this.#held.count === 0 && held.attempt() === 'settled') this.#sweep()
    else this.#keep(held)
  }

  /** Waits in the queue, to be offered when something changes. */
  #keep(held: Held): void {
    this.#sweep()
    if (this.#held.hasRoomFor(held.bytes)) this.#held.add(held)
    else held.reject(this.#full('too much is held until there is a leader'))
  }

  #hold(
    caller: { readonly bytes: number; reject(error: LedgerError): void },
    options: ProposeOptions,
    attempt: () => Attempt,
  ): Held {
    const heldMs = Math.min(options.timeoutMs / 2, this.#ports.limits.heldMsMax)
    return {
      bytes: caller.bytes,
      untilMs: this.#ports.clock.monotonicMs() + heldMs,
      attempt,
      expired: () => caller.reject(new LedgerError('NO_QUORUM', `no leader was found within ${Math.round(heldMs)} ms`)),
      reject: caller.reject,
    }
  }

  #abandon(held: Held): void {
    this.#held.remove(held)
    held.reject(aborted())
  }

  /** What a refusal of the core means for the caller. */
  #judge(result: StepResult, caller: { reject(error: LedgerError): void }): Attempt {
    invariant(result.kind === 'refused', `the core answered ${result.kind} to a request`)
    const error = this.#errorOf(result.refusal)
    if (error === null) return 'hold'
    caller.reject(error)
    return 'settled'
  }

  #errorOf(refusal: Refusal): LedgerError | null {
    switch (refusal.kind) {
      case 'not_leader':
        return refusal.leader === null ? null : notLeader(this.#ports.leader(), refusal.leader, refusal.term)
      case 'transferring':
      case 'unconfirmed':
        return null
      case 'full':
        return this.#full(`${refusal.uncommittedBytes} bytes wait to be committed`)
      case 'reads_full':
        return this.#full(`${refusal.readsMax} rounds of reads wait for a quorum to confirm the leader`)
      case 'storage_failed':
        return new LedgerError('SERVICE_NOT_AVAILABLE', 'the storage of this replica failed')
      case 'unknown_peer':
        return new LedgerError('INVALID_PARAMETER', `${refusal.peer} is no member of the group`)
      case 'cannot_lead':
        return new LedgerError('SERVICE_NOT_AVAILABLE', `${refusal.peer} is not well enough to lead`)
      case 'change_refused':
        return new LedgerError('CHANGE_IN_PROGRESS', changeRefusals[refusal.reason])
      default:
        return unreachable(refusal)
    }
  }

  #full(reason: string): LedgerError {
    return new LedgerError('FLOW_CONTROL', reason, { retryAfterMs: this.#ports.limits.flowControlRetryMs })
  }

  /** One timer checks all deadlines while anyone waits; one timer per request would cost more than the request. */
  #sweep(): void {
    if (this.#sweeping) return
    this.#sweeping = true
    this.#ports.clock.after(
      sweepMs,
      () => {
        this.#sweeping = false
        const nowMs = this.#ports.clock.monotonicMs()
        this.#held.expire(nowMs)
        this.proposals.expire(nowMs)
        this.reads.expire(nowMs, () => new LedgerError('NO_QUORUM', 'no quorum confirmed the leader in time'))
        if (this.proposals.count + this.reads.count + this.#held.count > 0) this.#sweep()
      },
      { background: true },
    )
  }
}

/** NOT_LEADER with what is known of the leader; the address is empty until its first Hello. */
export function notLeader(view: LeaderView | null, leader: string, term: number): LedgerError {
  const address = view?.node === leader ? view.address : ''
  return new LedgerError('NOT_LEADER', `${leader} leads in term ${term}`, { leader: { node: leader, address }, term })
}

function aborted(): LedgerError {
  return new LedgerError('ABORTED', 'the caller aborted')
}

function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (!signal) return () => {}
  signal.addEventListener('abort', callback, { once: true })
  return () => signal.removeEventListener('abort', callback)
}
