/** How a group comes into being, and who does not belong to it. */
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, testSegmentBytes } from '../../../support/memory-cluster.ts'
import { createTopic, errorOf } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

function reason(node: string): string {
  return cluster.broker(node).status().reason
}

test('nobody votes before all initial replicas were there once', async () => {
  cluster = new MemoryCluster()
  await cluster.start('n0', 'n1')
  await eventually('n0 says whom it waits for', () => reason('n0') === 'NOT_BOOTSTRAPPED: waiting for n2')
  expect(cluster.broker('n0').replica).toBeNull()
  expect(cluster.broker('n0').status()).toMatchObject({ role: 'stranger', term: 0 })
  await cluster.start('n2')
  await cluster.leader()
  const incarnations = new Set(cluster.nodes.map((node) => cluster.replica(node).incarnation))
  expect(incarnations.size).toBe(1)
})

test('a node that missed the first configuration asks for it', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  await cluster.leader()
  await eventually('all joined', () => cluster.nodes.every((node) => cluster.broker(node).replica))
  cluster.kill('n2')
  // As if it had died between telling its disk and storing the answer.
  await cluster.machine('n2').disk.unlink('data/n2/configuration')
  await cluster.startWith('n2', { bootstrap: false })
  await eventually('n2 is a member again', () => cluster.broker('n2').replica)
})

test('a node whose own disk does not take the first configuration says so, and joins when it does', async () => {
  cluster = new MemoryCluster()
  await cluster.start('n0', 'n1')
  const { disk } = cluster.machine('n2')
  disk.fail('sync', { code: 'EIO', times: Number.POSITIVE_INFINITY, path: 'hard-state' })
  await cluster.start('n2')
  await eventually('n2 tells of its disk', () => reason('n2').startsWith('STORAGE_FAILED: this node cannot store'))
  expect(cluster.broker('n2').replica).toBeNull()
  disk.heal()
  await eventually('n2 joined', () => cluster.broker('n2').replica)
})

test('a wiped replica does not vote, whether told to bootstrap or not, and says why', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 'kept')
  for (const [node, bootstrap] of [
    ['n0', true],
    ['n1', false],
  ] as const) {
    cluster.wipe(node)
    await cluster.startWith(node, { bootstrap })
    await eventually('it knows that it is a stranger', () => reason(node).startsWith('WIPED: '))
    expect(cluster.broker(node).status().role).toBe('stranger')
    expect(cluster.broker(node).replica).toBeNull()
  }
  // Two of three are strangers now: the last one must not find a quorum.
  expect(
    cluster.nodes.some((node) => cluster.broker(node).replica?.leading && cluster.broker(node).status().term > 99),
  ).toBe(false)
})

test('an empty folder without bootstrap waits and says what to do', async () => {
  cluster = new MemoryCluster({ nodes: ['n0'], broker: { bootstrap: false } })
  await cluster.start()
  expect(reason('n0')).toMatch(/^NOT_BOOTSTRAPPED: .*--bootstrap/)
  expect(cluster.broker('n0').status().role).toBe('stranger')
})

test('different settings of the initial replicas are found before anything is cast in stone, and told on both', async () => {
  cluster = new MemoryCluster({ nodes: ['n0', 'n1'] })
  await cluster.start('n0')
  await cluster.startWith('n1', { segmentBytes: 2 * testSegmentBytes })
  await eventually('n0 tells', () => reason('n0').startsWith('CONFIG_INVALID: '))
  await eventually('n1 tells', () => reason('n1').startsWith('CONFIG_INVALID: '))
  expect(reason('n0')).toContain(`${testSegmentBytes}`)
  expect(reason('n0')).toContain(`${2 * testSegmentBytes}`)
  cluster.kill('n1')
  await cluster.start('n1')
  await cluster.leader()
})

test('the folder of another node is refused and not touched', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  await cluster.leader()
  cluster.kill('n1')
  const { disk } = cluster.machine('n1')
  const before = disk.paths().map((path) => [path, disk.contentOf(path).toString('base64')])
  for (const overrides of [
    { node: 'n2', listen: 'x:1', raftListen: 'x:2' },
    { group: 'Other' },
    { cluster: 'Other' },
  ]) {
    const error = await errorOf(cluster.startWith('n1', overrides))
    expect(error.code).toBe('FOREIGN_FOLDER')
    expect(error.message).toContain('data/n1')
  }
  expect(disk.paths().map((path) => [path, disk.contentOf(path).toString('base64')])).toEqual(before)
})

test('a folder that another process has open is refused, and so is a port that is taken', async () => {
  cluster = new MemoryCluster({ nodes: ['n0'] })
  await cluster.start()
  await cluster.leader()
  const inUse = await errorOf(cluster.startWith('n0', { listen: 'x:1', raftListen: 'x:2' }))
  expect(inUse.code).toBe('FOLDER_IN_USE')
  const taken = await errorOf(cluster.startWith('n0', { directory: 'data/untouched' }))
  expect(taken.code).toBe('PORT_IN_USE')
  expect(
    cluster
      .machine('n0')
      .disk.paths()
      .some((path) => path.includes('untouched')),
  ).toBe(false)
})

test('another segment size than that of the group stops the start', async () => {
  cluster = new MemoryCluster({ nodes: ['n0'] })
  await cluster.start()
  await cluster.leader()
  await cluster.stop('n0')
  const error = await errorOf(cluster.startWith('n0', { segmentBytes: 2 * testSegmentBytes }))
  expect(error.code).toBe('CONFIG_INVALID')
  expect(error.message).toContain('segmentBytes')
  await cluster.start()
  await cluster.leader()
})
