import { afterEach, expect, test } from 'vitest'
import { silentLogger } from '../../../src/common/logger.ts'
import { readRecords } from '../../../src/message/batch.ts'
import { type Namesrv, startNamesrv } from '../../../src/namesrv/namesrv.ts'
import type { PullReply } from '../../../src/rpc/envelopes.ts'
import { adminMethods, brokerMethods, type NodeEvent } from '../../../src/rpc/methods.ts'
import type { Channel, UnaryMethod } from '../../../src/rpc/transport.ts'
import { frameTypes } from '../../../store/index.ts'
import { eventually } from '../../support/eventually.ts'
import { MemoryCluster, testSegmentBytes } from '../../support/memory-cluster.ts'
import { StreamLog } from '../../support/stream-log.ts'
import { makeBatch } from './apply/support.ts'
import { ProduceClient, PullClient } from './handler/support.ts'

let cluster: MemoryCluster
let namesrv: Namesrv | null = null
afterEach(async () => {
  cluster.end()
  await namesrv?.close()
  namesrv = null
})

function channelTo(node: string): Channel {
  return cluster.network.endpoint(`client of ${node}`).connect(`${node}:30911`, 'client')
}

function call<Request, Response>(node: string, method: UnaryMethod<Request, Response>, request: Request) {
  return channelTo(node).call(method, request, { timeoutMs: 5000 })
}

async function startWithTopic(): Promise<{ readonly leader: string; readonly followers: readonly string[] }> {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  const config = { topic: 't', readQueues: 4, writeQueues: 4, permission: 6 }
  await call(leader, adminMethods.createTopic, { config, automatic: false })
  await cluster.settled()
  return { leader, followers: cluster.nodes.filter((node) => node !== leader) }
}

function bodies(replies: readonly PullReply[]): readonly string[] {
  return replies.flatMap(({ batches }) =>
    batches.flatMap(({ batch, startRecord }) => readRecords(batch, startRecord).map(({ body }) => body.toString())),
  )
}

async function pullAll(pull: PullClient, end: number): Promise<readonly string[]> {
  const replies: PullReply[] = []
  for (let offset = 0; offset < end; ) {
    const reply = await pull.pull({ offset, waitMs: 5000 })
    expect(reply.code).toBe(0)
    expect(reply.nextOffset).toBeGreaterThan(offset)
    replies.push(reply)
    offset = reply.nextOffset
  }
  return bodies(replies)
}

test('B4: a long poll on every replica is woken by what is committed, and shows the same', async () => {
  const { leader } = await startWithTopic()
  const pulls = cluster.nodes.map((node) => new PullClient(channelTo(node)))
  const waiting = pulls.map((pull) => pull.start({ waitMs: 15_000 }))
  const produce = new ProduceClient(channelTo(leader))
  expect(await produce.send(makeBatch({ topic: 't', records: 2, body: 'hello' }))).toMatchObject({
    code: 0,
    baseOffset: 0,
    term: cluster.replica(leader).term,
  })
  for (const [number, pull] of pulls.entries())
    expect(bodies([await pull.reply(waiting[number] ?? 0)])).toEqual(['hello', 'hello'])
})

test('B2: many batches in flight are stored in order without gap, and every replica serves them all', async () => {
  const { leader } = await startWithTopic()
  const produce = new ProduceClient(channelTo(leader))
  const ids = Array.from({ length: 300 }, (_, n) => produce.start(makeBatch({ topic: 't', body: `m${n}` })))
  for (const [number, id] of ids.entries())
    expect(await produce.reply(id)).toMatchObject({ status: null, code: 0, baseOffset: number })
  const expected = ids.map((_, number) => `m${number}`)
  for (const node of cluster.nodes) expect(await pullAll(new PullClient(channelTo(node)), 300)).toEqual(expected)
})

test('S2: an entry longer than a segment is refused with 13 before the core sees it; the largest that fits is stored', async () => {
  const { leader } = await startWithTopic()
  const produce = new ProduceClient(channelTo(leader))
  const frameHeaderBytes = 64
  const besideTheBody = makeBatch({ topic: 't', body: 'x' }).length - 1
  const fits = testSegmentBytes - frameHeaderBytes - besideTheBody
  const batch = (bytes: number): Buffer => makeBatch({ topic: 't', body: 'x'.repeat(bytes) })
  expect(await produce.send(batch(fits + 1))).toMatchObject({ code: 13, status: { code: 13 } })
  const command = cluster.replica(leader).propose(frameTypes.command, [Buffer.alloc(testSegmentBytes)], {
    timeoutMs: 5000,
  })
  await expect(command).rejects.toMatchObject({ code: 'MESSAGE_ILLEGAL', stored: 'no' })
  expect(await produce.send(batch(fits))).toMatchObject({ code: 0, baseOffset: 0 })
  await cluster.settled()
  expect(cluster.failures.size).toBe(0)
})

test('a follower refuses to write, to commit and to coordinate, and names the leader', async () => {
  const { leader, followers } = await startWithTopic()
  const follower = followers[0] ?? ''
  const reply = await new ProduceClient(channelTo(follower)).send(makeBatch({ topic: 't' }))
  expect(reply).toMatchObject({ code: 501, status: { leaderNode: leader, leaderAddress: `${leader}:30911` } })
  const heartbeat = { group: 'cg', member: 'm', topics: ['t'], generation: 0, sessionTimeoutMs: 0 }
  await expect(call(follower, brokerMethods.groupHeartbeat, heartbeat)).rejects.toMatchObject({
    code: 'NOT_LEADER',
    facts: { leader: { node: leader } },
  })
})

test('B5: offsets and the assignment of a group survive the leader', async () => {
  const { leader } = await startWithTopic()
  const beat = (node: string, member: string) =>
    call(node, brokerMethods.groupHeartbeat, {
      group: 'cg',
      member,
      topics: ['t'],
      generation: 0,
      sessionTimeoutMs: 10_000,
    })
  await new ProduceClient(channelTo(leader)).send(makeBatch({ topic: 't', records: 9 }))
  await Promise.all([beat(leader, 'a'), beat(leader, 'b')])
  await eventually('both have queues', () => cluster.replica(leader).machine.assignment('cg').members.length === 2)
  const before = await beat(leader, 'a')
  expect(before.queues).toHaveLength(2)
  const mine = before.queues[0]?.queue ?? 0
  const commit = (node: string, generation: number) =>
    call(node, brokerMethods.commitOffsets, {
      group: 'cg',
      member: 'a',
      generation,
      offsets: [{ topic: 't', queue: mine, offset: 5 }],
      seek: false,
    })
  await commit(leader, before.generation)

  cluster.kill(leader)
  const next = await cluster.leader(cluster.nodes.filter((node) => node !== leader))

  expect(await beat(next, 'a')).toMatchObject({ generation: before.generation, queues: before.queues })
  const queues = [{ topic: 't', queue: mine, offset: 0 }]
  expect((await call(next, brokerMethods.fetchOffsets, { group: 'cg', queues })).offsets[0]?.offset).toBe(5)
  await expect(commit(next, before.generation - 1)).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' })
})

test('two of three dead: the last one still serves all that was committed, and takes no writes', async () => {
  const { leader, followers } = await startWithTopic()
  await new ProduceClient(channelTo(leader)).send(makeBatch({ topic: 't', records: 3 }))
  await cluster.settled()
  cluster.kill(leader)
  cluster.kill(followers[0] ?? '')
  const last = followers[1] ?? ''
  const pull = new PullClient(channelTo(last))
  expect(await pullAll(pull, 3)).toHaveLength(3)
  expect(await pull.pull({ offset: 3, waitMs: 10 })).toMatchObject({ code: 0, maxOffset: 3, batches: [] })
  const reply = await new ProduceClient(channelTo(last)).send(makeBatch({ topic: 't' }), 400)
  expect([12, 501]).toContain(reply.code)
})

test('a watcher of events sees the election and the members that join', async () => {
  const { leader } = await startWithTopic()
  const log = new StreamLog<NodeEvent>()
  channelTo(leader).open(adminMethods.watchEvents, log).write({ fromSequence: 0 })
  await call(leader, brokerMethods.groupHeartbeat, {
    group: 'cg',
    member: 'm',
    topics: ['t'],
    generation: 0,
    sessionTimeoutMs: 0,
  })
  const kinds = () => log.messages.map((event) => event.kind)
  await eventually('the events', () => ['leader_elected', 'client_joined'].every((kind) => kinds().includes(kind)))
  await eventually('the rebalance', () => kinds().includes('rebalance'))
})

test('N1: brokers tell a real namesrv who leads, through a leader change and for new topics', async () => {
  cluster = new MemoryCluster({ broker: { namesrv: ['ns:9876'] } })
  const ports = { clock: cluster.clock, transport: cluster.network.endpoint('ns'), logger: silentLogger }
  const running = await startNamesrv({ listen: 'ns:9876' }, ports)
  namesrv = running
  await cluster.start()
  const leader = await cluster.leader()
  const group = () => running.route(['t']).groups[0]
  await eventually('the route', () => group()?.leader === leader && group()?.nodes.length === 3)
  const before = group()?.term ?? 0
  const config = { topic: 't', readQueues: 4, writeQueues: 4, permission: 6 }
  await call(leader, adminMethods.createTopic, { config, automatic: false })
  await eventually('the topic', () => running.route(['t']).topics[0]?.queues[0]?.writeQueues === 4)

  cluster.kill(leader)
  const next = await cluster.leader(cluster.nodes.filter((node) => node !== leader))
  await eventually('the new leader', () => group()?.leader === next)
  expect(group()?.term).toBeGreaterThan(before)
  expect(running.route(['t']).topics).toHaveLength(1)
})
