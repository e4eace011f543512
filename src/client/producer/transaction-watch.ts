/**
 * One stream to the leader of one broker group, over which it asks what became of transactions. Owned by the
 * transaction producer, one per broker group. It follows the leader, and is opened again after a pause when it breaks;
 * never decides anything about a transaction.
 */
import type { Cancel, Clock, Random } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { TransactionQuestion, WatchTransactionsRequest } from '../../rpc/transaction-messages.ts'
import type { Channel, StreamSink } from '../../rpc/transport.ts'
import type { ConnectionPool } from '../connection.ts'
import type { RouteCache } from '../route-cache.ts'
import type { StatusHub } from '../status-hub.ts'
import { backoffMs } from '../wait.ts'

const reopenBackoffMs = { min: 50, max: 2_000 } as const
/** A stream that lives so long works: nothing on it says so before the first question. */
const provenMs = 3_000
/** Streams that broke in a row before it is told. */
const failuresUntold = 8

export interface WatchPorts {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly status: StatusHub
}

export interface WatchOptions {
  readonly brokerGroup: string
  readonly request: WatchTransactionsRequest
  readonly onQuestion: (question: TransactionQuestion) => void
}

export class TransactionWatch {
  readonly #ports: WatchPorts
  readonly #options: WatchOptions
  readonly #removeListener: () => void
  #channel: Channel | null = null
  #sink: StreamSink<WatchTransactionsRequest> | null = null
  #cancelTimer: Cancel = () => {}
  #failures = 0
  #failingSinceMs = 0
  #stallTold = false
  #closed = false

  constructor(ports: WatchPorts, options: WatchOptions) {
    this.#ports = ports
    this.#options = options
    this.#removeListener = ports.routes.listen({
      onLeaderChanged: ({ group, to }) => {
        if (group === options.brokerGroup && to && to.address !== this.#channel?.address) this.#open()
      },
    })
    this.#open()
  }

  close(): void {
    this.#closed = true
    this.#removeListener()
    this.#leave()
  }

  #open(): void {
    this.#leave()
    const leader = this.#ports.routes.table.group(this.#options.brokerGroup)?.leader
    // Without a leader the next change of the route opens it.
    if (!leader || this.#closed || this.#ports.pool.closed.aborted) return
    const channel = this.#ports.pool.openChannel(leader.address)
    const sink = channel.open(brokerMethods.watchTransactions, {
      onMessage: (question) => {
        if (this.#channel !== channel) return
        this.#proven()
        this.#options.onQuestion(question)
      },
      onClosed: (error) => {
        if (this.#channel === channel) this.#onBroken(error)
      },
    })
    this.#channel = channel
    this.#sink = sink
    sink.write(this.#options.request)
    this.#cancelTimer = this.#ports.clock.after(provenMs, () => this.#proven(), { background: true })
  }

  /** Whatever the stream still says is not heard any more. */
  #leave(): void {
    this.#cancelTimer()
    const { channel, sink } = { channel: this.#channel, sink: this.#sink }
    this.#channel = null
    this.#sink = null
    sink?.cancel()
    channel?.close()
  }

  #onBroken(error: LedgerError | undefined): void {
    const { clock, random, routes } = this.#ports
    const reason = error ?? new LedgerError('UNAVAILABLE', 'the broker ended the stream')
    const { brokerGroup } = this.#options
    this.#leave()
    if (this.#closed) return
    if (this.#failures === 0) this.#failingSinceMs = clock.monotonicMs()
    const waitMs = backoffMs(this.#failures++, reopenBackoffMs, random.next())
    this.#tellStall(reason)
    this.#cancelTimer = clock.after(waitMs, () => this.#open(), { background: true })
    routes.refresh()
    const { leader, term } = reason.facts
    // Tells the listener above, which may open it at once.
    if (reason.code === 'NOT_LEADER' && leader && term !== undefined) routes.learnLeader(brokerGroup, term, leader)
  }

  #tellStall(reason: LedgerError): void {
    if (this.#stallTold || this.#failures < failuresUntold) return
    this.#stallTold = true
    const sinceMs = this.#ports.clock.monotonicMs() - this.#failingSinceMs
    this.#ports.status.emit({ kind: 'stalled', what: 'producer', where: this.#where, sinceMs, reason })
  }

  #proven(): void {
    this.#failures = 0
    if (!this.#stallTold) return
    this.#stallTold = false
    this.#ports.status.emit({ kind: 'resumed', what: 'producer', where: this.#where })
  }

  get #where(): string {
    return `transactions of ${this.#options.request.producerGroup} on ${this.#options.brokerGroup}`
  }
}
