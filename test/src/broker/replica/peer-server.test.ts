/** The door for peers: who is let in, who is refused with which reason, what garbage does. */
import { afterEach, expect, test } from 'vitest'
import { MembershipHistory } from '../../../../src/broker/membership/history.ts'
import { firstMembership, type PlacedMembership } from '../../../../src/broker/membership/membership.ts'
import { checkHello, type OwnIdentity, registerPeerServer } from '../../../../src/broker/replica/peer-server.ts'
import type { LedgerError } from '../../../../src/common/errors.ts'
import { type FirstConfiguration, type Hello, type Member, raftMethods } from '../../../../src/rpc/methods.ts'
import { encodePeerFrame } from '../../../../src/rpc/peer-codec.ts'
import type { CallContext, ServerRoutes, StreamHandler } from '../../../../src/rpc/transport.ts'
import { eventually } from '../../../support/eventually.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { group } from '../membership/support.ts'
import { createTopic } from './support.ts'

const configuration: FirstConfiguration = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  members: [
    { node: 'n0', disk: 'disk-0', raftAddress: 'a:1' },
    { node: 'n1', disk: 'disk-1', raftAddress: 'b:1' },
  ],
  segmentBytes: 4096,
  featureLevel: 1,
  formerIncarnations: [],
}

function knowing(...placed: readonly PlacedMembership[]): OwnIdentity {
  const history = new MembershipHistory([{ index: 0, membership: firstMembership(configuration) }, ...placed], 99)
  return { node: 'n0', disk: 'disk-0', configuration, history }
}

const own: OwnIdentity = knowing()

const good: Hello = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  fromNode: 'n1',
  fromDisk: 'disk-1',
  toNode: 'n0',
  toDisk: 'disk-0',
  fromAddress: 'b:2',
  protocolMin: 1,
  protocolMax: 3,
  build: 'test',
  featureLevel: 1,
  membershipIndex: 0,
  fromRaftAddress: 'b:3',
}

let cluster: MemoryCluster | null = null

afterEach(() => {
  cluster?.end()
  cluster = null
})

test('a Hello of a member with its disk is let in', () => {
  expect(checkHello(good, own)).toBeNull()
})

test.each([
  [{ cluster: 'x' }, 'cluster is x, this replica has c'],
  [{ group: '' }, 'group is empty, this replica has g'],
  [{ incarnation: 'old' }, 'incarnation is old, this replica has i'],
  [{ toNode: 'n1' }, 'addressed node is n1, this replica has n0'],
  [{ toDisk: 'disk-9' }, 'addressed disk is disk-9, this replica has disk-0'],
  [{ fromNode: 'n7' }, 'node n7 is no member of the group'],
  [{ fromNode: 'n0' }, 'node n0 is this replica itself'],
  [{ fromDisk: 'disk-0' }, 'node n1 has disk disk-0, the configuration says disk-1'],
  [{ protocolMin: 2 }, 'protocol 2 to 3 does not include 1'],
])('a Hello with %o is refused with the exact reason', (change, reason) => {
  expect(checkHello({ ...good, ...change }, own)?.reason).toBe(reason)
})

test('who is not named is refused by a membership as new as its own, and believed by an older one or by a stranger', () => {
  const newcomer = { ...good, fromNode: 'n7', fromDisk: 'disk-7' }
  const later = knowing({ index: 5, membership: group('n0 n1') })
  const [n0, n1] = configuration.members as [Member, Member]
  expect(checkHello({ ...newcomer, membershipIndex: 0 }, own)).toMatchObject({ code: 'NOT_A_MEMBER' })
  expect(checkHello({ ...newcomer, membershipIndex: 6 }, own)).toBeNull()
  expect(checkHello({ ...newcomer, membershipIndex: 6, incarnation: 'x' }, own)).toMatchObject({
    code: 'WRONG_CLUSTER',
  })
  const named = knowing({ index: 5, membership: group('n0', { voters: [n0] }) })
  expect(checkHello({ ...good, membershipIndex: 4 }, named)).toMatchObject({ code: 'NOT_A_MEMBER' })
  expect(checkHello({ ...good, membershipIndex: 5 }, named)).toMatchObject({ code: 'NOT_A_MEMBER' })
  expect(checkHello({ ...good, membershipIndex: 6 }, named)).toBeNull()
  // This node is no member of what it knows: whoever comes may be the one to bring it in.
  expect(checkHello({ ...newcomer, membershipIndex: 0 }, later)).toBeNull()
  // Not yet committed: the one before may come back.
  const pending = knowing()
  pending.history.appended(100, group('n0', { voters: [n0] }))
  expect(checkHello({ ...good, membershipIndex: 0 }, pending)).toBeNull()
  expect(n1.node).toBe(good.fromNode)
})

test('R1: who came back empty is not let in for memberships that still name its former self', () => {
  const at5 = { index: 5, membership: firstMembership(configuration) }
  const placed = [{ index: 0, membership: firstMembership(configuration) }, at5]
  // This node holds the membership of entry 5 without knowing that it is committed, and nothing of what came later.
  const behind: OwnIdentity = { ...own, history: new MembershipHistory(placed, 0) }
  const returned = { node: 'n1', disk: 'disk-1-new' }
  const itsLog = new MembershipHistory(placed, 5)
  const hello = (): Hello => ({ ...good, fromDisk: returned.disk, membershipIndex: itsLog.shownBy(returned) })
  expect(checkHello(hello(), behind)).toMatchObject({ code: 'NOT_A_MEMBER' })
  itsLog.appended(9, group('n0', { learners: [{ ...returned, raftAddress: 'b:1', promote: true }] }))
  expect(checkHello(hello(), behind)).toBeNull()
})

test('a replica that begins again behind an open stream is told who is at its other end, once', () => {
  let now: OwnIdentity | { readonly absent: string } = own
  const said: string[] = []
  const accepts: StreamHandler<Buffer, Buffer>[] = []
  const routes = {
    unary: () => {},
    stream: (_: unknown, accept: StreamHandler<Buffer, Buffer>) => accepts.push(accept),
  }
  registerPeerServer(routes as unknown as ServerRoutes, {
    clock: new ManualClock(),
    identity: () => now,
    greeted: ({ fromNode }) => said.push(`greeted ${fromNode}`),
    refused: (_, reason) => said.push(reason),
    receive: ({ kind }) => said.push(kind),
  })
  const stream = accepts[0]?.({ write: () => true, end: () => {}, cancel: () => {} }, {} as CallContext)
  const timeoutNow = { kind: 'timeout_now', from: 'n1', to: 'n0', term: 1 } as const
  const message = encodePeerFrame({ kind: 'message', message: timeoutNow, wallMs: 1, frames: [] })
  stream?.onMessage(encodePeerFrame({ kind: 'hello', hello: { ...good, membershipIndex: 6 } }))
  stream?.onMessage(message)
  now = { absent: 'RESTARTING' }
  stream?.onMessage(message)
  now = knowing()
  stream?.onMessage(message)
  stream?.onMessage(message)
  expect(said).toEqual(['greeted n1', 'timeout_now', 'greeted n1', 'timeout_now', 'timeout_now'])
})

test('a stream that does not begin with a true Hello is ended with WRONG_CLUSTER and an event, the broker lives', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  const channel = cluster.network.endpoint('intruder').connect(`${leader}:30912`, 'control')
  const vote = {
    kind: 'vote_request',
    from: 'n1',
    to: leader,
    term: 1_000_000,
    lastIndex: 1_000_000,
    lastTerm: 1_000_000,
    transfer: true,
  } as const
  const firstMessages = [
    encodePeerFrame({ kind: 'hello', hello: { ...good, cluster: 'Other' } }),
    encodePeerFrame({ kind: 'message', message: vote, wallMs: 1, frames: [] }),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  ]
  for (const first of firstMessages) {
    let closed: LedgerError | undefined
    const sink = channel.open(raftMethods.control, {
      onMessage: () => {},
      onClosed: (error) => {
        closed = error
      },
    })
    sink.write(first)
    await eventually('the stream is ended', () => closed)
    expect(closed?.code).toBe('WRONG_CLUSTER')
  }
  const refused = cluster
    .broker(leader)
    .events.since(0)
    .filter((event) => event.kind === 'peer_refused')
  expect(refused.map((event) => event.details['reason'])).toContain('cluster is Other, this replica has RaftCluster')
  expect(refused.map((event) => event.details['reason'])).toContain('the first message was no Hello')
  expect(cluster.replica(leader).term).toBeLessThan(1_000_000)
  await createTopic(cluster.replica(leader), 'alive')
})

test('a replica that was started in the place of another group is told by its peers', async () => {
  cluster = new MemoryCluster({ nodes: ['n0', 'n1'] })
  await cluster.start()
  await cluster.leader()
  cluster.kill('n1')
  // The folder of n1 with the history of another incarnation, as after a restore from the wrong backup.
  const other = new MemoryCluster({ nodes: ['n0', 'n1'] })
  try {
    await other.start()
    await other.leader()
    other.kill('n1')
    const { disk, engine } = other.machine('n1')
    cluster.machines.set('n1', { disk, engine, bootId: 1 })
    await cluster.start('n1')
    const running = cluster
    const refused = await eventually('n1 is refused', () =>
      running
        .broker('n1')
        .events.since(0)
        .find((event) => event.kind === 'peer_refused' && event.details['direction'] === 'outgoing'),
    )
    expect(refused.details['reason']).toMatch(/^incarnation is /)
  } finally {
    other.end()
  }
})
