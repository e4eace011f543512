/**
 * Connections to brokers, one per address and shared by everything of one client: the Produce stream, the Pull stream
 * and unary calls. Made by `client.ts`; never decides where to send, only how.
 */
import type { LedgerError } from '../common/errors.ts'
import {
  decodeProduceReplies,
  decodePullReply,
  encodeProduceRequest,
  encodePullRequest,
  type ProduceReply,
  type PullReply,
  type PullRequest,
} from '../rpc/envelopes.ts'
import { brokerMethods } from '../rpc/methods.ts'
import type { CallOptions, Channel, Transport, UnaryMethod } from '../rpc/transport.ts'
import { type Outcome, RequestStream } from './request-stream.ts'
import { allowManyListeners } from './wait.ts'

export type PullFields = Omit<PullRequest, 'requestId' | 'cancel'>

export interface ConnectionEvents {
  onOpen(address: string): void
  onClosed(address: string, error: LedgerError): void
}

/** A batch handed to a connection. */
export interface ProduceAttempt {
  /** Its answer is no longer of interest. */
  forget(): void
  /** True: it never left this process and is taken back, so it is definitely not stored. False changes nothing. */
  withdraw(): boolean
}

export class BrokerConnection {
  readonly address: string
  readonly #channel: Channel
  readonly #produce: RequestStream<ProduceReply>
  readonly #pull: RequestStream<PullReply>

  constructor(channel: Channel, events: ConnectionEvents) {
    this.address = channel.address
    this.#channel = channel
    const shared = {
      channel,
      onOpen: (): void => events.onOpen(channel.address),
      onClosed: (error: LedgerError): void => events.onClosed(channel.address, error),
    }
    this.#produce = new RequestStream({ ...shared, method: brokerMethods.produce, decode: decodeProduceReplies })
    this.#pull = new RequestStream({
      ...shared,
      method: brokerMethods.pull,
      decode: (bytes: Buffer): readonly PullReply[] => [decodePullReply(bytes)],
    })
  }

  produce(
    group: string,
    batch: Buffer,
    timeoutMs: number,
    done: (outcome: Outcome<ProduceReply>) => void,
  ): ProduceAttempt {
    const encode = (requestId: number): Buffer =>
      encodeProduceRequest({ requestId, timeoutMs: Math.max(1, Math.floor(timeoutMs)), batch })
    const requestId = this.#produce.request(group, encode, done)
    return {
      forget: () => this.#produce.forget(requestId),
      withdraw: () => this.#produce.withdraw(requestId),
    }
  }

  /** Returns a function that withdraws the request, also at the broker where it may be parked. */
  pull(group: string, fields: PullFields, done: (outcome: Outcome<PullReply>) => void): () => void {
    const requestId = this.#pull.request(
      group,
      (requestId) => encodePullRequest({ ...fields, requestId, cancel: false }),
      done,
    )
    return () => {
      this.#pull.forget(requestId)
      this.#pull.notify(encodePullRequest({ ...withdrawal, requestId }))
    }
  }

  call<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response> {
    return this.#channel.call(method, request, options)
  }

  close(): void {
    this.#produce.close()
    this.#pull.close()
    this.#channel.close()
  }
}

const withdrawal: Omit<PullRequest, 'requestId'> = {
  cancel: true,
  afterIndex: 0,
  topic: '',
  topicId: 0,
  queue: 0,
  offset: 0,
  bytesMax: 0,
  waitMs: 0,
  consumerGroup: '',
}

/** All broker connections of one client. */
export class ConnectionPool {
  readonly #transport: Transport
  readonly #events: ConnectionEvents
  readonly #connections = new Map<string, BrokerConnection>()
  readonly #closing = new AbortController()

  constructor(transport: Transport, events: ConnectionEvents) {
    this.#transport = transport
    this.#events = events
    allowManyListeners(this.#closing.signal)
  }

  /** Aborts when the client closes. */
  get closed(): AbortSignal {
    return this.#closing.signal
  }

  /** Behind the end of the client, one that refuses everything: nobody would close another. */
  get(address: string): BrokerConnection {
    const known = this.#connections.get(address)
    if (known) return known
    const connection = new BrokerConnection(this.#transport.connect(address, 'client'), this.#events)
    if (this.closed.aborted) {
      connection.close()
      return connection
    }
    this.#connections.set(address, connection)
    return connection
  }

  /**
   * A channel of its own, for streams that are not requests and answers, such as WatchEvents. Whoever opens it closes it,
   * at the latest when `closed` aborts.
   */
  openChannel(address: string): Channel {
    return this.#transport.connect(address, 'client')
  }

  close(): void {
    this.#closing.abort()
    for (const connection of this.#connections.values()) connection.close()
    this.#connections.clear()
  }
}
