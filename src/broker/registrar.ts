/**
 * Tells every namesrv that this broker is there, what it leads and which topics it has (RocketMQ: BrokerOuterAPI,
 * registerBrokerAll). Started by `broker.ts` once there is a replica.
 *
 * One stream per namesrv, independent of the others: at start, every 30 s, and at once when role or topics changed.
 * It claims to lead only when the no-op of the own term is applied, so that a namesrv never sends a client to a
 * leader that does not know yet what was committed before it.
 */
import type { Cancel, Clock, Random } from '../common/clock.ts'
import type { LedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import { namesrvMethods, type Registration, type RegistrationAck } from '../rpc/methods.ts'
import type { Channel, StreamSink, Transport } from '../rpc/transport.ts'
import type { ReplicaApi } from './contract.ts'
import type { EventSink } from './events.ts'
import { defaultRegisterIntervalMs } from './options.ts'

const reconnectMinMs = 50
const reconnectMaxMs = 2000
/** A namesrv may ask for another period within these bounds. */
const intervalMinMs = 10_000
const intervalMaxMs = 60_000

export interface RegistrarParts {
  readonly clock: Clock
  readonly random: Random
  readonly transport: Transport
  readonly logger: Logger
  readonly events: EventSink
  readonly replica: ReplicaApi
  /** Where clients reach this broker. */
  readonly address: string
  readonly intervalMs?: number
}

export class Registrar {
  readonly #parts: RegistrarParts
  readonly #links: readonly RegistrarLink[]
  readonly #removals: (() => void)[] = []
  #deferred = false
  #topicsVersion = -1

  constructor(parts: RegistrarParts, namesrvs: readonly string[]) {
    this.#parts = parts
    this.#links = namesrvs.map((address) => new RegistrarLink(parts, address, () => this.#registration()))
  }

  start(): void {
    const { replica } = this.#parts
    this.#removals.push(
      replica.onRoleChanged(() => this.#changed()),
      replica.onApplied(() => {
        if (replica.machine.topicsVersion !== this.#topicsVersion) this.#changed()
      }),
    )
    for (const link of this.#links) link.open()
  }

  /** Sends the last word, then ends the streams: the namesrvs drop this broker at once. */
  close(): void {
    for (const remove of this.#removals) remove()
    for (const link of this.#links) link.close()
  }

  /** Several changes in one turn make one registration. */
  #changed(): void {
    this.#topicsVersion = this.#parts.replica.machine.topicsVersion
    if (this.#deferred) return
    this.#deferred = true
    this.#parts.clock.defer(() => {
      this.#deferred = false
      for (const link of this.#links) link.send()
    })
  }

  #registration(): Registration {
    const { replica, address } = this.#parts
    const { cluster, group, node, incarnation, term, machine } = replica
    const role = replica.leading ? 'leader' : 'follower'
    const { topicsVersion } = machine
    return { cluster, group, node, address, incarnation, term, role, topics: machine.topics(), topicsVersion }
  }
}

/** The stream to one namesrv, with its reconnects. */
class RegistrarLink {
  readonly #parts: RegistrarParts
  readonly #address: string
  readonly #registration: () => Registration
  readonly #channel: Channel
  #sink: StreamSink<Registration> | null = null
  #timer: Cancel | null = null
  #backoffMs = reconnectMinMs
  #intervalMs: number
  #closed = false
  /** Term that was last claimed and not yet acknowledged, for the event. */
  #claimed: { readonly term: number; readonly atMs: number } | null = null
  #publishedTerm = 0
  #problem = ''

  constructor(parts: RegistrarParts, address: string, registration: () => Registration) {
    this.#parts = parts
    this.#address = address
    this.#registration = registration
    this.#intervalMs = parts.intervalMs ?? defaultRegisterIntervalMs
    this.#channel = parts.transport.connect(address, 'client')
  }

  open(): void {
    if (this.#closed) return
    const sink: StreamSink<Registration> = this.#channel.open(namesrvMethods.register, {
      onMessage: (ack) => {
        if (this.#sink === sink) this.#onAck(ack)
      },
      onClosed: (error) => {
        if (this.#sink === sink) this.#onClosed(error)
      },
    })
    this.#sink = sink
    this.send()
  }

  send(): void {
    if (!this.#sink) return
    const registration = this.#registration()
    const { role, term } = registration
    if (role === 'leader' && term > this.#publishedTerm && this.#claimed?.term !== term) {
      this.#claimed = { term, atMs: this.#parts.clock.monotonicMs() }
    }
    this.#sink.write(registration)
    this.#schedule(this.#intervalMs, () => this.send())
  }

  close(): void {
    this.#closed = true
    this.#timer?.()
    this.#sink?.end()
    this.#sink = null
    this.#channel.close()
  }

  #onAck(ack: RegistrationAck): void {
    this.#backoffMs = reconnectMinMs
    const wanted = Math.min(Math.max(ack.intervalMs, intervalMinMs), intervalMaxMs)
    if (wanted !== this.#intervalMs && this.#parts.intervalMs === undefined) {
      this.#intervalMs = wanted
      this.#schedule(wanted, () => this.send())
    }
    const problem = ack.status?.message ?? ''
    if (problem !== '' && problem !== this.#problem) {
      this.#parts.logger.warn('the namesrv refuses the registration', { namesrv: this.#address, problem })
    }
    this.#problem = problem
    if (problem !== '' || !this.#claimed) return
    const { term, atMs } = this.#claimed
    const tookMs = Math.round(this.#parts.clock.monotonicMs() - atMs)
    this.#publishedTerm = term
    this.#claimed = null
    this.#parts.events.emit('route_published', term, { namesrv: this.#address, tookMs })
  }

  #onClosed(error: LedgerError | undefined): void {
    this.#sink = null
    // Unacknowledged or not, a namesrv that comes back empty is told again.
    this.#publishedTerm = 0
    this.#claimed = null
    if (this.#closed) return
    this.#parts.logger.debug('registration stream ended', { namesrv: this.#address, code: error?.code ?? 'ended' })
    const jitter = 0.5 + this.#parts.random.next() / 2
    this.#schedule(this.#backoffMs * jitter, () => this.open())
    this.#backoffMs = Math.min(this.#backoffMs * 2, reconnectMaxMs)
  }

  #schedule(ms: number, callback: () => void): void {
    this.#timer?.()
    this.#timer = this.#parts.clock.after(ms, callback, { background: true })
  }
}
