/** A producer against scripted brokers, under a clock that only the test moves. */
import { type Client, openClient } from '../../../src/client/client.ts'
import type { Producer } from '../../../src/client/producer/producer.ts'
import type { ProducerOptions, SendResult } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import type { LedgerError } from '../../../src/common/errors.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { addBrokers, type ScriptedBroker, ScriptedTransport } from './scripted-transport.ts'

export class ProducerBench {
  readonly clock: ManualClock = new ManualClock()
  /** A test that plays several rounds may put another one in its place. */
  transport: ScriptedTransport = new ScriptedTransport()
  readonly #clients: Client[] = []

  get client(): Client {
    const last = this.#clients.at(-1)
    if (!last) throw new Error('no producer was made')
    return last
  }

  async producerOn(route: ScriptedTransport['route'], options: ProducerOptions = {}): Promise<Producer> {
    this.transport.route = route
    addBrokers(this.transport)
    const ports = { transport: this.transport, clock: this.clock, random: systemRandom }
    const client = await openClient(ports, { namesrv: 'ns:1' })
    this.#clients.push(client)
    return client.producer(options)
  }

  broker(address: string): ScriptedBroker {
    const found = this.transport.brokers.get(address)
    if (!found) throw new Error(`no broker at ${address}`)
    return found
  }

  /** Nothing ever comes back from it. */
  silence(address: string): void {
    this.broker(address).onProduce = () => {}
  }

  refuse(address: string, error: LedgerError): void {
    this.broker(address).onProduce = ({ reply }) => reply(error)
  }

  async end(): Promise<void> {
    const closing = Promise.all(this.#clients.map((client) => client.close()))
    await this.clock.advance(20_000)
    await closing
  }
}

/** The outcome of a send as a value, so that a rejection is never unhandled. */
export function outcome(send: Promise<SendResult>): { value: SendResult | LedgerError | null } {
  const state: { value: SendResult | LedgerError | null } = { value: null }
  send.then(
    (result) => {
      state.value = result
    },
    (error) => {
      state.value = error
    },
  )
  return state
}
