/** A node with an empty folder outside its group: what it says, whom it believes, and that it promises nothing. */
import { afterEach, expect, test } from 'vitest'
import { raftMethods } from '../../../../src/rpc/methods.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { errorOf } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

test('a node that was started to join waits, says for what, and leaves its folder without vote and configuration', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  await cluster.leader()
  cluster.addMachine('n3')
  const broker = await cluster.startWith('n3', cluster.joining('n3'))
  await broker.joined
  const { role, reason } = broker.status()
  expect(role).toBe('stranger')
  expect(reason).toMatch(/^NOT_A_MEMBER: waiting until the group adds node n3 with disk [0-9a-f-]{36}$/)
  const paths = cluster.machine('n3').disk.paths()
  expect(paths.some((path) => path.endsWith('/hard-state') || path.endsWith('/configuration'))).toBe(false)
})

test('a node that joins under the name of another group is told so', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  await cluster.leader()
  cluster.addMachine('n3')
  const broker = await cluster.startWith('n3', { ...cluster.joining('n3'), group: 'RaftNode07' })
  await eventually('it knows', () => broker.status().reason.startsWith('WRONG_CLUSTER: '))
})

test('Describe tells who answers and what it knows, also before it has a group', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  cluster.addMachine('n3')
  await cluster.startWith('n3', cluster.joining('n3'))
  const request = { cluster: 'RaftCluster', group: 'RaftNode00', fromNode: 'x', fromDisk: '' }
  const ask = (node: string, changes = {}) =>
    cluster.network
      .endpoint('client')
      .connect(`${node}:30912`, 'control')
      .call(raftMethods.describe, { ...request, ...changes }, { timeoutMs: 5000 })
  const told = await ask('n1')
  expect(told).toMatchObject({ node: 'n1', leader, membership: { index: 0 } })
  expect(told.membership?.voters.map((voter) => voter.node)).toEqual(['n0', 'n1', 'n2'])
  expect(told.configuration?.members.find((member) => member.node === 'n1')?.disk).toBe(told.disk)
  const outside = await ask('n3')
  expect(outside).toMatchObject({ node: 'n3', lastIndex: 0, leader: '' })
  expect(outside.disk).not.toBe('')
  expect(outside).not.toHaveProperty('configuration')
  expect(await errorOf(ask('n1', { group: 'RaftNode07' }))).toMatchObject({ code: 'WRONG_CLUSTER' })
})

test('to join and to make a group are different wishes, and a node that joins needs an address for its peers', async () => {
  cluster = new MemoryCluster()
  cluster.addMachine('n3')
  const joining = cluster.joining('n3')
  const both = await errorOf(cluster.startWith('n3', { ...joining, bootstrap: true }))
  expect(both).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('join') })
  const { raftListen: _none, ...nowhere } = joining
  const lost = await errorOf(cluster.startWith('n3', nowhere))
  expect(lost).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('raftListen') })
})
