/**
 * The transport port under virtual time, with what TCP allows and no more: bytes of a stream arrive in order or not
 * at all. Messages are late, directions are cut, connections break, and each end learns of that in its own time.
 *
 * A cut direction holds what is sent, as retransmission does: healed soon, it arrives late; else the keepalive breaks
 * the connection and what was on the way is lost. Cuts may be one-sided and may spare control or bulk.
 */
import { LedgerError } from '../../src/common/errors.ts'
import type { Channel, Server, ServerRoutes, Transport } from '../../src/rpc/transport.ts'
import type { Digest } from './digest.ts'
import type { SimRandom } from './random.ts'
import type { Scheduler } from './scheduler.ts'
import { SimChannel } from './sim-channel.ts'
import type { SimProcess } from './sim-process.ts'
import { unavailable, type Wire } from './sim-wire.ts'

export type Purpose = 'client' | 'control' | 'bulk'

export interface NetworkOptions {
  /** Mean delay of a message; a few take ten times as long. */
  readonly delayMeanMs: number
  readonly slowShare: number
  /** Silence after which an end gives a connection up: drawn from [half, whole]. */
  readonly keepaliveMs: number
  /** Bytes on the way in one direction before `write` says false. */
  readonly bufferedBytesMax: number
}

/** A direction between two hosts; null stands for all. */
export interface Cut {
  readonly from: string
  readonly to: string
  readonly purpose: Purpose | null
}

export interface Listener {
  readonly process: SimProcess
  readonly unary: Map<string, (request: unknown, context: never) => Promise<unknown>>
  readonly streams: Map<string, (sink: never, context: never) => unknown>
}

export class SimNetwork {
  readonly scheduler: Scheduler
  readonly options: NetworkOptions
  readonly random: SimRandom
  readonly digest: Digest
  /** Sees every message that a process puts on a stream as its client. */
  onSent: (from: SimProcess, to: string, purpose: Purpose, message: unknown) => void = () => {}
  /** Messages that never arrived because their connection broke. */
  lost = 0
  readonly #listeners = new Map<string, Listener>()
  readonly #wires = new Set<Wire>()
  readonly #cuts = new Set<Cut>()

  constructor(scheduler: Scheduler, random: SimRandom, digest: Digest, options: NetworkOptions) {
    this.scheduler = scheduler
    this.random = random
    this.digest = digest
    this.options = options
  }

  /** What this process sees of the network. Its name is its host. */
  endpoint(process: SimProcess): Transport {
    return {
      connect: (address, purpose): Channel => new SimChannel(this, process, address, purpose),
      listen: async (address, register) => this.#listen(process, address, register),
    }
  }

  /** Cuts until `heal` or `healAll`. */
  cut(cut: Cut): void {
    this.#cuts.add(cut)
    for (const wire of this.#wires) wire.cutsChanged()
  }

  heal(cuts: readonly Cut[]): void {
    for (const cut of cuts) this.#cuts.delete(cut)
    for (const wire of [...this.#wires]) wire.cutsChanged()
  }

  healAll(): void {
    this.heal([...this.#cuts])
  }

  isCut(from: string, to: string, purpose: Purpose): boolean {
    for (const cut of this.#cuts) {
      if (cut.from === from && cut.to === to && (cut.purpose === null || cut.purpose === purpose)) return true
    }
    return false
  }

  /** Breaks the connections between two hosts at once. */
  reset(a: string, b: string): void {
    for (const wire of [...this.#wires]) {
      if (wire.connects(a, b)) wire.breakBoth(unavailable('the connection was reset'), 0)
    }
  }

  /** The process is gone. `silent`: so is its machine, and nobody says goodbye. */
  kill(process: SimProcess, silent: boolean): void {
    for (const [address, listener] of this.#listeners) if (listener.process === process) this.#listeners.delete(address)
    for (const wire of [...this.#wires]) {
      if (!wire.belongsTo(process)) continue
      if (silent) wire.breakBoth(unavailable('the other machine went silent'), this.options.keepaliveMs)
      else wire.endOf(process, unavailable('the process at the other end is gone'))
    }
  }

  listener(address: string): Listener | undefined {
    return this.#listeners.get(address)
  }

  add(wire: Wire): void {
    this.#wires.add(wire)
  }

  remove(wire: Wire): void {
    this.#wires.delete(wire)
  }

  delayMs(): number {
    const { delayMeanMs, slowShare } = this.options
    const delay = 0.02 + this.random.around(delayMeanMs)
    return this.random.chance(slowShare) ? delay * 10 : delay
  }

  #listen(process: SimProcess, address: string, register: (routes: ServerRoutes) => void): Server {
    if (this.#listeners.has(address)) throw new LedgerError('PORT_IN_USE', `${address} is in use`)
    const listener: Listener = { process, unary: new Map(), streams: new Map() }
    register({
      unary: (method, handler) => void listener.unary.set(`${method.service}/${method.name}`, handler as never),
      stream: (method, handler) => void listener.streams.set(`${method.service}/${method.name}`, handler as never),
    })
    this.#listeners.set(address, listener)
    return {
      address,
      close: (graceMs) => {
        if (this.#listeners.get(address) === listener) this.#listeners.delete(address)
        return new Promise((resolve) => {
          process.after(graceMs, () => {
            for (const wire of [...this.#wires]) {
              if (wire.listener === listener) wire.endOf(process, unavailable('the server closed'))
            }
            resolve()
          })
        })
      },
    }
  }
}
