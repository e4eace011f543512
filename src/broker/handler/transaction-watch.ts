/**
 * WatchTransactions: a producer that can be asked what became of its group's transactions. Registered by `register.ts`;
 * the leader alone takes it, since the leader alone asks.
 *
 * A stream that is not read is not asked, and is broken when that lasts; one at a replica that loses leadership is
 * broken with NOT_LEADER, so that the producer goes to the new one.
 */
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName } from '../../message/names.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { TransactionQuestion, WatchTransactionsRequest } from '../../rpc/transaction-messages.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'
import type { TransactionWatcher, TransactionWatchers } from '../transactions/watchers.ts'
import type { HandlerContext } from './context.ts'
import { failureOf } from './failure.ts'
import { notLeader } from './leadership.ts'
import { UnreadGuard } from './unread-guard.ts'

const clientIdLengthMax = 255

/** The streams are cut by `close`, and by the loss of leadership. */
export function registerTransactionWatch(
  routes: ServerRoutes,
  context: HandlerContext,
  watchers: TransactionWatchers,
): { close(): void } {
  const { replica } = context
  routes.stream(brokerMethods.watchTransactions, (sink): StreamHandlers<WatchTransactionsRequest> => {
    const stream = new WatchStream(sink, context, watchers)
    return {
      onMessage: (request) => stream.start(request),
      onDrain: () => stream.onDrain(),
      onClosed: (error) => {
        stream.stop()
        if (error === undefined) sink.end()
      },
    }
  })
  const unsubscribe = replica.onRoleChanged(() => {
    if (!replica.leading) watchers.cutAll(notLeader(replica))
  })
  return {
    close: () => {
      unsubscribe()
      watchers.cutAll(new LedgerError('UNAVAILABLE', 'this node stops'))
    },
  }
}

class WatchStream implements TransactionWatcher {
  readonly #sink: StreamSink<TransactionQuestion>
  readonly #context: HandlerContext
  readonly #watchers: TransactionWatchers
  readonly #guard: UnreadGuard<TransactionQuestion>
  /** Null until the stream said for whom it watches. */
  #producerGroup: string | null = null
  #stopped = false

  constructor(sink: StreamSink<TransactionQuestion>, context: HandlerContext, watchers: TransactionWatchers) {
    this.#sink = sink
    this.#context = context
    this.#watchers = watchers
    this.#guard = new UnreadGuard({
      sink,
      clock: context.clock,
      unreadMsMax: context.settings.unreadMsMax,
      onGivenUp: (error) => this.cut(error),
    })
  }

  get full(): boolean {
    return this.#guard.full
  }

  start(request: WatchTransactionsRequest): void {
    if (this.#stopped) return
    const problem = this.#findProblem(request)
    if (problem) {
      this.cut(problem)
      return
    }
    this.#producerGroup = request.producerGroup
    this.#watchers.add(request.producerGroup, this)
  }

  ask(question: TransactionQuestion): void {
    if (!this.#stopped) this.#guard.write(question)
  }

  onDrain(): void {
    this.#guard.onDrain()
  }

  cut(error: LedgerError): void {
    this.stop()
    this.#sink.cancel(error)
  }

  stop(): void {
    this.#stopped = true
    this.#guard.stop()
    if (this.#producerGroup !== null) this.#watchers.remove(this.#producerGroup, this)
  }

  #findProblem({ producerGroup, clientId }: WatchTransactionsRequest): LedgerError | null {
    const { replica, settings } = this.#context
    const { watchersMax } = settings.transactions
    if (this.#producerGroup !== null) return new LedgerError('INVALID_REQUEST', 'a watch takes one request')
    try {
      checkGroupName(producerGroup)
    } catch (error) {
      return failureOf(error)
    }
    if (clientId.length > clientIdLengthMax)
      return new LedgerError('INVALID_PARAMETER', `clientId has more than ${clientIdLengthMax} characters`)
    if (!replica.leading) return notLeader(replica)
    if (this.#watchers.count < watchersMax) return null
    return new LedgerError('OVERLOADED', `this node asks ${watchersMax} producers, its limit`)
  }
}
