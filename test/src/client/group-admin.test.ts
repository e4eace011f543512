/** Consumer groups as operators see and change them through the SDK, on a real broker group. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { GroupAdmin, SeekTarget } from '../../../src/client/group-admin.ts'
import { eventually } from '../../support/eventually.ts'
import { GroupBench } from './group-bench.ts'

let bench: GroupBench
let groups: GroupAdmin

beforeEach(async () => {
  bench = await GroupBench.open(2)
  groups = bench.client.admin().consumerGroups()
})

afterEach(async () => {
  await bench.end()
})

const options = { group: 'G', subscribe: ['Orders'], from: 'first', commitIntervalMs: 20 } as const

test('settings change one by one, and are described with members, offsets and lag', async () => {
  await expect(groups.describe('G')).rejects.toMatchObject({ code: 'SUBSCRIPTION_GROUP_NOT_EXIST' })
  await groups.set('G', { retriesMax: 3 })
  const [now] = await groups.set('G', { retryDelaysMs: [5, 10] })
  expect(now).toMatchObject({ retriesMax: 3, retryDelays: [{ delayMs: 5 }, { delayMs: 10 }], strategy: 'averagely' })
  await expect(groups.set('G', { retriesMax: 5_000 })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await bench.produce(6)
  const consumer = bench.client.pushConsumer(options)
  void consumer.run(() => {})
  const described = await eventually('all is committed', async () => {
    const [one] = await groups.describe('G')
    return one?.queues.length === 2 && one.queues.every(({ lag }) => lag === 0) && one
  })
  expect(described).toMatchObject({ brokerGroup: 'RaftNode00', settingsStored: true, generation: 1 })
  expect(described.members).toEqual([{ member: consumer.member, topics: ['Orders'] }])
  expect(described.queues.map(({ member, committedOffset }) => [member, committedOffset! > 0])).toEqual([
    [consumer.member, true],
    [consumer.member, true],
  ])
  await expect(groups.delete('G')).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await consumer.close()
  await eventually('the group is without members', async () => (await groups.list())[0]?.members === 0)
  await groups.delete('G')
  expect(await groups.list()).toEqual([])
  await expect(groups.delete('G')).rejects.toMatchObject({ code: 'SUBSCRIPTION_GROUP_NOT_EXIST' })
})

test('a seek is looked at first, and carried out once', async () => {
  await bench.produce(6)
  const consumer = bench.client.pushConsumer(options)
  const ended = consumer.run(() => {})
  await eventually('all is committed', async () => {
    const [one] = await groups.describe('G').catch(() => [])
    return one?.queues.length === 2 && one.queues.every(({ lag }) => lag === 0)
  })
  await consumer.close()
  await ended
  await eventually('the group is without members', async () => (await groups.list())[0]?.members === 0)
  const [plan] = await groups.previewSeek('G', 'Orders', { offset: 1 })
  expect(plan!.queues.map(({ newOffset, currentOffset }) => [newOffset, currentOffset! > 1])).toEqual([
    [1, true],
    [1, true],
  ])
  const done = await groups.seek(plan!)
  expect(done.generation).toBe(plan!.generation + 1)
  await expect(groups.seek(plan!)).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
  const [after] = await groups.describe('G')
  expect(after!.queues.map(({ committedOffset }) => committedOffset)).toEqual([1, 1])
  const wrong = 'middle' as unknown as SeekTarget
  await expect(groups.previewSeek('G', 'Orders', wrong)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(groups.previewSeek('G', 'Nothing', 'last')).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
})
