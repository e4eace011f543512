/** Sends with a selector that wait for a queue which is busy: what frees it, and what ends them before. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Producer } from '../../../src/client/producer/producer.ts'
import type { MessageQueue } from '../../../src/client/types.ts'
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

test('flush ends although a selected send was aborted while its queue was busy', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }, { T: { a: 1 } }))
  const selector = (queues: readonly MessageQueue[]): MessageQueue => queues[0] as MessageQueue
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const first = outcome(producer.send({ topic: 'T', body: '1' }))
  await settle(10)
  const controller = new AbortController()
  const second = outcome(producer.send({ topic: 'T', body: '2' }, { selector, signal: controller.signal }))
  let flushed = false
  void producer.flush().then(() => {
    flushed = true
  })
  await settle(10)
  controller.abort()
  held[0]!.reply({})
  await bench.clock.advance(20_000)
  expect([first.value, second.value]).toMatchObject([{ offset: 0 }, { code: 'ABORTED' }])
  expect(flushed).toBe(true)
})

test('what waits for a queue goes on at once when the batch before it moves to another group', async () => {
  const producer = await bench.producerOn(routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } }))
  const group = (await groupOfFirst(producer)) === 'a' ? 'b' : 'a'
  const other = group === 'a' ? 'b' : 'a'
  const held: Produced[] = []
  const store = bench.broker(`${group}-n0:1`).onProduce
  bench.broker(`${group}-n0:1`).onProduce = (produced) => held.push(produced)
  bench.silence(`${other}-n0:1`)
  const moving = outcome(producer.send({ topic: 'T', body: 'moving' }))
  await settle(10)
  const selector = (queues: readonly MessageQueue[]): MessageQueue =>
    queues.find((queue) => queue.group === group) as MessageQueue
  const selected = outcome(producer.send({ topic: 'T', body: 'selected' }, { selector }))
  await settle(10)
  expect(held).toHaveLength(1)
  bench.broker(`${group}-n0:1`).onProduce = store
  held[0]!.reply(new LedgerError('NO_QUORUM', 'cannot'))
  await settle(20)
  expect(bench.transport.produced.some(({ address }) => address === `${other}-n0:1`)).toBe(true)
  expect(moving.value).toBe(null)
  expect(selected.value).toMatchObject({ status: 'SEND_OK', queue: { group } })
})
