/**
 * One connection of an application to a cluster: shares routes, connections and status among its producers, consumers
 * and admin. Made by `connect` in `mod.ts`; the simulator makes it with its own ports.
 *
 * Closing it closes everything made from it and leaves no timer and no socket behind.
 */
import type { Clock, Random } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'
import { type Logger, silentLogger } from '../common/logger.ts'
import type { Transport } from '../rpc/transport.ts'
import { Admin, type AdminPorts, createTopicEverywhere } from './admin.ts'
import { checkLogger, checkOptions, checkSettings } from './arguments.ts'
import { ConnectionPool } from './connection.ts'
import { PullConsumer } from './consumer/pull-consumer.ts'
import { PushConsumer } from './consumer/push-consumer.ts'
import { checkCount, parseAddresses } from './options.ts'
import { Producer } from './producer/producer.ts'
import { RouteCache } from './route-cache.ts'
import { StatusHub } from './status-hub.ts'
import type {
  ClientStatus,
  ConnectOptions,
  ProducerOptions,
  PullConsumerOptions,
  PushConsumerOptions,
} from './types.ts'

export interface ClientPorts {
  readonly transport: Transport
  readonly clock: Clock
  readonly random: Random
}

/** Connects with the given ports. Throws CONFIG_INVALID, UNAVAILABLE when no namesrv answers, ABORTED. */
export async function openClient(ports: ClientPorts, options: ConnectOptions): Promise<Client> {
  checkSettings('options', options)
  checkLogger(options.logger)
  checkOptions({ signal: options.signal })
  const client = new Client(ports, options)
  try {
    await client.start(options.signal)
  } catch (error) {
    await client.close()
    throw error
  }
  return client
}

export class Client {
  readonly #ports: ClientPorts & {
    readonly routes: RouteCache
    readonly pool: ConnectionPool
    readonly logger: Logger
    readonly status: StatusHub
    readonly requestTimeoutMs: number
  }
  readonly #open = new Set<Producer | PullConsumer | PushConsumer>()
  /** Streams open per broker address, to tell the first and the last. */
  readonly #streams = new Map<string, number>()
  #removeAbort = (): void => {}
  #closing: Promise<void> | null = null

  constructor(ports: ClientPorts, options: ConnectOptions) {
    const logger = options.logger ?? silentLogger
    const status = new StatusHub()
    const requestTimeoutMs = checkCount('requestTimeoutMs', options.requestTimeoutMs ?? 10_000, 1, 86_400_000)
    const namesrv = parseAddresses('namesrv', options.namesrv)
    const routes = new RouteCache({ ...ports, logger, namesrv, requestTimeoutMs, status })
    const pool = new ConnectionPool(ports.transport, {
      onOpen: (address) => this.#onStreamOpen(address),
      onClosed: (address, error) => this.#onStreamClosed(address, error),
    })
    this.#ports = { ...ports, routes, pool, logger, status, requestTimeoutMs }
  }

  /** Finds a namesrv. Called by `openClient`. */
  async start(signal?: AbortSignal): Promise<void> {
    await this.#ports.routes.start(signal)
    if (!signal) return
    const onAbort = (): void => void this.close()
    signal.addEventListener('abort', onAbort, { once: true })
    this.#removeAbort = () => signal.removeEventListener('abort', onAbort)
  }

  producer(options: ProducerOptions = {}): Producer {
    this.#checkOpen()
    checkSettings('options', options)
    const createTopic = (topic: string, queues: number): Promise<void> =>
      createTopicEverywhere(this.#ports, topic, queues, (group, error) => {
        this.#ports.logger.warn('topic was not created on this group', { topic, group, error: error.message })
      })
    return this.#register(new Producer({ ...this.#ports, createTopic, onClosed: this.#forget }, options))
  }

  pullConsumer(options: PullConsumerOptions = {}): PullConsumer {
    this.#checkOpen()
    checkSettings('options', options)
    return this.#register(new PullConsumer({ ...this.#ports, onClosed: this.#forget }, options))
  }

  pushConsumer(options: PushConsumerOptions): PushConsumer {
    this.#checkOpen()
    checkSettings('options', options)
    return this.#register(new PushConsumer({ ...this.#ports, onClosed: this.#forget }, options))
  }

  admin(): Admin {
    this.#checkOpen()
    const ports: AdminPorts = this.#ports
    return new Admin(ports)
  }

  /** What happens from now on; ends when the client closes or the signal aborts. */
  status(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<ClientStatus> {
    checkOptions(options)
    return this.#ports.status.watch(options.signal)
  }

  /** Closes producers (which finish what is in flight) and consumers, then all connections. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#removeAbort()
    await Promise.all([...this.#open].map((part) => part.close()))
    this.#ports.routes.close()
    this.#ports.pool.close()
    this.#ports.status.close()
  }

  #register<Part extends Producer | PullConsumer | PushConsumer>(part: Part): Part {
    this.#open.add(part)
    return part
  }

  readonly #forget = (part: Producer | PullConsumer | PushConsumer): void => {
    this.#open.delete(part)
  }

  #checkOpen(): void {
    if (this.#closing) throw new LedgerError('CLOSED', 'the client is closed')
  }

  #onStreamOpen(address: string): void {
    const count = (this.#streams.get(address) ?? 0) + 1
    this.#streams.set(address, count)
    if (count === 1) this.#ports.status.emit({ kind: 'connected', address, role: 'broker' })
  }

  #onStreamClosed(address: string, error: LedgerError): void {
    const count = (this.#streams.get(address) ?? 1) - 1
    this.#streams.set(address, count)
    if (count > 0) return
    this.#ports.status.emit({ kind: 'disconnected', address, role: 'broker', reason: error.message })
    this.#ports.logger.info('broker disconnected', { address, error: error.message })
  }
}
