import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Broker, startBroker } from '../../../src/broker/broker.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { readRecords } from '../../../src/message/batch.ts'
import { type Namesrv, startNamesrv } from '../../../src/namesrv/namesrv.ts'
import { createGrpcTransport } from '../../../src/rpc/grpc-transport.ts'
import { adminMethods, brokerMethods, namesrvMethods, type RouteReply } from '../../../src/rpc/methods.ts'
import type { Channel, UnaryMethod } from '../../../src/rpc/transport.ts'
import { MemoryDisk, MemoryKeyValueEngine } from '../../../store/index.ts'
import { AwakeClock } from '../../support/awake-clock.ts'
import { eventually } from '../../support/eventually.ts'
import { StreamLog } from '../../support/stream-log.ts'
import { makeBatch } from './apply/support.ts'
import { ProduceClient, PullClient } from './handler/support.ts'

const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger })
const config = { topic: 't', readQueues: 2, writeQueues: 2, permission: 6 }
let first: Namesrv
let second: Namesrv
let broker: Broker
let channel: Channel

beforeAll(async () => {
  const ports = { clock: new AwakeClock(), random: systemRandom, transport, logger: silentLogger }
  first = await startNamesrv({ listen: '127.0.0.1:0' }, ports)
  second = await startNamesrv({ listen: '127.0.0.1:0' }, ports)
  broker = await startBroker(
    {
      cluster: 'c',
      group: 'g',
      node: 'n0',
      directory: 'data',
      listen: '127.0.0.1:0',
      raftListen: '127.0.0.1:0',
      members: [{ node: 'n0', raftAddress: '127.0.0.1:1' }],
      bootstrap: true,
      namesrv: [first.address, second.address],
      segmentBytes: 8 * 1024 * 1024,
    },
    {
      ...ports,
      disk: new MemoryDisk(),
      engine: new MemoryKeyValueEngine(),
      bootId: async () => 'boot',
      fatal: (error) => {
        throw error
      },
    },
  )
  channel = transport.connect(broker.address, 'client')
  await eventually('leadership', () => broker.replica?.leading)
  await call(adminMethods.createTopic, { config, automatic: false })
})

afterAll(async () => {
  channel.close()
  await broker.close()
  await first.close()
  await second.close()
})

function call<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response> {
  return channel.call(method, request, { timeoutMs: 60_000 })
}

test('a message goes out and comes back over real sockets, byte for byte', async () => {
  const pull = new PullClient(channel)
  const waiting = pull.start({ waitMs: 30_000 })
  const batch = makeBatch({ topic: 't', records: 2, body: 'grüße' })
  const stored = await new ProduceClient(channel).send(batch)
  expect(stored).toMatchObject({ code: 0, baseOffset: 0 })
  const reply = await pull.reply(waiting)
  expect(reply.batches[0]?.batch.equals(batch)).toBe(true)
  expect(readRecords(reply.batches[0]?.batch ?? batch).map(({ body }) => body.toString())).toEqual(['grüße', 'grüße'])
  expect(await pull.pull({ offset: 9 })).toMatchObject({ code: 21, status: { minOffset: 0, maxOffset: 2 } })
})

test('every control call keeps its meaning on the wire', async () => {
  const described = await call(adminMethods.describeTopic, { topic: 't' })
  expect(described).toMatchObject({ topic: { config }, queues: [{ queue: 0 }, { queue: 1, minOffset: 0 }] })
  const queues = [{ topic: 't', queue: 1, offset: 0 }]
  expect(await call(brokerMethods.fetchOffsets, { group: 'cg', queues })).toEqual({
    offsets: [{ topic: 't', queue: 1 }],
  })
  const commit = { group: 'cg', member: '', generation: 0, offsets: queues, seek: false }
  expect(await call(brokerMethods.commitOffsets, commit)).toEqual({ offsets: queues })
  expect((await call(brokerMethods.fetchOffsets, { group: 'cg', queues })).offsets).toEqual(queues)
  const range = await call(brokerMethods.queryOffsets, { topic: 't', queue: 1 })
  expect(range).not.toHaveProperty('offsetByTime')
  expect(await call(brokerMethods.queryOffsets, { topic: 't', queue: 1, time: 0 })).toMatchObject({ offsetByTime: 0 })
  expect(await call(brokerMethods.probe, {})).toEqual({ group: 'g', node: 'n0', leader: true })
  const beat = { group: 'pg', member: 'm', topics: ['t'], generation: 0, sessionTimeoutMs: 0 }
  expect(await call(brokerMethods.groupHeartbeat, beat)).toMatchObject({ generation: 0, queues: [] })
  expect(await call(brokerMethods.leaveGroup, { group: 'pg', member: 'm' })).toEqual({})
  expect(await call(adminMethods.getReplicaStatus, {})).toMatchObject({ node: 'n0', role: 'leader' })
})

test('judgements arrive as coded errors, requests that are none as INVALID_REQUEST', async () => {
  await expect(call(adminMethods.describeTopic, { topic: 'unknown' })).rejects.toMatchObject({
    code: 'TOPIC_NOT_EXIST',
  })
  await expect(call(adminMethods.deleteTopic, { topic: '../x' })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  const missing = {} as Parameters<typeof call<{ config: typeof config }, unknown>>[1]
  await expect(call(adminMethods.updateTopic, missing)).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
})

test('garbage ends its stream with INVALID_REQUEST; the broker and its other streams live', async () => {
  const honest = new PullClient(channel)
  const waiting = honest.start({ queue: 1, waitMs: 30_000 })
  for (const client of [new PullClient(channel), new ProduceClient(channel)]) {
    client.sink.write(Buffer.from('ffffffffffffffff', 'hex'))
    expect((await client.log.end())?.code).toBe('INVALID_REQUEST')
  }
  await new ProduceClient(channel).send(makeBatch({ topic: 't', queue: 1 }))
  expect((await honest.reply(waiting)).batches).toHaveLength(1)
})

test('two namesrvs know the broker; a watcher is told when it goes', async () => {
  for (const namesrv of [first, second])
    await eventually('the registration', () => {
      const route = namesrv.route(['t'])
      return route.groups[0]?.leader === 'n0' && route.topics.length === 1
    })
  const routes = transport.connect(first.address, 'client')
  const log = new StreamLog<RouteReply>()
  const watch = routes.open(namesrvMethods.watchRoute, log)
  watch.write({ topics: ['t'] })
  await log.count(1)
  const asked = await routes.call(namesrvMethods.getRoute, { topics: ['t'] }, { timeoutMs: 60_000 })
  expect(asked).toEqual(log.last)
  expect(log.last?.groups[0]).toMatchObject({ leader: 'n0', nodes: [{ node: 'n0', address: broker.address }] })
  expect(log.last?.topics[0]?.queues[0]).toMatchObject({ group: 'g', writeQueues: 2, permission: 6 })

  await broker.close()
  await eventually('the push', () => log.last?.groups.length === 0)
  await eventually('the other one drops it, too', () => second.route([]).groups.length === 0)
  watch.cancel()
  routes.close()
})
