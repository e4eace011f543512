/** The calls of operators about membership and leadership: what is refused, with which reason, and by whom. */
import { afterEach, expect, test } from 'vitest'
import { transferReply } from '../../../../src/broker/handler/membership.ts'
import { adminMethods } from '../../../../src/rpc/methods.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { callLeader, change, expectAlike, membership } from '../membership/cluster.ts'
import { createTopic, errorOf } from '../replica/support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

async function start(): Promise<string> {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  for (const topic of ['a', 'b', 'c']) await createTopic(cluster.replica(leader), topic)
  return leader
}

async function startJoining(node: string): Promise<void> {
  cluster.addMachine(node)
  await cluster.startWith(node, cluster.joining(node))
}

test('one change at a time; what is not possible is refused with its reason and changes nothing', async () => {
  const leader = await start()
  const others = cluster.nodes.filter((node) => node !== leader)
  await startJoining('n3')
  const before = await membership(cluster)
  const refusals: readonly (readonly [kind: string, node: string, code: string, rest?: object])[] = [
    ['remove', 'n9', 'NOT_A_MEMBER'],
    ['promote', 'n9', 'NOT_A_MEMBER'],
    ['replace', 'n9', 'NOT_A_MEMBER'],
    ['add', 'n1', 'ALREADY_A_MEMBER'],
    ['add', 'n9', 'FOREIGN_GROUP', { raftAddress: 'n3:30912' }],
    ['explode', 'n1', 'INVALID_PARAMETER'],
    ['add', 'n3', 'INVALID_PARAMETER', { raftAddress: 'nowhere' }],
    ['add', '../n3', 'INVALID_PARAMETER'],
    ['priority', 'n1', 'INVALID_PARAMETER', { priority: 9999 }],
  ]
  for (const [kind, node, code, rest] of refusals) {
    expect(await errorOf(change(cluster, kind, node, rest)), `${kind} ${node}`).toMatchObject({ code })
  }
  cluster.kill(others[0] as string)
  await eventually('the leader knows', () => !cluster.replica(leader).members.isConnected(others[0] as string))
  expect(await errorOf(change(cluster, 'remove', others[1] as string))).toMatchObject({ code: 'WOULD_LOSE_QUORUM' })
  expect((await membership(cluster)).index).toBe(before.index)
})

test('priority is kept with the membership', async () => {
  await start()
  const reply = await change(cluster, 'priority', 'n1', { priority: 7 })
  expect(reply.members.map(({ node, priority }) => [node, priority])).toEqual([
    ['n0', 0],
    ['n1', 7],
    ['n2', 0],
  ])
  await expectAlike(cluster, cluster.nodes, 'after')
})

test('leadership goes to the voter that is named, or to the best one; not to a stranger or to one that is cut off', async () => {
  const leader = await start()
  const [to] = cluster.nodes.filter((node) => node !== leader)
  expect(await callLeader(cluster, adminMethods.transferLeadership, { to: to as string })).toMatchObject({ leader: to })
  expect(await cluster.leader()).toBe(to)
  const next = await callLeader(cluster, adminMethods.transferLeadership, { to: '' })
  expect(next.leader).not.toBe(to)
  expect(await errorOf(callLeader(cluster, adminMethods.transferLeadership, { to: 'n9' }))).toMatchObject({
    code: 'NOT_A_MEMBER',
  })
})

test('an operator who means another incarnation of the group changes nothing and moves no leadership', async () => {
  const leader = await start()
  const { index, incarnation } = await membership(cluster)
  expect(incarnation).toBe(cluster.replica(leader).incarnation)
  const [follower] = cluster.nodes.filter((node) => node !== leader)
  const foreign = { code: 'FOREIGN_GROUP', message: expect.stringContaining(`incarnation ${incarnation}`) }
  const other = { incarnation: 'another' }
  expect(await errorOf(change(cluster, 'priority', 'n1', { priority: 7, ...other }))).toMatchObject(foreign)
  const transfer = { to: follower as string, ...other }
  expect(await errorOf(callLeader(cluster, adminMethods.transferLeadership, transfer))).toMatchObject(foreign)
  expect(await membership(cluster)).toMatchObject({ index, leader })
  const own = { priority: 7, incarnation: incarnation as string }
  expect((await change(cluster, 'priority', 'n1', own)).index).toBeGreaterThan(index)
})

test('a transfer is done when the wanted node leads; whoever was elected instead is named', () => {
  const n2 = { node: 'n2', address: 'n2:1', term: 7 }
  expect(transferReply('n2', n2, 6)).toEqual({ leader: 'n2', term: 7 })
  expect(transferReply('', n2, 6)).toEqual({ leader: 'n2', term: 7 })
  expect(transferReply('n1', null, 6)).toEqual({ leader: '', term: 6 })
  expect(() => transferReply('n1', n2, 6)).toThrow(
    expect.objectContaining({ code: 'NOT_LEADER', facts: { term: 7, leader: { node: 'n2', address: 'n2:1' } } }),
  )
})
