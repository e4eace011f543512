/** What a replica does when its disk fails, fills up, or has lost what it once held. */
import { afterEach, expect, test } from 'vitest'
import { findDamage } from '../../../../src/broker/replica/repair/damage.ts'
import type { LedgerError } from '../../../../src/common/errors.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, quickRaft } from '../../../support/memory-cluster.ts'
import { codeOf, createTopic, losePower } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

test('S1: a leader whose fsync fails acknowledges nothing more, stops itself, and another one takes over', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 'before')
  for (const node of cluster.nodes) if (node !== leader) cluster.network.cut(leader, node)
  const { events } = cluster.broker(leader)
  cluster.machine(leader).disk.fail('sync', { code: 'EIO', times: 1000 })
  const startMs = cluster.clock.monotonicMs()
  expect(await codeOf(createTopic(cluster.replica(leader), 'during'))).toBe('OUTCOME_UNKNOWN')
  const failure = await eventually('the process is stopped', () => cluster.failures.get(leader))
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(1000)
  expect(failure.message).not.toBe('')
  expect(events.since(0).map((event) => event.kind)).toContain('storage_failed')
  const rest = cluster.nodes.filter((node) => node !== leader)
  const next = await cluster.leader(rest)
  expect(cluster.replica(next).machine.topic('before')).toBeDefined()
  expect(cluster.replica(next).machine.topic('during')).toBeUndefined()
})

test('a failing leader tells its peers, who elect without waiting for an election timeout', async () => {
  const slow = { electionTimeoutMinMs: 1500, electionTimeoutMaxMs: 1800 }
  cluster = new MemoryCluster({ broker: { raft: slow } })
  await cluster.start()
  const leader = await cluster.leader()
  cluster.machine(leader).disk.fail('write', { code: 'EIO', times: 1000, path: '' })
  const startMs = cluster.clock.monotonicMs()
  await codeOf(createTopic(cluster.replica(leader), 'during')).catch(() => '')
  await eventually('stopped', () => cluster.failures.has(leader))
  const rest = cluster.nodes.filter((node) => node !== leader)
  const next = await cluster.leader(rest)
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(1200)
  const { events } = cluster.broker(next)
  expect(events.since(0).map((event) => event.details['reason'])).toContain('leader_stepped_down')
})

test('a full disk refuses writes with DISK_FULL and recovers by itself', async () => {
  cluster = new MemoryCluster({ nodes: ['n0'], broker: { limits: { diskFullRetryMs: 100, zeroAheadBytes: 8192 } } })
  await cluster.start()
  await cluster.leader()
  const replica = cluster.replica('n0')
  const { disk } = cluster.machine('n0')
  disk.fillUp()
  const waiting: Promise<string>[] = []
  await eventually('the disk is full', () => {
    const topic = createTopic(replica, `t${waiting.length}`, { timeoutMs: 20_000 })
    waiting.push(
      topic.then(
        () => 'stored',
        (error: LedgerError) => error.code,
      ),
    )
    return replica.log.diskFull
  })
  expect(await codeOf(createTopic(replica, 'refused'))).toBe('DISK_FULL')
  disk.capacityBytes = Number.POSITIVE_INFINITY
  const outcomes = new Set(await Promise.all(waiting))
  outcomes.delete('DISK_FULL')
  expect([...outcomes]).toEqual(['stored'])
  await eventually('there is space again', () => !replica.log.diskFull)
  await createTopic(replica, 'again')
  const kinds = cluster
    .broker('n0')
    .events.since(0)
    .map((event) => event.kind)
  expect(kinds.filter((kind) => kind.startsWith('disk_'))).toEqual(['disk_full', 'disk_space_back'])
})

test('a full follower casts its vote and lets a leader stand; what waited is stored when there is space', async () => {
  // It loses patience with its disk only after this test.
  cluster = new MemoryCluster({ broker: { limits: { diskFullRetryMs: 400, zeroAheadBytes: 8192 } } })
  await cluster.start()
  const leader = await cluster.leader()
  const [healthy, full] = cluster.nodes.filter((node) => node !== leader) as [string, string]
  const { disk } = cluster.machine(full)
  disk.fillUp()
  let count = 0
  await eventually('the follower holds entries that find no space', () => {
    void createTopic(cluster.replica(leader), `t${count++}`).catch(() => '')
    const { log } = cluster.replica(full)
    return log.diskFull && log.stagedBytes > 0
  })
  await eventually('the healthy follower has them all', () => {
    return cluster.replica(healthy).log.durableIndex > cluster.replica(full).log.durableIndex
  })
  cluster.kill(leader)
  await eventually('it is elected', () => cluster.replica(healthy).role === 'leader')
  const { term } = cluster.replica(healthy)
  await eventually('its leader is known there', () => cluster.replica(full).leader()?.node === healthy)
  const knownMs = cluster.clock.monotonicMs()
  await eventually('it was answered for longer than its quorum may be silent', () => {
    const { role, term: termNow, leading } = cluster.replica(healthy)
    expect({ role, termNow, leading }).toEqual({ role: 'leader', termNow: term, leading: false })
    const heard = cluster
      .replica(healthy)
      .raftStatus()
      .peers.find(({ id }) => id === full)
    const heardMs = cluster.clock.monotonicMs() - (heard?.silentMs ?? Number.POSITIVE_INFINITY)
    return heardMs - knownMs > 2 * quickRaft.electionTimeoutMinMs
  })

  disk.capacityBytes = Number.POSITIVE_INFINITY
  await eventually('it leads', () => cluster.replica(healthy).leading)
  await createTopic(cluster.replica(healthy), 'after')
})

test('P6: a replica without its hard state does not vote and says why', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 'kept')
  await cluster.stop('n2')
  await cluster.machine('n2').disk.unlink('data/n2/hard-state')
  await cluster.start('n2')
  expect(cluster.broker('n2').status()).toMatchObject({
    role: 'stranger',
    reason: expect.stringMatching(/^HARD_STATE_LOST/),
  })
})

test('after a power cut the state store is rebuilt or caught up from the log, never ahead of it (S4)', async () => {
  cluster = new MemoryCluster({ broker: { limits: { stateWriteDelayMs: 1 } } })
  await cluster.start()
  for (let round = 0; round < 3; round++) {
    const leader = await cluster.leader()
    await Promise.all(Array.from({ length: 20 }, (_, n) => createTopic(cluster.replica(leader), `r${round}-${n}`)))
    for (const node of cluster.nodes) cluster.crash(node, losePower)
    await cluster.start()
  }
  await cluster.leader()
  await cluster.settled()
  const hashes = cluster.nodes.map((node) => cluster.replica(node).machine.hash)
  expect(new Set(hashes).size).toBe(1)
  expect(cluster.replica('n0').machine.topics()).toHaveLength(60)
})

test('after a power cut that tore holes into the state store its content is thrown away, not believed', async () => {
  cluster = new MemoryCluster({ nodes: ['n0'], broker: { limits: { stateWriteDelayMs: 0 } } })
  const machine = cluster.machines.get('n0')
  if (machine) machine.engine.lyingSync = true
  await cluster.start()
  await cluster.leader()
  for (let n = 0; n < 20; n++) {
    await createTopic(cluster.replica('n0'), `t${n}`)
    await eventually('it is in the state store', () => cluster.replica('n0').machine.unwrittenCount === 0)
  }
  cluster.crash('n0', { disk: losePower.disk, engine: (at) => at % 2 === 0 })
  await cluster.start()
  await cluster.leader()
  await cluster.settled()
  const kinds = cluster
    .broker('n0')
    .events.since(0)
    .map((event) => event.kind)
  expect(kinds).toContain('state_rebuilt')
  expect(cluster.replica('n0').machine.topics()).toHaveLength(20)
})

test('P6: what hard state or state store prove to be missing from the log is damage', () => {
  const log = { rottenTail: null, lastIndex: 10 }
  const saved = { term: 2, vote: null, commit: 10 }
  expect(findDamage(log, saved, 10)).toBeNull()
  expect(findDamage(log, { ...saved, commit: 11 }, 0)).toMatch(/^it ends at 10, but 11/)
  expect(findDamage(log, saved, 12)).toMatch(/^it ends at 10, but 12/)
})
