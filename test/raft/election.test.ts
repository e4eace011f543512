/** Elections beyond the paper: lost connections, leaders that say goodbye, nodes without a vote, sole voters. */
import { describe, expect, test } from 'vitest'
import type { VoteRefusal } from '../../raft/index.ts'
import { Cluster, electByHand, entriesOf, ManualNode } from './support.ts'

const heartbeat = (from = 'n1', term = 1) => ({
  kind: 'heartbeat' as const,
  from,
  to: 'n0',
  term,
  commit: 0,
  round: 0,
  lastIndex: 0,
  session: 0,
})
const preVoteRequest = (from: string, term: number) => ({
  kind: 'pre_vote_request' as const,
  from,
  to: 'n0',
  term,
  lastIndex: 9,
  lastTerm: 9,
})

/** n0 follows n1 in term 1. */
function followerOfN1(random = () => 0.5): ManualNode {
  const node = new ManualNode({ random })
  node.receive(heartbeat())
  node.persist()
  node.take()
  return node
}

function refuse(node: ManualNode, from: string, refusal: VoteRefusal): void {
  node.receive({ kind: 'pre_vote_response', from, to: 'n0', term: node.status.term, refusal })
}

describe('a broken connection to the leader', () => {
  test('starts a pre-vote within 0-30 ms', () => {
    const node = followerOfN1()
    node.step({ kind: 'peer_lost', peer: 'n1' })
    expect(node.core.deadline()).toBe(15)
    node.wait(15)
    expect(node.take('pre_vote_request').map(({ to, term }) => [to, term])).toEqual([
      ['n1', 2],
      ['n2', 2],
    ])
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ to: 'pre_candidate', reason: 'connection_lost' })
  })

  test('drops the vote lease of this node at once', () => {
    const node = followerOfN1()
    node.receive(preVoteRequest('n2', 9))
    node.step({ kind: 'peer_lost', peer: 'n1' })
    node.receive(preVoteRequest('n2', 9))
    node.persist()
    expect(node.take('pre_vote_response').map(({ refusal }) => refusal)).toEqual(['leader_seen', null])
  })

  test('to anyone but the leader changes nothing', () => {
    const node = followerOfN1()
    const before = node.core.deadline()
    node.step({ kind: 'peer_lost', peer: 'n2' })
    expect(node.core.deadline()).toBe(before)
  })

  test('is forgotten when the leader beats again before the pre-vote', () => {
    const node = followerOfN1()
    node.step({ kind: 'peer_lost', peer: 'n1' })
    node.now = 10
    node.receive(heartbeat())
    node.wait(100)
    expect(node.status).toMatchObject({ role: 'follower', leader: 'n1' })
  })

  test('is not forgotten for appends that had waited in the sockets, but they are taken in', () => {
    const node = followerOfN1()
    node.step({ kind: 'peer_lost', peer: 'n1' })
    const append = {
      ...heartbeat(),
      kind: 'append' as const,
      prevIndex: 0,
      prevTerm: 0,
      entries: entriesOf(1, [1]),
    }
    node.receive(append)
    node.wait(15)
    expect(node.status).toMatchObject({ role: 'pre_candidate', lastIndex: 1 })
    node.receive({ ...append, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, [1]) })
    expect(node.status).toMatchObject({ role: 'pre_candidate', lastIndex: 2 })
    node.persist()
    expect(node.take('append_response').map(({ matchIndex }) => matchIndex)).toEqual([1, 2])
  })

  test('refused as leader_seen: repeats every 25 ms, ten times, then waits a whole timeout', () => {
    const node = followerOfN1()
    node.step({ kind: 'peer_lost', peer: 'n1' })
    node.wait(15)
    for (let round = 0; round < 10; round++) {
      expect(node.take('pre_vote_request')).toHaveLength(2)
      refuse(node, 'n2', 'leader_seen')
      expect(node.core.deadline()).toBe(node.now + 25)
      refuse(node, 'n1', 'leader_seen')
      expect(node.core.deadline()).toBe(node.now + 25)
      node.wait(25)
    }
    node.take()
    refuse(node, 'n2', 'leader_seen')
    refuse(node, 'n1', 'leader_seen')
    expect(node.status.role).toBe('follower')
    expect(node.core.deadline()).toBe(node.now + 750)
    // Until then it takes its leader back on any sign of life: of the broken connection nothing is left.
    const { commit } = node.status
    node.receive({ ...heartbeat(), kind: 'append', prevIndex: 0, prevTerm: 0, entries: [], commit })
    expect(node.status).toMatchObject({ role: 'follower', leader: 'n1' })
  })

  test('elects a new leader of three within 60 ms when the leader dies', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const cluster = new Cluster({ seed })
      const old = cluster.runUntilLed()
      cluster.propose(old, 3)
      cluster.run(40)
      cluster.kill(old)
      const tookMs = cluster.runUntil(() => cluster.leader() !== null, 1_000)
      expect(tookMs).toBeLessThan(60)
    }
  })

  test('noticed by two at the same time: one gives way, the vote is not split', () => {
    const low = followerOfN1()
    const high = new ManualNode({ id: 'n2' })
    high.receive({ ...heartbeat(), to: 'n2' })
    for (const node of [low, high]) node.step({ kind: 'peer_lost', peer: 'n1' })
    for (const node of [low, high]) node.wait(15)
    const fromHigh = high.take('pre_vote_request').find(({ to }) => to === 'n0')
    const fromLow = low.take('pre_vote_request').find(({ to }) => to === 'n2')
    low.receive(fromHigh as NonNullable<typeof fromHigh>)
    high.receive(fromLow as NonNullable<typeof fromLow>)
    for (const node of [low, high]) node.persist()
    for (const node of [low, high]) expect(node.take('pre_vote_response')).toMatchObject([{ refusal: null }])
    expect([low.status.role, high.status.role]).toEqual(['pre_candidate', 'follower'])
    expect(high.core.deadline()).toBe(15 + 100)
  })

  test('elects nobody while the others still hear the leader, and disturbs nothing', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    const { term } = cluster.status(leader)
    const alone = cluster.ids.find((id) => id !== leader) as string
    cluster.filter = (message) => !(message.from === leader && message.to === alone && message.kind === 'heartbeat')
    cluster.step(alone, { kind: 'peer_lost', peer: leader })
    cluster.run(3_000)
    cluster.heal()
    cluster.run(1_000)
    expect(cluster.status(leader)).toMatchObject({ role: 'leader', term })
    expect(cluster.status(alone)).toMatchObject({ role: 'follower', leader, term })
  })
})

describe('a leader that steps down', () => {
  test('makes its followers drop the lease and pre-vote within 0-30 ms', () => {
    const node = followerOfN1()
    node.receive({ kind: 'stepped_down', from: 'n1', to: 'n0', term: 1 })
    expect(node.status.leader).toBeNull()
    node.receive(preVoteRequest('n2', 9))
    node.persist()
    expect(node.take('pre_vote_response')).toMatchObject([{ refusal: null }])
    node.wait(15)
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ reason: 'leader_stepped_down' })
  })

  test('is ignored when it led an older term', () => {
    const node = followerOfN1()
    node.receive(heartbeat('n2', 2))
    const before = node.core.deadline()
    node.receive({ kind: 'stepped_down', from: 'n1', to: 'n0', term: 1 })
    expect(node.status.leader).toBe('n2')
    expect(node.core.deadline()).toBe(before)
  })

  test('that asks for votes itself holds no lease any more', () => {
    const node = followerOfN1()
    node.receive(preVoteRequest('n1', 9))
    node.persist()
    expect(node.take('pre_vote_response')).toMatchObject([{ refusal: null }])
  })
})

describe('who may stand and vote', () => {
  test('a node that is no voter never stands, but follows, acknowledges, and votes if it is asked', () => {
    const node = new ManualNode({ voters: ['n1', 'n2'], learners: ['n0'] })
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    node.step({ kind: 'campaign' })
    node.receive(preVoteRequest('n1', 9))
    node.receive({ ...preVoteRequest('n1', 9), kind: 'vote_request', transfer: false })
    expect(node.status).toMatchObject({ role: 'follower', term: 9, vote: 'n1' })
    node.receive({ ...heartbeat('n1', 9), kind: 'append', prevIndex: 0, prevTerm: 0, entries: entriesOf(1, [5]) })
    node.receive({ kind: 'timeout_now', from: 'n1', to: 'n0', term: 9 })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    node.wait(5_000)
    node.persist()
    expect(node.status).toMatchObject({ role: 'follower', term: 9, lastIndex: 1 })
    const answers = node.take().map((message) => [message.kind, 'refusal' in message ? message.refusal : null])
    expect(answers).toEqual([
      ['pre_vote_response', null],
      ['vote_response', null],
      ['append_response', null],
    ])
  })

  test('a sole voter leads at once, after its vote is durable, and commits after its own fsync', () => {
    const node = new ManualNode({ voters: ['n0'] })
    expect(node.core.deadline()).toBe(0)
    node.wait(0)
    expect(node.status).toMatchObject({ role: 'candidate', term: 1 })
    expect(node.eventsOf('role_changed')).toMatchObject([{ reason: 'sole_voter' }])
    node.persist()
    expect(node.status).toMatchObject({ role: 'leader', commit: 0, termStarted: false })
    node.propose(5)
    node.persist()
    expect(node.status).toMatchObject({ role: 'leader', commit: 2, termStarted: true })
    node.step({ kind: 'read_index', context: 3 })
    expect(node.reads).toEqual([{ context: 3, index: 2 }])
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
  })

  test('campaign asks by a pre-vote first and leaves a leader alone', () => {
    const node = new ManualNode()
    node.step({ kind: 'campaign' })
    expect(node.status).toMatchObject({ role: 'pre_candidate', term: 0 })
    const leader = new ManualNode()
    electByHand(leader, ['n1', 'n2'])
    leader.step({ kind: 'campaign' })
    expect(leader.status.role).toBe('leader')
  })

  test('a whole group that restarts at once elects a leader', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    cluster.propose(leader, 3)
    cluster.run(100)
    for (const id of cluster.ids) cluster.crash(id)
    cluster.run(100)
    for (const id of cluster.ids) cluster.start(id)
    const tookMs = cluster.runUntil(() => cluster.leader() !== null, 3_000)
    expect(tookMs).toBeGreaterThan(400)
    cluster.run(100)
    for (const id of cluster.ids) expect(cluster.status(id).commit).toBe(5)
  })
})

describe('a failed disk', () => {
  test('S1: acknowledges nothing, votes for nobody, and stays silent', () => {
    const node = followerOfN1()
    node.receive({ ...heartbeat(), kind: 'append', prevIndex: 0, prevTerm: 0, entries: entriesOf(1, [1]) })
    node.step({ kind: 'storage_failed' })
    expect(node.receive(preVoteRequest('n2', 9))).toEqual({ kind: 'refused', refusal: { kind: 'storage_failed' } })
    node.wait(5_000)
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    expect(node.core.hasReady()).toBe(false)
    expect(node.take()).toEqual([])
    expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'storage_failed' } })
  })

  test('makes a leader say goodbye once', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.step({ kind: 'read_index', context: 7 })
    node.take()
    node.step({ kind: 'storage_failed' })
    node.step({ kind: 'storage_failed' })
    expect(node.take().map(({ kind, to }) => [kind, to])).toEqual([
      ['stepped_down', 'n1'],
      ['stepped_down', 'n2'],
    ])
    expect(node.readies.at(-1)).toMatchObject({ mustSync: false, append: [], sendAfterPersist: [] })
    expect(node.eventsOf('reads_dropped')).toEqual([{ kind: 'reads_dropped', contexts: [7] }])
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ reason: 'storage_failed' })
  })

  test('loses nothing that was acknowledged, the others go on', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    cluster.propose(leader, 2)
    cluster.run(20)
    cluster.step(leader, { kind: 'storage_failed' })
    const tookMs = cluster.runUntil(() => cluster.leader() !== null, 1_000)
    expect(tookMs).toBeLessThan(60)
  })
})
