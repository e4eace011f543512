/** The last resort after a majority was lost for good: one survivor, shown first, becomes a new incarnation. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { forceRecovery, inspectSurvivor, type RecoveryPorts } from '../../../src/broker/forced-recovery.ts'
import { FolderRecords } from '../../../src/broker/replica/identity.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { loseAllUnsynced, MemoryKeyValueEngine } from '../../../store/index.ts'
import { eventually } from '../../support/eventually.ts'
import { MemoryCluster } from '../../support/memory-cluster.ts'
import { fill, smallSegmentBytes, trim } from './replica/catch-up/support.ts'
import { codeOf, createTopic, errorOf } from './replica/support.ts'

let cluster: MemoryCluster

beforeEach(async () => {
  cluster = new MemoryCluster()
  await cluster.start()
})

afterEach(() => cluster.end())

function portsOf(node: string): RecoveryPorts {
  const { disk, engine } = cluster.machine(node)
  return { disk, engine, clock: cluster.clock, random: systemRandom }
}

/** A group with some topics whose processes have all been killed. */
async function killedGroup(): Promise<void> {
  const leader = cluster.replica(await cluster.leader())
  for (const topic of ['a', 'b', 'c']) await createTopic(leader, topic)
  await cluster.settled()
  for (const node of cluster.nodes) cluster.kill(node)
}

test('one survivor goes on with everything it holds, as a new incarnation', async () => {
  await killedGroup()
  const before = await inspectSurvivor('data/n1', portsOf('n1'))
  expect(before).toMatchObject({ node: 'n1', group: 'RaftNode00', problem: null, voters: ['n0', 'n1', 'n2'] })

  const after = await forceRecovery('data/n1', portsOf('n1'), before.confirmation)

  expect(after).toMatchObject({ voters: ['n1'], lastIndex: before.lastIndex + 1 })
  expect(after.incarnation).not.toBe(before.incarnation)
  await cluster.start('n1')
  await cluster.leader(['n1'])
  const replica = cluster.replica('n1')
  await createTopic(replica, 'd')
  expect(replica.machine.topics().map(({ config }) => config.topic)).toEqual(['a', 'b', 'c', 'd'])
  cluster.kill('n1')
  await cluster.start('n1')
  await cluster.leader(['n1'])
})

test('a copy of the old group that was under way is not gone on with', async () => {
  await killedGroup()
  const records = new FolderRecords(cluster.machine('n1').disk, 'data/n1')
  const origin = { position: 0, index: 0, term: 0, checksum: 0 }
  await records.saveIncoming({ log: 1, state: 1, logFirstIndex: 1, origin, stateIndex: null })

  const { confirmation } = await inspectSurvivor('data/n1', portsOf('n1'))
  await forceRecovery('data/n1', portsOf('n1'), confirmation)

  await cluster.start('n1')
  await cluster.leader(['n1'])
  const started = cluster.broker('n1').events.since(0)
  expect(started.filter(({ kind }) => kind === 'catch_up_started')).toEqual([])
})

test('a survivor whose state ends before an entry that nobody has is refused: alone it could never apply on', async () => {
  const leader = cluster.replica(await cluster.leader())
  for (const topic of ['a', 'b', 'c']) await createTopic(leader, topic)
  await cluster.settled()
  const { log } = cluster.replica('n1')
  const [lost] = await log.read(log.lastIndex - 1, log.lastIndex - 1, 1)
  const { index, position } = lost?.header ?? { index: 0, position: 0 }
  for (const node of cluster.nodes) cluster.kill(node)
  const machine = cluster.machine('n1')
  machine.engine = new MemoryKeyValueEngine()
  machine.disk.flipBit(`data/n1/log/${'0'.repeat(20)}`, 4096 + position + 70, 2)
  const range = { fromIndex: index, toIndex: index }
  const record = { pending: false, untilLeaderReached: false, reason: '', lost: [range] }
  await new FolderRecords(machine.disk, 'data/n1').saveQuarantine(record)

  const before = await inspectSurvivor('data/n1', portsOf('n1'))

  expect(before.problem).toContain(`entry ${index} is lost`)
  expect(await codeOf(forceRecovery('data/n1', portsOf('n1'), before.confirmation))).toBe('CONFIG_INVALID')
  expect(await inspectSurvivor('data/n1', portsOf('n1'))).toEqual(before)
})

test('replicas of the old incarnation that come back after all stay outside', async () => {
  await killedGroup()
  const { confirmation } = await inspectSurvivor('data/n1', portsOf('n1'))
  await forceRecovery('data/n1', portsOf('n1'), confirmation)
  await cluster.start()
  await cluster.leader(['n1'])

  const refused = await eventually('n0 refuses the recovered one', () =>
    cluster
      .broker('n0')
      .events.since(0)
      .find(({ kind, details }) => kind === 'peer_refused' && details['node'] === 'n1'),
  )

  expect(String(refused.details['reason'])).toContain('incarnation')
  await createTopic(cluster.replica('n1'), 'only-here')
  expect(cluster.replica('n1').leader()?.node).toBe('n1')
  for (const node of ['n0', 'n2']) expect(cluster.replica(node).machine.topic('only-here')).toBeUndefined()
})

test('what was not looked at is not recovered, and nothing is changed', async () => {
  await killedGroup()
  const before = await inspectSurvivor('data/n2', portsOf('n2'))
  for (const confirmation of ['', 'yes', before.confirmation.replace('n2', 'n1'), `${before.confirmation}0`]) {
    const error = await errorOf(forceRecovery('data/n2', portsOf('n2'), confirmation))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toContain(before.confirmation)
  }
  expect(await inspectSurvivor('data/n2', portsOf('n2'))).toEqual(before)
})

test('a replica that runs, a folder that is none and a sole voter are refused', async () => {
  await cluster.leader()
  expect(await codeOf(inspectSurvivor('data/n0', portsOf('n0')))).toBe('FOLDER_IN_USE')
  expect(await codeOf(inspectSurvivor('data', portsOf('n0')))).toBe('FOREIGN_FOLDER')
  await killedGroup()
  const { confirmation } = await inspectSurvivor('data/n0', portsOf('n0'))
  const alone = await forceRecovery('data/n0', portsOf('n0'), confirmation)
  expect(alone.problem).toContain('the only voter')
  expect(await codeOf(forceRecovery('data/n0', portsOf('n0'), alone.confirmation))).toBe('CONFIG_INVALID')
})

test('a recovery cut short by a power loss can be repeated', async () => {
  await killedGroup()
  const { confirmation } = await inspectSurvivor('data/n0', portsOf('n0'))
  const { disk } = cluster.machine('n0')
  disk.fail('write', { code: 'EIO', times: 1, path: 'hard-state' })
  expect(await codeOf(forceRecovery('data/n0', portsOf('n0'), confirmation))).toBe('STORAGE_FAILED')
  disk.heal()
  cluster.machine('n0').disk = disk.crash(loseAllUnsynced)

  const again = await inspectSurvivor('data/n0', portsOf('n0'))
  expect(again).toMatchObject({ problem: null, voters: ['n0', 'n1', 'n2'] })
  await forceRecovery('data/n0', portsOf('n0'), again.confirmation)

  await cluster.start('n0')
  await cluster.leader(['n0'])
})

test('a survivor whose state is lost beside a trimmed log is refused: alone it could never serve anybody', async () => {
  cluster.end()
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'long', 700)
  const firstIndex = await trim(cluster, 'n1', 650)
  await cluster.settled()
  for (const node of cluster.nodes) cluster.kill(node)
  cluster.machine('n1').engine = new MemoryKeyValueEngine()

  const survivor = await inspectSurvivor('data/n1', portsOf('n1'))

  expect(survivor.problem).toBe(`its state is lost, and its log, which begins at ${firstIndex}, cannot bring it back`)
  expect(await codeOf(forceRecovery('data/n1', portsOf('n1'), survivor.confirmation))).toBe('CONFIG_INVALID')
  expect(await inspectSurvivor('data/n0', portsOf('n0'))).toMatchObject({ problem: null })
})

test('a folder that is not there is told as such, with what the right one looks like', async () => {
  for (const node of cluster.nodes) cluster.kill(node)
  const error = await errorOf(inspectSurvivor('data/nobody', portsOf('n1')))
  expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: 'data/nobody does not exist or is empty' })
  expect(error.hint).toContain('<data>/groups/<group>/<node>')
})
