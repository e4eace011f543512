/**
 * Sends messages that become visible with a local transaction (RocketMQ: TransactionMQProducer). Made by
 * `client.transactionProducer()`.
 *
 * The half message is stored first, then the local transaction runs, then the broker group is told. When that does not
 * get through, or this process dies in between, the broker group asks a producer of the group, and `check` answers.
 */
import { sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName, checkTopicName } from '../../message/names.ts'
import type { Message } from '../../message/types.ts'
import { checkFunction, checkList } from '../arguments.ts'
import { checkCount } from '../options.ts'
import type { SendOptions } from '../types.ts'
import { halfForm } from './batch-form.ts'
import { checkDecision, endTransaction } from './end-transaction.ts'
import { Producer, type ProducerPorts } from './producer.ts'
import { TransactionChecks } from './transaction-checks.ts'
import type {
  LocalTransaction,
  OpenTransaction,
  TransactionDecision,
  TransactionProducerOptions,
  TransactionResult,
} from './transaction-types.ts'
import { TransactionWatch } from './transaction-watch.ts'

export interface TransactionProducerPorts extends Omit<ProducerPorts, 'onClosed' | 'form'> {
  readonly onClosed: (producer: TransactionProducer) => void
}

/** Sends messages with transactions. Safe to share; one per producer group and process is enough. */
export class TransactionProducer {
  readonly #ports: TransactionProducerPorts
  readonly #group: string
  readonly #clientId: string
  readonly #endTimeoutMs: number
  readonly #producer: Producer
  readonly #checks: TransactionChecks
  /** By broker group. */
  readonly #watches = new Map<string, TransactionWatch>()
  /** Null: of every topic. */
  readonly #topics: Set<string> | null
  readonly #executing = new Set<string>()
  readonly #open = new Set<Promise<unknown>>()
  readonly #ending = new AbortController()
  readonly #stopListening: () => void
  #closing: Promise<void> | null = null

  constructor(ports: TransactionProducerPorts, options: TransactionProducerOptions) {
    checkOptions(options)
    const { group, check, topics } = options
    const { clock, logger, status } = ports
    this.#ports = ports
    this.#group = group
    this.#clientId = ports.random.bytes(8).toString('hex')
    this.#endTimeoutMs = checkCount('endTimeoutMs', options.endTimeoutMs ?? 10_000, 1, 86_400_000)
    this.#checks = new TransactionChecks({
      clock,
      logger,
      status,
      check,
      checkTimeoutMs: checkCount('checkTimeoutMs', options.checkTimeoutMs ?? 10_000, 1, 86_400_000),
      checksMax: checkCount('checksMax', options.checksMax ?? 64, 1, 10_000),
      isExecuting: (transactionId) => this.#executing.has(transactionId),
      end: (message, decision) => this.#end(message, decision, true),
    })
    this.#producer = new Producer(
      { ...ports, onClosed: () => {}, form: halfForm(group) },
      // Half messages are told apart by where they are stored: twice would be two transactions.
      { ...options, idempotent: true },
    )
    this.#topics = topics ? new Set(topics) : null
    this.#stopListening = ports.routes.listen({ onRouteChanged: () => this.#watchGroups() })
    for (const topic of topics ?? []) ports.routes.want(topic)
    this.#watchGroups()
  }

  /**
   * Stores the message where nobody sees it, runs `execute`, and commits or rolls back as it decides. Rejects as `send`
   * does when the message is not stored, or not known to be; then `execute` did not run. `signal` and `timeoutMs` count
   * for the storing.
   */
  async sendInTransaction(
    message: Message,
    execute: LocalTransaction,
    options: SendOptions = {},
  ): Promise<TransactionResult> {
    checkFunction('INVALID_PARAMETER', 'execute', execute)
    if (this.#closing) throw new LedgerError('CLOSED', 'the producer is closed')
    const run = this.#run(message, execute, options)
    this.#open.add(run)
    try {
      return await run
    } finally {
      this.#open.delete(run)
    }
  }

  /**
   * Waits for running transactions, at most for `endTimeoutMs`, then closes. Those that are not ended by then are left
   * to the checks of other producers of the group. A second call waits for the same end.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    const { clock, onClosed } = this.#ports
    const limit = new AbortController()
    const timeout = sleep(clock, this.#endTimeoutMs, limit.signal).catch(() => {})
    await Promise.race([Promise.allSettled(this.#open), timeout])
    limit.abort()
    this.#checks.close()
    this.#stopListening()
    for (const watch of this.#watches.values()) watch.close()
    this.#ending.abort(new LedgerError('CLOSED', 'the producer was closed'))
    await this.#producer.close()
    onClosed(this)
  }

  async #run(message: Message, execute: LocalTransaction, options: SendOptions): Promise<TransactionResult> {
    const { messageId, queue, transactionId = '' } = await this.#producer.send(message, options)
    if (this.#topics && !this.#topics.has(queue.topic)) {
      this.#topics.add(queue.topic)
      this.#watchGroups()
    }
    const transaction: OpenTransaction = { messageId, transactionId, queue }
    // Its own producer is not asked while it is busy with it: what `check` finds is not decided yet.
    this.#executing.add(transactionId)
    try {
      const decision = checkDecision('the local transaction', await execute(transaction))
      return { ...transaction, ...(await this.#end(transaction, decision, false)) }
    } catch (cause) {
      const error = cause instanceof Error ? cause : new Error('the local transaction failed', { cause })
      return { ...transaction, state: 'unknown', error }
    } finally {
      this.#executing.delete(transactionId)
    }
  }

  async #end(
    { transactionId, queue }: OpenTransaction,
    decision: TransactionDecision,
    fromCheck: boolean,
  ): Promise<Pick<TransactionResult, 'state' | 'error'>> {
    if (decision === 'unknown') return { state: 'unknown', error: null }
    const ending = { producerGroup: this.#group, brokerGroup: queue.group, transactionId, decision, fromCheck }
    return await endTransaction(this.#ports, ending, { timeoutMs: this.#endTimeoutMs, signal: this.#ending.signal })
  }

  #watchGroups(): void {
    if (this.#closing) return
    for (const brokerGroup of this.#brokerGroups()) {
      if (this.#watches.has(brokerGroup)) continue
      const request = { producerGroup: this.#group, clientId: this.#clientId }
      const watch = new TransactionWatch(this.#ports, {
        brokerGroup,
        request,
        onQuestion: (question) => this.#checks.onQuestion(brokerGroup, question),
      })
      this.#watches.set(brokerGroup, watch)
    }
  }

  #brokerGroups(): readonly string[] {
    const { table } = this.#ports.routes
    if (!this.#topics) return table.groups().map(({ group }) => group)
    return [...this.#topics].flatMap((topic) => (table.topic(topic) ?? []).map(({ group }) => group))
  }
}

function checkOptions({ group, check, topics }: TransactionProducerOptions): void {
  checkGroupName(group)
  checkFunction('CONFIG_INVALID', 'check', check)
  if (topics === undefined) return
  checkList('CONFIG_INVALID', 'topics', topics)
  for (const topic of topics) checkTopicName(topic)
}
