/** What a producer says of a message whose attempts ended in different ways: never less, and no more, than is known. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import type { Producer } from '../../../src/client/producer/producer.ts'
import type { ProducerOptions, SendResult } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { addBrokers, type Produced, routeOf, type ScriptedBroker, ScriptedTransport } from './scripted-transport.ts'

let clock: ManualClock
let transport: ScriptedTransport
let client: Client

beforeEach(() => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
})

afterEach(async () => {
  const closing = client.close()
  await clock.advance(20_000)
  await closing
})

async function producerOn(route: ScriptedTransport['route'], options: ProducerOptions = {}): Promise<Producer> {
  transport.route = route
  addBrokers(transport)
  client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
  return client.producer(options)
}

function broker(address: string): ScriptedBroker {
  const found = transport.brokers.get(address)
  if (!found) throw new Error(`no broker at ${address}`)
  return found
}

function refuse(address: string, error: LedgerError): void {
  broker(address).onProduce = ({ reply }) => reply(error)
}

/** The outcome of a send as a value, so that a rejection is never unhandled. */
function outcome(send: Promise<SendResult>): { value: SendResult | LedgerError | null } {
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

/** Sends one message, so that the next batch goes to the other group: they take turns. */
async function groupOfFirst(producer: Producer): Promise<string> {
  return (await producer.send({ topic: 'T', body: 'first' })).queue.group
}

const twoGroups = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } })

test('P3: without sequences a batch that moves at once after an unknown outcome is not told "not stored"', async () => {
  const producer = await producerOn(twoGroups, { idempotent: false })
  const group = (await groupOfFirst(producer)) === 'a' ? 'b' : 'a'
  const other = group === 'a' ? 'b' : 'a'
  refuse(`${group}-n0:1`, new LedgerError('OUTCOME_UNKNOWN', 'deposed'))
  refuse(`${other}-n0:1`, new LedgerError('NO_PERMISSION', 'read only'))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await clock.advance(1_000)
  expect(transport.produced.at(-1)!.address).toBe(`${other}-n0:1`)
  expect(sent.value).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
})

test('P3: an address that another group took does not make unknown what then waits for a connection', async () => {
  const route = routeOf({ a: {}, b: { nodes: 1 } }, { T: { a: 1 }, U: { b: 1 } })
  const moved = route.groups.map((group) => ({
    ...group,
    nodes: group.nodes.map((node) => (node.node === 'a-n1' ? { ...node, address: 'b-n0:1' } : node)),
  }))
  const producer = await producerOn(route, { sendTimeoutMs: 4_000 })
  transport.pushRoute({ ...route, groups: moved })
  refuse('a-n0:1', new LedgerError('NO_QUORUM', 'cannot'))
  broker('a-n2:1').calls.set('Probe', () => new Promise(() => {}))
  // The stream to the address is open, to serve the other group.
  expect(await producer.send({ topic: 'U', body: 'u' })).toMatchObject({ status: 'SEND_OK' })
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await clock.advance(5_000)
  expect(sent.value).toMatchObject({ stored: 'no' })
})

test('P3: a message that waited for its topic in vain is not stored, however creating it ended', async () => {
  const producer = await producerOn(routeOf({ a: {} }))
  for (const node of ['n0', 'n1', 'n2'])
    broker(`a-${node}:1`).calls.set('CreateTopic', () => {
      throw new LedgerError('DEADLINE_EXCEEDED', 'no answer')
    })
  const sends = [outcome(producer.send({ topic: 'T', body: '0' }))]
  for (let count = 1; count < 8; count++) {
    await clock.advance(50)
    sends.push(outcome(producer.send({ topic: 'T', body: `${count}` })))
  }
  await clock.advance(12_000)
  expect(transport.produced).toEqual([])
  for (const { value } of sends) expect(value).toMatchObject({ code: 'NO_ROUTE', stored: 'no' })
  expect((sends.at(-1)!.value as LedgerError).message).toContain('no answer')
})

test('P3: a client that closes waits for a producer that closes already, and its send in flight', async () => {
  const producer = await producerOn(routeOf({ a: {} }, { T: { a: 1 } }))
  const held: Produced[] = []
  broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(10)
  const closing = [producer.close(), client.close()]
  await settle(10)
  expect(sent.value).toBe(null)
  held[0]!.reply({ baseOffset: 7 })
  await settle(10)
  expect(sent.value).toMatchObject({ offset: 7 })
  await Promise.all(closing)
})
