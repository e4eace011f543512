/** The SDK as its users have it: `connect` over gRPC to a real namesrv and a broker with real files. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Broker, startBroker } from '../../../src/broker/broker.ts'
import { findPorts } from '../../../src/cli/fast-try/ports.ts'
import { type Client, connect, hashSelector, LedgerError, type NodeEvent } from '../../../src/client/mod.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { type Namesrv, startNamesrv } from '../../../src/namesrv/namesrv.ts'
import { createGrpcTransport } from '../../../src/rpc/grpc-transport.ts'
import { LevelKeyValueEngine, NodeDisk } from '../../../store/index.ts'
import { eventually } from '../../support/eventually.ts'

/** For what is meant to succeed. */
const patienceMs = 60_000

let folder: string
let namesrv: Namesrv
let broker: Broker

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'client-'))
  const shared = { clock: systemClock, logger: silentLogger }
  const transport = createGrpcTransport(shared)
  namesrv = await startNamesrv({ listen: '127.0.0.1:0' }, { ...shared, transport })
  const raftAddress = await freeAddress()
  const options = {
    cluster: 'RaftCluster',
    group: 'RaftNode00',
    node: 'n0',
    directory: join(folder, 'n0'),
    listen: '127.0.0.1:0',
    members: [{ node: 'n0', raftAddress }],
    bootstrap: true,
    namesrv: [namesrv.address],
    segmentBytes: 16 * 1024 * 1024,
  }
  broker = await startBroker(options, {
    ...shared,
    transport,
    random: systemRandom,
    disk: new NodeDisk(),
    engine: new LevelKeyValueEngine(),
    bootId: async () => null,
    fatal: (error) => {
      throw error
    },
  })
  await eventually('the namesrv knows the leader', () => namesrv.route([]).groups[0]?.leader === 'n0')
})

afterAll(async () => {
  await broker?.close()
  await namesrv?.close()
  await rm(folder, { recursive: true, force: true })
})

/** Where nobody listens, nor will by chance: not one of the ports that the system gives out. */
async function freeAddress(): Promise<string> {
  const [found] = await findPorts([{ name: 'test', port: 0 }], { anyPorts: true })
  return `127.0.0.1:${found?.port}`
}

async function connectTo(address: string): Promise<Client> {
  return await connect({ namesrv: address })
}

function open(): Promise<Client> {
  return connect({ namesrv: namesrv.address })
}

test('send, selected send, batch, and all of it read back', async () => {
  await using mq = await open()
  await using producer = mq.producer()
  const one = await producer.send({ topic: 'Orders', body: 'one', tag: 'paid', keys: ['k'], properties: { a: 'b' } })
  expect(one).toMatchObject({ status: 'SEND_OK', offset: 0, queue: { topic: 'Orders', group: 'RaftNode00' } })
  const selected = await producer.send(
    { topic: 'Orders', body: 'two' },
    { selector: hashSelector, selectorArg: 'user-7' },
  )
  const batch = await producer.sendBatch([
    { topic: 'Orders', body: 'three' },
    { topic: 'Orders', body: Buffer.from('four') },
  ])
  expect(batch[1]!.offset).toBe(batch[0]!.offset + 1)
  await using consumer = mq.pullConsumer({ group: 'CG' })
  await consumer.assign('Orders')
  const bodies: string[] = []
  for await (const { messages } of consumer.batches({ signal: AbortSignal.timeout(patienceMs) })) {
    bodies.push(...messages.map((message) => message.body.toString()))
    if (bodies.length === 4) break
  }
  expect(bodies.sort()).toEqual(['four', 'one', 'three', 'two'])
  await consumer.commit()
  expect(await consumer.committed(selected.queue)).toBe(consumer.position(selected.queue))
})

test('a body at the limit goes through, one beyond it is refused at once', async () => {
  await using mq = await open()
  await using producer = mq.producer()
  const body = Buffer.alloc(4 * 1024 * 1024, 'x')
  expect(await producer.send({ topic: 'Large', body })).toMatchObject({ status: 'SEND_OK' })
  const beyond = producer.send({ topic: 'Large', body: Buffer.alloc(body.length + 1) })
  await expect(beyond).rejects.toMatchObject({ code: 'MESSAGE_ILLEGAL' })
  await using consumer = mq.pullConsumer()
  await consumer.assign('Large')
  const read = await consumer.poll({ waitMs: patienceMs })
  expect(read?.messages[0]?.body.equals(body)).toBe(true)
})

test('topics: create, describe, update, list, delete, and what the cluster says of itself', async () => {
  await using mq = await open()
  const admin = mq.admin()
  await admin.createTopic({ topic: 'Managed', queues: 2 })
  await using producer = mq.producer()
  for (let index = 0; index < 4; index++) await producer.send({ topic: 'Managed', body: `${index}` })
  const [described] = await admin.describeTopic('Managed')
  expect(described?.queues.map((range) => range.maxOffset)).toEqual([2, 2])
  await admin.updateTopic({ topic: 'Managed', queues: 3 })
  const listed = (await admin.listTopics()).find((entry) => entry.topic.config.topic === 'Managed')
  expect(listed?.topic.config).toMatchObject({ readQueues: 3, writeQueues: 3 })
  expect(await admin.queryOffsets({ topic: 'Managed', group: 'RaftNode00', queue: 0 })).toEqual({
    minOffset: 0,
    maxOffset: 2,
  })
  await admin.deleteTopic('Managed')
  await expect(admin.describeTopic('Managed')).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  const [replica] = await admin.clusterStatus()
  expect(replica).toMatchObject({ group: 'RaftNode00', node: 'n0', error: null })
  expect(replica?.status?.role).toBe('leader')
})

test('a topic that was deleted and created again is sent to and read as a new one', async () => {
  await using mq = await open()
  const admin = mq.admin()
  await using producer = mq.producer()
  await admin.createTopic({ topic: 'Again', queues: 1 })
  await producer.send({ topic: 'Again', body: 'old' })
  await using consumer = mq.pullConsumer()
  await consumer.assign('Again')
  expect((await consumer.poll({ waitMs: patienceMs }))?.messages[0]?.body.toString()).toBe('old')
  await admin.deleteTopic('Again')
  await expect(consumer.poll({ waitMs: patienceMs })).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  await admin.createTopic({ topic: 'Again', queues: 1 })
  expect(await producer.send({ topic: 'Again', body: 'new' })).toMatchObject({ offset: 0 })
  await consumer.seek({ topic: 'Again', group: 'RaftNode00', queue: 0 }, 'start')
  const next = await consumer.poll({ waitMs: patienceMs })
  expect(next?.messages[0]).toMatchObject({ offset: 0 })
  expect(next?.messages[0]?.body.toString()).toBe('new')
})

test('events of the node come in order, and watching ends with the signal', async () => {
  await using mq = await open()
  const stop = new AbortController()
  const events: NodeEvent[] = []
  for await (const event of mq.admin().watchEvents({ signal: stop.signal })) {
    events.push(event)
    if (event.kind === 'leader_elected') stop.abort()
  }
  expect(events.map((event) => event.sequence)).toEqual(events.map((_, index) => index + 1))
})

test('nobody at the address: the error says which address was dialled', async () => {
  const nobody = await freeAddress()
  const error = await connect({ namesrv: nobody, requestTimeoutMs: 2_000 }).catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(LedgerError)
  expect(error).toMatchObject({ code: 'UNAVAILABLE' })
  expect((error as LedgerError).message).toContain(nobody)
})

test('a broker dialled as if it were a namesrv is named as well', async () => {
  const error = await connect({ namesrv: broker.address, requestTimeoutMs: 2_000 }).catch((cause: unknown) => cause)
  expect((error as LedgerError).message).toContain(broker.address)
})

test('an address without a port and an option out of range are refused by name', async () => {
  await expect(connectTo('localhost')).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  await using mq = await open()
  expect(() => mq.producer({ retries: -1 })).toThrow(/retries is -1/)
})

test('a closed client leaves no socket and no timer behind', async () => {
  const before = process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
  const mq = await open()
  const producer = mq.producer()
  await producer.send({ topic: 'Orders', body: 'x' })
  const consumer = mq.pullConsumer({ group: 'CG2' })
  await consumer.assign('Orders')
  await consumer.poll({ waitMs: patienceMs })
  const push = mq.pushConsumer({ group: 'CG3', subscribe: ['Orders'] })
  const running = push.run(() => {})
  await eventually('the push consumer has queues', () => push.assignment().length > 0)
  await mq.close()
  await running
  await eventually(
    'the sockets are gone',
    () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length <= before,
  )
  await expect(producer.send({ topic: 'Orders', body: 'y' })).rejects.toMatchObject({ code: 'CLOSED' })
})
