/** What the settings of a group and its retry topic mean for the assignment. */
import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { defaultGroupSettings, type GroupSettings } from '../../../../src/broker/apply/group-config.ts'
import { EventRing } from '../../../../src/broker/events.ts'
import { GroupCoordinator } from '../../../../src/broker/group/coordinator.ts'
import { silentLogger } from '../../../../src/common/logger.ts'
import { frameTypes } from '../../../../store/index.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { consumedBatch } from '../apply/consumed-support.ts'
import { makeBatch } from '../apply/support.ts'
import { ScriptedReplica } from '../scripted-replica.ts'

async function open() {
  const replica = await ScriptedReplica.open()
  const clock = new ManualClock()
  const events = new EventRing({ clock, group: 'g', node: 'n0' })
  const config = { topic: 't', readQueues: 4, writeQueues: 4, permission: 6 }
  replica.commit(frameTypes.command, encodeCommand({ kind: 'create_topic', config }))
  const coordinator = new GroupCoordinator({ replica, events, clock, logger: silentLogger })
  const beat = async (member: string, group = 'cg') => {
    const request = { group, member, topics: ['t'], generation: 0, sessionTimeoutMs: 10_000 }
    const { generation, queues } = await coordinator.heartbeat(request, { timeoutMs: 5_000 })
    return { generation, queues: queues.map(({ topic, queue }) => `${topic}/${queue}`) }
  }
  const set = (settings: Partial<GroupSettings>): void => {
    const command = { kind: 'set_group', group: 'cg', settings: { ...defaultGroupSettings, ...settings } } as const
    replica.commit(frameTypes.command, encodeCommand(command))
  }
  return { replica, clock, coordinator, beat, set }
}

test('a message that is given back brings the retry topic into the assignment of its group, and of no other', async () => {
  const { replica, clock, beat } = await open()
  await Promise.all([beat('a'), beat('x', 'other')])
  await clock.advance(150)
  expect(await beat('a')).toEqual({ generation: 1, queues: ['t/0', 't/1', 't/2', 't/3'] })
  replica.commit(frameTypes.batch, makeBatch({ topic: 't' }))
  const by = { group: 'cg', topicId: 1, queue: 0, member: 'a', generation: 1, receipts: [] }
  replica.commit(frameTypes.batch, consumedBatch({ ...by, offsets: [0] }))
  await clock.advance(150)
  const { generation, queues } = await beat('a')
  expect(generation).toBe(2)
  expect(queues).toContain('%RETRY%cg/0')
  expect(queues).toHaveLength(5)
  expect(await beat('x', 'other')).toMatchObject({ generation: 1 })
})

test('a paused group is assigned nothing until it goes on', async () => {
  const { clock, beat, set } = await open()
  await beat('a')
  await clock.advance(150)
  set({ paused: true })
  await clock.advance(150)
  expect(await beat('a')).toEqual({ generation: 2, queues: [] })
  set({ paused: false })
  await clock.advance(150)
  expect((await beat('a')).queues).toHaveLength(4)
})

test('the strategy of the group counts, from the moment on that it is set', async () => {
  const { clock, beat, set } = await open()
  await Promise.all([beat('a'), beat('b')])
  await clock.advance(150)
  expect((await beat('a')).queues).toEqual(['t/0', 't/1'])
  set({ strategy: 'by_circle' })
  await clock.advance(150)
  expect((await beat('a')).queues).toEqual(['t/0', 't/2'])
  expect((await beat('b')).queues).toEqual(['t/1', 't/3'])
})
