/** Delayed messages in a running group: over the death of its leader, and over an outage of all. */
import { afterEach, expect, test } from 'vitest'
import type { Replica } from '../../../../src/broker/replica/replica.ts'
import { readRecords } from '../../../../src/message/batch.ts'
import { batchKinds, type RecordFields } from '../../../../src/message/types.ts'
import { frameBody, frameTypes } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { makeBatch } from '../apply/support.ts'
import { createTopic } from '../replica/support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

async function startWithTopic(): Promise<Replica> {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = cluster.replica(await cluster.leader())
  await createTopic(leader, 't')
  return leader
}

async function delay(
  replica: Replica,
  options: { times: readonly number[]; queue: number; body: string },
): Promise<void> {
  const batch = makeBatch({ topic: 't', kind: batchKinds.delayed, ...options })
  const { result } = await replica.propose(frameTypes.batch, [batch], { timeoutMs: 60_000 })
  expect(result).toMatchObject({ kind: 'pending' })
}

interface Seen {
  readonly record: RecordFields
  readonly storeTime: number
}

async function seenBy({ machine, log }: Replica): Promise<readonly Seen[]> {
  const topicId = machine.topic('t')?.topicId ?? 0
  const seen: Seen[] = []
  for (let queue = 0; queue < 4; queue++)
    for (const { position, storeTime } of await machine.findRows(topicId, queue, 0, 10_000))
      for (const record of readRecords(frameBody(await log.readAt(position)))) seen.push({ record, storeTime })
  return seen
}

function expectOnceInTime(seen: readonly Seen[], count: number): void {
  expect(seen).toHaveLength(count)
  expect(new Set(seen.map(({ record }) => `${record.body}/${record.messageId}`)).size).toBe(count)
  for (const { record, storeTime } of seen) expect(storeTime).toBeGreaterThanOrEqual(record.deliveryTime)
}

test('B3: each is delivered once, not too early, although the leader dies in the middle', async () => {
  const first = await startWithTopic()
  const start = first.logTime
  for (let number = 0; number < 20; number++) {
    const times = Array.from({ length: 10 }, (_, one) => start + 300 + number * 100 + one)
    await delay(first, { times, queue: number % 4, body: `m${number}` })
  }
  await eventually('some are delivered', () => first.machine.timers.pending < 150)
  cluster.kill(first.node)
  const next = cluster.replica(await cluster.leader(cluster.nodes.filter((node) => node !== first.node)))
  await eventually('all are delivered', () => next.machine.timers.pending === 0)
  await cluster.start(first.node)
  await cluster.leader()
  await cluster.settled()
  const hashes = cluster.nodes.map((node) => cluster.replica(node).machine.hash)
  expect(new Set(hashes).size).toBe(1)
  for (const node of cluster.nodes) expectOnceInTime(await seenBy(cluster.replica(node)), 200)
})

test('what came due while nobody ran is delivered when the group is back', async () => {
  const first = await startWithTopic()
  const start = first.logTime
  for (let queue = 0; queue < 4; queue++) {
    const times = Array.from({ length: 500 }, (_, one) => start + 600 + (one % 50))
    await delay(first, { times, queue, body: `q${queue}` })
  }
  await cluster.settled()
  for (const node of cluster.nodes) cluster.kill(node)
  await eventually('their time has come', () => cluster.clock.wallMs() > start + 700)
  await cluster.start()
  const next = cluster.replica(await cluster.leader())
  await eventually('all are delivered', () => next.machine.timers.pending === 0)
  expectOnceInTime(await seenBy(next), 2000)
})
