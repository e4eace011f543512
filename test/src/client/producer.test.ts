/** The producer against scripted brokers, under a clock that only the test moves: every rule of `send-rules.ts`. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Producer } from '../../../src/client/producer/producer.ts'
import { hashSelector } from '../../../src/client/queue-selector.ts'
import type { MessageQueue } from '../../../src/client/types.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { readRecords } from '../../../src/message/batch.ts'
import { settle } from '../../support/manual-clock.ts'
import { outcome, ProducerBench } from './producer-bench.ts'
import { type Produced, routeOf, ScriptedTransport } from './scripted-transport.ts'

let bench: ProducerBench

beforeEach(() => {
  bench = new ProducerBench()
})

afterEach(() => bench.end())

function bodies({ batch }: Produced): readonly string[] {
  return readRecords(batch).map((record) => record.body.toString())
}

/** Sends one message, so that the next batch goes to the other group: they take turns. */
async function groupOfFirst(producer: Producer): Promise<string> {
  return (await producer.send({ topic: 'T', body: 'first' })).queue.group
}

const oneGroup = routeOf({ a: {} }, { T: { a: 1 } })
const twoGroups = routeOf({ a: {}, b: {} }, { T: { a: 1, b: 1 } })

test('a lone message leaves without any time passing', async () => {
  const producer = await bench.producerOn(oneGroup)
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(20)
  expect(sent.value).toMatchObject({
    status: 'SEND_OK',
    queue: { topic: 'T', group: 'a', queue: 0 },
    offset: 0,
    attempts: 1,
    duplicate: false,
  })
})

test('B3: every retry after an unknown outcome carries the same bytes to the same group and queue', async () => {
  const producer = await bench.producerOn(twoGroups, { sendTimeoutMs: 9_000 })
  for (const address of ['a-n0:1', 'a-n1:1', 'a-n2:1']) bench.silence(address)
  const sends = [outcome(producer.send({ topic: 'T', body: '1' }))]
  await settle(20)
  sends.push(outcome(producer.send({ topic: 'T', body: '2' })))
  await bench.clock.advance(9_100)
  const toA = bench.transport.produced.filter(({ address }) => address.startsWith('a'))
  expect(toA.length).toBeGreaterThan(2)
  for (const { batch } of toA) expect(batch.equals(toA[0]!.batch)).toBe(true)
  expect(bench.transport.produced.filter(({ address }) => address.startsWith('b'))).toHaveLength(1)
  expect(sends.map(({ value }) => (value instanceof LedgerError ? value.code : value?.queue.group)).sort()).toEqual([
    'OUTCOME_UNKNOWN',
    'b',
  ])
})

test('P3: a batch whose outcome is unknown never moves, even when a later attempt is refused', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 5_000 })
  bench.silence('a-n0:1')
  bench.refuse('a-n1:1', new LedgerError('NO_QUORUM', 'cannot'))
  bench.refuse('a-n2:1', new LedgerError('NO_QUORUM', 'cannot'))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(20)
  bench.transport.pushRoute(twoGroups)
  addMissing('b')
  await bench.clock.advance(5_100)
  expect(bench.transport.produced.filter(({ address }) => address.startsWith('b'))).toEqual([])
  expect(sent.value).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
  expect((sent.value as LedgerError).facts.attempts?.length).toBeGreaterThan(1)
})

test('P3: OUTCOME_UNKNOWN and a broken stream taint a batch just as silence does', async () => {
  const unknowns: ((produced: Produced) => void)[] = [
    ({ reply }) => reply(new LedgerError('OUTCOME_UNKNOWN', 'deposed')),
    () => bench.broker('a-n0:1').breakStreams(),
  ]
  for (const unknown of unknowns) {
    bench.transport = new ScriptedTransport()
    const producer = await bench.producerOn(routeOf({ a: {} }, { T: { a: 1 } }), { sendTimeoutMs: 1_000 })
    bench.broker('a-n0:1').onProduce = unknown
    for (const node of ['n1', 'n2']) bench.refuse(`a-${node}:1`, new LedgerError('NO_QUORUM', 'cannot'))
    const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
    await settle(4)
    bench.transport.pushRoute(twoGroups)
    addMissing('b')
    await bench.clock.advance(1_100)
    expect(bench.transport.produced.filter(({ address }) => address.startsWith('b'))).toEqual([])
    expect(sent.value).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
  }
})

function addMissing(group: string): void {
  for (const entry of bench.transport.route.groups.filter((one) => one.group === group))
    for (const { node, address } of entry.nodes)
      if (!bench.transport.brokers.has(address))
        bench.transport.addBroker(address, group, node).leads = node === entry.leader
}

test('P3: after a definite refusal the batch moves to another group under a sequence of its own', async () => {
  const producer = await bench.producerOn(twoGroups)
  for (const node of ['n0', 'n1', 'n2']) bench.refuse(`a-${node}:1`, new LedgerError('NO_QUORUM', 'cannot'))
  const sent = [outcome(producer.send({ topic: 'T', body: '1' }))]
  await settle(20)
  sent.push(outcome(producer.send({ topic: 'T', body: '2' })))
  await settle(20)
  for (const { value } of sent) expect(value).toMatchObject({ queue: { group: 'b' } })
  const [refused] = bench.transport.produced.filter(({ address }) => address.startsWith('a'))
  const toB = bench.transport.produced.filter(({ address }) => address.startsWith('b'))
  expect(refused?.header.firstOfProducer).toBe(true)
  expect(toB.map(({ header }) => [header.baseSequence, header.firstOfProducer])).toEqual([
    [0, true],
    [1, false],
  ])
})

test('P3: what never left this process is not stored: no unknown end, and another group may take it', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 3_000 })
  const answers: (() => void)[] = []
  const hang = (): Promise<unknown> =>
    new Promise((resolve) => answers.push(() => resolve({ group: 'a', node: 'n', leader: true })))
  for (const node of ['n0', 'n1', 'n2']) bench.broker(`a-${node}:1`).calls.set('Probe', hang)
  const lost = outcome(producer.send({ topic: 'T', body: 'lost' }))
  await bench.clock.advance(3_100)
  expect(lost.value).toMatchObject({ code: 'NO_QUORUM', stored: 'no' })

  const moved = outcome(producer.send({ topic: 'T', body: 'moved' }))
  await settle(20)
  bench.transport.pushRoute(twoGroups)
  addMissing('b')
  await bench.clock.advance(2_900)
  expect(moved.value).toMatchObject({ status: 'SEND_OK', queue: { group: 'b' } })
  for (const answer of answers) answer()
  await bench.clock.advance(1_000)
  expect(bench.transport.produced.map(bodies)).toEqual([['moved']])
})

test('P3: a producer that is torn down before a batch left says that it is not stored', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 30_000 })
  bench.broker('a-n0:1').calls.set('Probe', () => new Promise(() => {}))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(20)
  producer.abandon(new LedgerError('CLOSED', 'the producer was closed'))
  await settle()
  expect(sent.value).toMatchObject({ code: 'CLOSED', stored: 'no' })
})

test('a sequence is never used again: not after a refusal, not after an unknown end', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 2_000 })
  bench.refuse('a-n0:1', new LedgerError('MESSAGE_ILLEGAL', 'no'))
  await producer.send({ topic: 'T', body: '1' }).catch(() => {})
  for (const node of ['n0', 'n1', 'n2']) bench.silence(`a-${node}:1`)
  const lost = outcome(producer.send({ topic: 'T', body: '2' }))
  await bench.clock.advance(2_100)
  expect(lost.value).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
  bench.broker('a-n0:1').onProduce = ({ reply }) => reply({})
  await producer.send({ topic: 'T', body: '3' })
  await producer.send({ topic: 'T', body: '4' })
  const seen = new Map(bench.transport.produced.map((produced) => [bodies(produced).join(), produced.header]))
  expect([...seen].map(([body, header]) => [body, header.baseSequence, header.firstOfProducer])).toEqual([
    ['1', 0, true],
    ['2', 1, true],
    // Still flagged as first: nobody knows whether the broker has seen this producer.
    ['3', 2, true],
    ['4', 3, false],
  ])
  expect(new Set([...seen.values()].map((header) => header.producerId.toString('hex'))).size).toBe(1)
})

test('one batch in flight per queue, and the order of a queue is kept over retries', async () => {
  const producer = await bench.producerOn(oneGroup)
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const sends: ReturnType<typeof outcome>[] = []
  for (let index = 0; index < 5; index++) {
    sends.push(outcome(producer.send({ topic: 'T', body: `${index}` })))
    await settle(4)
  }
  expect(held).toHaveLength(1)
  for (const follower of ['a-n1:1', 'a-n2:1'])
    bench.refuse(
      follower,
      new LedgerError('NOT_LEADER', 'no', { term: 1, leader: { node: 'a-n0', address: 'a-n0:1' } }),
    )
  held[0]!.reply(new LedgerError('OUTCOME_UNKNOWN', 'deposed'))
  await bench.clock.advance(500)
  expect(held.length).toBeGreaterThan(1)
  expect(held.map((one) => bodies(one).join())).toEqual(held.map(() => '0'))
  held.at(-1)!.reply({ baseOffset: 40, duplicate: true })
  await settle(20)
  expect(sends[0]!.value).toMatchObject({ offset: 40, duplicate: true })
  const next = held.at(-1)!
  expect(bodies(next)).toEqual(['1', '2', '3', '4'])
})

test('NOT_LEADER with a hint: the batch jumps at once and the jump is not counted', async () => {
  const producer = await bench.producerOn(oneGroup)
  bench.refuse('a-n0:1', new LedgerError('NOT_LEADER', 'no', { term: 2, leader: { node: 'a-n1', address: 'a-n1:1' } }))
  bench.broker('a-n1:1').onProduce = ({ reply }) => reply({ term: 2 })
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(30)
  expect(sent.value).toMatchObject({ term: 2, attempts: 1 })
  const next = outcome(producer.send({ topic: 'T', body: 'y' }))
  await settle(20)
  expect(next.value).not.toBeNull()
  expect(bench.transport.produced.map(({ address }) => address)).toEqual(['a-n0:1', 'a-n1:1', 'a-n1:1'])
})

test('two replicas that point at each other are not followed in circles', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 3_000 })
  bench.refuse('a-n0:1', new LedgerError('NOT_LEADER', 'no', { term: 1, leader: { node: 'a-n1', address: 'a-n1:1' } }))
  bench.refuse('a-n1:1', new LedgerError('NOT_LEADER', 'no', { term: 1, leader: { node: 'a-n0', address: 'a-n0:1' } }))
  bench.refuse('a-n2:1', new LedgerError('NOT_LEADER', 'no', { term: 1 }))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(3_100)
  expect(sent.value).toMatchObject({ code: 'NO_QUORUM', stored: 'no' })
  expect(bench.transport.produced.length).toBeLessThan(150)
})

test('a pushed route with a higher term resends what is in flight to the old leader at once', async () => {
  const producer = await bench.producerOn(oneGroup)
  bench.silence('a-n0:1')
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(20)
  expect(sent.value).toBeNull()
  bench.transport.pushRoute(routeOf({ a: { term: 2, leader: 'a-n1' } }, { T: { a: 1 } }))
  await settle(20)
  expect(sent.value).toMatchObject({ status: 'SEND_OK', attempts: 2 })
  expect(bench.transport.produced[1]!.batch.equals(bench.transport.produced[0]!.batch)).toBe(true)
})

test('N1: a route with a smaller term moves nothing', async () => {
  const producer = await bench.producerOn(routeOf({ a: { term: 4 } }, { T: { a: 1 } }))
  bench.transport.pushRoute(routeOf({ a: { term: 3, leader: 'a-n2' } }, { T: { a: 1 } }))
  await producer.send({ topic: 'T', body: 'x' })
  expect(bench.transport.produced.map(({ address }) => address)).toEqual(['a-n0:1'])
})

test('a broken stream: the same bytes go to the best known leader at once', async () => {
  const producer = await bench.producerOn(oneGroup)
  bench.silence('a-n0:1')
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(20)
  bench.broker('a-n0:1').up = false
  bench.broker('a-n1:1').onProduce = ({ reply }) => reply({ term: 2 })
  bench.broker('a-n0:1').breakStreams()
  await settle(30)
  expect(sent.value).toMatchObject({ status: 'SEND_OK' })
  expect(bench.transport.produced.map(({ address }) => address)).toEqual(['a-n0:1', 'a-n1:1'])
  expect(bench.transport.produced[1]!.batch.equals(bench.transport.produced[0]!.batch)).toBe(true)
})

test('an answer that comes after its attempt was given up still settles the batch', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 6_000 })
  for (const node of ['n0', 'n1', 'n2']) bench.silence(`a-${node}:1`)
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(3_000)
  expect(bench.transport.produced.length).toBeGreaterThan(1)
  bench.transport.produced[0]!.reply({ baseOffset: 12 })
  await settle(20)
  expect(sent.value).toMatchObject({ offset: 12 })
})

test('the first attempt leaves time for others', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 9_000 })
  for (const node of ['n0', 'n1', 'n2']) bench.silence(`a-${node}:1`)
  outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(9_100)
  expect(bench.transport.produced[0]!.timeoutMs).toBe(3_000)
  expect(bench.transport.produced.map(({ address }) => address).slice(0, 3)).toEqual(['a-n0:1', 'a-n1:1', 'a-n2:1'])
})

test('FLOW_CONTROL: the batch waits as long as the broker asks, then goes to the same queue', async () => {
  const producer = await bench.producerOn(oneGroup)
  bench.refuse('a-n0:1', new LedgerError('FLOW_CONTROL', 'full', { retryAfterMs: 300 }))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(290)
  expect(bench.transport.produced).toHaveLength(1)
  bench.broker('a-n0:1').onProduce = ({ reply }) => reply({})
  await bench.clock.advance(20)
  expect(sent.value).toMatchObject({ status: 'SEND_OK', attempts: 2 })
})

test('UNKNOWN_PRODUCER: the producer goes on under a new id, flagged as its first batch', async () => {
  const producer = await bench.producerOn(oneGroup)
  await producer.send({ topic: 'T', body: '1' })
  bench.broker('a-n0:1').onProduce = ({ header, reply }) =>
    reply(header.firstOfProducer ? {} : new LedgerError('UNKNOWN_PRODUCER', 'forgotten'))
  await producer.send({ topic: 'T', body: '2' })
  await producer.send({ topic: 'T', body: '3' }).catch(() => {})
  const headers = bench.transport.produced.map(({ header }) => header)
  expect(headers.slice(0, 3).map((header) => [header.baseSequence, header.firstOfProducer])).toEqual([
    [0, true],
    [1, false],
    [0, true],
  ])
  expect(headers[2]!.producerId.equals(headers[1]!.producerId)).toBe(false)
})

test('messages fill a batch while others are in flight, up to 1024 records', async () => {
  const producer = await bench.producerOn(oneGroup)
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const sends = Array.from({ length: 1500 }, (_, index) => producer.send({ topic: 'T', body: `${index}` }))
  await settle(10)
  expect(held[0]!.header.recordCount).toBe(1024)
  held[0]!.reply({})
  await settle(10)
  expect(held[1]!.header.recordCount).toBe(476)
  held[1]!.reply({ baseOffset: 1024 })
  const results = await Promise.all(sends)
  expect(results.map((result) => result.offset)).toEqual(results.map((_, index) => index))
})

test('round robin per batch, alternating between the groups', async () => {
  const producer = await bench.producerOn(routeOf({ a: {}, b: {} }, { T: { a: 2, b: 2 } }))
  const groups: string[] = []
  for (let index = 0; index < 8; index++) {
    const { queue } = await producer.send({ topic: 'T', body: `${index}` })
    groups.push(`${queue.group}${queue.queue}`)
  }
  expect(new Set(groups.slice(0, 4)).size).toBe(4)
  expect(groups.slice(4)).toEqual(groups.slice(0, 4))
  for (let index = 1; index < groups.length; index++) expect(groups[index]![0]).not.toBe(groups[index - 1]![0])
})

test('a selected queue is final: the message waits for it and never goes elsewhere', async () => {
  const producer = await bench.producerOn(twoGroups, { sendTimeoutMs: 2_000 })
  for (const node of ['n0', 'n1', 'n2']) bench.refuse(`a-${node}:1`, new LedgerError('NO_QUORUM', 'cannot'))
  const selector = (queues: readonly { readonly group: string }[]): never =>
    queues.find((queue) => queue.group === 'a') as never
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }, { selector }))
  await bench.clock.advance(2_100)
  expect(sent.value).toMatchObject({ code: 'NO_QUORUM', stored: 'no' })
  expect(bench.transport.produced.filter(({ address }) => address.startsWith('b'))).toEqual([])
})

test('the hash selector sends equal arguments to one queue, in order', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }, { T: { a: 8 } }))
  const options = { selector: hashSelector, selectorArg: 'order-7' }
  const sends = Array.from({ length: 20 }, (_, index) => producer.send({ topic: 'T', body: `${index}` }, options))
  const results = await Promise.all(sends)
  expect(new Set(results.map((result) => result.queue.queue)).size).toBe(1)
  expect(results.map((result) => result.offset)).toEqual(results.map((_, index) => index))
})

test('sendBatch is one batch with one result per message; two topics are refused', async () => {
  const producer = await bench.producerOn(oneGroup)
  const results = await producer.sendBatch([1, 2, 3].map((n) => ({ topic: 'T', body: `${n}` })))
  expect(results.map((result) => result.offset)).toEqual([0, 1, 2])
  expect(bench.transport.produced).toHaveLength(1)
  const mixed = producer.sendBatch([
    { topic: 'T', body: '1' },
    { topic: 'U', body: '2' },
  ])
  await expect(mixed).rejects.toMatchObject({ code: 'MESSAGE_ILLEGAL' })
})

test('the buffer is bounded: BUFFER_FULL, false from sendOneway, and ready() tells when there is room', async () => {
  const producer = await bench.producerOn(oneGroup, { bufferBytesMax: 4_000 })
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const first = outcome(producer.send({ topic: 'T', body: Buffer.alloc(3_000) }))
  await expect(producer.send({ topic: 'T', body: Buffer.alloc(3_000) })).rejects.toMatchObject({ code: 'BUFFER_FULL' })
  expect(producer.sendOneway({ topic: 'T', body: Buffer.alloc(3_000) })).toBe(false)
  let hasRoom = false
  const ready = producer.ready().then(() => {
    hasRoom = true
  })
  await settle(10)
  expect(hasRoom).toBe(false)
  held[0]!.reply({})
  await ready
  expect(first.value).toMatchObject({ status: 'SEND_OK' })
  expect(producer.bufferedBytes).toBe(0)
  expect(producer.sendOneway({ topic: 'T', body: 'x' })).toBe(true)
})

test('an aborted send rejects at once; what waits behind it goes on', async () => {
  const producer = await bench.producerOn(oneGroup)
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const controller = new AbortController()
  const first = outcome(producer.send({ topic: 'T', body: '1' }))
  await settle(10)
  const second = outcome(producer.send({ topic: 'T', body: '2' }, { signal: controller.signal }))
  const third = outcome(producer.send({ topic: 'T', body: '3' }))
  controller.abort()
  await settle(10)
  expect(second.value).toMatchObject({ code: 'ABORTED' })
  held[0]!.reply({})
  await settle(10)
  expect(bodies(held[1]!)).toEqual(['3'])
  held[1]!.reply({ baseOffset: 1 })
  await settle(10)
  expect([first.value, third.value]).toMatchObject([{ offset: 0 }, { offset: 1 }])
})

test('an unknown topic is created on the leaders of all groups', async () => {
  const producer = await bench.producerOn(routeOf({ a: {}, b: {} }), { queuesPerTopic: 3 })
  const created: unknown[] = []
  for (const address of ['a-n0:1', 'b-n0:1']) {
    bench.broker(address).calls.set('CreateTopic', (request: { config: object; automatic: boolean }) => {
      created.push([address, request])
      return { topic: { config: request.config, topicId: 9 } }
    })
  }
  await producer.send({ topic: 'New', body: 'x' })
  const config = { topic: 'New', readQueues: 3, writeQueues: 3, permission: 6 }
  expect(created).toEqual([
    ['a-n0:1', { config, automatic: true }],
    ['b-n0:1', { config, automatic: true }],
  ])
})

test('an unknown topic is an error where automatic creation is off, at the producer or at the broker', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }), { autoCreateTopics: false })
  await expect(producer.send({ topic: 'New', body: 'x' })).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  const asking = bench.client.producer()
  bench.broker('a-n0:1').calls.set('CreateTopic', () => {
    throw new LedgerError('TOPIC_NOT_EXIST', 'automatic creation is off')
  })
  await expect(asking.send({ topic: 'New', body: 'x' })).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
})

test('all replicas unreachable: NO_QUORUM, definitely not stored, with every address that was dialled', async () => {
  const producer = await bench.producerOn(oneGroup, { sendTimeoutMs: 2_000 })
  for (const scripted of bench.transport.brokers.values()) scripted.up = false
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(2_100)
  expect(sent.value).toMatchObject({ code: 'NO_QUORUM', stored: 'no' })
  const lines = (sent.value as LedgerError).facts.attempts?.join('\n') ?? ''
  for (const address of ['a-n0:1', 'a-n1:1', 'a-n2:1']) expect(lines).toContain(address)
})

test('a broker of another group at the known address gets nothing', async () => {
  const producer = await bench.producerOn(routeOf({ a: { nodes: 1 } }, { T: { a: 1 } }), { sendTimeoutMs: 1_000 })
  bench.transport.addBroker('a-n0:1', 'stranger', 's-n0').leads = true
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(1_100)
  expect(bench.transport.produced).toEqual([])
  expect(sent.value).toMatchObject({ stored: 'no' })
  expect((sent.value as LedgerError).message).toContain('belongs to broker group stranger')
})

test('illegal messages are refused before anything is sent', async () => {
  const producer = await bench.producerOn(oneGroup)
  await expect(producer.send({ topic: '../x', body: 'x' })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(producer.send({ topic: 'T', body: '' })).rejects.toMatchObject({ code: 'MESSAGE_ILLEGAL' })
  expect(() => producer.sendOneway({ topic: 'T', body: '' })).toThrow(LedgerError)
  expect(bench.transport.produced).toEqual([])
})

test('the callback form is called once, after sendAsync has returned', async () => {
  const producer = await bench.producerOn(oneGroup)
  const calls: unknown[] = []
  producer.sendAsync({ topic: 'T', body: 'x' }, (error, result) => calls.push(error ?? result))
  expect(calls).toEqual([])
  await settle(20)
  expect(calls).toMatchObject([{ status: 'SEND_OK' }])
})

test('close finishes what is in flight and leaves no timer behind', async () => {
  const producer = await bench.producerOn(oneGroup)
  const held: Produced[] = []
  bench.broker('a-n0:1').onProduce = (produced) => held.push(produced)
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await settle(10)
  let closed = false
  const closing = producer.close().then(() => {
    closed = true
  })
  await settle(10)
  expect(closed).toBe(false)
  held[0]!.reply({})
  await closing
  expect(sent.value).toMatchObject({ status: 'SEND_OK' })
  await expect(producer.send({ topic: 'T', body: 'y' })).rejects.toMatchObject({ code: 'CLOSED' })
  await bench.client.close()
  expect(bench.clock.timerCount).toBe(0)
})

test('without sequences an unknown outcome may go elsewhere: the documented price is a double', async () => {
  const producer = await bench.producerOn(twoGroups, { idempotent: false })
  for (const node of ['n0', 'n1', 'n2']) bench.refuse(`a-${node}:1`, new LedgerError('OUTCOME_UNKNOWN', 'deposed'))
  const sends = [producer.send({ topic: 'T', body: '1' }), producer.send({ topic: 'T', body: '2' })]
  await settle(20)
  sends.push(producer.send({ topic: 'T', body: '3' }))
  for (const result of await Promise.all(sends)) expect(result.queue.group).toBe('b')
  for (const { header } of bench.transport.produced) expect(header.producerId.every((byte) => byte === 0)).toBe(true)
})

test('an answer that comes after the batch went elsewhere names its own queue', async () => {
  const producer = await bench.producerOn(twoGroups, { idempotent: false, sendTimeoutMs: 6_000 })
  const group = (await groupOfFirst(producer)) === 'a' ? 'b' : 'a'
  const other = group === 'a' ? 'b' : 'a'
  bench.silence(`${group}-n0:1`)
  bench.silence(`${other}-n0:1`)
  for (const node of ['n1', 'n2']) bench.refuse(`${group}-${node}:1`, new LedgerError('NO_QUORUM', 'cannot'))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(2_500)
  expect(bench.transport.produced.at(-1)!.address).toBe(`${other}-n0:1`)
  bench.transport.produced.find(({ address }) => address === `${group}-n0:1`)!.reply({ baseOffset: 12, term: 99 })
  await settle(20)
  expect(sent.value).toMatchObject({ offset: 12, queue: { group } })
})

test('P3: without sequences a batch that moved after an unknown outcome is never told "not stored"', async () => {
  const producer = await bench.producerOn(twoGroups, { idempotent: false, sendTimeoutMs: 6_000 })
  const group = (await groupOfFirst(producer)) === 'a' ? 'b' : 'a'
  const other = group === 'a' ? 'b' : 'a'
  bench.silence(`${group}-n0:1`)
  for (const node of ['n1', 'n2']) bench.refuse(`${group}-${node}:1`, new LedgerError('NO_QUORUM', 'cannot'))
  bench.refuse(`${other}-n0:1`, new LedgerError('NO_PERMISSION', 'read only'))
  const sent = outcome(producer.send({ topic: 'T', body: 'x' }))
  await bench.clock.advance(2_500)
  expect(bench.transport.produced.at(-1)!.address).toBe(`${other}-n0:1`)
  expect(sent.value).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
})

test('a selected queue stays selected when the topic is gone and created again', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }, { T: { a: 4 } }))
  const selector = (queues: readonly MessageQueue[]): MessageQueue => queues.find(({ queue }) => queue === 3) as never
  const store = bench.broker('a-n0:1').onProduce
  bench.refuse('a-n0:1', new LedgerError('TOPIC_NOT_EXIST', 'deleted'))
  bench.transport.route = routeOf({ a: {} })
  bench.broker('a-n0:1').calls.set('CreateTopic', (request: { config: object }) => {
    bench.broker('a-n0:1').onProduce = store
    return { topic: { config: request.config, topicId: 9 } }
  })
  const sends = [1, 2, 3].map((body) => outcome(producer.send({ topic: 'T', body: `${body}` }, { selector })))
  await bench.clock.advance(1_000)
  for (const { value } of sends) expect(value).toMatchObject({ queue: { queue: 3 } })
  expect(bench.transport.produced.filter(({ header }) => header.queue !== 3)).toEqual([])
})

test('a batch that waits for its topic to come back stays one batch', async () => {
  const producer = await bench.producerOn(routeOf({ a: {} }, { T: { a: 4 } }))
  const store = bench.broker('a-n0:1').onProduce
  bench.refuse('a-n0:1', new LedgerError('TOPIC_NOT_EXIST', 'deleted'))
  bench.transport.route = routeOf({ a: {} })
  let before = 0
  bench.broker('a-n0:1').calls.set('CreateTopic', (request: { config: object }) => {
    bench.broker('a-n0:1').onProduce = store
    before = bench.transport.produced.length
    return { topic: { config: request.config, topicId: 9 } }
  })
  const body = 'x'.repeat(200 * 1024)
  const sent = producer.sendBatch([1, 2, 3].map(() => ({ topic: 'T', body })))
  await bench.clock.advance(1_000)
  expect(bench.transport.produced.slice(before).map(({ header }) => header.recordCount)).toEqual([3])
  expect(await sent).toHaveLength(3)
})
