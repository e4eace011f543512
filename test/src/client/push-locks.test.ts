/** What a member that consumes in order does when its locks are late, refused or lost, against a scripted broker. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import type { ClientStatus } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { encodeBatch } from '../../../src/message/batch.ts'
import { buildRecord } from '../../../src/message/build-record.ts'
import type { LockQueuesReply, LockQueuesRequest } from '../../../src/rpc/group-messages.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

let clock: ManualClock
let transport: ScriptedTransport
let client: Client
let told: ClientStatus[]
let seen: string[]

/** Two queues of twenty messages each, owned by the one member. */
beforeEach(async () => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
  transport.route = routeOf({ a: {} }, { T: { a: 2 } })
  addBrokers(transport)
  const queues = [0, 1].map((queue) => ({ topic: 'T', queue }))
  const leader = transport.brokers.get('a-n0:1')!
  leader.calls.set('GroupHeartbeat', () => ({ generation: 1, queues, intervalMs: 3_000, retriesMax: 16 }))
  leader.calls.set('LeaveGroup', () => ({}))
  leader.calls.set('UnlockQueues', () => ({}))
  leader.calls.set('CommitOffsets', () => ({ offsets: [] }))
  leader.calls.set('FetchOffsets', () => ({ offsets: [] }))
  leader.onPull = ({ request: { queue, offset }, reply }) => {
    if (offset >= 20) return
    const pulled = { baseOffset: offset, index: 1 + offset, storeTime: 5, startRecord: 0, batch: batchOf(queue) }
    reply({ batches: [pulled], nextOffset: offset + 1, maxOffset: 20 })
  }
  client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
  told = []
  seen = []
  void (async () => {
    for await (const status of client.status()) told.push(status)
  })()
})

afterEach(async () => {
  const closing = client.close()
  await clock.advance(3_000)
  await closing
})

function batchOf(queue: number): Buffer {
  const { record } = buildRecord({ topic: 'T', body: 'x' }, { messageId: 'id' })
  const producer = {
    codec: 0,
    kind: 0,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
  } as const
  const born = { baseSequence: 0, baseBornTime: 1_000, bornHost: '', extensions: [] }
  return encodeBatch({ ...producer, ...born, topic: 'T', queue, records: [record] })
}

/** `answer`: whether the queue is locked now. Returns what was asked for, with its time. */
function lockBy(answer: (queue: number) => boolean): { readonly atMs: number; readonly queues: readonly number[] }[] {
  const asked: { readonly atMs: number; readonly queues: readonly number[] }[] = []
  transport.brokers.get('a-n0:1')!.calls.set('LockQueues', ({ queues }: LockQueuesRequest): LockQueuesReply => {
    asked.push({ atMs: clock.monotonicMs(), queues: queues.map(({ queue }) => queue) })
    return { leases: queues.map(({ queue }) => ({ until: answer(queue) ? 1 : 0 })) }
  })
  return asked
}

/** A message takes `ms`. */
function run(ms: number): void {
  const consumer = client.pushConsumer({
    group: 'G',
    subscribe: ['T'],
    from: 'first',
    ordered: true,
    lockLeaseMs: 9_000,
  })
  void consumer.run(async ({ queue: { queue }, offset }) => {
    seen.push(`${queue}/${offset}`)
    await new Promise<void>((resolve) => void clock.after(ms, resolve))
  })
}

async function advance(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) await clock.advance(100)
}

test('P8: a lock that another member keeps is told once, and told when it is had; nothing is consumed meanwhile', async () => {
  let isFree = false
  lockBy((queue) => queue === 1 || isFree)
  run(200)
  await advance(12_000)
  expect(seen.filter((one) => one.startsWith('0/'))).toEqual([])
  expect(seen.filter((one) => one.startsWith('1/'))).toHaveLength(20)
  const stalls = told.filter(({ kind }) => kind === 'stalled')
  expect(stalls).toMatchObject([{ what: 'consumer', where: 'T/a/0', reason: { code: 'LEASE_LOST' } }])
  isFree = true
  await advance(2_000)
  expect(told.find(({ kind }) => kind === 'resumed')).toMatchObject({ where: 'T/a/0' })
  expect(seen).toContain('0/0')
})

test('locks are renewed after a third of the lease, together, and one that is not had is asked for every second', async () => {
  const asked = lockBy((queue) => queue === 0)
  run(200)
  await advance(7_000)
  const of = (queue: number): number[] => asked.filter(({ queues }) => queues.includes(queue)).map(({ atMs }) => atMs)
  const gaps = (times: readonly number[]): number[] => times.slice(1).map((time, at) => time - times[at]!)
  expect(gaps(of(0))).toEqual([3_000, 3_000])
  expect(gaps(of(1)).every((gap) => gap === 1_000)).toBe(true)
})

test('nothing is handed out from two thirds of the lease on, counted from the request, while it cannot be renewed', async () => {
  let isShut = false
  lockBy(() => {
    if (isShut) throw new LedgerError('NO_QUORUM', 'not now')
    return true
  })
  run(500)
  await advance(1_000)
  isShut = true
  await advance(20_000)
  // Locked at the start: 12 messages of each queue in 6 s.
  const count = seen.filter((one) => one.startsWith('0/')).length
  expect(count).toBeGreaterThan(8)
  expect(count).toBeLessThanOrEqual(13)
})

test('a commit that is LEASE_LOST stops its queues until they are locked again, and is not a failure of the messages', async () => {
  lockBy(() => true)
  const leader = transport.brokers.get('a-n0:1')!
  let refusals = 0
  const commits: boolean[] = []
  leader.calls.set('CommitOffsets', ({ leased }: { readonly leased?: boolean }) => {
    commits.push(leased === true)
    if (refusals++ === 0) throw new LedgerError('LEASE_LOST', 'the lock has ended')
    return { offsets: [] }
  })
  run(100)
  await advance(800)
  const asked = lockBy(() => false)
  await advance(1_000)
  const before = seen.length
  expect(asked.length).toBeGreaterThan(0)
  await advance(2_000)
  expect(seen.length).toBe(before)
  lockBy(() => true)
  await advance(5_000)
  expect(new Set(seen).size).toBe(40)
  expect(seen).toHaveLength(40)
  expect(commits.length).toBeGreaterThan(1)
  expect(commits.every((leased) => leased)).toBe(true)
})
