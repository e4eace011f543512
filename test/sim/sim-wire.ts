/**
 * One stream or call between two processes: two directions, each first in, first out. Made by `sim-channel.ts`.
 *
 * Both ends learn of a break separately; what is on the way then is lost. Nothing is ever delivered to an end that
 * was told that the wire is closed.
 */
import { LedgerError } from '../../src/common/errors.ts'
import type { Listener, Purpose, SimNetwork } from './sim-network.ts'
import type { SimProcess } from './sim-process.ts'

export type Side = 'client' | 'server'

/** What an end does with what comes. Runs inside its process. */
export interface WireEnd {
  onDrain(): void
  /** Once, last. */
  onClosed(error: LedgerError | undefined): void
}

interface Direction {
  lastAtMs: number
  /** Deliveries whose time came while the direction was cut. */
  held: (() => void)[] | null
  bytesOnTheWay: number
  full: boolean
}

export class Wire {
  readonly client: SimProcess
  readonly listener: Listener
  readonly purpose: Purpose
  readonly #network: SimNetwork
  readonly #ends: { client: WireEnd | null; server: WireEnd | null }
  readonly #told = { client: false, server: false }
  readonly #directions: { readonly client: Direction; readonly server: Direction }
  #broken = false
  #cancelKeepalive: (() => void) | null = null

  constructor(
    network: SimNetwork,
    place: { readonly client: SimProcess; readonly listener: Listener; readonly purpose: Purpose },
    client: WireEnd,
  ) {
    this.#network = network
    this.client = place.client
    this.listener = place.listener
    this.purpose = place.purpose
    this.#ends = { client, server: null }
    this.#directions = { client: direction(), server: direction() }
    network.add(this)
    this.cutsChanged()
  }

  attachServer(end: WireEnd): void {
    this.#ends.server = end
  }

  connects(a: string, b: string): boolean {
    const [client, server] = [this.client.name, this.listener.process.name]
    return (client === a && server === b) || (client === b && server === a)
  }

  belongsTo(process: SimProcess): boolean {
    return this.client === process || this.listener.process === process
  }

  /** Puts `deliver` on the way to the other side. False: enough is on the way, wait for `onDrain`. */
  send(from: Side, bytes: number, deliver: () => void): boolean {
    if (this.#broken || this.#told[from] || !this.#process(from).alive) return true
    const way = this.#directions[from]
    way.bytesOnTheWay += bytes
    if (way.bytesOnTheWay >= this.#network.options.bufferedBytesMax) way.full = true
    this.#deliverLater(from, () => {
      this.#network.digest.add(this.#network.scheduler.nowMs + bytes)
      this.#process(other(from)).run(() => {
        if (!this.#told[other(from)]) deliver()
        this.#arrived(from, bytes)
      }, this)
    })
    return !way.full
  }

  /** One side ends for good: what it wrote still arrives, then the other side is told. */
  endOf(process: SimProcess, error: LedgerError | undefined): void {
    const side: Side = process === this.client ? 'client' : 'server'
    this.#tell(side, error)
    this.#deliverLater(side, () => this.breakBoth(error, 0))
  }

  /** As if the last message of `from` were the end of the call: then both sides are told, without an error or with. */
  finish(from: Side, error: LedgerError | undefined): void {
    this.#deliverLater(from, () => {
      this.#tell(other(from), error)
      this.#remove()
      this.#tell(from, error)
    })
  }

  /** The client will write no more. */
  halfClose(): void {
    this.#deliverLater('client', () => this.#tell('server', undefined))
  }

  /** Everything on the way is lost; each end learns of it within `withinMs`. */
  breakBoth(error: LedgerError | undefined, withinMs: number): void {
    if (this.#broken) return
    this.#remove()
    for (const side of ['client', 'server'] as const) {
      const waitMs = withinMs * this.#network.random.between(0.5, 1) + this.#network.delayMs()
      this.#network.scheduler.after(waitMs, () => this.#tell(side, error))
    }
  }

  /** Tells an end that it has ended by itself, from the next turn on. */
  cancel(side: Side, own: LedgerError, others: LedgerError): void {
    if (this.#told[side]) return
    this.#network.scheduler.after(0, () => this.#tell(side, own))
    this.#deliverLater(side, () => {
      this.#remove()
      this.#tell(other(side), others)
    })
  }

  /** Looks again which directions are cut. */
  cutsChanged(): void {
    if (this.#broken) return
    const [client, server] = [this.client.name, this.listener.process.name]
    const isCut = {
      client: this.#network.isCut(client, server, this.purpose),
      server: this.#network.isCut(server, client, this.purpose),
    }
    for (const side of ['client', 'server'] as const) {
      const way = this.#directions[side]
      if (isCut[side]) way.held ??= []
      else if (way.held !== null) this.#release(side, way)
    }
    if (isCut.client || isCut.server) this.#startKeepalive()
    else this.#stopKeepalive()
  }

  #startKeepalive(): void {
    if (this.#cancelKeepalive !== null) return
    const { keepaliveMs } = this.#network.options
    this.#cancelKeepalive = this.#network.scheduler.after(keepaliveMs / 2, () =>
      this.breakBoth(unavailable('keepalive timed out'), keepaliveMs / 2),
    )
  }

  #stopKeepalive(): void {
    this.#cancelKeepalive?.()
    this.#cancelKeepalive = null
  }

  #release(side: Side, way: Direction): void {
    const held = way.held ?? []
    way.held = null
    // Retransmission comes some time after the heal, and in order.
    way.lastAtMs = Math.max(way.lastAtMs, this.#network.scheduler.nowMs + this.#network.random.between(0, 200))
    for (const deliver of held) this.#deliverLater(side, deliver)
  }

  #deliverLater(from: Side, deliver: () => void): void {
    const { scheduler } = this.#network
    const way = this.#directions[from]
    const atMs = Math.max(scheduler.nowMs + this.#network.delayMs(), way.lastAtMs)
    way.lastAtMs = atMs
    scheduler.after(atMs - scheduler.nowMs, () => {
      if (this.#broken) this.#network.lost++
      else if (way.held !== null) way.held.push(deliver)
      else deliver()
    })
  }

  #arrived(from: Side, bytes: number): void {
    const way = this.#directions[from]
    way.bytesOnTheWay -= bytes
    if (!way.full || way.bytesOnTheWay * 2 > this.#network.options.bufferedBytesMax) return
    way.full = false
    this.#process(from).run(() => {
      if (!this.#told[from]) this.#ends[from]?.onDrain()
    }, this)
  }

  #remove(): void {
    this.#broken = true
    this.#stopKeepalive()
    this.#network.remove(this)
  }

  #tell(side: Side, error: LedgerError | undefined): void {
    this.#process(side).run(() => {
      if (this.#told[side]) return
      this.#told[side] = true
      this.#ends[side]?.onClosed(error)
    }, this)
  }

  #process(side: Side): SimProcess {
    return side === 'client' ? this.client : this.listener.process
  }
}

function direction(): Direction {
  return { lastAtMs: 0, held: null, bytesOnTheWay: 0, full: false }
}

function other(side: Side): Side {
  return side === 'client' ? 'server' : 'client'
}

export function unavailable(why: string): LedgerError {
  return new LedgerError('UNAVAILABLE', why)
}
