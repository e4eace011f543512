/** A running group that gives up the beginning of its log: every replica, its readers, restarts and followers. */
import { afterEach, expect, test } from 'vitest'
import type { Replica } from '../../../../src/broker/replica/replica.ts'
import type { RetentionSettings } from '../../../../src/broker/retention/settings.ts'
import { frameTypes, loseAllUnsynced, loseAllUnsyncedBatches } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, type MemoryClusterOptions } from '../../../support/memory-cluster.ts'
import { makeBatch } from '../apply/support.ts'
import { createTopic } from '../replica/support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

const segmentBytes = 64 * 1024

async function startCluster(
  retention: Partial<RetentionSettings>,
  options: MemoryClusterOptions = {},
): Promise<MemoryCluster> {
  const limits = { retentionRoundMs: 20, stateWriteDelayMs: 5, zeroAheadBytes: 8192 }
  const broker = { segmentBytes, retention, limits, ...options.broker }
  cluster = new MemoryCluster({ ...options, broker })
  await cluster.start()
  await cluster.leader()
  return cluster
}

/** About 8 KiB: eight of them begin a new segment. */
function send(replica: Replica, queue: number): Promise<unknown> {
  const body = makeBatch({ topic: 't', queue, records: 1, body: 'x'.repeat(8000) })
  return replica.propose(frameTypes.batch, [body], { timeoutMs: 60_000 })
}

async function sendMany(count: number): Promise<void> {
  const replica = cluster.replica(await cluster.leader())
  if (!replica.machine.topic('t')) await createTopic(replica, 't')
  for (let number = 0; number < count; number++) await send(replica, number % 4)
}

function ranges(replica: Replica): unknown {
  const topicId = replica.machine.topic('t')?.topicId ?? 0
  return [0, 1, 2, 3].map((queue) => replica.machine.queueRange(topicId, queue))
}

async function trimmedEverywhere(firstIndexMin = 2): Promise<number> {
  return eventually('all logs begin later, at the same entry', () => {
    const firsts = new Set(cluster.nodes.map((node) => cluster.replica(node).log.firstIndex))
    const [first] = firsts
    return firsts.size === 1 && first !== undefined && first >= firstIndexMin && first
  })
}

function bytesOf({ log }: Replica): number {
  return log.endPosition - (log.segments()[0]?.base ?? 0)
}

/** Nothing more is to be given up by size: a look in between could meet a log that has only begun. */
async function smallEverywhere(bytesMax: number): Promise<number> {
  const small = (): boolean => cluster.nodes.every((node) => bytesOf(cluster.replica(node)) <= bytesMax)
  await eventually('all logs are small enough', small)
  return trimmedEverywhere()
}

test('messages past their time go on every replica: log, rows, minimums; equal state, equal bytes', async () => {
  await startCluster({ reservedMs: 200 })
  await sendMany(40)
  const replica = cluster.replica(await cluster.leader())
  const isLast = (node: string): boolean => cluster.replica(node).log.segments().length === 1
  await eventually('only the segment in use is left', () => cluster.nodes.every(isLast))
  const first = await trimmedEverywhere(33)
  await cluster.settled()
  const hashes = new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash))
  expect(hashes.size).toBe(1)
  for (const node of cluster.nodes) {
    expect(ranges(cluster.replica(node))).toEqual(ranges(replica))
    expect(cluster.broker(node).status().firstIndex).toBe(first)
    const kinds = cluster.broker(node).events.since(0)
    expect(kinds.map((event) => event.kind)).toContain('log_trimmed')
  }
  const topicId = replica.machine.topic('t')?.topicId ?? 0
  const range = replica.machine.queueRange(topicId, 0)
  expect(range?.min).toBeGreaterThan(5)
  const rows = await replica.machine.findRows(topicId, 0, 0, 100)
  expect(rows.every((row) => row.index >= first)).toBe(true)
  for (const row of rows) expect((await replica.log.readAt(row.position)).header.index).toBe(row.index)
})

test('the log stays below the bytes it may have, and nothing younger goes', async () => {
  await startCluster({ logBytesMax: 4 * segmentBytes })
  await sendMany(60)
  await smallEverywhere(4 * segmentBytes)
  expect(bytesOf(cluster.replica(await cluster.leader()))).toBeGreaterThan(3 * segmentBytes)
})

test('a disk that fills up loses its oldest segments although they are young', async () => {
  await startCluster({})
  await sendMany(24)
  for (const node of cluster.nodes) {
    const { disk } = cluster.machine(node)
    const used = 1e9 - (Object.assign(disk, { capacityBytes: 1e9 }).spaceLeft as number)
    disk.capacityBytes = Math.floor(used / 0.9)
  }
  await trimmedEverywhere(8)
})

test('a trim that is lost with its leadership is proposed again by the same replica', async () => {
  await startCluster({ diskUseMax: 0.5 })
  await sendMany(24)
  const old = await cluster.leader()
  const replica = cluster.replica(old)
  cluster.network.isolate(old)
  tighten(old, segmentBytes / 2)
  const proposals = (): number =>
    cluster
      .broker(old)
      .events.since(0)
      .filter(({ kind }) => kind === 'trim_proposed').length
  await eventually('it proposes to give up segments', () => proposals() > 0)
  const others = cluster.nodes.filter((node) => node !== old)
  await createTopic(cluster.replica(await cluster.leader(others)), 'instead')
  cluster.network.heal()
  const next = cluster.replica(await cluster.leader())
  await eventually('its proposal is replaced', () => replica.machine.topic('instead'))
  const before = proposals()
  expect(next.machine.trimmed.firstIndex).toBe(0)
  next.leadership.transferTo(old)
  await trimmedEverywhere()
  expect(proposals()).toBeGreaterThan(before)
})

test('P6: nothing behind segments that all have lost is given up with what lies before them', async () => {
  await startCluster({ diskUseMax: 0.5 })
  await sendMany(60)
  for (const node of cluster.nodes) await cluster.stop(node)
  for (const node of cluster.nodes) for (const number of [2, 3]) await wipe(node, number)
  await cluster.start()
  const { log } = cluster.replica(await cluster.leader())
  const [hole] = log.holes
  // Three segments have to go; nobody knows with which entry the fourth began.
  for (const node of cluster.nodes) tighten(node, 2.5 * segmentBytes)
  expect(await trimmedEverywhere()).toBe(hole?.fromIndex)
  for (const node of cluster.nodes) tighten(node, 3 * segmentBytes)
  await trimmedEverywhere(hole?.toIndex)
  expect(cluster.replica('n0').machine.trimmed.firstIndex).toBeLessThan(log.lastIndex)
})

/** Nothing but zeros is left of one segment. */
async function wipe(node: string, number: number): Promise<void> {
  const { disk } = cluster.machine(node)
  const path = `data/${node}/log/${String(number * segmentBytes).padStart(20, '0')}`
  const file = await disk.open(path, { create: false })
  await file.write([Buffer.alloc(await file.size())], 0)
  await file.sync()
  await file.close()
}

/** So many bytes are in use beyond one half of the disk. */
function tighten(node: string, bytes: number): void {
  const { disk } = cluster.machine(node)
  disk.capacityBytes = 1e9
  disk.capacityBytes = 2 * (1e9 - disk.spaceLeft - bytes)
}

test('S4: a trimmed replica goes on from its state store after a kill and after a power cut', async () => {
  await startCluster({ logBytesMax: 2 * segmentBytes })
  await sendMany(40)
  const first = await smallEverywhere(2 * segmentBytes)
  await cluster.settled()
  const before = ranges(cluster.replica('n0'))
  for (const node of cluster.nodes) cluster.kill(node)
  await cluster.start()
  await cluster.leader()
  for (const node of cluster.nodes) cluster.crash(node, { disk: loseAllUnsynced, engine: loseAllUnsyncedBatches })
  await cluster.start()
  await cluster.leader()
  await cluster.settled()
  expect(ranges(cluster.replica('n0'))).toEqual(before)
  for (const node of cluster.nodes) {
    expect(cluster.replica(node).log.firstIndex).toBeGreaterThanOrEqual(first)
    expect(
      cluster
        .broker(node)
        .events.since(0)
        .map((event) => event.kind),
    ).not.toContain('state_rebuilt')
  }
  await sendMany(4)
})

test('S4: segments stay as long as the state store does not hold the trim', async () => {
  const limits = { retentionRoundMs: 20, stateWriteDelayMs: 1e9, unwrittenMax: 1e6, zeroAheadBytes: 8192 }
  await startCluster({ logBytesMax: segmentBytes }, { nodes: ['n0'], broker: { limits } })
  await sendMany(24)
  const replica = cluster.replica('n0')
  await eventually('the trim is applied', () => replica.machine.trimmed.firstIndex > 8)
  expect(replica.log.firstIndex).toBe(1)
  cluster.crash('n0', { disk: loseAllUnsynced, engine: loseAllUnsyncedBatches })
  await cluster.start()
  await cluster.leader()
  await cluster.settled()
  expect(cluster.replica('n0').machine.topic('t')).toBeDefined()
  expect(cluster.replica('n0').log.firstIndex).toBe(1)
})

test('a follower that is away does not hold the log back', async () => {
  await startCluster({ logBytesMax: 2 * segmentBytes })
  const leader = await cluster.leader()
  const away = cluster.nodes.find((node) => node !== leader) as string
  cluster.kill(away)
  await sendMany(40)
  const replica = cluster.replica(await cluster.leader(cluster.nodes.filter((node) => node !== away)))
  await eventually('the log begins later', () => replica.log.firstIndex > 17)
  await cluster.start(away)
  await eventually('it is known to need a copy, or has one', () => {
    const peer = replica.raftStatus().peers.find(({ id }) => id === away)
    return peer?.state === 'snapshot' || cluster.broker(away).status().firstIndex > 1
  })
})

test('rows of deleted topics and below the minimum leave the state store', async () => {
  await startCluster({ logBytesMax: 2 * segmentBytes }, { nodes: ['n0'] })
  await sendMany(40)
  await smallEverywhere(2 * segmentBytes)
  const replica = cluster.replica('n0')
  const topicId = replica.machine.topic('t')?.topicId ?? 0
  const left = [0, 1, 2, 3].map((queue) => replica.machine.queueRange(topicId, queue))
  const messages = left.reduce((sum, range) => sum + (range ? range.max - range.min : 0), 0)
  await cluster.settled()
  const { engine } = cluster.machine('n0')
  const rowsLeft = async (): Promise<number> => {
    const keyValue = await engine.clone().open('data/n0/state/database')
    return (await keyValue.range({ from: Buffer.of(5), to: Buffer.of(6), limit: 1000 })).length
  }
  await expect.poll(rowsLeft, { timeout: 60_000 }).toBe(messages)
})
