/**
 * Answers the questions of broker groups with the user's `check`. Owned by the transaction producer. Bounded: so many
 * checks run, so many wait; what does not fit is dropped, because it is asked again.
 *
 * What the check throws, or does not say in time, is `unknown` and told as a status; it never stops the others.
 */
import type { Clock } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { checkBatch, readRecords } from '../../message/batch.ts'
import type { TransactionQuestion } from '../../rpc/transaction-messages.ts'
import type { StatusHub } from '../status-hub.ts'
import { delay } from '../wait.ts'
import { checkDecision } from './end-transaction.ts'
import type { CheckedMessage, TransactionCheck, TransactionDecision, TransactionResult } from './transaction-types.ts'

/** Questions that wait for a check to end. */
const waitingMax = 4096

export interface TransactionChecksOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly status: StatusHub
  readonly check: TransactionCheck
  readonly checkTimeoutMs: number
  readonly checksMax: number
  /** True: its local transaction runs here now, and decides by itself. */
  readonly isExecuting: (transactionId: string) => boolean
  readonly end: (
    message: CheckedMessage,
    decision: 'commit' | 'rollback',
  ) => Promise<Pick<TransactionResult, 'state' | 'error'>>
}

export class TransactionChecks {
  readonly #options: TransactionChecksOptions
  readonly #waiting: CheckedMessage[] = []
  /** Asked again while it runs or waits: once is enough. */
  readonly #known = new Set<string>()
  #running = 0
  #closed = false

  constructor(options: TransactionChecksOptions) {
    this.#options = options
  }

  onQuestion(brokerGroup: string, question: TransactionQuestion): void {
    for (const message of this.#read(brokerGroup, question)) {
      if (this.#known.has(message.transactionId)) continue
      if (this.#waiting.length >= waitingMax) {
        const { transactionId } = message
        this.#options.logger.warn('too many transactions to check, one is left to the next round', { transactionId })
        continue
      }
      this.#known.add(message.transactionId)
      this.#waiting.push(message)
    }
    this.#startNext()
  }

  close(): void {
    this.#closed = true
    this.#waiting.length = 0
  }

  #read(brokerGroup: string, { topic, queue, transactions, batch }: TransactionQuestion): readonly CheckedMessage[] {
    try {
      const { baseBornTime } = checkBatch(batch)
      const records = readRecords(batch)
      return transactions.flatMap(({ transactionId, record: number, checks }) => {
        const record = records[number]
        if (!record) return []
        const { messageId, body, tag, keys, properties, bornDelta } = record
        const place = { transactionId, messageId, topic, queue: { topic, group: brokerGroup, queue } }
        return [{ ...place, body, tag, keys, properties, bornTime: baseBornTime + bornDelta, checks }]
      })
    } catch (cause) {
      this.#options.logger.warn('a question about transactions cannot be read', { error: toLedgerError(cause).message })
      return []
    }
  }

  #startNext(): void {
    while (!this.#closed && this.#running < this.#options.checksMax) {
      const message = this.#waiting.shift()
      if (!message) return
      this.#running++
      void this.#answer(message).finally(() => {
        this.#running--
        this.#known.delete(message.transactionId)
        this.#startNext()
      })
    }
  }

  /** Never rejects. */
  async #answer(message: CheckedMessage): Promise<void> {
    if (this.#options.isExecuting(message.transactionId)) return
    try {
      const decision = await this.#decide(message)
      if (decision === 'unknown' || this.#closed) return
      const { error } = await this.#options.end(message, decision)
      if (error && !this.#closed) throw error
    } catch (cause) {
      const { queue, messageId, transactionId } = message
      const reason = toLedgerError(cause)
      this.#options.status.emit({ kind: 'transactionCheckFailed', queue, messageId, transactionId, reason })
      this.#options.logger.warn('a transaction was not resolved', { transactionId, error: reason.message })
    }
  }

  async #decide(message: CheckedMessage): Promise<TransactionDecision> {
    const { clock, check, checkTimeoutMs } = this.#options
    const limit = delay(clock, checkTimeoutMs)
    const late = limit.promise.then(() => {
      throw new LedgerError('TIMEOUT', `the check of a transaction did not answer within ${checkTimeoutMs} ms`)
    })
    // When the check is quicker, nobody waits for this one.
    late.catch(() => {})
    try {
      // In a promise of its own: a check that throws at once is one that throws.
      const decision = Promise.resolve().then(() => check(message))
      return checkDecision('check', await Promise.race([decision, late]))
    } finally {
      limit.cancel()
    }
  }
}
