/** What a producer says of a message whose attempts ended in different ways: never less, and no more, than is known. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Producer } from '../../../src/client/producer/producer.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { settle } from '../../support/manual-clock.ts'
import { outcome, ProducerBench } from './producer-bench.ts'
import { type Produced, routeOf } from './scripted-transport.ts'

let bench: ProducerBench

beforeEach(() => {
  bench = new ProducerBench()
})

afterEach(() => bench.end())

/** Sends one message, so that the next batch goes to the other group: they take turns. */
async function groupOfFirst(producer: Producer): Promise<string> {
  return (await producer.send({ topic: 'T', body: 'first' })).queue.group
}

const twoGroups = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } })

test('P3: without sequences a batch that moves at once after an unknown outcome is not told "not stored"', async () => {
  const producer = await bench.producerOn(twoGroups, { idempotent: false })
  const group = (await groupOfFirst(producer)) === 'a' ? 'b' : 'a'
  const other = group === 'a' ? 'b' : 'a'
  bench.refuse(`${group}-n0:1`, new LedgerError('OUTCOME_UNKNOWN', 'deposed'))
  bench.refuse(`${other}-n0:1`, new LedgerError('NO_PERMISSION', 'read only'))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(1_000)
  expect(bench.transport.produced.at(-1)!.address).toBe(`${other}-n0:1`)
  expect(sent.value).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
})

test('P3: an address that another group took does not make unknown what then waits for a connection', async () => {
  const route = routeOf({ a: {}, b: { nodes: 1 } }, { T: { a: 1 }, U: { b: 1 } })
  const moved = route.groups.map((group) => ({
    ...group,
    nodes: group.nodes.map((node) => (node.node === 'a-n1' ? { ...node, address: 'b-n0:1' } : node)),
  }))
  const producer = await bench.producerOn(route, { sendTimeoutMs: 4_000 })
  bench.transport.pushRoute({ ...route, groups: moved })
  bench.refuse('a-n0:1', new LedgerError('NO_QUORUM', 'cannot'))
  bench.broker('a-n2:1').calls.set('Probe', () => new Promise(() => {}))
  // The stream to the address is open, to serve the other group.
  expect(await producer.send({ topic: 'U', body: 'u' })).toMatchObject({ status: 'SEND_OK' })
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(5_000)
  expect(sent.value).toMatchObject({ stored: 'no' })
})

test('P3: a message that waited for its topic in vain is not stored, however creating it ended', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }))
  for (const node of ['n0', 'n1', 'n2'])
    bench.broker(`a-${node}:1`).calls.set('CreateTopic', () => {
      throw new LedgerError('DEADLINE_EXCEEDED', 'no answer')
    })
  const sends = [outcome(producer.send({ topic: 'T', body: '0' }))]
  for (let count = 1; count < 8; count++) {
    await bench.clock.advance(50)
    sends.push(outcome(producer.send({ topic: 'T', body: `${count}` })))
  }
  await bench.clock.advance(12_000)
  expect(bench.transport.produced).toEqual([])
  for (const { value } of sends) expect(value).toMatchObject({ code: 'NO_ROUTE', stored: 'no' })
  expect((sends.at(-1)!.value as LedgerError).message).toContain('no answer')
})

test('P3: a client that closes waits for a producer that closes already, and its send in flight', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }, { T: { a: 1 } }))
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(10)
  const closing = [producer.close(), bench.client.close()]
  await settle(10)
  expect(sent.value).toBe(null)
  held[0]!.reply({ baseOffset: 7 })
  await settle(10)
  expect(sent.value).toMatchObject({ offset: 7 })
  await Promise.all(closing)
})
