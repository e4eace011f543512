/** A full disk: what is refused, what goes on, who leads, and how it ends. */
import { afterEach, expect, test } from 'vitest'
import { type CommitLogApi, frameTypes } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, testReserveBytes } from '../../../support/memory-cluster.ts'
import { makeBatch } from '../apply/support.ts'
import { codeOf, createTopic } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

const segmentBytes = 64 * 1024
const limits = {
  diskFullRetryMs: 20,
  retentionRoundMs: 50,
  stateWriteDelayMs: 5,
  zeroAheadBytes: 16_384,
  reserveBytes: testReserveBytes,
}
const noRetention = { diskUseMax: 1 }

async function startCluster(nodes: readonly string[], retention: object = noRetention): Promise<string> {
  cluster = new MemoryCluster({ nodes, broker: { segmentBytes, limits, retention } })
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 't')
  await eventually('all hold their reserve', () =>
    nodes.every((node) => reserveOf(node) === testReserveBytes && !cluster.replica(node).log.diskFull),
  )
  return leader
}

function reserveOf(node: string): number {
  const { disk } = cluster.machine(node)
  const path = `data/${node}/reserve`
  return disk.paths().includes(path) ? disk.contentOf(path).length : 0
}

function send(node: string): Promise<unknown> {
  const body = makeBatch({ topic: 't', body: 'x'.repeat(4000) })
  return cluster.replica(node).propose(frameTypes.batch, [body], { timeoutMs: 20_000 })
}

/** The index of what was acknowledged, the code of an error otherwise. */
async function outcomeOf(node: string): Promise<number | string> {
  const body = makeBatch({ topic: 't', body: 'x'.repeat(4000) })
  const sent = cluster.replica(node).propose(frameTypes.batch, [body], { timeoutMs: 20_000 })
  return sent.then(
    ({ index }) => index,
    ({ code }: { readonly code: string }) => code,
  )
}

/** Somebody else takes the space of these nodes, and the log of the leader finds out. */
async function fill(nodes: readonly string[], leader: string): Promise<void> {
  for (const node of nodes) cluster.machine(node).disk.fillUp()
  await eventually('the disk is full', () => {
    void send(leader).catch(() => '')
    return kinds(leader).includes('disk_full')
  })
}

function kinds(node: string): readonly string[] {
  return cluster
    .broker(node)
    .events.since(0)
    .map((event) => event.kind)
}

test('writes are refused; reads, the state store and a stop go on; space that comes back is used', async () => {
  await startCluster(['n0'])
  await fill(['n0'], 'n0')
  const replica = cluster.replica('n0')
  expect(await codeOf(send('n0'))).toBe('DISK_FULL')
  await eventually('the reserve is given back', () => reserveOf('n0') === 0)
  await replica.readCurrent({ timeoutMs: 1000 })
  await eventually('all that was applied is in the state store', () => replica.machine.unwrittenCount === 0)
  expect(cluster.failures.size).toBe(0)

  const { disk } = cluster.machine('n0')
  disk.capacityBytes += 2 * testReserveBytes + 65_536
  await eventually('there is space again', () => kinds('n0').includes('disk_space_back'))
  await send('n0')
  await eventually('the reserve is made again', () => reserveOf('n0') === testReserveBytes)
})

test('a node that starts on a full disk lives on its reserve: it leads, serves reads and refuses writes', async () => {
  await startCluster(['n0'])
  cluster.machine('n0').disk.fillUp()
  for (let round = 0; round < 3; round++) {
    cluster.kill('n0')
    await cluster.start('n0')
    await cluster.leader()
    const replica = cluster.replica('n0')
    await replica.readCurrent({ timeoutMs: 1000 })
    expect(replica.machine.topic('t')).toBeDefined()
    await eventually('it knows', () => kinds('n0').includes('disk_full'))
    expect(await codeOf(send('n0'))).toBe('DISK_FULL')
  }
  expect(cluster.failures.size).toBe(0)
})

test('a leader with a full disk hands over to a peer that has space, and the group takes writes again', async () => {
  const leader = await startCluster(['n0', 'n1', 'n2'])
  await fill([leader], leader)
  const others = cluster.nodes.filter((node) => node !== leader)
  const next = await eventually('another one leads', () => others.find((node) => cluster.replica(node).leading))
  for (let number = 0; number < 10; number++) await send(next)
  // It may have lost patience with its disk, and find out anew.
  const health = (): string | undefined => cluster.broker(leader).replica?.raftStatus().health
  await eventually('it lets others lead', () => health() === 'reluctant')
  cluster.machine(leader).disk.capacityBytes = Number.POSITIVE_INFINITY
  await eventually('it may lead again', () => health() === 'well')
  await cluster.settled()
})

test('when all disks are full somebody still leads, votes go on, and the oldest segments make space', async () => {
  const leader = await startCluster(['n0', 'n1', 'n2'], { diskUseMax: 0.85 })
  for (let number = 0; number < 100; number++) await send(leader)
  await cluster.settled()
  await fill(cluster.nodes, leader)
  const log = (node: string): CommitLogApi | undefined => cluster.broker(node).replica?.log
  const trimmed = (): boolean => cluster.nodes.every((node) => (log(node)?.firstIndex ?? 0) > 1)
  await eventually('all have trimmed', trimmed)
  await eventually('all have space again', () =>
    cluster.nodes.every((node) => log(node)?.diskFull === false && reserveOf(node) === testReserveBytes),
  )
  // The last hand-over between replicas that were all unfit may still be under way.
  const sent = async (): Promise<string> =>
    send(await cluster.leader()).then(
      () => 'acknowledged',
      (error: Error) => error.message,
    )
  await expect.poll(sent, { timeout: 60_000 }).toBe('acknowledged')
  await cluster.settled()
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
  expect(cluster.failures.size).toBe(0)
})

test('a disk so small that without the reserve it is within the limit makes space all the same', async () => {
  const retention = { diskUseMax: 1 }
  await startCluster(['n0'], retention)
  cluster.machine('n0').disk.capacityBytes = 6 * testReserveBytes
  while ((await outcomeOf('n0')) !== 'DISK_FULL') expect(cluster.failures.size).toBe(0)
  await eventually('the reserve is given back', () => reserveOf('n0') === 0)
  cluster.kill('n0')
  retention.diskUseMax = 0.85
  await cluster.start('n0')
  await cluster.leader()
  const log = (): CommitLogApi | undefined => cluster.broker('n0').replica?.log
  await eventually('it has trimmed', () => (log()?.firstIndex ?? 0) > 1)
  await eventually('there is space again', () => log()?.diskFull === false)
  await eventually('the reserve is made again', () => reserveOf('n0') === testReserveBytes)
  await send(await cluster.leader())
})

for (const burst of [10, 20, 60])
  test(`full disks get a trim into the log behind a burst of ${burst} for which none of them has space`, async () => {
    const leader = await startCluster(['n0', 'n1', 'n2'], { diskUseMax: 0.85 })
    for (let number = 0; number < 100; number++) await send(leader)
    await cluster.settled()
    for (const node of cluster.nodes) cluster.machine(node).disk.fillUp()
    const outcomes = Promise.all(Array.from({ length: burst }, () => outcomeOf(leader)))
    const trimmed = (): boolean =>
      cluster.nodes.every((node) => (cluster.broker(node).replica?.log.firstIndex ?? 0) > 1)
    await eventually('all have trimmed', trimmed, { state: () => cluster.state() })
    const indexes = (await outcomes).filter((outcome) => typeof outcome === 'number')
    await cluster.settled()
    const refused = (await outcomes).filter((outcome) => typeof outcome === 'string')
    expect(refused).not.toEqual([])
    // What lost its place before its leader gave up is known to be gone.
    expect(refused.filter((code) => code !== 'OUTCOME_UNKNOWN' && code !== 'ROLLED_BACK')).toEqual([])
    for (const node of cluster.nodes) {
      expect(cluster.replica(node).machine.hash).toBe(cluster.replica(leader).machine.hash)
      expect(cluster.replica(node).log.lastIndex).toBeGreaterThanOrEqual(Math.max(0, ...indexes))
    }
    // The log of the third may be cut by those two before it loses patience.
    expect(cluster.nodes.filter((node) => kinds(node).includes('staged_forgotten')).length).toBeGreaterThan(1)
    expect(cluster.failures.size).toBe(0)
  })

test('followers that get more than their full disks take keep enough to lead and to trim when the leader dies', async () => {
  const leader = await startCluster(['n0', 'n1', 'n2'], { diskUseMax: 0.85 })
  for (let number = 0; number < 100; number++) await send(leader)
  await cluster.settled()
  const others = cluster.nodes.filter((node) => node !== leader)
  for (const node of others) cluster.machine(node).disk.fillUp()
  for (let number = 0; number < 60; number++) void send(leader).catch(() => '')
  const timesOf = (node: string): number => kinds(node).filter((kind) => kind === 'staged_forgotten').length
  await eventually('they begin again, and get it all again', () =>
    others.every((node) => timesOf(node) > 1 && (cluster.broker(node).replica?.log.stagedBytes ?? 0) > 0),
  )
  cluster.kill(leader)
  const trimmed = (): boolean => others.every((node) => (cluster.broker(node).replica?.log.firstIndex ?? 0) > 1)
  await eventually('they have trimmed', trimmed, { state: () => cluster.state() })
  expect(cluster.failures).toEqual(new Map())
})

test('an election on full disks ends with a leader that serves reads', async () => {
  const leader = await startCluster(['n0', 'n1', 'n2'])
  await fill(cluster.nodes, leader)
  cluster.kill(leader)
  const rest = cluster.nodes.filter((node) => node !== leader)
  const read = async (): Promise<string> => {
    // Unfit as they all are, the first to lead may still hand over.
    const next = await cluster.leader(rest)
    const reading = cluster.replica(next).readCurrent({ timeoutMs: 2000 })
    return reading.then(
      () => 'read',
      (error: Error) => error.message,
    )
  }
  await expect.poll(read, { timeout: 60_000 }).toBe('read')
  expect(cluster.failures.size).toBe(0)
})

test('P6: rot that is found on a full disk is put on record and put back, before anybody noticed that it is full', async () => {
  const nodes = ['n0', 'n1', 'n2']
  cluster = new MemoryCluster({
    nodes,
    broker: { segmentBytes, limits: { ...limits, diskFullRetryMs: 60_000, tailCacheBytes: 1 }, retention: noRetention },
  })
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 't')
  await send(leader)
  await cluster.settled()
  await eventually('all hold their reserve', () => nodes.every((node) => reserveOf(node) === testReserveBytes))
  const victim = nodes.find((node) => node !== leader) ?? ''
  const { disk } = cluster.machine(victim)
  const { log, machine } = cluster.replica(victim)
  await eventually('nothing is left to be written', () => machine.unwrittenCount === 0)
  const { position } = (await log.read(2, 2, 1))[0]?.header ?? { position: 0 }
  disk.fillUp()
  disk.flipBit(`data/${victim}/log/${'0'.repeat(20)}`, 4096 + position + 70, 3)
  await log.scrub(0, segmentBytes)
  expect(log.holes).toMatchObject([{ fromIndex: 2, toIndex: 2 }])
  await eventually('it is put back', () => cluster.failures.size > 0 || kinds(victim).includes('rot_repaired'))
  expect(cluster.failures).toEqual(new Map())
  await eventually('it may vote again', () => kinds(victim).includes('quarantine_ended'))
})
