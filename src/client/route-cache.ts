/**
 * Keeps the route table fed: a WatchRoute stream to one namesrv, a poll every 30 s beside it, and what brokers tell.
 *
 * It picks one namesrv and stays with it, moves on when it fails, and when all are gone works on with what it knows.
 * Producers and consumers ask `topic()` and listen for changes; it never calls brokers.
 */
import type { Cancel, Clock, Random } from '../common/clock.ts'
import { LedgerError, toLedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import { topicsPerRequestMax } from '../message/limits.ts'
import { type BrokerNode, namesrvMethods, type RouteReply, type RouteRequest, type TopicInfo } from '../rpc/methods.ts'
import type { Channel, StreamSink, Transport } from '../rpc/transport.ts'
import { failureAt } from './attempt-line.ts'
import { type LeaderChange, RouteTable, type TopicState } from './route-table.ts'
import type { StatusHub } from './status-hub.ts'
import { delay, withSignal } from './wait.ts'

/** RocketMQ's pollNameServerInterval. */
export const routePollMs = 30_000
/** Between two tries to reach a namesrv, growing. */
export const namesrvBackoffMs = { min: 50, max: 1_000 } as const
/** A poll that was asked for by a failed request runs at most this often. */
export const refreshIntervalMsMin = 50

export interface RouteCacheOptions {
  readonly transport: Transport
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly namesrv: readonly string[]
  readonly requestTimeoutMs: number
  readonly status: StatusHub
}

export interface RouteListener {
  /** After every reply and every learnt leader. */
  onRouteChanged?(): void
  onLeaderChanged?(change: LeaderChange): void
}

export class RouteCache {
  readonly table: RouteTable = new RouteTable()
  readonly #options: RouteCacheOptions
  readonly #wanted = new Set<string>()
  /** Topics that some namesrv has answered about since they were wanted. */
  readonly #answered = new Set<string>()
  readonly #listeners = new Set<RouteListener>()
  readonly #channels = new Map<string, Channel>()
  #current: number
  #sink: StreamSink<RouteRequest> | null = null
  #streamAlive = false
  #failures = 0
  #cancelPoll: Cancel = () => {}
  #cancelReconnect: Cancel = () => {}
  #lastRefreshMs = Number.NEGATIVE_INFINITY
  #refreshing = false
  #closed = false
  #lastError: LedgerError | null = null

  constructor(options: RouteCacheOptions) {
    this.#options = options
    // Random, so that the clients of a cluster spread over its namesrvs.
    this.#current = Math.floor(options.random.next() * options.namesrv.length)
  }

  /** Asks the namesrvs in turn until one answers; throws UNAVAILABLE naming every address when none does. */
  async start(signal?: AbortSignal): Promise<void> {
    const { namesrv, requestTimeoutMs } = this.#options
    const failures: string[] = []
    for (let tried = 0; tried < namesrv.length; tried++) {
      try {
        await this.#poll(Math.max(500, requestTimeoutMs / namesrv.length), signal)
        this.#watch()
        this.#armPoll()
        return
      } catch (cause) {
        if (signal?.aborted) throw new LedgerError('ABORTED', 'connecting was aborted', {}, { cause: signal.reason })
        failures.push(failureAt(this.#address, toLedgerError(cause)))
        this.#moveOn()
      }
    }
    const text = `no namesrv answered (${failures.join('; ')})`
    throw new LedgerError('UNAVAILABLE', text, { attempts: failures })
  }

  listen(listener: RouteListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Starts following the topic. What is known of it shows up in `table`. */
  want(topic: string): void {
    if (this.#wanted.has(topic)) return
    this.#wanted.add(topic)
    this.#sink?.write({ topics: this.#watched() })
    this.refresh()
  }

  /** The topic's route, or undefined when the namesrv answered that it does not know it. */
  async topic(topic: string, options: { timeoutMs: number; signal?: AbortSignal }): Promise<TopicState | undefined> {
    this.want(topic)
    const deadlineMs = this.#options.clock.monotonicMs() + options.timeoutMs
    while (!this.table.topic(topic) && !this.#answered.has(topic)) {
      if (this.#closed) throw new LedgerError('CLOSED', 'the client is closed')
      const remainingMs = deadlineMs - this.#options.clock.monotonicMs()
      if (remainingMs <= 0) throw this.noAnswer(topic)
      await this.changed(Math.min(remainingMs, 200), options.signal)
      if (!this.table.topic(topic) && !this.#answered.has(topic)) this.refresh()
    }
    return this.table.topic(topic)
  }

  noAnswer(topic: string): LedgerError {
    const { namesrv } = this.#options
    const cause = this.#lastError
    const reason = cause ? `: ${cause.message}` : ''
    const text = `no namesrv (${namesrv.join(', ')}) told the route of topic ${topic} in time${reason}`
    return new LedgerError('NO_ROUTE', text, {}, { cause })
  }

  /** Resolves at the next change, or after this time. */
  changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    let remove = (): void => {}
    const change = new Promise<void>((resolve) => {
      remove = this.listen({ onRouteChanged: resolve })
    })
    const timer = delay(this.#options.clock, timeoutMs)
    return withSignal(Promise.race([change, timer.promise]), signal).finally(() => {
      remove()
      timer.cancel()
    })
  }

  learnLeader(group: string, term: number, leader: BrokerNode): void {
    const change = this.table.learnLeader(group, term, leader)
    if (change) this.#announce([change])
  }

  learnTopic(group: string, topic: TopicInfo): void {
    this.table.learnTopic(group, topic)
    this.#announce([])
  }

  /** The leader of `group` says that it does not have this topic. */
  topicUnknown(topic: string, group: string): void {
    this.table.dropTopic(topic, group)
    this.refresh()
  }

  /** Asks the namesrv soon; called when a request failed. Bounded in rate, returns at once. */
  refresh(): void {
    if (this.#closed || this.#refreshing) return
    this.#refreshing = true
    const { clock, requestTimeoutMs } = this.#options
    const waitMs = Math.max(0, this.#lastRefreshMs + refreshIntervalMsMin - clock.monotonicMs())
    const run = (): void => {
      this.#lastRefreshMs = clock.monotonicMs()
      const address = this.#address
      this.#poll(Math.min(2_000, requestTimeoutMs))
        .catch((cause) => this.#failed(address, toLedgerError(cause)))
        .finally(() => {
          this.#refreshing = false
        })
    }
    if (waitMs === 0) run()
    else clock.after(waitMs, run, { background: true })
  }

  close(): void {
    this.#closed = true
    this.#cancelPoll()
    this.#cancelReconnect()
    this.#sink?.end()
    this.#sink = null
    for (const channel of this.#channels.values()) channel.close()
    for (const listener of this.#listeners) listener.onRouteChanged?.()
  }

  get #address(): string {
    return this.#options.namesrv[this.#current] ?? ''
  }

  #channel(): Channel {
    const known = this.#channels.get(this.#address)
    if (known) return known
    const channel = this.#options.transport.connect(this.#address, 'client')
    this.#channels.set(this.#address, channel)
    return channel
  }

  async #poll(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (this.#closed) return
    const wanted = [...this.#wanted]
    const options = { timeoutMs, ...(signal ? { signal } : {}) }
    const channel = this.#channel()
    // The newest first: somebody waits for them.
    let end = wanted.length
    do {
      const topics = wanted.slice(Math.max(0, end - topicsPerRequestMax), end)
      this.#onReply(await channel.call(namesrvMethods.getRoute, { topics }, options), topics)
      end -= topicsPerRequestMax
    } while (end > 0)
  }

  /** Topics whose changes are pushed; those that were wanted before these are polled. Groups and leaders always come. */
  #watched(): readonly string[] {
    return [...this.#wanted].slice(-topicsPerRequestMax)
  }

  #watch(): void {
    if (this.#closed) return
    const topics = this.#watched()
    const address = this.#address
    let sink: StreamSink<RouteRequest> | null = null
    sink = this.#channel().open(namesrvMethods.watchRoute, {
      onMessage: (reply) => this.#onPush(address, reply),
      onClosed: (error) => {
        if (this.#sink === sink) this.#onWatchClosed(address, error)
      },
    })
    this.#sink = sink
    sink.write({ topics })
  }

  #onPush(address: string, reply: RouteReply): void {
    if (!this.#streamAlive) this.#options.status.emit({ kind: 'connected', address, role: 'namesrv' })
    this.#streamAlive = true
    this.#onReply(reply, [])
  }

  #onReply(reply: RouteReply, asked: readonly string[]): void {
    if (this.#closed) return
    this.#failures = 0
    // A namesrv that just began knows no broker yet: that is no answer about any topic.
    const knowsNobody = reply.groups.length === 0
    this.#lastError = knowsNobody ? new LedgerError('NO_ROUTE', `namesrv ${this.#address} knows no broker yet`) : null
    if (!knowsNobody) for (const topic of asked) this.#answered.add(topic)
    this.#announce(this.table.merge(reply))
  }

  #announce(changes: readonly LeaderChange[]): void {
    for (const change of changes) {
      const { group, term } = change
      const from = change.from?.node ?? null
      const to = change.to?.node ?? null
      this.#options.status.emit({ kind: 'leaderChanged', group, from, to, term })
      this.#options.logger.info('leader changed', { group, from, to, term })
      for (const listener of [...this.#listeners]) listener.onLeaderChanged?.(change)
    }
    for (const listener of [...this.#listeners]) listener.onRouteChanged?.()
  }

  #onWatchClosed(address: string, error: LedgerError | undefined): void {
    this.#sink = null
    if (this.#closed) return
    const reason = error?.message ?? 'the namesrv ended the stream'
    if (this.#streamAlive) this.#options.status.emit({ kind: 'disconnected', address, role: 'namesrv', reason })
    this.#streamAlive = false
    this.#failed(address, error ?? new LedgerError('UNAVAILABLE', reason))
  }

  /** Goes to the next namesrv, at once after the first failure, then with growing pauses. */
  #failed(address: string, error: LedgerError): void {
    // One that was left already may still time out: that is no reason to leave the one that took its place.
    if (this.#closed || address !== this.#address) return
    this.#lastError = error
    this.#failures++
    this.#options.logger.debug('namesrv failed', { address, error: error.message })
    this.#sink?.cancel()
    this.#sink = null
    this.#streamAlive = false
    this.#moveOn()
    this.#cancelReconnect()
    const rounds = Math.floor(this.#failures / this.#options.namesrv.length)
    const backoffMs = Math.min(namesrvBackoffMs.max, namesrvBackoffMs.min * 2 ** Math.min(rounds, 10))
    const jitteredMs = backoffMs * (0.5 + this.#options.random.next() / 2)
    this.#cancelReconnect = this.#options.clock.after(jitteredMs, () => this.#watch(), { background: true })
  }

  #moveOn(): void {
    this.#current = (this.#current + 1) % this.#options.namesrv.length
  }

  #armPoll(): void {
    if (this.#closed) return
    this.#cancelPoll = this.#options.clock.after(
      routePollMs,
      () => {
        this.refresh()
        this.#armPoll()
      },
      { background: true },
    )
  }
}
