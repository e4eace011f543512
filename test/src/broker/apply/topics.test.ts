import { describe, expect, test } from 'vitest'
import { Bench } from './support.ts'

const config = { topic: 'orders', readQueues: 4, writeQueues: 2, permission: 6 }

describe('topics', () => {
  test('a topic gets the index of its create entry as id, and all its queues', async () => {
    const bench = await Bench.open()
    bench.topic('first')
    const result = bench.command({ kind: 'create_topic', config })
    expect(result).toEqual({ kind: 'topic', topic: { config, topicId: 2 } })
    expect(bench.machine.topic('orders')).toBe(bench.machine.topicById(2))
    expect(bench.machine.queueRange(2, 3)).toEqual({ min: 0, max: 0 })
    expect(bench.machine.queueRange(2, 4)).toBeUndefined()
    expect(bench.machine.topicsVersion).toBe(2)
  })

  test('creating a topic again with the same settings answers the existing one and changes nothing', async () => {
    const bench = await Bench.open()
    const first = bench.command({ kind: 'create_topic', config })
    expect(bench.command({ kind: 'create_topic', config })).toEqual(first)
    expect(bench.machine.topicsVersion).toBe(1)
    const other = { ...config, permission: 4 }
    expect(bench.command({ kind: 'create_topic', config: other })).toMatchObject({ code: 'TOPIC_EXISTS' })
    expect(bench.machine.topic('orders')?.config.permission).toBe(6)
  })

  test.each([
    ['no write queue', { writeQueues: 0 }],
    ['fewer read than write queues', { readQueues: 1, writeQueues: 2 }],
    ['more queues than the limit', { readQueues: 1025 }],
    ['an unknown permission bit', { permission: 1 }],
    ['a permission beyond 32 bits', { permission: 2 ** 33 }],
  ])('a topic with %s is refused by create and by update', async (_, wrong) => {
    const bench = await Bench.open()
    const bad = { ...config, ...wrong }
    expect(bench.command({ kind: 'create_topic', config: bad })).toMatchObject({ code: 'INVALID_PARAMETER' })
    bench.command({ kind: 'create_topic', config })
    expect(bench.command({ kind: 'update_topic', config: bad })).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(bench.machine.topic('orders')?.config).toEqual(config)
  })

  test('an update grows queues; a smaller one keeps them with their messages', async () => {
    const bench = await Bench.open()
    const topicId = bench.topic('orders', 2)
    bench.send({ topic: 'orders', queue: 1, records: 3 })
    const small = { topic: 'orders', readQueues: 1, writeQueues: 1, permission: 6 }
    expect(bench.command({ kind: 'update_topic', config: small })).toMatchObject({ kind: 'topic' })
    expect(bench.machine.queueRange(topicId, 1)).toEqual({ min: 0, max: 3 })
    expect(bench.send({ topic: 'orders', queue: 1 })).toMatchObject({ code: 'INVALID_PARAMETER' })
    bench.command({ kind: 'update_topic', config: { ...small, readQueues: 4, writeQueues: 4 } })
    expect(bench.send({ topic: 'orders', queue: 1 })).toMatchObject({ kind: 'stored', baseOffset: 3 })
    expect(bench.send({ topic: 'orders', queue: 3 })).toMatchObject({ kind: 'stored', baseOffset: 0 })
  })

  test('a queue that may only be read takes no new messages', async () => {
    const bench = await Bench.open()
    bench.command({ kind: 'create_topic', config })
    expect(bench.send({ topic: 'orders', queue: 1 })).toMatchObject({ kind: 'stored' })
    expect(bench.send({ topic: 'orders', queue: 2 })).toMatchObject({ code: 'INVALID_PARAMETER' })
  })

  test('queues kept by a smaller update are still there after a restart', async () => {
    const bench = await Bench.open()
    const topicId = bench.topic('orders', 3)
    bench.send({ topic: 'orders', queue: 2, records: 5 })
    bench.command({ kind: 'update_topic', config: { topic: 'orders', readQueues: 1, writeQueues: 1, permission: 6 } })
    await bench.flush()
    await bench.restart()
    expect(bench.machine.queueRange(topicId, 2)).toEqual({ min: 0, max: 5 })
    expect(await bench.machine.findRows(topicId, 2, 0, 1)).toHaveLength(1)
  })

  test('updating and deleting what does not exist is TOPIC_NOT_EXIST', async () => {
    const bench = await Bench.open()
    expect(bench.command({ kind: 'update_topic', config })).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    expect(bench.command({ kind: 'delete_topic', topic: '__proto__' })).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    expect(bench.machine.topic('constructor')).toBeUndefined()
  })

  test('a topic deleted and created again is another one and starts empty', async () => {
    const bench = await Bench.open()
    const first = bench.topic('orders')
    bench.send({ topic: 'orders', records: 3, producer: 1, first: true })
    bench.command({
      kind: 'commit_offsets',
      group: 'g',
      member: '',
      generation: 0,
      seek: false,
      offsets: [{ topicId: first, queue: 0, offset: 2 }],
    })
    await bench.flush()
    expect(bench.command({ kind: 'delete_topic', topic: 'orders' })).toEqual({ kind: 'topic_deleted', topicId: first })
    expect(bench.send({ topic: 'orders' })).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    const second = bench.topic('orders')
    expect(second).not.toBe(first)
    expect(bench.machine.queueRange(first, 0)).toBeUndefined()
    expect(bench.machine.queueRange(second, 0)).toEqual({ min: 0, max: 0 })
    expect(bench.machine.committedOffset('g', first, 0)).toBeUndefined()
    expect(await bench.machine.findRows(first, 0, 0, 10)).toEqual([])
    // The sequence of the old topic says nothing about the new one.
    expect(bench.send({ topic: 'orders', producer: 1, first: true })).toMatchObject({ duplicate: false, baseOffset: 0 })
    await bench.flush()
    await bench.restart()
    expect(bench.machine.topics().map((topic) => topic.topicId)).toEqual([second])
    expect(bench.machine.queueRange(first, 0)).toBeUndefined()
    expect(bench.machine.committedOffset('g', first, 0)).toBeUndefined()
  })

  test('P4: a delete that names an id is refused when another topic has taken the name before it', async () => {
    const bench = await Bench.open()
    const first = bench.topic('orders')
    bench.command({ kind: 'delete_topic', topic: 'orders', topicId: first })
    const second = bench.topic('orders')
    const late = bench.command({ kind: 'delete_topic', topic: 'orders', topicId: first })
    expect(late).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    expect(bench.machine.topics().map((topic) => topic.topicId)).toEqual([second])
  })

  test('deleting a topic leaves a row for the cleaner and no range of its queues', async () => {
    const bench = await Bench.open()
    const topicId = bench.topic('orders', 8)
    for (let queue = 0; queue < 8; queue++) bench.send({ topic: 'orders', queue })
    await bench.flush()
    bench.command({ kind: 'delete_topic', topic: 'orders' })
    await bench.flush()
    const rowsOfKind = async (kind: number): Promise<number> =>
      (await bench.store.range({ from: Buffer.of(kind), to: Buffer.of(kind + 1), limit: 100 })).length
    expect([await rowsOfKind(3), await rowsOfKind(4), await rowsOfKind(9)]).toEqual([0, 0, 1])
    expect(topicId).toBe(1)
  })

  test('limits are state: a command changes them for every later entry and they survive a restart', async () => {
    const bench = await Bench.open()
    expect(bench.machine.autoCreateTopics).toBe(true)
    bench.command({ kind: 'set_limits', limits: { autoCreateTopics: false, queuesPerTopicMax: 2, topicsMax: 2 } })
    expect(bench.command({ kind: 'create_topic', config })).toMatchObject({ code: 'INVALID_PARAMETER' })
    bench.topic('a')
    bench.topic('b')
    const third = { ...config, topic: 'c', readQueues: 1, writeQueues: 1 }
    expect(bench.command({ kind: 'create_topic', config: third })).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(bench.command({ kind: 'set_limits', limits: { topicsMax: 0 } })).toMatchObject({ code: 'INVALID_PARAMETER' })
    await bench.flush()
    await bench.restart()
    expect(bench.machine.limits).toMatchObject({ autoCreateTopics: false, queuesPerTopicMax: 2, topicsMax: 2 })
    expect(bench.machine.limits.groupsMax).toBe(20_000)
  })
})
