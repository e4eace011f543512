/**
 * Delivers messages when they are due (RocketMQ: ScheduleMessageService, TimerMessageStore). Started by `broker.ts`
 * with the replica; works while this replica leads.
 *
 * It only proposes: apply judges every delivery, against log time and against what was delivered before, so that two
 * leaders, or one that looked too early, do no harm. It works in rounds, each of which reads the first due timers,
 * stores one batch for each of their queues, and ends before the next one begins.
 */
import { frameTypes, StoreError } from '../../../store/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { compareTimers, type TimerKey } from '../../message/extensions.ts'
import type { TimerRow } from '../apply/timer-rows.ts'
import { leftTimersMax } from '../apply/timer-take.ts'
import type { TimerTarget } from '../apply/timers.ts'
import type { ReplicaApi, StateMachineApi } from '../contract.ts'
import { throwBug } from '../handler/failure.ts'
import { CopiedBatch, type CopyLimits, copyLimits } from './copied-batch.ts'
import { type DueQueue, DueQueues, queueName } from './due-queues.ts'
import { Pauses } from './pauses.ts'
import { StoredRecords } from './stored-records.ts'
import { UnreadableEntries } from './unreadable-entries.ts'

/** Rows of one look at what is due: a queue that has many must not keep others away for long. */
const pageRows = 2048
/** Queues of one round, each with one batch: bounds what is in flight. */
const queuesPerRoundMax = 16
/** Longest sleep: log time may jump when clocks are set. */
const sleepMsMax = 100
/** Pause of all queues when nothing can be stored. */
const pauseMs = 250
const proposeTimeoutMs = 10_000

export interface TimerServiceParts {
  readonly replica: ReplicaApi
  readonly clock: Clock
  readonly logger: Logger
  /** Of one batch; less than the defaults where segments are small. */
  readonly limits?: CopyLimits
}

/** One term of this replica as the leader: after every wait it may be over. */
interface Lead {
  readonly machine: StateMachineApi
  readonly term: number
}

export class TimerService {
  readonly #replica: ReplicaApi
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #limits: CopyLimits
  readonly #pauses = new Pauses<string>()
  readonly #unreadable: UnreadableEntries
  /** Of the limits of a batch, where a whole one was too long for the log. */
  readonly #shares = new Map<string, number>()
  #cancel: Cancel = () => {}
  #removals: readonly (() => void)[] = []
  #isBusy = false
  #isClosed = false
  /** Due time that it sleeps for. */
  #plannedFor = Number.POSITIVE_INFINITY
  /** Monotonic time before which nothing is proposed. */
  #pausedUntilMs = 0

  constructor(parts: TimerServiceParts) {
    this.#replica = parts.replica
    this.#clock = parts.clock
    this.#logger = parts.logger
    this.#limits = parts.limits ?? copyLimits
    this.#unreadable = new UnreadableEntries(parts.clock, parts.logger)
  }

  start(): void {
    this.#removals = [
      this.#replica.onRoleChanged(() => this.#plan()),
      this.#replica.onApplied(() => {
        const { machine, leading } = this.#replica
        if (leading && machine.timers.pending > 0 && machine.timers.rows.notBefore < this.#plannedFor) this.#plan()
      }),
    ]
    this.#plan()
  }

  close(): void {
    this.#isClosed = true
    this.#cancel()
    for (const remove of this.#removals) remove()
  }

  /** Sleeps until the next timer is due, as far as that is known without a read. */
  #plan(): void {
    if (this.#isBusy || this.#isClosed) return
    this.#cancel()
    this.#plannedFor = Number.POSITIVE_INFINITY
    if (!this.#replica.leading) {
      // Whoever leads next finds other reasons to wait.
      this.#pauses.clear()
      this.#unreadable.clear()
      this.#shares.clear()
      this.#pausedUntilMs = 0
      return
    }
    const { timers } = this.#replica.machine
    if (timers.pending === 0) return
    this.#plannedFor = timers.rows.notBefore
    const dueMs = Math.ceil(this.#plannedFor - this.#replica.logTime)
    const waitMs = Math.max(0, Math.min(dueMs, sleepMsMax), this.#pausedUntilMs - this.#clock.monotonicMs())
    this.#cancel = this.#clock.after(waitMs, () => this.#lookSafely(), { background: true })
  }

  #lookSafely(): void {
    this.#look().catch((error: unknown) => throwBug(this.#clock, error))
  }

  async #look(): Promise<void> {
    const replica = this.#replica
    if (this.#isBusy || this.#isClosed || !replica.leading) return
    const { machine, term } = replica
    if (machine.timers.rows.notBefore > replica.logTime) {
      this.#plan()
      return
    }
    this.#isBusy = true
    const startMs = this.#clock.monotonicMs()
    try {
      const isIdle = await this.#round({ machine, term })
      // Due timers that have to wait lie before all others, and every look reads past them: not too often.
      if (isIdle && !(this.#pauses.isEmpty && this.#unreadable.isEmpty))
        this.#pause(Math.max(sleepMsMax / 2, 4 * (this.#clock.monotonicMs() - startMs)))
    } catch (error) {
      this.#onFailure(error)
    } finally {
      this.#isBusy = false
      this.#plan()
    }
  }

  /** True when there was nothing to deliver. */
  async #round(lead: Lead): Promise<boolean> {
    const due = await this.#findDue(lead)
    if (!due || !this.#leads(lead)) return true
    if (due.queues.length === 0) {
      this.#pauses.forgetOver(this.#clock.monotonicMs())
      this.#unreadable.forgetOver()
      // What is known of the next one is exact from here on.
      await lead.machine.timers.rows.first()
      return true
    }
    const records = new StoredRecords(this.#replica.log)
    const deliveries: Promise<void>[] = []
    for (const queue of due.queues.slice(0, queuesPerRoundMax)) {
      const body = await this.#build(lead, queue, due.asOf, records)
      if (!this.#leads(lead)) break
      if (body) deliveries.push(this.#deliver(queue, body))
    }
    await Promise.all(deliveries)
    return deliveries.length === 0
  }

  /** Reads on only while nothing was found that can be delivered now. */
  async #findDue(lead: Lead): Promise<DueQueues | null> {
    const { timers } = lead.machine
    const now = this.#replica.logTime
    const due = new DueQueues(this.#limits.recordsMax + leftTimersMax)
    while (true) {
      const page = await timers.rows.due(now, pageRows, due.last)
      if (!this.#leads(lead)) return null
      // Left by a deleted topic, or delivered since it was read.
      for (const { key, place } of page.rows) if (!timers.isPending(place, key)) timers.rows.discard(key)
      due.add(page, (row) => this.#isServed(lead, row))
      if (due.queues.length > 0 || page.isComplete) return due
    }
  }

  /** Null when nothing of the queue can be delivered now. */
  async #build(lead: Lead, due: DueQueue, asOf: number, records: StoredRecords): Promise<Buffer | null> {
    const topic = lead.machine.topicById(due.topicId)?.config.topic
    if (topic === undefined) return null
    const batch = new CopiedBatch(this.#limitsOf(due))
    const sources: TimerKey[] = []
    const unread: TimerKey[] = []
    for (const { key, place } of due.rows) {
      const stored = await this.#unreadable.read(records, place)
      if (!stored) unread.push(key)
      else if (batch.add(stored)) sources.push(key)
      else break
      // Apply takes no more of them.
      if (unread.length > leftTimersMax) break
    }
    const last = sources.at(-1)
    if (!last || !this.#leads(lead)) return null
    const { topicId, queue } = due
    const { timers } = lead.machine
    const left = unread.filter((key) => compareTimers(key, last) < 0 && !timers.isLeft(due, key))
    return batch.encode({ topic, queue }, { kind: 'timers', topicId, after: timers.takenAt(due), asOf, left, sources })
  }

  async #deliver(target: TimerTarget, body: Buffer): Promise<void> {
    try {
      const { result } = await this.#replica.propose(frameTypes.batch, [body], { timeoutMs: proposeTimeoutMs })
      if (result.kind !== 'refused') this.#pauses.end(queueName(target))
      // Delivered or recalled meanwhile, or the clocks went back a little: what is due then is looked up again.
      else this.#pauseQueue(target)
    } catch (error) {
      if (error instanceof LedgerError && error.code === 'MESSAGE_ILLEGAL') this.#onTooLong(target, error)
      else this.#onFailure(error)
    }
  }

  /** Nothing can be stored: deposed, without a quorum, a full disk, too much under way. */
  #onFailure(error: unknown): void {
    if (!(error instanceof LedgerError || error instanceof StoreError)) throw error
    this.#logger.debug('due messages were not delivered', { error: error.message })
    const retryAfterMs = error instanceof LedgerError ? error.facts.retryAfterMs : undefined
    this.#pause(retryAfterMs ?? pauseMs)
  }

  /** The segments of the log are smaller than a batch may be: fewer messages at a time, for the rest of the term. */
  #onTooLong(target: TimerTarget, error: LedgerError): void {
    const { recordsMax } = this.#limitsOf(target)
    this.#logger.debug('a delivery is too long', { ...named(target), recordsMax, error: error.message })
    if (recordsMax === 1) this.#pauseQueue(target)
    else this.#shares.set(queueName(target), (this.#shares.get(queueName(target)) ?? 1) / 2)
  }

  #limitsOf(target: TimerTarget): CopyLimits {
    const share = this.#shares.get(queueName(target)) ?? 1
    const { recordsMax, bytesMax } = this.#limits
    return { recordsMax: Math.max(1, Math.floor(recordsMax * share)), bytesMax: bytesMax * share }
  }

  #isServed({ machine }: Lead, { key, place }: TimerRow): boolean {
    if (this.#pauses.isPaused(queueName(place), this.#clock.monotonicMs())) return false
    return !(this.#unreadable.has(place.index) && machine.timers.isLeft(place, key))
  }

  #pauseQueue(target: TimerTarget): void {
    this.#pauses.pause(queueName(target), this.#clock.monotonicMs())
  }

  #pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#clock.monotonicMs() + ms)
  }

  #leads({ machine, term }: Lead): boolean {
    const { leading, term: now, machine: current } = this.#replica
    return !this.#isClosed && leading && now === term && current === machine
  }
}

function named({ topicId, queue }: TimerTarget): { readonly topicId: number; readonly queue: number } {
  return { topicId, queue }
}
