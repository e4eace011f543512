import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { adminMethods, brokerMethods, type NodeEvent } from '../../../../src/rpc/methods.ts'
import { frameTypes } from '../../../../store/index.ts'
import { settle } from '../../../support/manual-clock.ts'
import { StreamLog } from '../../../support/stream-log.ts'
import { type HandlerBench, openBench } from './support.ts'

const n1 = { node: 'n1', address: 'n1:1', term: 2 }
const config = { topic: 't', readQueues: 4, writeQueues: 4, permission: 6 }
const illegalNames = ['../x', '', 'x'.repeat(128), '__proto__', 'constructor', 'rmq_sys_x', 'a b', 'é']

function commit(bench: HandlerBench, offset: number, fields: Record<string, unknown> = {}) {
  return bench.call(brokerMethods.commitOffsets, {
    group: 'cg',
    member: '',
    generation: 0,
    offsets: [{ topic: 't', queue: 0, offset }],
    seek: false,
    ...fields,
  })
}

async function refuseAll(calls: readonly Promise<unknown>[], reason: Readonly<Record<string, unknown>>): Promise<void> {
  for (const result of await Promise.allSettled(calls)) expect(result).toMatchObject({ status: 'rejected', reason })
}

function fetch(bench: HandlerBench) {
  const queues = [0, 1].map((queue) => ({ topic: 't', queue, offset: 0 }))
  return bench.call(brokerMethods.fetchOffsets, { group: 'cg', queues })
}

test('topics are created, described, updated, listed and deleted', async () => {
  const bench = await openBench()
  const { topic } = await bench.call(adminMethods.createTopic, { config, automatic: false })
  expect(topic).toEqual({ config, topicId: 1 })
  bench.send({ topic: 't', queue: 1, records: 3 })
  const described = await bench.call(adminMethods.describeTopic, { topic: 't' })
  expect(described.queues[1]).toEqual({ queue: 1, minOffset: 0, maxOffset: 3 })
  expect(described.queues).toHaveLength(4)
  const updated = await bench.call(adminMethods.updateTopic, { config: { ...config, permission: 4 } })
  expect(updated.topic).toEqual({ config: { ...config, permission: 4 }, topicId: 1 })
  expect((await bench.call(adminMethods.listTopics, {})).topics).toEqual([updated.topic])
  expect(await bench.call(adminMethods.deleteTopic, { topic: 't' })).toEqual({})
  expect((await bench.call(adminMethods.listTopics, {})).topics).toEqual([])
})

test('P4: a topic is deleted by id only while the name is its own', async () => {
  const bench = await openBench()
  const old = (await bench.call(adminMethods.createTopic, { config, automatic: false })).topic.topicId
  expect(await bench.call(adminMethods.deleteTopic, { topic: 't', topicId: old })).toEqual({})
  const { topic } = await bench.call(adminMethods.createTopic, { config, automatic: false })
  const again = bench.call(adminMethods.deleteTopic, { topic: 't', topicId: old })
  await expect(again).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  expect((await bench.call(adminMethods.listTopics, {})).topics).toEqual([topic])
})

test('a topic that exists with other settings is TOPIC_EXISTS, with the same it is a success', async () => {
  const bench = await openBench()
  const create = (queues: number, automatic: boolean) =>
    bench.call(adminMethods.createTopic, { config: { ...config, readQueues: queues, writeQueues: queues }, automatic })
  await create(4, false)
  expect((await create(4, false)).topic.topicId).toBe(1)
  await expect(create(8, false)).rejects.toMatchObject({ code: 'TOPIC_EXISTS' })
  expect((await create(8, true)).topic.config.readQueues).toBe(4)
})

test('clients may have topics created only where that is on', async () => {
  const bench = await openBench()
  const limits = { autoCreateTopics: false }
  bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'set_limits', limits }))
  const create = (automatic: boolean) => bench.call(adminMethods.createTopic, { config, automatic })
  await expect(create(true)).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  await create(false)
  expect((await create(true)).topic.topicId).toBe(2)
})

test.each(illegalNames)('no call takes the topic name %j', async (topic) => {
  const bench = await openBench()
  const offsets = [{ topic, queue: 0, offset: 0 }]
  const heartbeat = { group: 'cg', member: 'm', topics: [topic], generation: 0, sessionTimeoutMs: 0 }
  await refuseAll(
    [
      bench.call(adminMethods.createTopic, { config: { ...config, topic }, automatic: false }),
      bench.call(adminMethods.updateTopic, { config: { ...config, topic } }),
      bench.call(adminMethods.deleteTopic, { topic }),
      bench.call(adminMethods.describeTopic, { topic }),
      bench.call(brokerMethods.queryOffsets, { topic, queue: 0 }),
      bench.call(brokerMethods.fetchOffsets, { group: 'cg', queues: offsets }),
      commit(bench, 0, { offsets }),
      bench.call(brokerMethods.groupHeartbeat, heartbeat),
    ],
    { code: 'INVALID_PARAMETER' },
  )
  expect(bench.replica.proposals).toEqual([])
})

test.each([...illegalNames, 'x'.repeat(121)])('no call takes the group name %j', async (group) => {
  const bench = await openBench()
  bench.topic('t')
  const queues = [{ topic: 't', queue: 0, offset: 0 }]
  await refuseAll(
    [
      bench.call(brokerMethods.fetchOffsets, { group, queues }),
      commit(bench, 0, { group }),
      bench.call(brokerMethods.groupHeartbeat, {
        group,
        member: 'm',
        topics: ['t'],
        generation: 0,
        sessionTimeoutMs: 0,
      }),
      bench.call(brokerMethods.leaveGroup, { group, member: 'm' }),
    ],
    { code: 'INVALID_PARAMETER' },
  )
  expect(bench.replica.proposals).toEqual([])
})

test.each([
  { readQueues: 0 },
  { writeQueues: 0 },
  { readQueues: 1025 },
  { writeQueues: 1025 },
  { readQueues: -1 },
  { readQueues: 1.5 },
  { writeQueues: Number.NaN },
  { permission: 0 },
  { permission: 1 },
  { permission: 7 },
  { permission: 8 },
])('a topic with %j is refused with 29', async (fields) => {
  const bench = await openBench()
  const wrong = { ...config, ...fields }
  await refuseAll(
    [
      bench.call(adminMethods.createTopic, { config: wrong, automatic: false }),
      bench.call(adminMethods.updateTopic, { config: wrong }),
    ],
    { code: 'INVALID_PARAMETER' },
  )
  expect(bench.replica.proposals).toEqual([])
})

test('a request without its config is no request', async () => {
  const bench = await openBench()
  const request = { automatic: false } as unknown as { config: typeof config; automatic: boolean }
  await expect(bench.call(adminMethods.createTopic, request)).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
})

test('topics that are not there cannot be updated, deleted or described', async () => {
  const bench = await openBench()
  await refuseAll(
    [
      bench.call(adminMethods.updateTopic, { config }),
      bench.call(adminMethods.deleteTopic, { topic: 't' }),
      bench.call(adminMethods.describeTopic, { topic: 't' }),
      bench.call(brokerMethods.queryOffsets, { topic: 't', queue: 0 }),
      commit(bench, 0),
      fetch(bench),
    ],
    { code: 'TOPIC_NOT_EXIST' },
  )
})

test('B5: committed offsets are fetched as committed; they go back by a seek only', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.send({ topic: 't', records: 9 })
  expect((await fetch(bench)).offsets).toEqual([
    { topic: 't', queue: 0 },
    { topic: 't', queue: 1 },
  ])
  expect((await commit(bench, 5)).offsets).toEqual([{ topic: 't', queue: 0, offset: 5 }])
  expect((await commit(bench, 3)).offsets).toEqual([{ topic: 't', queue: 0, offset: 5 }])
  expect((await fetch(bench)).offsets[0]).toEqual({ topic: 't', queue: 0, offset: 5 })
  expect((await commit(bench, 3, { seek: true })).offsets[0]?.offset).toBe(3)
  expect((await fetch(bench)).offsets[0]?.offset).toBe(3)
})

test('the range of a queue and the offset at a time are told by the leader', async () => {
  const bench = await openBench()
  const topicId = bench.topic('t')
  for (let count = 0; count < 3; count++) bench.send({ topic: 't', records: 2 })
  const ask = (time?: number) =>
    bench.call(brokerMethods.queryOffsets, { topic: 't', queue: 0, ...(time === undefined ? {} : { time }) })
  expect(await ask()).toEqual({ minOffset: 0, maxOffset: 6, topicId })
  const [, second] = await bench.replica.machine.findRows(topicId, 0, 0, 3)
  expect(await ask(second?.storeTime)).toMatchObject({ offsetByTime: 2 })
  expect(await ask(0)).toMatchObject({ offsetByTime: 0 })
  expect(await ask(Number.MAX_SAFE_INTEGER)).toMatchObject({ offsetByTime: 6 })
})

test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('the number %d is no request', async (wrong) => {
  const bench = await openBench()
  bench.topic('t')
  await refuseAll(
    [
      commit(bench, wrong),
      commit(bench, 0, { generation: wrong }),
      commit(bench, 0, { offsets: [{ topic: 't', queue: wrong, offset: 0 }] }),
      bench.call(brokerMethods.fetchOffsets, { group: 'cg', queues: [{ topic: 't', queue: wrong, offset: 0 }] }),
      bench.call(brokerMethods.queryOffsets, { topic: 't', queue: wrong }),
      bench.call(brokerMethods.queryOffsets, { topic: 't', queue: 0, time: wrong }),
      bench.call(brokerMethods.groupHeartbeat, {
        group: 'cg',
        member: 'm',
        topics: ['t'],
        generation: wrong,
        sessionTimeoutMs: 0,
      }),
      bench.call(brokerMethods.groupHeartbeat, {
        group: 'cg',
        member: 'm',
        topics: ['t'],
        generation: 0,
        sessionTimeoutMs: wrong,
      }),
    ],
    { code: 'INVALID_REQUEST' },
  )
  expect(bench.replica.proposals).toEqual([])
})

test('requests with no queue, too many queues, or queues that do not exist are refused', async () => {
  const bench = await openBench()
  bench.topic('t', 2)
  await expect(commit(bench, 0, { offsets: [] })).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
  const many = Array.from({ length: 4097 }, () => ({ topic: 't', queue: 0, offset: 0 }))
  await expect(commit(bench, 0, { offsets: many })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  const missing = [{ topic: 't', queue: 2, offset: 0 }]
  await refuseAll(
    [
      commit(bench, 0, { offsets: missing }),
      commit(bench, 0, { member: 'x'.repeat(256) }),
      bench.call(brokerMethods.fetchOffsets, { group: 'cg', queues: missing }),
      bench.call(brokerMethods.queryOffsets, { topic: 't', queue: 2 }),
    ],
    { code: 'INVALID_PARAMETER' },
  )
})

test('a commit of a member that the group does not know is refused by the state machine', async () => {
  const bench = await openBench()
  bench.topic('t')
  await expect(commit(bench, 0, { member: 'm', generation: 3 })).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
})

test('a follower answers every call that needs the leader with NOT_LEADER and the hint', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.follow(n1)
  const heartbeat = { group: 'cg', member: 'm', topics: ['t'], generation: 0, sessionTimeoutMs: 0 }
  await refuseAll(
    [
      bench.call(adminMethods.createTopic, { config: { ...config, topic: 'u' }, automatic: false }),
      bench.call(adminMethods.createTopic, { config: { ...config, topic: 'u' }, automatic: true }),
      bench.call(adminMethods.deleteTopic, { topic: 't' }),
      bench.call(adminMethods.describeTopic, { topic: 't' }),
      bench.call(adminMethods.listTopics, {}),
      bench.call(brokerMethods.queryOffsets, { topic: 't', queue: 0 }),
      bench.call(brokerMethods.groupHeartbeat, heartbeat),
      bench.call(brokerMethods.leaveGroup, { group: 'cg', member: 'm' }),
      commit(bench, 0),
      fetch(bench),
    ],
    {
      code: 'NOT_LEADER',
      facts: { leader: { node: 'n1', address: 'n1:1' }, term: 2 },
    },
  )
})

test('a leader that was deposed without knowing answers no read that must be current', async () => {
  const bench = await openBench()
  bench.topic('t')
  bench.replica.quorum = false
  await refuseAll(
    [
      bench.call(adminMethods.describeTopic, { topic: 't' }),
      bench.call(adminMethods.listTopics, {}),
      bench.call(brokerMethods.queryOffsets, { topic: 't', queue: 0 }),
      fetch(bench),
    ],
    { code: 'NO_QUORUM' },
  )
})

test('P8: a leader that was deposed without knowing does not tell that a queue does not exist', async () => {
  const bench = await openBench()
  bench.topic('t', 1)
  bench.replica.quorum = false
  const late = (topic: string, queue: number): Promise<unknown> => {
    return commit(bench, 0, { offsets: [{ topic, queue, offset: 0 }] })
  }
  await refuseAll([late('t', 2), late('u', 0)], { code: 'NO_QUORUM' })
})

test('status and probe answer whatever the role', async () => {
  const bench = await openBench()
  expect(await bench.call(brokerMethods.probe, {})).toEqual({ group: 'g', node: 'n0', leader: true })
  bench.replica.follow(null)
  expect(await bench.call(brokerMethods.probe, {})).toEqual({ group: 'g', node: 'n0', leader: false })
  expect(await bench.call(adminMethods.getReplicaStatus, {})).toMatchObject({ node: 'n0', role: 'follower' })
})

function watch(bench: HandlerBench, fromSequence: number) {
  const log = new StreamLog<NodeEvent>()
  const sink = bench.channel.open(adminMethods.watchEvents, log)
  sink.write({ fromSequence })
  return { log, sink }
}

function emit(bench: HandlerBench, count: number): void {
  for (let number = 0; number < count; number++) bench.events.emit('rebalance', 1, { number })
}

test('a watcher of events gets what is in the ring, then live ones, without gap or repeat', async () => {
  const bench = await openBench()
  emit(bench, 3)
  const all = watch(bench, 0)
  const late = watch(bench, 3)
  await all.log.count(3)
  emit(bench, 2)
  await all.log.count(5)
  expect(all.log.messages.map((event) => event.sequence)).toEqual([1, 2, 3, 4, 5])
  expect(late.log.messages.map((event) => event.sequence)).toEqual([3, 4, 5])
})

test('a slow watcher is served from the ring later, without gap', async () => {
  const bench = await openBench({}, { unreadMax: 4 })
  const { log, sink } = watch(bench, 0)
  await settle()
  sink.pauseReading(true)
  emit(bench, 60)
  await settle()
  sink.pauseReading(false)
  await log.count(60)
  expect(log.messages.map((event) => event.sequence)).toEqual(Array.from({ length: 60 }, (_, number) => number + 1))
})

test('a watcher that falls out of the ring, or reads nothing for 30 s, is cut off with OVERLOADED', async () => {
  const bench = await openBench({}, { unreadMax: 4 })
  const overrun = watch(bench, 0)
  const silent = watch(bench, 0)
  await settle()
  overrun.sink.pauseReading(true)
  silent.sink.pauseReading(true)
  emit(bench, 400)
  overrun.sink.pauseReading(false)
  expect((await overrun.log.end())?.code).toBe('OVERLOADED')
  expect(silent.log.closed).toBe(false)
  await bench.clock.advance(30_001)
  expect((await silent.log.end())?.code).toBe('OVERLOADED')
})

test('event watchers are limited, take one request, and only whole numbers', async () => {
  const bench = await openBench({ eventWatchersMax: 2 })
  const first = watch(bench, 0)
  expect((await watch(bench, -1).log.end())?.code).toBe('INVALID_REQUEST')
  const second = watch(bench, 0)
  expect((await watch(bench, 0).log.end())?.code).toBe('OVERLOADED')
  second.sink.write({ fromSequence: 0 })
  expect((await second.log.end())?.code).toBe('INVALID_REQUEST')
  bench.handlers.close()
  expect((await first.log.end())?.code).toBe('UNAVAILABLE')
})

test('closed handlers leave no timer behind', async () => {
  const bench = await openBench()
  bench.topic('t')
  await bench.call(brokerMethods.groupHeartbeat, {
    group: 'cg',
    member: 'm',
    topics: ['t'],
    generation: 0,
    sessionTimeoutMs: 0,
  })
  bench.handlers.close()
  await settle()
  expect(bench.clock.timerCount).toBe(0)
})
