/** Membership as an operator changes it, on a whole group in memory: add, promote, remove, replace, and all of it under kills. */
import { afterEach, expect, test } from 'vitest'
import type { LedgerError } from '../../../../src/common/errors.ts'
import { adminMethods, raftMethods } from '../../../../src/rpc/methods.ts'
import { encodePeerFrame } from '../../../../src/rpc/peer-codec.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, testSegmentBytes } from '../../../support/memory-cluster.ts'
import { createTopic, errorOf } from '../replica/support.ts'
import { callLeader, change, expectAlike, membership, voters } from './cluster.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

async function start(...nodes: readonly string[]): Promise<string> {
  cluster = new MemoryCluster(nodes.length > 0 ? { nodes } : {})
  await cluster.start()
  const leader = await cluster.leader()
  for (const topic of ['a', 'b', 'c']) await createTopic(cluster.replica(leader), topic)
  return leader
}

async function startJoining(node: string): Promise<void> {
  cluster.addMachine(node)
  await cluster.startWith(node, cluster.joining(node))
}

function role(node: string): string {
  return cluster.broker(node).status().role
}

test('P7: a node is added, follows from entry 1, becomes a voter by itself, and holds what all the others hold', async () => {
  await start()
  await startJoining('n3')
  const begun = await change(cluster, 'add', 'n3')
  expect(begun.members.find(({ node }) => node === 'n3')).toMatchObject({ role: 'learner', promote: true })
  expect(begun.underWay).toBe('n3 is catching up to become a voter')
  const done = await voters(cluster, 'n0', 'n1', 'n2', 'n3')
  expect(done).toMatchObject({ committed: true, returning: [] })
  await expectAlike(cluster, cluster.nodes, 'after')
  const kinds = cluster
    .broker('n3')
    .events.since(0)
    .map((event) => event.kind)
  expect(kinds).toEqual(expect.arrayContaining(['configuration_committed', 'member_added', 'member_promoted']))
  expect(cluster.replica('n3').history.committed.index).toBe(done.index)
})

test('a node that joins takes the segment size of the group unless it was given one', async () => {
  await start()
  cluster.addMachine('n3')
  const { segmentBytes: _unsaid, ...options } = { ...cluster.optionsOf('n3'), ...cluster.joining('n3') }
  await cluster.startAs('n3', options)
  await change(cluster, 'add', 'n3')
  await voters(cluster, 'n0', 'n1', 'n2', 'n3')
  await expectAlike(cluster, cluster.nodes, 'after')
})

test('a node that joins with another segment size is refused before it is ready, and leaves nothing behind', async () => {
  await start()
  cluster.addMachine('n3')
  const options = { ...cluster.joining('n3'), segmentBytes: 2 * testSegmentBytes }
  expect(await errorOf(cluster.startWith('n3', options))).toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining(`the group was made with ${testSegmentBytes}`),
  })
  await cluster.startWith('n3', cluster.joining('n3'))
})

test('a node that could not ask before stays outside with another segment size, and the operator is told', async () => {
  cluster = new MemoryCluster()
  cluster.addMachine('n3')
  await cluster.startWith('n3', { ...cluster.joining('n3'), segmentBytes: 2 * testSegmentBytes })
  await cluster.start('n0', 'n1', 'n2')
  await cluster.leader(['n0', 'n1', 'n2'])
  await change(cluster, 'add', 'n3')
  const problem = await eventually('its reason is known', async () => {
    const n3 = (await membership(cluster)).members.find(({ node }) => node === 'n3')
    return n3?.problem?.includes('segmentBytes') && n3.problem
  })
  expect(problem).toContain(`CONFIG_INVALID: segmentBytes: is ${2 * testSegmentBytes}`)
  expect(cluster.failures.get('n3')).toBeUndefined()
})

test('a learner stays one until it is promoted, has no vote, and shows what it is', async () => {
  await start()
  await startJoining('n3')
  await change(cluster, 'add', 'n3', { learner: true })
  await eventually('n3 follows', () => cluster.broker('n3').replica && role('n3') === 'learner')
  await cluster.settled()
  expect((await membership(cluster)).underWay).toBe('')
  await voters(cluster, 'n0', 'n1', 'n2')
  await change(cluster, 'promote', 'n3')
  await voters(cluster, 'n0', 'n1', 'n2', 'n3')
  await eventually('it says so', () => role('n3') === 'follower')
})

test('a learner under load is promoted at the first request, although something is always on its way to it', async () => {
  const leader = await start()
  await startJoining('n3')
  await change(cluster, 'add', 'n3', { learner: true })
  await eventually('n3 follows', () => cluster.broker('n3').replica && role('n3') === 'learner')
  await cluster.settled()
  let busy = true
  let count = 0
  const writers = Array.from({ length: 8 }, async () => {
    while (busy) await createTopic(cluster.replica(leader), `load-${count++}`)
  })
  await eventually('the load runs', () => count > 50)
  const channel = cluster.network.endpoint('operator').connect(`${leader}:30911`, 'client')
  const request = { kind: 'promote', node: 'n3', raftAddress: '', learner: false, priority: 0, force: false }
  const begun = await channel.call(adminMethods.changeMembership, request, { timeoutMs: 3000 })
  expect(begun.members.find(({ node }) => node === 'n3')?.role).toMatch(/voter/)
  busy = false
  await Promise.all(writers)
  await voters(cluster, 'n0', 'n1', 'n2', 'n3')
})

test('a follower is removed: it knows, serves nobody, disturbs nobody, also after a restart', async () => {
  const leader = await start()
  const gone = cluster.nodes.find((node) => node !== leader) as string
  const rest = cluster.nodes.filter((node) => node !== gone)
  await change(cluster, 'remove', gone)
  await voters(cluster, ...rest)
  await eventually('it knows', () => role(gone) === 'removed')
  const { term } = cluster.replica(leader)
  cluster.kill(gone)
  await cluster.start(gone)
  await eventually('it still knows', () => role(gone) === 'removed')
  expect(cluster.broker(gone).status().reason).toMatch(/^REMOVED: /)
  const channel = cluster.network.endpoint('client').connect(`${gone}:30911`, 'client')
  const refused = await errorOf(channel.call(adminMethods.listTopics, {}, { timeoutMs: 1000 }))
  expect(refused).toMatchObject({ code: 'SERVICE_NOT_AVAILABLE', message: expect.stringContaining('REMOVED') })
  await expectAlike(cluster, rest, 'after')
  expect(cluster.replica(leader).term).toBe(term)
})

test('a stream that was let in before the removal of its node is ended by the next word on it', async () => {
  const leader = await start()
  const gone = cluster.nodes.find((node) => node !== leader) as string
  const { members } = await membership(cluster)
  const diskOf = (node: string): string => members.find((member) => member.node === node)?.disk ?? ''
  let closed: LedgerError | undefined
  let isIn = false
  const sink = cluster.network
    .endpoint(gone)
    .connect(`${leader}:30912`, 'control')
    .open(raftMethods.control, {
      onMessage: () => {
        isIn = true
      },
      onClosed: (error) => {
        closed = error
      },
    })
  const { incarnation } = cluster.replica(leader)
  const names = { cluster: 'RaftCluster', group: 'RaftNode00', incarnation, fromNode: gone, fromDisk: diskOf(gone) }
  const rest = { fromAddress: '', protocolMin: 1, protocolMax: 1, build: '', featureLevel: 1, fromRaftAddress: '' }
  const hello = { ...names, ...rest, toNode: leader, toDisk: diskOf(leader), membershipIndex: 0 }
  sink.write(encodePeerFrame({ kind: 'hello', hello }))
  await eventually('it is let in', () => isIn)
  await change(cluster, 'remove', gone)
  await voters(cluster, ...cluster.nodes.filter((node) => node !== gone))
  const message = { kind: 'stepped_down', from: gone, to: leader, term: 99 } as const
  sink.write(encodePeerFrame({ kind: 'message', message, wallMs: 1, frames: [] }))
  await eventually('it is ended', () => closed)
  expect(closed?.code).toBe('NOT_A_MEMBER')
  expect(cluster.replica(leader).leading).toBe(true)
})

test('a leader that is removed hands over first, and the one after it removes it', async () => {
  const leader = await start()
  const rest = cluster.nodes.filter((node) => node !== leader)
  await change(cluster, 'remove', leader)
  await voters(cluster, ...rest)
  await eventually('it knows', () => role(leader) === 'removed')
  const ended = cluster
    .broker(leader)
    .events.since(0)
    .filter((event) => event.kind === 'transfer_ended')
  expect(ended.map((event) => event.details['outcome'])).toEqual(['done'])
  await expectAlike(cluster, rest, 'after')
})

test('who was removed can be added again with the folder it has', async () => {
  const leader = await start()
  const gone = cluster.nodes.find((node) => node !== leader) as string
  const rest = cluster.nodes.filter((node) => node !== gone)
  await change(cluster, 'remove', gone)
  await voters(cluster, ...rest)
  await createTopic(cluster.replica(await cluster.leader(rest)), 'meanwhile')
  await change(cluster, 'add', gone)
  await voters(cluster, 'n0', 'n1', 'n2')
  await expectAlike(cluster, cluster.nodes, 'after')
})

test('P8: who comes back gets past the entry that took its leader out, whom a later one brought in again', async () => {
  // Small steps, so that the leader needs an answer between the two entries.
  cluster = new MemoryCluster({ broker: { raft: { appendEntriesMax: 1, inflightMessagesMax: 1 } } })
  await cluster.start()
  await cluster.leader()
  await change(cluster, 'remove', 'n0')
  await voters(cluster, 'n1', 'n2')
  await eventually('it knows', () => role('n0') === 'removed')
  cluster.kill('n0')
  await change(cluster, 'remove', 'n1')
  await voters(cluster, 'n2')
  for (const topic of ['d', 'e', 'f']) await createTopic(cluster.replica('n2'), topic)
  await change(cluster, 'add', 'n1')
  await voters(cluster, 'n1', 'n2')
  await callLeader(cluster, adminMethods.transferLeadership, { to: 'n1' })
  await eventually('n1 leads', () => cluster.replica('n1').leading)
  await cluster.start('n0')
  // By its log n1 is a member when it comes to bring this node in.
  expect(cluster.replica('n0').members.others.map(({ node }) => node)).toEqual(['n1', 'n2'])
  await change(cluster, 'add', 'n0')
  await voters(cluster, 'n0', 'n1', 'n2')
  await expectAlike(cluster, cluster.nodes, 'after')
})

test('P6: a wiped replica is a stranger until it is replaced, and then a voter that holds everything', async () => {
  const leader = await start()
  const wiped = cluster.nodes.find((node) => node !== leader) as string
  const old = (await membership(cluster)).members.find(({ node }) => node === wiped)?.disk
  cluster.wipe(wiped)
  await cluster.start(wiped)
  await eventually('it says so', () => cluster.broker(wiped).status().reason.startsWith('WIPED: '))
  await change(cluster, 'replace', wiped)
  const done = await voters(cluster, 'n0', 'n1', 'n2')
  expect(done.members.find(({ node }) => node === wiped)?.disk).not.toBe(old)
  await expectAlike(cluster, cluster.nodes, 'after')
  // It is one again: its folder alone makes it so at the next start.
  cluster.kill(wiped)
  await cluster.start(wiped)
  await expectAlike(cluster, cluster.nodes, 'again')
})

test('a lone replica grows to three and shrinks to one again', async () => {
  await start('n0')
  for (const node of ['n1', 'n2']) {
    await startJoining(node)
    await change(cluster, 'add', node)
    await voters(cluster, ...cluster.nodes)
  }
  await expectAlike(cluster, cluster.nodes, 'three')
  await change(cluster, 'remove', 'n0')
  await voters(cluster, 'n1', 'n2')
  await change(cluster, 'remove', 'n1')
  await voters(cluster, 'n2')
  await expectAlike(cluster, ['n2'], 'one')
})

test('a newcomer is found and answered by a leader that its list of addresses and the first configuration do not know', async () => {
  await start('n0')
  await startJoining('n1')
  await change(cluster, 'add', 'n1')
  await voters(cluster, 'n0', 'n1')
  await change(cluster, 'remove', 'n0')
  await voters(cluster, 'n1')
  cluster.kill('n0')
  // It asks n0 alone, and the configuration that the group began with names n0 alone.
  await startJoining('n2')
  await change(cluster, 'add', 'n2')
  await voters(cluster, 'n1', 'n2')
  await expectAlike(cluster, ['n1', 'n2'], 'after')
})

test('a change made from an older membership is refused, it does not undo what came between', async () => {
  const leader = await start()
  const replica = cluster.replica(leader)
  const { index, membership: judged } = replica.history.newest
  await startJoining('n3')
  await change(cluster, 'add', 'n3', { learner: true })
  const stale = { ...judged, priorities: [['n1', 5] as const] }
  // So it happens to a proposal that was held while another node led.
  const error = await errorOf(replica.proposeMembership(stale, index, { timeoutMs: 5000 }))
  expect(error).toMatchObject({ code: 'CHANGE_IN_PROGRESS', stored: 'no' })
  expect(replica.history.newest.membership).toMatchObject({ learners: [{ node: 'n3' }], priorities: [] })
})

test('a membership that was never committed falls back with its entry, with its connections', async () => {
  const old = await start()
  const rest = cluster.nodes.filter((node) => node !== old)
  const replica = cluster.replica(old)
  for (const node of rest) cluster.network.cut(old, node)
  const n9 = { node: 'n9', disk: 'nobody', raftAddress: 'n9:30912', promote: false }
  const wanted = { ...replica.history.newest.membership, learners: [n9] }
  const lost = errorOf(replica.proposeMembership(wanted, 0, { timeoutMs: 5000 }))
  await eventually('it counts at once', () => replica.history.newest.membership.learners.length === 1)
  expect(
    cluster
      .broker(old)
      .status()
      .peers.map((peer) => peer.node),
  ).toContain('n9')
  await createTopic(cluster.replica(await cluster.leader(rest)), 'elsewhere')
  cluster.network.heal()
  await eventually('it is gone', () => replica.history.newest.index === 0)
  expect(
    cluster
      .broker(old)
      .status()
      .peers.map((peer) => peer.node),
  ).toEqual(rest)
  expect((await lost).code).toMatch(/^(OUTCOME_UNKNOWN|ROLLED_BACK)$/)
  await expectAlike(cluster, cluster.nodes, 'after')
})

test.each([
  ['add', 'n3', ['n0', 'n1', 'n2', 'n3']],
  ['remove', 'n2', ['n0', 'n1']],
  ['replace', 'n2', ['n0', 'n1', 'n2']],
] as const)(
  'the leader is killed in the middle of %s: the next one carries it to its end',
  async (kind, node, expected) => {
    cluster = new MemoryCluster()
    await cluster.start()
    let leader = await cluster.leader()
    if (leader === 'n2') {
      await callLeader(cluster, adminMethods.transferLeadership, { to: 'n0' })
      leader = await cluster.leader()
    }
    for (const topic of ['a', 'b', 'c']) await createTopic(cluster.replica(leader), topic)
    if (kind === 'add') await startJoining(node)
    if (kind === 'replace') {
      cluster.wipe(node)
      await cluster.start(node)
      await eventually('it says so', () => cluster.broker(node).status().reason.startsWith('WIPED: '))
    }
    await change(cluster, kind, node)
    cluster.kill(leader)
    await cluster.start(leader)
    await voters(cluster, ...expected)
    await expectAlike(cluster, expected, 'after')
  },
)
