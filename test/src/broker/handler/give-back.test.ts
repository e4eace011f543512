/** Giving back, locks, group settings and seeks, as clients and operators call them. */
import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { defaultGroupSettings } from '../../../../src/broker/apply/group-config.ts'
import { readRecords } from '../../../../src/message/batch.ts'
import type { GivenBackMessage, SeekGroupRequest } from '../../../../src/rpc/group-messages.ts'
import { adminMethods, brokerMethods } from '../../../../src/rpc/methods.ts'
import { frameTypes } from '../../../../store/index.ts'
import { type HandlerBench, openBench } from './support.ts'

const { retryDelaysMs, ...others } = defaultGroupSettings
const defaults = { ...others, retryDelays: retryDelaysMs.map((delayMs) => ({ delayMs })) }

/** Topic `t` with two queues of ten messages, both assigned to member `a` of group `cg`. */
async function openGroup(): Promise<HandlerBench & { readonly topicId: number }> {
  const bench = await openBench()
  const topicId = bench.topic('t')
  for (const queue of [0, 1]) for (let batch = 0; batch < 2; batch++) bench.send({ topic: 't', queue, records: 5 })
  assign(bench, topicId, 0, 'a')
  return { ...bench, topicId }
}

function assign(bench: HandlerBench, topicId: number, expectedGeneration: number, member: string): void {
  const queues = [0, 1].map((queue) => ({ topicId, queue }))
  const members = member === '' ? [] : [{ member, topics: ['t'], queues }]
  const command = { kind: 'assign_group', group: 'cg', expectedGeneration, members } as const
  bench.replica.commit(frameTypes.command, encodeCommand(command))
}

function giveBack(bench: HandlerBench, entries: readonly Partial<GivenBackMessage>[], fields = {}) {
  return bench.call(brokerMethods.giveBack, {
    group: 'cg',
    member: 'a',
    generation: 1,
    topic: 't',
    queue: 0,
    entries: entries.map((entry) => ({ offset: 0, delayLevel: 0, deadLetter: false, ...entry })),
    ...fields,
  })
}

function setGroup(bench: HandlerBench, settings: object) {
  return bench.call(adminMethods.setGroup, { group: 'cg', change: { retryDelays: [], ...settings } })
}

function seek(bench: HandlerBench, fields: Partial<SeekGroupRequest>) {
  const request = { group: 'cg', topic: 't', to: 'first', time: 0, offset: 0, otherGroup: '' }
  return bench.call(adminMethods.seekGroup, { ...request, ...fields })
}

function commit(bench: HandlerBench, offset: number, fields = {}) {
  const offsets = [{ topic: 't', queue: 0, offset }]
  const request = { group: 'cg', member: 'a', generation: 1, seek: false, offsets }
  return bench.call(brokerMethods.commitOffsets, { ...request, ...fields })
}

test('messages are given back together, across batches, and asked again it is a success that stores nothing', async () => {
  const bench = await openGroup()
  const { machine } = bench.replica
  const entries = [{ offset: 4 }, { offset: 5 }, { offset: 6, deadLetter: true }]
  expect(await giveBack(bench, entries)).toEqual({ outcomes: ['retry', 'retry', 'dead_letter'] })
  expect(machine.timers.pending).toBe(2)
  const stored = bench.replica.proposals.length
  expect(await giveBack(bench, entries)).toEqual({ outcomes: ['done', 'done', 'done'] })
  expect(bench.replica.proposals.length).toBe(stored)
  expect(await giveBack(bench, [{ offset: 4 }, { offset: 7 }])).toEqual({ outcomes: ['done', 'retry'] })
  expect([machine.timers.pending, machine.queueRange(machine.topic('%DLQ%cg')!.topicId, 0)!.max]).toEqual([3, 1])
})

test('beyond the retries of the group a message is a dead letter, which clients may read', async () => {
  const bench = await openGroup()
  await setGroup(bench, { retriesMax: 0 })
  expect(await giveBack(bench, [{ offset: 3 }])).toEqual({ outcomes: ['dead_letter'] })
  const reply = await bench.pull().pull({ topic: '%DLQ%cg' })
  const [record] = readRecords(reply.batches[0]!.batch)
  expect(record).toMatchObject({ messageId: 'M3', attempt: 0, origin: { topic: 't', queue: 0, offset: 3 } })
})

test('what was committed or trimmed is done with', async () => {
  const bench = await openGroup()
  await commit(bench, 4)
  const queues = [{ topicId: bench.topicId, queue: 1, minOffset: 5 }]
  bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'trim', firstIndex: 0, queues }))
  expect(await giveBack(bench, [{ offset: 3 }])).toEqual({ outcomes: ['done'] })
  expect(await giveBack(bench, [{ offset: 4 }, { offset: 5 }], { queue: 1 })).toEqual({ outcomes: ['done', 'retry'] })
})

test('others than the owner, offsets that do not exist and bad numbers are refused', async () => {
  const bench = await openGroup()
  const illegal = { code: 'INVALID_PARAMETER' }
  await expect(giveBack(bench, [{ offset: 3 }], { generation: 2 })).rejects.toMatchObject({
    code: 'ILLEGAL_GENERATION',
  })
  await expect(giveBack(bench, [{ offset: 3 }], { member: 'b' })).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
  await expect(giveBack(bench, [{ offset: 10 }])).rejects.toMatchObject(illegal)
  await expect(giveBack(bench, [{ offset: 3 }, { offset: 3 }])).rejects.toMatchObject(illegal)
  await expect(giveBack(bench, [{ delayLevel: 19 }])).rejects.toMatchObject(illegal)
  await expect(giveBack(bench, [{}], { member: '' })).rejects.toMatchObject(illegal)
  await expect(giveBack(bench, [{}], { topic: 'rmq_sys_x' })).rejects.toMatchObject(illegal)
  await expect(giveBack(bench, [{}], { topic: 'u' })).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  await expect(giveBack(bench, [])).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
  await expect(giveBack(bench, [{ offset: Number.NaN }])).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
  await expect(
    giveBack(
      bench,
      Array.from({ length: 65 }, (_, offset) => ({ offset })),
    ),
  ).rejects.toMatchObject(illegal)
  bench.replica.follow({ node: 'n1', address: 'n1:1', term: 2 })
  await expect(giveBack(bench, [{ offset: 3 }])).rejects.toMatchObject({ code: 'NOT_LEADER' })
})

test('a message that cannot be read is not taken as given back', async () => {
  const bench = await openGroup()
  const { frames, rotten, cold } = bench.replica.tinyLog
  for (const position of frames.keys()) {
    rotten.add(position)
    cold.add(position)
  }
  await expect(giveBack(bench, [{ offset: 3 }])).rejects.toMatchObject({ code: 'DATA_LOSS' })
})

test('queues are locked, a commit without the lock is LEASE_LOST, and the next owner has them once they are unlocked', async () => {
  const bench = await openGroup()
  const queues = [0, 1].map((queue) => ({ topic: 't', queue }))
  const lock = (member: string, generation: number) =>
    bench.call(brokerMethods.lockQueues, { group: 'cg', member, generation, leaseMs: 60_000, queues })
  await expect(commit(bench, 2, { leased: true })).rejects.toMatchObject({ code: 'LEASE_LOST' })
  const { leases } = await lock('a', 1)
  expect(leases.every(({ until }) => until === bench.replica.machine.appliedTime + 60_000)).toBe(true)
  await commit(bench, 2, { leased: true })
  assign(bench, bench.topicId, 1, 'b')
  expect(await lock('b', 2)).toEqual({ leases: [{ until: 0 }, { until: 0 }] })
  await bench.call(brokerMethods.unlockQueues, { group: 'cg', member: 'a', generation: 1, queues: [queues[0]!] })
  expect((await lock('b', 2)).leases.map(({ until }) => until > 0)).toEqual([true, false])
  await expect(lock('a', 1)).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
})

test('a group is described with its settings, members, offsets and lag, listed, and deleted once it has no members', async () => {
  const bench = await openGroup()
  await commit(bench, 4)
  await setGroup(bench, { paused: true })
  const set = { ...defaults, paused: true, strategy: 'by_circle' }
  expect(await setGroup(bench, { strategy: 'by_circle' })).toEqual({ settings: set })
  expect(await bench.call(adminMethods.describeGroup, { group: 'cg' })).toEqual({
    group: 'cg',
    settings: { ...defaults, paused: true, strategy: 'by_circle' },
    settingsStored: true,
    generation: 1,
    members: [{ member: 'a', topics: ['t'] }],
    queues: [
      { topic: 't', queue: 0, minOffset: 0, maxOffset: 10, committedOffset: 4, lag: 6, member: 'a' },
      { topic: 't', queue: 1, minOffset: 0, maxOffset: 10, lag: 10, member: 'a' },
    ],
  })
  expect(await bench.call(adminMethods.listGroups, {})).toEqual({
    groups: [{ group: 'cg', generation: 1, members: 1, paused: true }],
  })
  const remove = () => bench.call(adminMethods.deleteGroup, { group: 'cg' })
  await expect(remove()).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  assign(bench, bench.topicId, 1, '')
  expect(await remove()).toEqual({})
  const unknown = { code: 'SUBSCRIPTION_GROUP_NOT_EXIST' }
  await expect(bench.call(adminMethods.describeGroup, { group: 'cg' })).rejects.toMatchObject(unknown)
  await expect(setGroup(bench, { strategy: 'machine_room' })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(setGroup(bench, { start: 'constructor' })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('a seek is previewed, carried out in the generation of the preview only, and read back', async () => {
  const bench = await openGroup()
  await commit(bench, 4)
  const preview = await seek(bench, { to: 'offset', offset: 7 })
  expect(preview).toEqual({
    generation: 1,
    queues: [
      { topic: 't', queue: 0, currentOffset: 4, newOffset: 7 },
      { topic: 't', queue: 1, newOffset: 7 },
    ],
  })
  expect(bench.replica.machine.committedOffset('cg', bench.topicId, 0)).toBe(4)
  assign(bench, bench.topicId, 1, 'b')
  const late = seek(bench, { to: 'offset', offset: 7, expectedGeneration: 1 })
  await expect(late).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
  expect(await seek(bench, { to: 'offset', offset: 2, expectedGeneration: 2 })).toMatchObject({
    generation: 3,
    queues: [{ newOffset: 2 }, { newOffset: 2 }],
  })
  expect(bench.replica.machine.committedOffset('cg', bench.topicId, 0)).toBe(2)
  await expect(commit(bench, 9, { member: 'b', generation: 2 })).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
})

test('a seek goes to the ends, to a time, to an offset within the queue, and to where another group is', async () => {
  const bench = await openGroup()
  const offsets = [{ topicId: bench.topicId, queue: 1, offset: 3 }]
  const other = { kind: 'commit_offsets', group: 'other', member: '', generation: 0, seek: false, offsets } as const
  bench.replica.commit(frameTypes.command, encodeCommand(other))
  const rows = await bench.replica.machine.findRows(bench.topicId, 0, 5, 1)
  const at = async (fields: Partial<SeekGroupRequest>) =>
    (await seek(bench, fields)).queues.map(({ queue, newOffset }) => [queue, newOffset])
  expect(await at({ to: 'first' })).toEqual([
    [0, 0],
    [1, 0],
  ])
  expect(await at({ to: 'last', queue: 1 })).toEqual([[1, 10]])
  expect(await at({ to: 'offset', offset: 99, queue: 0 })).toEqual([[0, 10]])
  expect(await at({ to: 'time', time: rows[0]!.storeTime, queue: 0 })).toEqual([[0, 5]])
  expect(await at({ to: 'group', otherGroup: 'other' })).toEqual([[1, 3]])
  await expect(seek(bench, { to: 'nowhere' })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(seek(bench, { queue: 2 })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})
