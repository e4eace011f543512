/**
 * Brings one batch to an end: attempts, retries, hints, failover, until it is stored, refused for good, or its time is
 * up. A state machine driven by answers, timers and route changes; `send-rules.ts` decides, this file does.
 *
 * Made by the topic sender, one at a time per queue. The bytes are encoded once per queue and never changed. Answers to
 * abandoned attempts are still listened to: a late "stored" settles the batch.
 */
import type { Cancel, Clock, Random } from '../../common/clock.ts'
import { type ErrorCode, LedgerError } from '../../common/errors.ts'
import { encodeBatch } from '../../message/batch.ts'
import { batchKinds, codecs } from '../../message/types.ts'
import type { ProduceReply } from '../../rpc/envelopes.ts'
import type { BrokerNode } from '../../rpc/methods.ts'
import { fromWireStatus } from '../../rpc/status.ts'
import type { ConnectionPool, ProduceAttempt } from '../connection.ts'
import type { FaultReport } from '../fault-strategy.ts'
import type { Outcome } from '../request-stream.ts'
import type { RouteCache } from '../route-cache.ts'
import type { LeaderChange } from '../route-table.ts'
import { backoffMs } from '../wait.ts'
import type { Unit } from './accumulator.ts'
import type { Lane } from './lane.ts'
import { type SendItem, settle } from './send-item.ts'
import { finalCode, hintHopsMax, judge, leaderSearchBackoffMs } from './send-rules.ts'

/** Lines kept for `attempts` of an error. */
export const attemptLinesMax = 50
/** New producer ids tried for one batch. */
export const renewalsMax = 3

/** What the topic sender offers to and hears from its batches. */
export interface BatchOwner {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly attemptsPlanned: number
  readonly attemptTimeoutMsMin: number
  report(group: string, fault: FaultReport): void
  /** Another idle queue outside this group, now busy for the caller; null when there is none to prefer. */
  moveFrom(lane: Lane): Lane | null
  canMove(lane: Lane): boolean
  /** Not stored, and the topic is unknown there: the owner takes the messages back. */
  topicUnknown(lane: Lane, items: Unit, pinned: boolean): boolean
  /** Nothing was heard for a while, or something again (null). */
  stalled(lane: Lane, startedMs: number, reason: LedgerError | null): void
  /** The batch is over and its queue free. */
  finished(sender: BatchSender): void
}

/** No new attempt is begun with less time left than this. */
export const lastAttemptMsMin = 100
/** An unfinished batch is reported after this long. */
export const stallReportMs = 1_000

interface Attempt {
  readonly number: number
  readonly target: BrokerNode
  readonly lane: Lane
}

export class BatchSender {
  readonly #owner: BatchOwner
  readonly #pinned: boolean
  readonly #startedMs: number
  readonly #attempts: string[] = []
  /** Requests that may still be answered. */
  readonly #forget: (() => void)[] = []
  /** Addresses that failed since the last news about the leader. */
  readonly #failed = new Set<string>()
  #items: readonly SendItem[]
  #lane: Lane
  #bytes: Buffer
  #target: BrokerNode | null = null
  /** The newest attempt, to `#target`. */
  #current: ProduceAttempt | null = null
  #attempt = 0
  #sent = 0
  #silences = 0
  #hops = 0
  #rounds = 0
  #renewals = 0
  /** The next send follows a hint and is not counted. */
  #jump = false
  #tainted = false
  #lastError: LedgerError | null = null
  #stallReported = false
  #attemptStartedMs = 0
  #cancelTimer: Cancel = () => {}
  #cancelDeadline: Cancel = () => {}
  #over = false

  constructor(owner: BatchOwner, lane: Lane, items: readonly SendItem[], pinned: boolean) {
    this.#owner = owner
    this.#lane = lane
    this.#items = items
    this.#pinned = pinned
    this.#startedMs = owner.clock.monotonicMs()
    this.#bytes = this.#encode()
  }

  get lane(): Lane {
    return this.#lane
  }

  get items(): readonly SendItem[] {
    return this.#items
  }

  start(): void {
    this.#armDeadline()
    this.#send(null)
  }

  /** A pushed route or a hint: what is in flight to an older leader is sent again at once. */
  onLeaderChanged(change: LeaderChange): void {
    if (this.#over || change.group !== this.#lane.queue.group || !change.to) return
    this.#failed.clear()
    this.#rounds = 0
    if (this.#target?.address === change.to.address) return
    if (this.#target && !this.#takeBack()) this.#taint(`${this.#target.address}: leader changed to ${change.to.node}`)
    this.#send(null)
  }

  /** The client closes: nothing more is tried. */
  abandon(error: LedgerError): void {
    if (this.#over) return
    this.#takeBack()
    this.#failItems(this.#tainted || this.#target ? this.#unknown(error) : error)
    this.#finish()
  }

  /** An aborted or expired message is answered already; a batch of none is not worth another attempt. */
  onItemSettled(): void {
    if (!this.#over && this.items.every((item) => item.done === null)) this.#finish()
  }

  #encode(): Buffer {
    const base = this.items[0]?.bornTime ?? 0
    const range = this.#lane.takeSequences(this.items.length)
    const { topic, queue } = this.#lane.queue
    return encodeBatch({
      codec: codecs.none,
      kind: batchKinds.normal,
      firstOfProducer: range.firstOfProducer,
      producerId: range.producerId,
      producerEpoch: 0,
      baseSequence: range.baseSequence,
      baseBornTime: base,
      topic,
      queue,
      bornHost: '',
      extensions: [],
      records: this.items.map((item) =>
        item.bornTime === base ? item.record : { ...item.record, bornDelta: item.bornTime - base },
      ),
    })
  }

  /** One attempt. `hint`: where a refusal sent us. */
  #send(hint: BrokerNode | null): void {
    this.#cancelTimer()
    const { clock, routes, pool } = this.#owner
    const target = hint ?? this.#pickTarget()
    this.#target = target
    // Too late for an answer: an attempt now could only turn "not stored" into "unknown".
    if (this.#sent > 0 && this.#deadlineMs() - clock.monotonicMs() < lastAttemptMsMin) {
      this.#target = null
      return
    }
    if (!target) {
      routes.refresh()
      this.#pause(backoffMs(this.#rounds++, leaderSearchBackoffMs, this.#owner.random.next()))
      return
    }
    const attempt = ++this.#attempt
    if (!this.#jump) this.#sent++
    this.#jump = false
    this.#attemptStartedMs = clock.monotonicMs()
    const timeoutMs = this.#attemptTimeoutMs()
    const lane = this.#lane
    const current = pool.get(target.address).produce(lane.queue.group, this.#bytes, timeoutMs, (outcome) => {
      this.#onOutcome({ number: attempt, target, lane }, outcome)
    })
    this.#current = current
    this.#forget.push(() => current.forget())
    this.#cancelTimer = clock.after(timeoutMs, () => this.#onSilence(target))
  }

  /** The leader, unless it just failed; then the other replicas in turn; null: all failed, pause. */
  #pickTarget(): BrokerNode | null {
    const route = this.#owner.routes.table.group(this.#lane.queue.group)
    if (!route) return null
    if (route.leader && !this.#failed.has(route.leader.address)) return route.leader
    const next = route.nodes.find((node) => !this.#failed.has(node.address))
    if (next) return next
    this.#failed.clear()
    return null
  }

  /** Leaves time for the attempts after this one, so that one dead leader does not use up everything. */
  #attemptTimeoutMs(): number {
    const { clock, attemptsPlanned, attemptTimeoutMsMin } = this.#owner
    const remainingMs = Math.max(1, this.#deadlineMs() - clock.monotonicMs())
    const attemptsLeft = Math.max(1, attemptsPlanned - this.#silences)
    return Math.min(remainingMs, Math.max(attemptTimeoutMsMin, remainingMs / attemptsLeft))
  }

  #onOutcome(attempt: Attempt, outcome: Outcome<ProduceReply>): void {
    if (this.#over) return
    const { number, target, lane } = attempt
    if (outcome.kind === 'reply' && outcome.reply.code === 0) {
      if (number === this.#attempt) this.#reportLatency()
      this.#onStored(target, lane, outcome.reply)
      return
    }
    // An older attempt was taken as unknown already; its refusal or its end says nothing new.
    if (number !== this.#attempt || this.#target !== target) return
    const error =
      outcome.kind === 'failed'
        ? outcome.error
        : outcome.reply.status
          ? fromWireStatus({ ...outcome.reply.status, code: outcome.reply.code })
          : fromWireStatus({ code: outcome.reply.code, message: 'the broker refused the batch', hint: '' })
    this.#onRefused(target, error, outcome.kind === 'reply' || outcome.sent)
  }

  /** `lane`: where it was sent, which without sequences may be another queue than the one it went to since. */
  #onStored(target: BrokerNode, lane: Lane, reply: ProduceReply): void {
    lane.acknowledged()
    const attempts = Math.max(1, this.#sent)
    for (const [position, item] of this.items.entries()) {
      if (item.done === null) continue
      settle(item, null, {
        status: 'SEND_OK',
        messageId: item.record.messageId,
        queue: lane.queue,
        offset: reply.baseOffset + position,
        index: reply.index,
        term: reply.term,
        attempts,
        duplicate: reply.duplicate,
      })
    }
    this.#finish()
    if (!reply.duplicate) this.#owner.routes.learnLeader(lane.queue.group, reply.term, target)
  }

  #reportLatency(): void {
    const latencyMs = this.#owner.clock.monotonicMs() - this.#attemptStartedMs
    this.#owner.report(this.#lane.queue.group, { latencyMs, isolation: false, reachable: true })
  }

  #onSilence(target: BrokerNode): void {
    this.#silences++
    const waitedMs = Math.round(this.#owner.clock.monotonicMs() - this.#attemptStartedMs)
    if (this.#takeBack()) {
      const text = `no connection to ${target.address} within ${waitedMs} ms`
      this.#onRefused(target, new LedgerError('UNAVAILABLE', text), false)
      return
    }
    this.#fault()
    const text = `no answer from ${target.address} within ${waitedMs} ms`
    this.#lastError = new LedgerError('DEADLINE_EXCEEDED', text)
    this.#taint(`${target.address}: ${text}`)
    this.#nextReplica(target)
  }

  /** True when the attempt under way never left this process: it ends here, and nothing is unknown because of it. */
  #takeBack(): boolean {
    if (!this.#target || !this.#current?.withdraw()) return false
    this.#target = null
    this.#cancelTimer()
    return true
  }

  #onRefused(target: BrokerNode, error: LedgerError, sent: boolean): void {
    this.#cancelTimer()
    this.#target = null
    this.#lastError = error
    this.#note(`${target.address}: ${error.code} ${error.message}`)
    this.#reportStall(error)
    const verdict = judge(error, sent, {
      tainted: this.#tainted,
      idempotent: this.#lane.idempotent,
      pinned: this.#pinned,
      elsewhere: this.#owner.canMove(this.#lane),
      // A hint back to where we just failed is no news.
      hops: this.#failed.has(error.facts.leader?.address ?? '') ? hintHopsMax : this.#hops,
    })
    if (verdict.kind !== 'follow') this.#hops = 0
    switch (verdict.kind) {
      case 'follow':
        this.#follow(target, error)
        return
      case 'next_replica':
        if (verdict.taints) this.#taint('')
        if (error.code !== 'ROLLED_BACK') this.#fault(sent && error.code !== 'UNAVAILABLE')
        this.#nextReplica(target)
        return
      case 'wait':
        this.#pause(verdict.ms)
        return
      case 'move':
        if (verdict.taints) this.#taint('')
        this.#fault(sent && error.code !== 'UNAVAILABLE')
        this.#move(target)
        return
      case 'renew':
        this.#renew(error)
        return
      case 'topic_unknown':
        if (this.#owner.topicUnknown(this.#lane, this.items, this.#pinned)) {
          this.#finish()
          return
        }
        this.#fail(error)
        return
      case 'fail':
        this.#fail(error)
        return
    }
  }

  #follow(target: BrokerNode, error: LedgerError): void {
    const { leader, term } = error.facts
    if (!leader) {
      this.#nextReplica(target)
      return
    }
    this.#hops++
    this.#failed.add(target.address)
    const { routes } = this.#owner
    const attemptBefore = this.#attempt
    this.#jump = true
    if (term !== undefined) routes.learnLeader(this.#lane.queue.group, term, leader)
    // Learning a leader tells every batch of the group, this one too: it may be on its way already.
    if (this.#attempt === attemptBefore && !this.#over) this.#send(leader)
  }

  #nextReplica(failed: BrokerNode): void {
    this.#failed.add(failed.address)
    this.#owner.routes.refresh()
    this.#send(null)
  }

  #move(target: BrokerNode): void {
    const lane = this.#owner.moveFrom(this.#lane)
    if (!lane) {
      this.#nextReplica(target)
      return
    }
    // What taints it stays: without sequences it may move although a copy of it may be stored.
    this.#lane = lane
    this.#failed.clear()
    this.#rounds = 0
    this.#bytes = this.#encode()
    this.#send(null)
  }

  #renew(error: LedgerError): void {
    if (++this.#renewals > renewalsMax) {
      this.#fail(error)
      return
    }
    this.#lane.renew(this.#owner.random)
    this.#bytes = this.#encode()
    this.#send(null)
  }

  #pause(ms: number): void {
    this.#target = null
    this.#cancelTimer = this.#owner.clock.after(ms, () => this.#send(null))
  }

  #taint(note: string): void {
    this.#tainted = true
    if (note) this.#note(note)
    if (this.#lastError) this.#reportStall(this.#lastError)
  }

  #note(line: string): void {
    if (this.#attempts.length < attemptLinesMax) this.#attempts.push(line)
  }

  #fault(reachable = false): void {
    const latencyMs = this.#owner.clock.monotonicMs() - this.#attemptStartedMs
    this.#owner.report(this.#lane.queue.group, { latencyMs, isolation: true, reachable })
  }

  #reportStall(reason: LedgerError): void {
    if (this.#owner.clock.monotonicMs() - this.#startedMs < stallReportMs) return
    this.#stallReported = true
    this.#owner.stalled(this.#lane, this.#startedMs, reason)
  }

  /** Each message has its own deadline; the batch goes on for the latest of them. */
  #deadlineMs(): number {
    let latestMs = 0
    for (const item of this.items) if (item.done && item.deadlineMs > latestMs) latestMs = item.deadlineMs
    return latestMs
  }

  #armDeadline(): void {
    const { clock } = this.#owner
    let earliestMs = Number.POSITIVE_INFINITY
    for (const item of this.items) if (item.done && item.deadlineMs < earliestMs) earliestMs = item.deadlineMs
    // Messages of one batch were sent close together: a coarse step answers neighbours at once.
    const waitMs = Math.max(10, earliestMs - clock.monotonicMs())
    this.#cancelDeadline = clock.after(waitMs, () => this.#onDeadline())
  }

  #onDeadline(): void {
    const nowMs = this.#owner.clock.monotonicMs()
    const isTakenBack = this.#takeBack()
    const error = this.#timeoutError()
    const isDefinite = error.stored === 'no'
    for (const item of this.items) if (item.done && item.deadlineMs <= nowMs) settle(item, error, null)
    if (this.#over) return
    const left = this.items.filter((item) => item.done)
    if (left.length === 0) {
      this.#finish()
      return
    }
    // Its sender was told "not stored", so the batch must not take it along to a later attempt (P3).
    if (isDefinite) this.#leaveOutSettled(left)
    this.#armDeadline()
    if (isTakenBack) this.#send(null)
  }

  /** Only while no attempt may have been stored: the batch becomes another one, under a sequence of its own. */
  #leaveOutSettled(left: readonly SendItem[]): void {
    this.#items = left
    this.#bytes = this.#encode()
  }

  #timeoutError(): LedgerError {
    const inFlight = this.#target !== null
    const tainted = this.#tainted || inFlight
    const last: ErrorCode | null = this.#lastError?.code ?? null
    const code = finalCode({ tainted, last })
    const { topic, group, queue } = this.#lane.queue
    const tookMs = Math.round(this.#owner.clock.monotonicMs() - this.#startedMs)
    const reason = this.#lastError ? `: ${this.#lastError.message}` : ''
    const outcome = tainted ? 'it is not known whether the message is stored' : 'the message is not stored'
    const text = `${outcome} in ${topic}/${group}/${queue} after ${tookMs} ms and ${this.#sent} attempts${reason}`
    return new LedgerError(code, text, { attempts: this.#attempts }, { cause: this.#lastError })
  }

  #fail(error: LedgerError): void {
    const facts = { ...error.facts, attempts: this.#attempts }
    const definite = new LedgerError(error.code, error.message, facts, { cause: error })
    this.#failItems(this.#tainted ? this.#unknown(error) : definite)
    this.#finish()
  }

  #unknown(error: LedgerError): LedgerError {
    const text = `it is not known whether the message is stored: ${error.message}`
    return new LedgerError('OUTCOME_UNKNOWN', text, { attempts: this.#attempts }, { cause: error })
  }

  #failItems(error: LedgerError): void {
    for (const item of this.items) if (item.done) settle(item, error, null)
  }

  #finish(): void {
    if (this.#over) return
    this.#over = true
    this.#target = null
    this.#cancelTimer()
    this.#cancelDeadline()
    for (const forget of this.#forget) forget()
    if (this.#stallReported) this.#owner.stalled(this.#lane, this.#startedMs, null)
    this.#owner.finished(this)
  }
}
