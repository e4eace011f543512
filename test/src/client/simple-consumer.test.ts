/** The simple consumer on a real broker group in one process: what is received, settled and comes again. */
import { afterEach, expect, test } from 'vitest'
import { encodeCommand } from '../../../src/broker/apply/command.ts'
import { defaultGroupSettings, type GroupSettings } from '../../../src/broker/apply/group-config.ts'
import type { Client } from '../../../src/client/client.ts'
import type { ReceivedMessage } from '../../../src/client/consumer/received-message.ts'
import type { SimpleConsumer } from '../../../src/client/consumer/simple-consumer.ts'
import type { SimpleConsumerOptions } from '../../../src/client/types.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { encodeBatch } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import { batchKinds, codecs } from '../../../src/message/types.ts'
import type { Channel, Transport } from '../../../src/rpc/transport.ts'
import { frameTypes } from '../../../store/index.ts'
import { eventually } from '../../support/eventually.ts'
import { seededNumbers } from '../../support/seeded-numbers.ts'
import { ClientCluster } from './client-cluster.ts'

let cluster: ClientCluster

afterEach(() => cluster.end())

async function opened(nodes: readonly string[] = ['n0']): Promise<Client> {
  cluster = new ClientCluster(nodes)
  await cluster.start()
  const client = await cluster.connect()
  await client.admin().createTopic({ topic: 'T', queues: 2 })
  return client
}

function consumerOf(client: Client, options: Partial<SimpleConsumerOptions> = {}): SimpleConsumer {
  return client.simpleConsumer({ group: 'g', subscribe: ['T'], from: 'first', ...options })
}

/** Receives until so many came. */
async function take(
  consumer: SimpleConsumer,
  count: number,
  options: Parameters<SimpleConsumer['receive']>[0] = {},
): Promise<readonly ReceivedMessage[]> {
  const taken: ReceivedMessage[] = []
  for (let turn = 0; turn < 20 && taken.length < count; turn++) taken.push(...(await consumer.receive(options)))
  return taken
}

function bodies(messages: readonly ReceivedMessage[]): readonly string[] {
  return messages.map(({ body }) => body.toString())
}

/** Behind the back of the clients. */
async function propose(type: typeof frameTypes.batch | typeof frameTypes.command, body: Buffer): Promise<void> {
  const leader = cluster.brokers.replica(await cluster.brokers.leader())
  await leader.propose(type, [body], { timeoutMs: 5_000 })
}

function setGroup(settings: Partial<GroupSettings>): Promise<void> {
  const command = encodeCommand({ kind: 'set_group', group: 'g', settings: { ...defaultGroupSettings, ...settings } })
  return propose(frameTypes.command, command)
}

/** One batch in queue 0; the message group of a body is its first letter. */
function sendInGroups(...texts: readonly string[]): Promise<void> {
  const records = texts.map(
    (body) => buildRecord({ topic: 'T', body }, { messageId: `id${body}`, messageGroup: body.slice(0, 1) }).record,
  )
  const header = { codec: codecs.none, kind: batchKinds.normal, firstOfProducer: false, producerId: Buffer.alloc(16) }
  const place = { producerEpoch: 0, baseSequence: 0, baseBornTime: 1, topic: 'T', queue: 0, bornHost: '' }
  return propose(frameTypes.batch, encodeBatch({ ...header, ...place, extensions: [], records }))
}

test('messages are sent, received and acknowledged, each with one receiver', async () => {
  const client = await opened()
  const producer = client.producer()
  await Promise.all(
    Array.from({ length: 30 }, (_, at) => producer.send({ topic: 'T', body: `m${at}`, keys: [`k${at}`] })),
  )
  const [one, two] = [consumerOf(client), consumerOf(client)]
  const found = (await Promise.all([take(one, 15, { maxMessages: 3 }), take(two, 15, { maxMessages: 3 })])).flat()
  expect(new Set(bodies(found)).size).toBe(30)
  expect(found.every(({ deliveryAttempt, topic }) => deliveryAttempt === 1 && topic === 'T')).toBe(true)
  const message = found[0]!
  expect(message.keys).toEqual([`k${message.body.toString().slice(1)}`])
  await Promise.all(found.map((each) => each.ack()))
  expect(await one.receive({ waitMs: 0 })).toEqual([])
  await expect(message.ack()).rejects.toMatchObject({ code: 'RECEIPT_STALE' })
  const { machine } = cluster.brokers.replica('n0')
  const topic = machine.topic('T')!.topicId
  const held = machine.received.ofGroup('g').flatMap(({ messages }) => [...messages.values()])
  expect(held).toEqual([])
  const consumed = [0, 1].map((queue) => [
    machine.committedOffset('g', topic, queue),
    machine.queueRange(topic, queue)!.max,
  ])
  for (const [committed, max] of consumed) expect(committed).toBe(max)
})

test('a message that is not acknowledged in its time comes again, and its old handle is stale', async () => {
  const client = await opened()
  await client.producer().send({ topic: 'T', body: 'a' })
  const consumer = consumerOf(client)
  const [first] = await take(consumer, 1, { invisibleMs: 50 })
  const [again] = await take(consumer, 1)
  expect([first?.deliveryAttempt, again?.deliveryAttempt]).toEqual([1, 2])
  await expect(first?.ack()).rejects.toMatchObject({ code: 'RECEIPT_STALE' })
  const old = again?.receiptHandle
  await again?.changeInvisible(30_000)
  expect(again?.receiptHandle).not.toBe(old)
  await again?.changeInvisible(1)
  const [third] = await take(consumer, 1)
  expect(third?.deliveryAttempt).toBe(3)
  await expect(again?.changeInvisible(1)).rejects.toMatchObject({ code: 'RECEIPT_STALE' })
  await third?.ack()
})

test('a handle is good under the next leader, and attempts are counted on', async () => {
  const client = await opened(['n0', 'n1', 'n2'])
  const producer = client.producer()
  await Promise.all(['a', 'b'].map((body) => producer.send({ topic: 'T', body })))
  const consumer = consumerOf(client)
  const [one, two] = await take(consumer, 2, { invisibleMs: 60_000 })
  cluster.brokers.kill(await cluster.brokers.leader())
  await one?.ack()
  const waiting = take(consumer, 1)
  await two?.changeInvisible(0)
  const [again] = await waiting
  expect(again?.body).toEqual(two?.body)
  expect(again?.deliveryAttempt).toBe(2)
  await again?.ack()
  expect(await consumer.receive({ waitMs: 0 })).toEqual([])
})

test('a receive goes on when the leader that it waits at is gone', async () => {
  const client = await opened(['n0', 'n1', 'n2'])
  const consumer = consumerOf(client)
  const waiting = consumer.receive({ waitMs: 60_000 })
  const leader = await cluster.brokers.leader()
  const { machine } = cluster.brokers.replica(leader)
  await eventually('the group has its place', () => machine.received.ofGroup('g').length === 2 || null)
  cluster.brokers.kill(leader)
  await client.producer().send({ topic: 'T', body: 'late' })
  const found = await waiting
  expect(bodies(found)).toEqual(['late'])
  expect(found[0]?.deliveryAttempt).toBe(1)
})

test('a waiting receiver gets a message as soon as it is there, whatever its other topics do', async () => {
  const client = await opened()
  await client.admin().createTopic({ topic: 'Idle', queues: 1 })
  const consumer = consumerOf(client, { subscribe: ['Idle', { topic: 'T', tags: 'yes || also' }] })
  const startedMs = performance.now()
  const waiting = consumer.receive({ waitMs: 60_000 })
  const producer = client.producer()
  await producer.send({ topic: 'T', body: 'unwanted', tag: 'no' })
  await producer.send({ topic: 'T', body: 'wanted', tag: 'also' })
  expect(bodies(await waiting)).toEqual(['wanted'])
  expect(performance.now() - startedMs).toBeLessThan(15_000)
  await producer.send({ topic: 'Idle', body: 'woken' })
  expect(bodies(await take(consumer, 1))).toEqual(['woken'])
})

test('what one topic grants while another one answers is not lost: it comes with the next receive', async () => {
  const client = await opened()
  await client.admin().createTopic({ topic: 'U', queues: 1 })
  const producer = client.producer()
  for (const topic of ['T', 'U'])
    for (const body of ['1', '2', '3']) await producer.send({ topic, body: `${topic}${body}` })
  const consumer = consumerOf(client, { subscribe: ['T', 'U'] })
  const found = await take(consumer, 6, { maxMessages: 1 })
  expect(bodies(found).toSorted()).toEqual(['T1', 'T2', 'T3', 'U1', 'U2', 'U3'])
  expect(found.map(({ deliveryAttempt }) => deliveryAttempt)).toEqual([1, 1, 1, 1, 1, 1])
})

test('message groups keep their order over receivers', async () => {
  const client = await opened()
  await setGroup({ ordered: true })
  await sendInGroups('a1', 'b1', 'a2', 'b2', 'a3')
  const [one, two] = [consumerOf(client), consumerOf(client)]
  const [a1] = await take(one, 1, { maxMessages: 1 })
  const [b1] = await take(two, 1, { maxMessages: 1 })
  expect(bodies([a1!, b1!])).toEqual(['a1', 'b1'])
  expect(await two.receive({ waitMs: 0 })).toEqual([])
  await b1?.ack()
  // a2 has to wait for a1, b2 for nobody any more.
  expect(bodies(await two.receive({ waitMs: 0 }))).toEqual(['b2'])
  expect(await two.receive({ waitMs: 0 })).toEqual([])
  const waiting = two.receive({ waitMs: 30_000 })
  await a1?.ack()
  expect(bodies(await waiting)).toEqual(['a2', 'a3'])
})

test('messages go to the dead letters when they are given up, and when they came too often', async () => {
  const client = await opened()
  await setGroup({ retriesMax: 1 })
  await sendInGroups('bad', 'worse')
  const consumer = consumerOf(client)
  const [bad, worse] = await take(consumer, 2)
  await bad?.deadLetter()
  await expect(bad?.deadLetter()).rejects.toMatchObject({ code: 'RECEIPT_STALE' })
  await worse?.changeInvisible(0)
  const [again] = await take(consumer, 1)
  await again?.changeInvisible(0)
  expect(await consumer.receive({ waitMs: 0 })).toEqual([])
  await eventually('the dead letters can be found', () => cluster.namesrv.route(['%DLQ%g']).topics.length > 0 || null)
  const dead = await take(consumerOf(client, { group: 'h', subscribe: ['%DLQ%g'] }), 2)
  expect(dead.map(({ body, attempt }) => [body.toString(), attempt])).toEqual([
    ['bad', 1],
    ['worse', 2],
  ])
})

test('who closes receives nothing more, and does not wait', async () => {
  const client = await opened()
  const consumer = consumerOf(client)
  const waiting = consumer.receive({ waitMs: 60_000 })
  await consumer.close()
  await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' })
  await expect(consumer.receive()).rejects.toMatchObject({ code: 'CLOSED' })
})

test('a receiver whose brokers are gone is told so, and that they are back', async () => {
  const client = await opened()
  const told: string[] = []
  const watching = (async () => {
    for await (const status of client.status())
      if (status.kind === 'stalled' || status.kind === 'resumed') told.push(`${status.kind} ${status.where}`)
  })()
  const consumer = consumerOf(client)
  expect(await consumer.receive({ waitMs: 0 })).toEqual([])
  cluster.brokers.kill('n0')
  await expect(consumer.receive({ waitMs: 100 })).rejects.toMatchObject({ retryable: true })
  expect(told).toEqual(['stalled T/RaftNode00'])
  await cluster.brokers.start('n0')
  await client.producer().send({ topic: 'T', body: 'a' })
  const found = await eventually('a message is received again', () => consumer.receive().catch(() => null))
  expect(bodies(found)).toEqual(['a'])
  expect(told).toEqual(['stalled T/RaftNode00', 'resumed T/RaftNode00'])
  await client.close()
  await watching
})

test('by chance: over crashes of leaders every delivery is counted, and every message consumed', async () => {
  const client = await opened(['n0', 'n1', 'n2'])
  const producer = client.producer({ sendTimeoutMs: 60_000 })
  const next = seededNumbers(3)
  const count = 60
  const attempts = new Map<string, number>()
  const done = new Set<string>()
  const work = async (consumer: SimpleConsumer): Promise<void> => {
    while (done.size < count) {
      const found = await consumer.receive({ maxMessages: 4, waitMs: 200, invisibleMs: 700 }).catch(retryLater)
      for (const message of found) {
        const body = message.body.toString()
        // A delivery whose answer was lost has its number, too; none comes to two receivers.
        expect(message.deliveryAttempt).toBeGreaterThan(attempts.get(body) ?? 0)
        attempts.set(body, message.deliveryAttempt)
        if (next() < 0.3) continue
        await message.ack().then(
          () => done.add(body),
          (error: LedgerError) => expect(['RECEIPT_STALE', 'TIMEOUT', 'NO_QUORUM']).toContain(error.code),
        )
      }
    }
  }
  const working = [1, 2, 3].map(() => work(consumerOf(client)))
  for (let at = 0; at < count; at++) {
    await producer.send({ topic: 'T', body: `m${at}` })
    if (at % 20 !== 10) continue
    const leader = await cluster.brokers.leader()
    cluster.brokers.kill(leader)
    await cluster.brokers.leader()
    await cluster.brokers.start(leader)
  }
  await Promise.all(working)
  expect([...attempts.values()].some((attempt) => attempt > 1)).toBe(true)
  const { machine } = cluster.brokers.replica(await cluster.brokers.leader())
  expect(machine.received.ofGroup('g').flatMap(({ messages }) => [...messages])).toEqual([])
})

/** Nobody leads for a moment: that may be said. */
function retryLater(error: LedgerError): readonly ReceivedMessage[] {
  if (!error.retryable) throw error
  return []
}

test('a receive that cannot be is refused by name', async () => {
  const client = await opened()
  const consumer = consumerOf(client)
  for (const options of [{ maxMessages: 0 }, { waitMs: -1 }, { invisibleMs: 0 }, { maxMessages: 1025 }])
    await expect(consumer.receive(options)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  const subscribe = ['Unknown']
  await expect(consumerOf(client, { subscribe }).receive()).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  expect(() => consumerOf(client, { subscribe: [] })).toThrow(/names no topic/)
  expect(() => consumerOf(client, { subscribe: [{ topic: 'T', tags: 'a | b' }] })).toThrow(/filter expression/)
  const aborting = AbortSignal.abort()
  await expect(consumer.receive({ signal: aborting })).rejects.toMatchObject({ code: 'ABORTED' })
})

test('a group whose queues are assigned to members is told so', async () => {
  const client = await opened()
  const push = client.pushConsumer({ group: 'g', subscribe: ['T'] })
  void push.run(() => {})
  await eventually('the member owns the queues', () => push.assignment().length === 2 || null)
  await expect(consumerOf(client).receive()).rejects.toMatchObject({
    code: 'INVALID_PARAMETER',
    message: expect.stringContaining('members'),
  })
})

test('an answer that got lost comes with the next attempt, and a lost acknowledgement counts', async () => {
  cluster = new ClientCluster(['n0'])
  await cluster.start()
  const lost: string[] = []
  /** One answer of the named call is lost. */
  let losing = ''
  const isLost = (name: string): boolean => {
    if (name !== losing) return false
    losing = ''
    lost.push(name)
    return true
  }
  const lossy = (transport: Transport): Transport => ({
    ...transport,
    connect: (address, purpose) => losingAnswers(transport.connect(address, purpose), isLost),
    listen: (address, register) => transport.listen(address, register),
  })
  const client = await cluster.connect({}, lossy)
  await client.admin().createTopic({ topic: 'T', queues: 1 })
  await client.producer().send({ topic: 'T', body: 'a' })
  const consumer = consumerOf(client)
  losing = 'Receive'
  const [message] = await take(consumer, 1)
  expect(message?.deliveryAttempt).toBe(1)
  losing = 'Settle'
  await message?.ack()
  const { machine } = cluster.brokers.replica('n0')
  expect(machine.committedOffset('g', machine.topic('T')!.topicId, 0)).toBe(1)
  expect(lost).toEqual(['Receive', 'Settle'])
})

/** The calls are made; their answers are lost on the way. */
function losingAnswers(channel: Channel, isLost: (name: string) => boolean): Channel {
  return {
    address: channel.address,
    open: (method, handlers) => channel.open(method, handlers),
    close: () => channel.close(),
    call: async (method, request, options) => {
      const lost = isLost(method.name)
      const answer = await channel.call(method, request, options)
      if (lost) throw new LedgerError('DEADLINE_EXCEEDED', 'the answer was lost')
      return answer
    },
  }
}
