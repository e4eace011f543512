import { afterEach, expect, test } from 'vitest'
import { silentLogger } from '../../../src/common/logger.ts'
import { type Namesrv, type NamesrvOptions, startNamesrv } from '../../../src/namesrv/namesrv.ts'
import {
  namesrvMethods,
  type Registration,
  type RegistrationAck,
  type RouteReply,
  type RouteRequest,
} from '../../../src/rpc/methods.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { MemoryTransport, type TestSink } from '../../support/memory-transport.ts'
import { StreamLog } from '../../support/stream-log.ts'

const started: Namesrv[] = []
afterEach(async () => {
  for (const namesrv of started.splice(0)) await namesrv.close()
})

async function start(
  transport: MemoryTransport,
  clock: ManualClock,
  options: Partial<NamesrvOptions> = {},
): Promise<Namesrv> {
  const namesrv = await startNamesrv({ listen: 'ns:0', ...options }, { clock, transport, logger: silentLogger })
  started.push(namesrv)
  return namesrv
}

interface TestBroker {
  readonly sink: TestSink<Registration>
  readonly acks: StreamLog<RegistrationAck>
}

function broker(transport: MemoryTransport, address: string): TestBroker {
  const acks = new StreamLog<RegistrationAck>()
  return { sink: transport.connect(address).open(namesrvMethods.register, acks), acks }
}

function registration(fields: Partial<Registration> = {}): Registration {
  return {
    cluster: 'c',
    group: 'g',
    node: 'n0',
    address: '127.0.0.1:3000',
    incarnation: 'i1',
    term: 1,
    role: 'leader',
    topics: [],
    topicsVersion: 0,
    ...fields,
  }
}

function watch(transport: MemoryTransport, address: string, topics: readonly string[]) {
  const log = new StreamLog<RouteReply>()
  const sink: TestSink<RouteRequest> = transport.connect(address).open(namesrvMethods.watchRoute, log)
  sink.write({ topics })
  return { sink, log }
}

function leader(route: RouteReply | undefined): string {
  const group = route?.groups[0]
  return group ? `${group.leader}@${group.term}` : 'gone'
}

test('brokers register with two namesrvs side by side; one that restarts empty is complete after one period', async () => {
  const transport = new MemoryTransport()
  const clock = new ManualClock()
  const first = await start(transport, clock)
  const second = await start(transport, clock)
  for (const { address } of [first, second]) {
    const one = broker(transport, address)
    one.sink.write(registration())
    await one.acks.count(1)
    expect(one.acks.last).toEqual({ intervalMs: 30_000 })
  }
  expect(first.route([])).toEqual(second.route([]))

  await first.close()
  const again = await start(transport, clock, { listen: first.address })
  expect(again.route([]).groups).toEqual([])
  expect(leader(second.route([]))).toBe('n0@1')
  const one = broker(transport, again.address)
  one.sink.write(registration())
  await one.acks.count(1)
  expect(again.route([]).groups).toEqual(second.route([]).groups)
})

test('a broker whose stream ends is gone at once, a silent one after 120 s', async () => {
  const transport = new MemoryTransport()
  const clock = new ManualClock()
  const namesrv = await start(transport, clock)
  const dying = broker(transport, namesrv.address)
  dying.sink.write(registration())
  const silent = broker(transport, namesrv.address)
  silent.sink.write(registration({ node: 'n1', address: 'h:1', role: 'follower' }))
  await silent.acks.count(1)

  dying.sink.cancel()
  await settle()
  expect(namesrv.route([]).groups[0]?.nodes.map((node) => node.node)).toEqual(['n1'])

  await clock.advance(120_000)
  expect(namesrv.route([]).groups).toHaveLength(1)
  await clock.advance(10_001)
  expect(namesrv.route([]).groups).toEqual([])
  expect((await silent.acks.end())?.code).toBe('UNAVAILABLE')
})

test('a namesrv that slept forgets nobody: the messages of the brokers are still waiting to be read', async () => {
  const transport = new MemoryTransport()
  const clock = new ManualClock()
  const namesrv = await start(transport, clock)
  const one = broker(transport, namesrv.address)
  one.sink.write(registration())
  await one.acks.count(1)

  await clock.sleepThrough(600_000)
  expect(namesrv.route([]).groups).toHaveLength(1)
  one.sink.write(registration())
  await one.acks.count(2)
  await clock.advance(20_000)
  expect(namesrv.route([]).groups).toHaveLength(1)
})

test('N1: the claim of an old leader is answered with the new one and changes no route', async () => {
  const transport = new MemoryTransport()
  const namesrv = await start(transport, new ManualClock())
  const old = broker(transport, namesrv.address)
  old.sink.write(registration({ term: 3 }))
  const next = broker(transport, namesrv.address)
  next.sink.write(registration({ node: 'n1', address: 'h:1', term: 4 }))
  await next.acks.count(1)

  old.sink.write(registration({ term: 3 }))
  await old.acks.count(2)

  expect(old.acks.last?.status).toMatchObject({ code: 501, leaderNode: 'n1', leaderAddress: 'h:1', term: 4 })
  expect(leader(namesrv.route([]))).toBe('n1@4')
})

test('a watcher gets the route at once, then each change of its topics or of the brokers once', async () => {
  const transport = new MemoryTransport()
  const namesrv = await start(transport, new ManualClock())
  const { log } = watch(transport, namesrv.address, ['a'])
  await log.count(1)
  expect(log.last).toMatchObject({ groups: [], topics: [] })

  const one = broker(transport, namesrv.address)
  const topics = [{ topicId: 5, config: { topic: 'a', readQueues: 2, writeQueues: 2, permission: 6 } }]
  one.sink.write(registration({ topics, topicsVersion: 5 }))
  one.sink.write(registration({ topics, topicsVersion: 5, term: 2 }))
  await log.count(2)
  expect(leader(log.last)).toBe('n0@2')
  expect(log.last?.topics[0]?.queues).toHaveLength(1)

  const other = { topicId: 6, config: { topic: 'other', readQueues: 1, writeQueues: 1, permission: 6 } }
  one.sink.write(registration({ topics: [...topics, other], topicsVersion: 6, term: 2 }))
  await one.acks.count(3)
  await settle()
  expect(log.messages).toHaveLength(2)

  one.sink.cancel()
  await log.count(3)
  expect(log.last).toMatchObject({ groups: [], topics: [] })
})

test('a watcher may change its topics on the open stream', async () => {
  const transport = new MemoryTransport()
  const namesrv = await start(transport, new ManualClock())
  const one = broker(transport, namesrv.address)
  const topics = [{ topicId: 5, config: { topic: 'a', readQueues: 2, writeQueues: 2, permission: 6 } }]
  one.sink.write(registration({ topics, topicsVersion: 5 }))
  await one.acks.count(1)
  const { sink, log } = watch(transport, namesrv.address, [])
  await log.count(1)
  expect(log.last?.topics).toEqual([])
  sink.write({ topics: ['a'] })
  await log.count(2)
  expect(log.last?.topics).toHaveLength(1)
})

test('a watcher that does not read gets the newest route later, or is cut after 30 s', async () => {
  const transport = new MemoryTransport({ unreadMax: 2 })
  const clock = new ManualClock()
  const namesrv = await start(transport, clock)
  const slow = watch(transport, namesrv.address, [])
  const dead = watch(transport, namesrv.address, [])
  await slow.log.count(1)
  await dead.log.count(1)
  for (const { sink } of [slow, dead]) sink.pauseReading(true)

  const one = broker(transport, namesrv.address)
  for (let term = 1; term <= 20; term++) {
    one.sink.write(registration({ term }))
    await one.acks.count(term)
    await settle()
  }
  slow.sink.pauseReading(false)
  await settle()
  expect(leader(slow.log.last)).toBe('n0@20')
  expect(slow.log.messages.length).toBeLessThan(8)

  await clock.advance(29_000)
  expect(dead.log.closed).toBe(false)
  await clock.advance(2000)
  expect((await dead.log.end())?.code).toBe('OVERLOADED')
  expect(slow.log.closed).toBe(false)
})

test.each([
  ['group', { group: '../x' }],
  ['group', { group: '' }],
  ['node', { node: 'a b' }],
  ['cluster', { cluster: 'x'.repeat(121) }],
  ['incarnation', { incarnation: '\u0000' }],
  ['address', { address: 'nowhere' }],
  ['address', { address: 'h:0' }],
  ['address', { address: 'h:65536' }],
  ['address', { address: 'h\n:1' }],
  ['role', { role: 'king' }],
  ['term', { term: -1 }],
  ['term', { term: Number.NaN }],
  ['leader', { term: 0 }],
  ['topicsVersion', { topicsVersion: 0.5 }],
  ['topic', { topics: [{ topicId: 1, config: { topic: '../a', readQueues: 1, writeQueues: 1, permission: 6 } }] }],
  [
    'queue count',
    { topics: [{ topicId: 1, config: { topic: 'a', readQueues: 1025, writeQueues: 1, permission: 6 } }] },
  ],
  ['permission', { topics: [{ topicId: 1, config: { topic: 'a', readQueues: 1, writeQueues: 1, permission: 8 } }] }],
])(
  'a registration with a wrong %s is refused with 29 and leaves stream and routes as they are',
  async (word, fields) => {
    const transport = new MemoryTransport()
    const namesrv = await start(transport, new ManualClock())
    const one = broker(transport, namesrv.address)
    one.sink.write(registration(fields))
    await one.acks.count(1)
    expect(one.acks.last?.status?.code).toBe(29)
    expect(one.acks.last?.status?.message).toContain(word)
    expect(namesrv.route([]).groups).toEqual([])
    one.sink.write(registration())
    await one.acks.count(2)
    expect(one.acks.last?.status).toBeUndefined()
  },
)

test('a forged registration of another incarnation is refused with WRONG_CLUSTER', async () => {
  const transport = new MemoryTransport()
  const namesrv = await start(transport, new ManualClock())
  const good = broker(transport, namesrv.address)
  good.sink.write(registration())
  const forged = broker(transport, namesrv.address)
  forged.sink.write(registration({ node: 'n9', address: 'h:9', incarnation: 'evil', term: 99 }))
  await forged.acks.count(1)
  expect(forged.acks.last?.status?.code).toBe(601)
  expect(leader(namesrv.route([]))).toBe('n0@1')
})

test('GetRoute answers what it knows and refuses impossible names and too many topics', async () => {
  const transport = new MemoryTransport()
  const namesrv = await start(transport, new ManualClock())
  const channel = transport.connect(namesrv.address)
  const ask = (topics: readonly string[]) => channel.call(namesrvMethods.getRoute, { topics }, { timeoutMs: 1000 })
  expect(await ask(['unknown', '%RETRY%g'])).toEqual({ version: 0, groups: [], topics: [] })
  for (const topics of [['../x'], [''], ['x'.repeat(256)], Array.from({ length: 1001 }, (_, i) => `t${i}`)])
    await expect(ask(topics)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('streams beyond the limits are refused, those inside stay', async () => {
  const transport = new MemoryTransport()
  const namesrv = await start(transport, new ManualClock(), { brokersMax: 1, watchersMax: 1 })
  const one = broker(transport, namesrv.address)
  one.sink.write(registration())
  expect((await broker(transport, namesrv.address).acks.end())?.code).toBe('OVERLOADED')
  const { log } = watch(transport, namesrv.address, [])
  await log.count(1)
  expect((await watch(transport, namesrv.address, []).log.end())?.code).toBe('OVERLOADED')
  expect(log.closed).toBe(false)
  expect(one.acks.closed).toBe(false)
})

test('a stopped namesrv ends its streams and leaves no timer behind', async () => {
  const transport = new MemoryTransport()
  const clock = new ManualClock()
  const namesrv = await start(transport, clock)
  const one = broker(transport, namesrv.address)
  one.sink.write(registration())
  const { log } = watch(transport, namesrv.address, [])
  await log.count(1)
  await namesrv.close()
  await namesrv.close()
  await log.end()
  await one.acks.end()
  expect(clock.timerCount).toBe(0)
})
