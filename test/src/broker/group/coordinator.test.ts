import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { EventRing } from '../../../../src/broker/events.ts'
import { GroupCoordinator } from '../../../../src/broker/group/coordinator.ts'
import { membersPerGroupMax } from '../../../../src/broker/group/membership.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import { silentLogger } from '../../../../src/common/logger.ts'
import type { GroupHeartbeatReply } from '../../../../src/rpc/methods.ts'
import { frameTypes } from '../../../../store/index.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { ScriptedReplica } from '../scripted-replica.ts'

const options = { timeoutMs: 5000 }

async function open(topics: readonly [string, number][] = [['t', 8]]) {
  const replica = await ScriptedReplica.open()
  const clock = new ManualClock()
  const events = new EventRing({ clock, group: 'g', node: 'n0' })
  for (const [topic, queues] of topics) setTopic(replica, topic, queues)
  const coordinator = new GroupCoordinator({ replica, events, clock, logger: silentLogger })
  const beat = (member: string, fields: { topics?: string[]; sessionTimeoutMs?: number; group?: string } = {}) =>
    coordinator.heartbeat(
      { group: 'cg', member, topics: ['t'], generation: 0, sessionTimeoutMs: 10_000, ...fields },
      options,
    )
  const leave = (member: string) => coordinator.leave({ group: 'cg', member }, options)
  const kinds = (): readonly string[] =>
    events.since(0).map((event) => `${event.kind} ${event.details['member'] ?? event.details['generation']}`)
  return { replica, clock, events, coordinator, beat, leave, kinds }
}

function setTopic(replica: ScriptedReplica, topic: string, queues: number, kind: 'create' | 'update' = 'create'): void {
  const config = { topic, readQueues: queues, writeQueues: queues, permission: 6 }
  const command = { kind: kind === 'create' ? ('create_topic' as const) : ('update_topic' as const), config }
  replica.commit(frameTypes.command, encodeCommand(command))
}

function owned(reply: GroupHeartbeatReply): readonly number[] {
  return reply.queues.map(({ queue }) => queue)
}

test('members that join together cause one rebalance, and share the queues', async () => {
  const { replica, clock, beat, kinds } = await open()
  const joined = await Promise.all(['a', 'b', 'c'].map((member) => beat(member)))
  for (const reply of joined) expect(reply).toMatchObject({ generation: 0, queues: [], intervalMs: 150 })
  await clock.advance(150)
  const replies = await Promise.all(['a', 'b', 'c'].map((member) => beat(member)))
  expect(replies.map((reply) => reply.generation)).toEqual([1, 1, 1])
  expect(replies.map((reply) => reply.queues.length)).toEqual([3, 3, 2])
  expect(replies.flatMap(owned).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  expect(replies[0]?.intervalMs).toBe(3000)
  expect(replica.proposals).toHaveLength(1)
  expect(kinds()).toEqual(['client_joined a', 'client_joined b', 'client_joined c', 'rebalance 1'])
})

test('a silent member is dropped after its own session timeout, a heard one is not', async () => {
  const { clock, beat, kinds } = await open()
  await beat('a', { sessionTimeoutMs: 2000 })
  await beat('b', { sessionTimeoutMs: 60_000 })
  await clock.advance(1500)
  expect((await beat('b', { sessionTimeoutMs: 60_000 })).queues).toHaveLength(4)
  await clock.advance(1500)
  const reply = await beat('b', { sessionTimeoutMs: 60_000 })
  expect(reply.generation).toBe(2)
  expect(reply.queues).toHaveLength(8)
  expect(kinds()).toContain('client_left a')
})

test('a member that leaves gives its queues away without waiting, and twice is no error', async () => {
  const { clock, beat, leave, kinds, replica } = await open()
  await beat('a')
  await beat('b')
  await clock.advance(200)
  await leave('a')
  await leave('a')
  await leave('never-there')
  await clock.advance(150)
  expect((await beat('b')).queues).toHaveLength(8)
  expect(kinds().filter((kind) => kind.startsWith('client_left'))).toEqual(['client_left a'])
  expect(replica.proposals).toHaveLength(2)
})

test('when the last member leaves, the group gets a new generation without members: old commits are fenced', async () => {
  const { clock, beat, leave, replica } = await open()
  await beat('a')
  await clock.advance(200)
  await leave('a')
  await clock.advance(200)
  expect(replica.machine.assignment('cg')).toEqual({ generation: 2, members: [] })
  expect((await beat('b')).generation).toBe(2)
  await clock.advance(200)
  expect((await beat('b')).queues).toHaveLength(8)
})

test('a member that stays keeps its queues when others come and go', async () => {
  const { clock, beat, leave } = await open()
  await beat('a')
  await beat('b')
  await clock.advance(200)
  const before = owned(await beat('a'))
  await beat('c')
  await clock.advance(200)
  for (const queue of owned(await beat('a'))) expect(before).toContain(queue)
  await leave('c')
  await clock.advance(200)
  for (const queue of before) expect(owned(await beat('a'))).toContain(queue)
})

test('a topic that gets more queues, is created late, or is deleted, is assigned anew', async () => {
  const { replica, clock, beat } = await open()
  const topics = ['t', 'u']
  await beat('a', { topics })
  await clock.advance(200)
  expect((await beat('a', { topics })).queues).toHaveLength(8)
  setTopic(replica, 't', 10, 'update')
  setTopic(replica, 'u', 2)
  await clock.advance(200)
  const reply = await beat('a', { topics })
  expect(reply).toMatchObject({ generation: 2 })
  expect(reply.queues).toHaveLength(12)
  replica.commit(frameTypes.command, encodeCommand({ kind: 'delete_topic', topic: 't' }))
  expect((await beat('a', { topics })).queues).toHaveLength(2)
  await clock.advance(200)
  expect(await beat('a', { topics })).toMatchObject({ generation: 3 })
})

test('a topic that may not be read is assigned to nobody', async () => {
  const { replica, clock, beat } = await open([])
  const config = { topic: 't', readQueues: 2, writeQueues: 2, permission: 2 }
  replica.commit(frameTypes.command, encodeCommand({ kind: 'create_topic', config }))
  await beat('a')
  await clock.advance(200)
  expect((await beat('a')).queues).toEqual([])
})

test('a member with another subscription than its group is refused with both named', async () => {
  const { clock, beat } = await open()
  await beat('a', { topics: ['t', 'u'] })
  const refusal = beat('b', { topics: ['t'] })
  await expect(refusal).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(refusal).rejects.toThrow(/\[t\].*\[t, u\]/)
  expect((await beat('b', { topics: ['u', 't', 't'] })).generation).toBe(0)
  await clock.advance(200)
  await expect(beat('a', { topics: ['u'] })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('a member that is alone may change its subscription', async () => {
  const { clock, beat } = await open([
    ['t', 2],
    ['u', 3],
  ])
  await beat('a')
  await clock.advance(200)
  await beat('a', { topics: ['u'] })
  await clock.advance(200)
  expect((await beat('a', { topics: ['u'] })).queues.map(({ topic }) => topic)).toEqual(['u', 'u', 'u'])
})

test('after a leader change the assignment stands; members not heard of are dropped after a grace', async () => {
  const { replica, clock, beat, kinds } = await open()
  await beat('a')
  await beat('b')
  await clock.advance(200)
  const before = owned(await beat('a'))

  replica.follow({ node: 'n1', address: 'n1:1', term: 2 })
  await expect(beat('a')).rejects.toMatchObject({ code: 'NOT_LEADER' })
  await clock.advance(60_000)
  replica.lead(3)
  await clock.advance(5000)
  expect(await beat('a')).toMatchObject({ generation: 1 })
  expect(owned(await beat('a'))).toEqual(before)
  expect(replica.proposals).toHaveLength(1)

  await clock.advance(5000)
  expect(kinds().filter((kind) => kind.startsWith('client_left'))).toEqual([])
  await clock.advance(1000)
  expect(kinds().filter((kind) => kind.startsWith('client_left'))).toEqual(['client_left b'])
  expect((await beat('a')).queues).toHaveLength(8)
})

test('a rebalance that another leader was faster with does no harm', async () => {
  const { replica, clock, beat } = await open()
  await beat('a')
  replica.holdProposals = true
  await clock.advance(150)
  const theirs = encodeCommand({ kind: 'assign_group', group: 'cg', expectedGeneration: 0, members: [] })
  replica.commit(frameTypes.command, theirs)
  replica.commitHeld()
  await clock.advance(1000)
  expect(await beat('a')).toMatchObject({ generation: 2 })
  expect((await beat('a')).queues).toHaveLength(8)
})

test('a proposal that fails is repeated while the replica leads', async () => {
  const { replica, clock, beat } = await open()
  replica.proposeError = new LedgerError('FLOW_CONTROL', 'full')
  await beat('a')
  await clock.advance(1200)
  expect(replica.proposals.length).toBeGreaterThan(1)
  replica.proposeError = null
  await clock.advance(500)
  expect((await beat('a')).queues).toHaveLength(8)
})

test('a change while a proposal is under way leads to another rebalance', async () => {
  const { replica, clock, beat } = await open()
  await beat('a')
  replica.holdProposals = true
  await clock.advance(150)
  await beat('b')
  await clock.advance(1000)
  expect(replica.proposals).toHaveLength(1)
  replica.commitHeld()
  await clock.advance(200)
  expect((await beat('b')).queues).toHaveLength(4)
})

test('an answer of a leader without its quorum is not given', async () => {
  const { replica, clock, beat } = await open()
  await beat('a')
  await clock.advance(200)
  replica.quorum = false
  await expect(beat('a')).rejects.toMatchObject({ code: 'NO_QUORUM' })
})

test('what the state machine refuses for good is told to the members', async () => {
  const { replica, clock, beat } = await open()
  replica.commit(frameTypes.command, encodeCommand({ kind: 'set_limits', limits: { membersPerGroupMax: 1 } }))
  await beat('a')
  await beat('b')
  await clock.advance(200)
  for (const member of ['a', 'b']) await expect(beat(member)).rejects.toThrow(/at most 1 members/)
})

test('a member that there is no room for is refused alone: the others keep their queues', async () => {
  const { replica, clock, beat } = await open()
  replica.commit(frameTypes.command, encodeCommand({ kind: 'set_limits', limits: { membersPerGroupMax: 1 } }))
  await beat('a')
  await clock.advance(200)
  await beat('b')
  await clock.advance(200)
  await expect(beat('b')).rejects.toThrow(/at most 1 members/)
  expect((await beat('a')).queues).toHaveLength(8)
})

test('an assignment too large for one entry is refused with the reason, until it fits again', async () => {
  const topics = Array.from({ length: 1000 }, (_, number) => `${'x'.repeat(100)}${number}`)
  const { clock, beat, leave } = await open()
  const members = Array.from({ length: 12 }, (_, number) => `m${number}`)
  for (const member of members) await beat(member, { topics })
  await clock.advance(200)
  await expect(beat('m0', { topics })).rejects.toThrow(/use several groups/)
  for (const member of members.slice(5)) await leave(member)
  await clock.advance(200)
  expect(await beat('m0', { topics })).toMatchObject({ generation: 1 })
})

test('a coordinator that slept drops nobody whose heartbeat it could not hear', async () => {
  const { clock, beat, kinds } = await open()
  await beat('a')
  await clock.advance(200)
  await clock.sleepThrough(60_000)
  await clock.advance(5000)
  expect((await beat('a')).queues).toHaveLength(8)
  expect(kinds().filter((kind) => kind.startsWith('client_left'))).toEqual([])
  await clock.advance(11_000)
  expect(kinds()).toContain('client_left a')
})

test.each([999, 60_001])('a session timeout of %d ms is out of bounds', async (sessionTimeoutMs) => {
  const { beat } = await open()
  await expect(beat('a', { sessionTimeoutMs })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('without a session timeout the default of 10 s holds', async () => {
  const { clock, beat, kinds } = await open()
  await beat('a', { sessionTimeoutMs: 0 })
  await clock.advance(9900)
  expect(kinds()).not.toContain('client_left a')
  await clock.advance(1000)
  expect(kinds()).toContain('client_left a')
})

test.each(['', 'a b', 'a\nb', 'x'.repeat(256), 'ü'])('the member name %j is refused', async (member) => {
  const { beat, leave } = await open()
  await expect(beat(member)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(leave(member)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('a subscription has at least one topic and not too many', async () => {
  const { beat } = await open()
  await expect(beat('a', { topics: [] })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  const topics = Array.from({ length: 1001 }, (_, number) => `t${number}`)
  await expect(beat('a', { topics })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('a full group refuses members with FLOW_CONTROL and keeps those it has', async () => {
  const { beat } = await open()
  await Promise.all(Array.from({ length: membersPerGroupMax }, (_, number) => beat(`m${number}`)))
  await expect(beat('one-too-many')).rejects.toMatchObject({ code: 'FLOW_CONTROL' })
  await expect(beat('m0')).resolves.toMatchObject({ generation: 0 })
})

test('a coordinator of a follower does nothing, and a closed one leaves no timer', async () => {
  const { replica, clock, beat, coordinator } = await open()
  await beat('a')
  coordinator.close()
  expect(clock.timerCount).toBe(0)
  replica.lead(5)
  expect(clock.timerCount).toBe(0)
})
