/**
 * The leader asks producers what became of transactions that nobody ended (RocketMQ: TransactionalMessageCheckService).
 * Made by `../handler/register.ts`, one per replica; on followers it does nothing.
 *
 * That it asks is in the log before it asks: the count of questions survives a failover, and a transaction that nobody
 * ever answers for comes to its end. Each round begins from the state, so that a new leader goes on where the old one
 * stopped. Given up means rolled back, with an event; RocketMQ moves such messages to TRANS_CHECK_MAX_TIME_TOPIC, where
 * nobody looks for them. Questions count as well when no producer of the group can be asked.
 */
import { frameTypes } from '../../../store/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import type { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { SourceRecord } from '../../message/extensions.ts'
import { transactionIdOf } from '../../message/transaction-id.ts'
import { type Command, encodeCommand } from '../apply/command.ts'
import type { Half } from '../apply/halves.ts'
import type { ApplyResult, ReplicaApi } from '../contract.ts'
import type { EventSink } from '../events.ts'
import { failureOf, throwBug } from '../handler/failure.ts'
import { byStoredBatch, dueChecks } from './due-checks.ts'
import { readHalfBatch } from './read-half.ts'
import type { TransactionSettings } from './settings.ts'
import type { TransactionWatchers } from './watchers.ts'

const roundMsMax = 1_000
const roundMsMin = 10
const proposeTimeoutMs = 10_000

interface CheckParts {
  readonly replica: ReplicaApi
  readonly clock: Clock
  readonly events: EventSink
  readonly logger: Logger
  readonly settings: TransactionSettings
  readonly watchers: TransactionWatchers
}

export class TransactionCheckService {
  readonly #parts: CheckParts
  readonly #roundMs: number
  #cancel: Cancel = () => {}
  #busy = false
  #closed = false
  /** Log time as it was last seen to move, and when: between entries it goes on at the pace of the clock. */
  #logTime = 0
  #seenMs = 0

  constructor(parts: CheckParts) {
    this.#parts = parts
    const { timeOutMs, checkIntervalMs } = parts.settings
    this.#roundMs = Math.min(roundMsMax, Math.max(roundMsMin, Math.min(timeOutMs, checkIntervalMs) / 4))
    this.#plan()
  }

  close(): void {
    this.#closed = true
    this.#cancel()
  }

  #plan(): void {
    const { clock } = this.#parts
    const next = (): void => {
      this.#round().catch((error: unknown) => throwBug(clock, error))
      this.#plan()
    }
    this.#cancel = clock.after(this.#roundMs, next, { background: true })
  }

  async #round(): Promise<void> {
    const { replica, settings } = this.#parts
    const logTime = this.#estimateLogTime()
    if (this.#busy || this.#closed || !replica.leading || replica.machine.halves.pendingCount === 0) return
    this.#busy = true
    try {
      const { ask, giveUp } = dueChecks(replica.machine.halves.pending(), logTime, settings)
      if (giveUp.length > 0) await this.#giveUp(giveUp)
      if (ask.length > 0) await this.#ask(ask)
    } catch (error) {
      // Deposed or without a quorum: whoever leads next goes on.
      this.#parts.logger.debug('transactions were not checked', { error: failureOf(error).message })
    } finally {
      this.#busy = false
    }
  }

  /** Never ahead of log time by more than the clock: what apply judges is the stamp of the entry. */
  #estimateLogTime(): number {
    const { replica, clock } = this.#parts
    const { appliedTime } = replica.machine
    const nowMs = clock.monotonicMs()
    if (appliedTime !== this.#logTime) {
      this.#logTime = appliedTime
      this.#seenMs = nowMs
    }
    return this.#logTime + (nowMs - this.#seenMs)
  }

  async #giveUp(halves: readonly Half[]): Promise<void> {
    const { replica, events } = this.#parts
    const result = await this.#propose({ kind: 'roll_back', sources: halves.map(sourceOf) })
    if (result.kind !== 'resolved') return
    const given = halves.filter((_, at) => result.outcomes[at] === 'rolled_back')
    for (const [first, ...more] of byStoredBatch(given)) {
      const topic = replica.machine.topicById(first.topicId)?.config.topic ?? null
      const { producerGroup, queue, checks } = first
      const transactionId = transactionIdOf(first, replica.group)
      const details = { producerGroup, topic, queue, transactionId, checks, count: 1 + more.length }
      events.emit('transactions_given_up', replica.term, details)
    }
  }

  async #ask(halves: readonly Half[]): Promise<void> {
    const { replica, settings } = this.#parts
    const { term } = replica
    const sources = halves.map(sourceOf)
    const result = await this.#propose({ kind: 'note_checks', intervalMs: settings.checkIntervalMs, sources })
    if (result.kind !== 'checked') return
    const counted = halves.filter((_, at) => (result.checks[at] ?? 0) > 0)
    for (const group of byStoredBatch(counted)) {
      if (this.#closed || !replica.leading || replica.term !== term) return
      await this.#askAbout(group)
    }
  }

  async #askAbout(halves: readonly [Half, ...Half[]]): Promise<void> {
    const { replica, watchers, logger } = this.#parts
    const { producerGroup, queue, topicId } = halves[0]
    const watcher = watchers.next(producerGroup)
    const topic = replica.machine.topicById(topicId)?.config.topic
    if (!watcher || topic === undefined) {
      logger.debug('no producer can be asked', { producerGroup, transactions: halves.length })
      return
    }
    const batch = await this.#read(halves[0])
    if (!batch) return
    const open = halves.flatMap((half) => {
      const now = replica.machine.halves.find(half)
      const name = { transactionId: transactionIdOf(half, replica.group), record: half.atRecord }
      return now ? [{ ...name, checks: now.checks }] : []
    })
    if (open.length > 0) watcher.ask({ topic, queue, transactions: open, batch })
  }

  /** One that cannot be read must not keep the others from being asked about. */
  async #read(half: Half): Promise<Buffer | null> {
    try {
      return await readHalfBatch(this.#parts.replica, half)
    } catch (error) {
      const { code, message }: LedgerError = failureOf(error)
      this.#parts.logger.warn('a half message cannot be read', { index: half.atIndex, code, error: message })
      return null
    }
  }

  async #propose(command: Command): Promise<ApplyResult> {
    const { replica } = this.#parts
    const body = [encodeCommand(command)]
    return (await replica.propose(frameTypes.command, body, { timeoutMs: proposeTimeoutMs })).result
  }
}

function sourceOf({ index, record }: Half): SourceRecord {
  return { index, record }
}
