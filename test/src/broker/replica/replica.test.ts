/** A broker group of three in one process: elections, replication, failover, what survives, what callers are told. */
import { afterEach, expect, test } from 'vitest'
import type { Clock } from '../../../../src/common/clock.ts'
import type { LedgerError } from '../../../../src/common/errors.ts'
import { AwakeClock } from '../../../support/awake-clock.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, type MemoryClusterOptions } from '../../../support/memory-cluster.ts'
import { codeOf, createTopic, errorOf, logBytes, losePower } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

async function started(options: MemoryClusterOptions = {}): Promise<string> {
  cluster = new MemoryCluster(options)
  await cluster.start()
  return cluster.leader()
}

function others(node: string): readonly [string, string] {
  const [a, b] = cluster.nodes.filter((other) => other !== node)
  return [a as string, b as string]
}

test('what is proposed on the leader is applied on all replicas with the same state hash (B1)', async () => {
  const leader = await started()
  const applied = await Promise.all([1, 2, 3, 4, 5].map((n) => createTopic(cluster.replica(leader), `topic-${n}`)))
  expect(applied.map(({ result }) => result.kind)).toEqual(['topic', 'topic', 'topic', 'topic', 'topic'])
  expect(applied.map(({ index }, at) => index - at)).toEqual(Array(5).fill(applied[0]?.index))
  await cluster.settled()
  const replicas = cluster.nodes.map((node) => cluster.replica(node))
  expect(new Set(replicas.map((replica) => replica.machine.hash)).size).toBe(1)
  for (const replica of replicas) expect(replica.machine.topic('topic-3')?.topicId).toBe(applied[2]?.index)
})

test('S2: after a failover the logs of all replicas are equal bytes', async () => {
  const first = await started()
  await Promise.all(Array.from({ length: 20 }, (_, n) => createTopic(cluster.replica(first), `before-${n}`)))
  cluster.kill(first)
  const second = await cluster.leader(others(first))
  await Promise.all(Array.from({ length: 20 }, (_, n) => createTopic(cluster.replica(second), `after-${n}`)))
  await cluster.start(first)
  await cluster.settled()
  const length = cluster.replica(second).log.endPosition
  const bytes = cluster.nodes.map((node) => logBytes(cluster.machine(node).disk, node, length))
  expect(bytes[0]?.length).toBe(length)
  expect(bytes[1]?.equals(bytes[0] as Buffer)).toBe(true)
  expect(bytes[2]?.equals(bytes[0] as Buffer)).toBe(true)
})

test('R3: when the leader is killed a new one leads and has all that was acknowledged', async () => {
  const first = await started()
  const applied = await createTopic(cluster.replica(first), 'kept')
  const { term } = cluster.replica(first)
  cluster.kill(first)
  const second = await cluster.leader(others(first))
  expect(cluster.replica(second).term).toBeGreaterThan(term)
  expect(cluster.replica(second).machine.topic('kept')?.topicId).toBe(applied.index)
  await createTopic(cluster.replica(second), 'next')
})

test('S1: what was acknowledged survives a power cut of all replicas that loses everything un-synced', async () => {
  const leader = await started()
  const applied = await Promise.all(Array.from({ length: 50 }, (_, n) => createTopic(cluster.replica(leader), `t${n}`)))
  for (const node of cluster.nodes) cluster.crash(node, losePower)
  await cluster.start()
  await cluster.leader()
  await cluster.settled()
  for (const node of cluster.nodes) {
    const ids = applied.map((_, n) => cluster.replica(node).machine.topic(`t${n}`)?.topicId)
    expect(ids).toEqual(applied.map(({ index }) => index))
  }
})

test('the broken connection to a killed leader starts the election, not the timeout', async () => {
  const first = await started({ broker: { raft: { electionTimeoutMinMs: 1500, electionTimeoutMaxMs: 1800 } } })
  const startMs = cluster.clock.monotonicMs()
  cluster.kill(first)
  await cluster.leader(others(first))
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(1000)
})

test('a follower refuses proposals with the leader as hint', async () => {
  const leader = await started()
  const [follower] = others(leader)
  await eventually('the follower knows the address', () => cluster.replica(follower).leader()?.address)
  const error = await errorOf(createTopic(cluster.replica(follower), 'no'))
  expect(error.code).toBe('NOT_LEADER')
  expect(error.facts).toEqual({
    leader: { node: leader, address: `${leader}:30911` },
    term: cluster.replica(leader).term,
  })
})

test('without a leader a proposal is held for half its timeout and then refused with NO_QUORUM', async () => {
  const leader = await started()
  const [a, b] = others(leader)
  cluster.kill(leader)
  cluster.kill(a)
  await eventually('the last one lost its leader', () => cluster.replica(b).leader() === null)
  const startMs = cluster.clock.monotonicMs()
  expect(await codeOf(createTopic(cluster.replica(b), 'held', { timeoutMs: 600 }))).toBe('NO_QUORUM')
  const tookMs = cluster.clock.monotonicMs() - startMs
  expect(tookMs).toBeGreaterThanOrEqual(295)
  expect(tookMs).toBeLessThan(600)
})

test('a held proposal waits for events, it does not keep the loop busy', async () => {
  let turns = 0
  const clock = new AwakeClock()
  const counting: Clock = {
    monotonicMs: () => clock.monotonicMs(),
    wallMs: () => clock.wallMs(),
    after: (ms, callback) => clock.after(ms, callback),
    defer: (callback) => {
      turns++
      clock.defer(callback)
    },
  }
  const leader = await started({ clock: counting })
  const [a, b] = others(leader)
  cluster.kill(leader)
  cluster.kill(a)
  await eventually('the last one lost its leader', () => cluster.replica(b).leader() === null)
  turns = 0
  expect(await codeOf(createTopic(cluster.replica(b), 'held', { timeoutMs: 600 }))).toBe('NO_QUORUM')
  expect(turns).toBeLessThan(500)
})

test('a proposal that is held is carried out once there is a leader', async () => {
  cluster = new MemoryCluster({ broker: { limits: { heldMsMax: 30_000 } } })
  await cluster.start()
  const all = await eventually(
    'members',
    () => cluster.nodes.every((node) => cluster.broker(node).replica) && cluster.nodes,
  )
  const outcomes = await Promise.allSettled(all.map((node) => createTopic(cluster.replica(node), `by-${node}`)))
  expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1)
})

test('a leader that is cut off answers OUTCOME_UNKNOWN, and the entry is gone when the others went on', async () => {
  const first = await started({ network: { keepaliveMs: 300 } })
  cluster.network.isolate(first)
  const startMs = cluster.clock.monotonicMs()
  const lost = codeOf(createTopic(cluster.replica(first), 'lost', { timeoutMs: 20_000 }))
  const second = await cluster.leader(others(first))
  await createTopic(cluster.replica(second), 'other')
  expect(await lost).toBe('OUTCOME_UNKNOWN')
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(5000)
  cluster.network.heal()
  await cluster.settled()
  expect(cluster.replica(first).machine.topic('lost')).toBeUndefined()
  expect(cluster.replica(first).machine.topic('other')).toBeDefined()
})

test('a proposal without an answer before its deadline is OUTCOME_UNKNOWN, an aborted one ABORTED', async () => {
  const leader = await started({ broker: { raft: { electionTimeoutMinMs: 1000, electionTimeoutMaxMs: 1300 } } })
  cluster.network.isolate(leader)
  const abort = new AbortController()
  const aborted = codeOf(createTopic(cluster.replica(leader), 'aborted', { signal: abort.signal }))
  const late = codeOf(createTopic(cluster.replica(leader), 'late', { timeoutMs: 100 }))
  abort.abort()
  expect(await aborted).toBe('ABORTED')
  expect(await late).toBe('OUTCOME_UNKNOWN')
})

test('a current read is confirmed by a quorum; without one it is refused', async () => {
  const leader = await started({ network: { keepaliveMs: 300 } })
  await createTopic(cluster.replica(leader), 'read')
  await cluster.replica(leader).readCurrent({ timeoutMs: 1000 })
  cluster.network.isolate(leader)
  expect(await codeOf(cluster.replica(leader).readCurrent({ timeoutMs: 2000 }))).toBe('NO_QUORUM')
})

test('a follower that missed more than memory holds is refilled from the disk of the leader', async () => {
  const leader = await started({ broker: { limits: { tailCacheBytes: 16 * 1024 } } })
  const [away] = others(leader)
  cluster.kill(away)
  for (let round = 0; round < 4; round++) {
    const topics = Array.from({ length: 200 }, (_, n) => createTopic(cluster.replica(leader), `r${round}-${n}`))
    await Promise.all(topics)
  }
  expect(cluster.replica(leader).log.cached(1, 1)).toBeUndefined()
  await cluster.start(away)
  await cluster.settled()
  expect(cluster.replica(away).machine.hash).toBe(cluster.replica(leader).machine.hash)
})

test('too many proposals are refused with FLOW_CONTROL and a time to come back', async () => {
  const leader = await started({ broker: { limits: { proposalsMax: 2, flowControlRetryMs: 7 } } })
  const outcomes = await Promise.allSettled([1, 2, 3].map((n) => createTopic(cluster.replica(leader), `t${n}`)))
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected'])
  const [, , third] = outcomes
  expect(third).toMatchObject({ reason: { code: 'FLOW_CONTROL', facts: { retryAfterMs: 7 } } })
})

test('too many reads are refused with FLOW_CONTROL, and it is the reads that are told to be too many', async () => {
  const leader = await started({ broker: { raft: { pendingReadsMax: 2 } } })
  cluster.network.isolate(leader)
  let refusal: LedgerError | null = null
  // Each of its own turn, and no quorum to confirm any of them.
  await eventually('one read too many', () => {
    const read = cluster.replica(leader).readCurrent({ timeoutMs: 5000 })
    read.catch((error: LedgerError) => {
      refusal ??= error
    })
    return refusal
  })
  expect(refusal).toMatchObject({ code: 'FLOW_CONTROL', message: expect.stringMatching(/^2 rounds of reads wait/) })
})

test('a restarted replica goes on behind what its state store holds and ends with the same state', async () => {
  const leader = await started()
  await Promise.all(Array.from({ length: 30 }, (_, n) => createTopic(cluster.replica(leader), `t${n}`)))
  await cluster.settled()
  for (const node of cluster.nodes) cluster.kill(node)
  await cluster.start()
  const again = await cluster.leader()
  await createTopic(cluster.replica(again), 'more')
  await cluster.settled()
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
  expect(cluster.replica(again).machine.topics()).toHaveLength(31)
})

test('a group of one needs nobody else', async () => {
  cluster = new MemoryCluster({ nodes: ['n0'] })
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 'alone')
  await cluster.stop('n0')
  await cluster.start()
  await cluster.leader()
  expect(cluster.replica('n0').machine.topic('alone')).toBeDefined()
})
