/** The SDK against a real broker group that loses its leader, its namesrv, its quorum. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Client } from '../../../src/client/client.ts'
import type { ConsumedMessage } from '../../../src/client/consumer/consumed-batch.ts'
import type { SendResult } from '../../../src/client/types.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { eventually } from '../../support/eventually.ts'
import { ClientCluster } from './client-cluster.ts'

/** For what is meant to succeed. */
const patienceMs = 60_000

let cluster: ClientCluster

beforeEach(async () => {
  cluster = new ClientCluster()
  await cluster.start()
})

afterEach(async () => {
  await cluster.end()
})

/** Everything in the topic, in the order it was given, until `count` messages came. */
async function readAll(client: Client, topic: string, count: number): Promise<readonly ConsumedMessage[]> {
  const consumer = client.pullConsumer()
  await consumer.assign(topic)
  const messages: ConsumedMessage[] = []
  while (messages.length < count) {
    const batch = await consumer.poll({ waitMs: patienceMs })
    if (!batch) break
    messages.push(...batch.messages)
  }
  const late = await consumer.poll({ waitMs: 50 })
  if (late) messages.push(...late.messages)
  await consumer.close()
  return messages
}

function place(entry: { queue: { group: string; queue: number }; offset: number }): string {
  return `${entry.queue.group}/${entry.queue.queue}@${entry.offset}`
}

test('a message comes back as it was sent, from where the producer was told', async () => {
  const client = await cluster.connect()
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  const sent = await producer.send({
    topic: 'Orders',
    body: 'hello',
    tag: 'paid',
    keys: ['o-1'],
    properties: { region: 'eu' },
  })
  expect(sent).toMatchObject({ status: 'SEND_OK', offset: 0, attempts: 1, duplicate: false })
  const [message] = await readAll(client, 'Orders', 1)
  expect(message?.body.toString()).toBe('hello')
  expect(message).toMatchObject({ messageId: sent.messageId, tag: 'paid', keys: ['o-1'], offset: 0 })
  expect(message?.properties).toEqual({ region: 'eu' })
  expect(message?.queue).toEqual(sent.queue)
})

test('P3: nothing is lost or doubled when leaders are killed under load', async () => {
  const client = await cluster.connect()
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  await producer.send({ topic: 'Orders', body: 'warm' })
  const acknowledged: SendResult[] = []
  const failures: unknown[] = []
  let running = true
  let count = 0
  const load = Array.from({ length: 16 }, async () => {
    while (running) {
      const body = `message ${count++}`
      await producer.send({ topic: 'Orders', body }).then(
        (result) => acknowledged.push(result),
        (error) => failures.push(error),
      )
    }
  })
  for (let kill = 0; kill < 3; kill++) {
    const before = acknowledged.length
    await eventually('some messages are acknowledged', () => acknowledged.length > before + 200)
    const leader = await cluster.brokers.leader()
    cluster.brokers.kill(leader)
    await eventually('messages are acknowledged again', () => acknowledged.length > before + 400)
    await cluster.brokers.start(leader)
    await cluster.brokers.leader()
  }
  running = false
  await Promise.all(load)
  expect(failures).toEqual([])
  const messages = await readAll(client, 'Orders', acknowledged.length + 1)
  expect(messages).toHaveLength(acknowledged.length + 1)
  expect(new Set(messages.map((message) => message.body.toString())).size).toBe(messages.length)
  const places = new Map(messages.map((message) => [place(message), message.messageId]))
  for (const result of acknowledged) expect(places.get(place(result))).toBe(result.messageId)
})

test('with all namesrvs gone running clients go on, also over a leader change', async () => {
  const client = await cluster.connect()
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  await producer.send({ topic: 'Orders', body: 'before' })
  cluster.killNamesrv()
  await producer.send({ topic: 'Orders', body: 'without namesrv' })
  cluster.brokers.kill(await cluster.brokers.leader())
  await producer.send({ topic: 'Orders', body: 'with another leader' })
  const messages = await readAll(client, 'Orders', 3)
  expect(messages.map((message) => message.body.toString()).sort()).toEqual([
    'before',
    'with another leader',
    'without namesrv',
  ])
})

test('one replica alone: a consumer reads every message from it, a producer is told that nothing is stored', async () => {
  const client = await cluster.connect()
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  for (let index = 0; index < 100; index++) await producer.send({ topic: 'Orders', body: `message ${index}` })
  await cluster.brokers.settled()
  const leader = await cluster.brokers.leader()
  const left = cluster.brokers.nodes.find((node) => node !== leader)
  for (const node of cluster.brokers.nodes) if (node !== left) cluster.brokers.kill(node)
  const consumer = client.pullConsumer()
  await consumer.assign('Orders')
  let read = 0
  while (read < 100) {
    const batch = await consumer.poll({ waitMs: patienceMs })
    if (!batch) throw new Error(`only ${read} messages came`)
    expect(batch.replica.node).toBe(left)
    expect(batch.replica.appliedIndex).toBeGreaterThanOrEqual(batch.index)
    read += batch.count
  }
  const error = await producer
    .send({ topic: 'Orders', body: 'nobody takes this' }, { timeoutMs: 1_500 })
    .catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(LedgerError)
  expect(['NO_QUORUM', 'OUTCOME_UNKNOWN']).toContain((error as LedgerError).code)
  for (const node of cluster.brokers.nodes) if (node !== left) await cluster.brokers.start(node)
  await cluster.brokers.leader()
  await producer.send({ topic: 'Orders', body: 'goes on' })
  const last = await consumer.poll({ waitMs: patienceMs })
  expect(last?.messages.at(-1)?.body.toString()).toMatch(/goes on|nobody takes this/)
})

test('a graceful stop of the leader costs no error and is over quickly', async () => {
  const client = await cluster.connect()
  const producer = client.producer({ sendTimeoutMs: patienceMs })
  await producer.send({ topic: 'Orders', body: 'before' })
  const leader = await cluster.brokers.leader()
  let longestGapMs = 0
  let running = true
  const load = (async () => {
    while (running) {
      const startedMs = cluster.brokers.clock.monotonicMs()
      await producer.send({ topic: 'Orders', body: 'during' })
      longestGapMs = Math.max(longestGapMs, cluster.brokers.clock.monotonicMs() - startedMs)
    }
  })()
  await cluster.brokers.stop(leader)
  running = false
  await load
  expect(longestGapMs).toBeLessThan(1_000)
})
