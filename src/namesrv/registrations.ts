/**
 * The streams on which brokers register: one per broker, answered message by message, its end removes the broker at
 * once. Used by `namesrv.ts`.
 *
 * A refused registration changes no route and leaves the stream open: the broker is told why and may come again.
 */
import type { Clock } from '../common/clock.ts'
import { LedgerError, toLedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import type { Registration, RegistrationAck } from '../rpc/methods.ts'
import { toWireStatus } from '../rpc/status.ts'
import type { CallContext, StreamHandlers, StreamSink } from '../rpc/transport.ts'
import { checkRegistration } from './registration-check.ts'
import type { RouteChange, RouteTable } from './route-table.ts'

export const brokersMaxDefault = 10_000

export class Registrations {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #table: RouteTable
  readonly #onChange: (change: RouteChange) => void
  readonly #intervalMs: number
  readonly #brokersMax: number
  readonly #streams = new Map<number, StreamSink<RegistrationAck>>()
  /** Streams whose broker does not read: acknowledgements are left out until it does. */
  readonly #unread = new Set<number>()
  #nextStream = 1

  constructor(options: {
    readonly clock: Clock
    readonly logger: Logger
    readonly table: RouteTable
    readonly onChange: (change: RouteChange) => void
    readonly intervalMs: number
    readonly brokersMax: number
  }) {
    this.#clock = options.clock
    this.#logger = options.logger
    this.#table = options.table
    this.#onChange = options.onChange
    this.#intervalMs = options.intervalMs
    this.#brokersMax = options.brokersMax
  }

  open(sink: StreamSink<RegistrationAck>, context: CallContext): StreamHandlers<Registration> {
    if (this.#streams.size >= this.#brokersMax) {
      sink.cancel(new LedgerError('OVERLOADED', `this namesrv serves ${this.#brokersMax} brokers, its limit`))
      return { onMessage: () => {}, onClosed: () => {} }
    }
    const stream = this.#nextStream++
    this.#streams.set(stream, sink)
    return {
      onMessage: (registration) => this.#onRegistration(stream, registration, context.peer),
      onDrain: () => this.#unread.delete(stream),
      onClosed: (error) => {
        this.#streams.delete(stream)
        this.#unread.delete(stream)
        const change = this.#table.removeStream(stream)
        if (change.brokers) this.#logger.info('broker removed: its stream ended', { peer: context.peer })
        this.#tell(change)
        if (error === undefined) sink.end()
      },
    }
  }

  /** Removes brokers not heard of for this long and ends their streams. */
  expire(nowMs: number, silentMs: number): void {
    const expired = this.#table.expire(nowMs, silentMs)
    for (const stream of expired.streams) {
      this.#logger.warn('broker removed: silent for too long', { silentMs })
      this.#streams.get(stream)?.cancel(new LedgerError('UNAVAILABLE', `nothing heard for ${silentMs} ms`))
    }
    this.#tell(expired.change)
  }

  close(): void {
    for (const sink of this.#streams.values()) sink.cancel(new LedgerError('UNAVAILABLE', 'this namesrv stops'))
    this.#streams.clear()
  }

  #onRegistration(stream: number, registration: Registration, peer: string): void {
    // After a cancel by us, messages that were already on their way may still come.
    if (!this.#streams.has(stream)) return
    const problem = this.#take(stream, registration)
    if (problem) this.#logger.warn('registration refused', { peer, code: problem.code, reason: problem.message })
    const ack: RegistrationAck = problem
      ? { intervalMs: this.#intervalMs, status: toWireStatus(problem) }
      : { intervalMs: this.#intervalMs }
    this.#acknowledge(stream, ack)
  }

  #acknowledge(stream: number, ack: RegistrationAck): void {
    if (this.#unread.has(stream)) return
    if (this.#streams.get(stream)?.write(ack) === false) this.#unread.add(stream)
  }

  /** Returns what is wrong, null when the registration counts in full. */
  #take(stream: number, registration: Registration): LedgerError | null {
    try {
      checkRegistration(registration)
    } catch (error) {
      return toLedgerError(error)
    }
    const outcome = this.#table.register(stream, registration, this.#clock.monotonicMs())
    if (outcome.kind === 'refused') return new LedgerError(outcome.code, outcome.message)
    const { group, node, role, term } = registration
    if (outcome.change.brokers) this.#logger.info('route changed', { group, node, role, term })
    for (const other of outcome.evicted) this.#tellEvicted(other, registration)
    this.#tell(outcome.change)
    const newer = outcome.newerLeader
    if (!newer) return null
    return new LedgerError(
      'NOT_LEADER',
      `node ${node} claims to lead ${group} in term ${term}, but ${newer.node} did in term ${newer.term}; it counts as a follower`,
      { term: newer.term, ...(newer.address ? { leader: { node: newer.node, address: newer.address } } : {}) },
    )
  }

  #tellEvicted(stream: number, by: Registration): void {
    const message = `node ${by.node} at ${by.address} registered on a later stream and takes the place of this one`
    this.#acknowledge(stream, {
      intervalMs: this.#intervalMs,
      status: toWireStatus(new LedgerError('WRONG_CLUSTER', message)),
    })
  }

  #tell(change: RouteChange): void {
    if (change.brokers || change.topics.size > 0) this.#onChange(change)
  }
}
