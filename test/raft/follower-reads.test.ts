/** Current reads on followers: the leader's read index, and everything that must not pass for it (thesis 6.4). */
import { describe, expect, test } from 'vitest'
import type { PeerMessage } from '../../raft/index.ts'
import { acknowledge, Cluster, electByHand, ManualNode } from './support.ts'

const heartbeat = (from = 'n1', term = 1): PeerMessage => ({
  kind: 'heartbeat',
  from,
  to: 'n0',
  term,
  commit: 0,
  round: 0,
  lastIndex: 0,
  session: 0,
})
const response = (
  context: number,
  index: number | null,
  fields: { from?: string; term?: number } = {},
): PeerMessage => ({
  kind: 'read_response',
  from: 'n1',
  to: 'n0',
  term: 1,
  context,
  index,
  ...fields,
})

/** n0 follows n1 in term 1. */
function follower(fields: ConstructorParameters<typeof ManualNode>[0] = {}): ManualNode {
  const node = new ManualNode(fields)
  node.receive(heartbeat())
  node.persist()
  node.take()
  return node
}

/** Asks; returns the context on the wire. */
function ask(node: ManualNode, context: number): number {
  expect(node.step({ kind: 'read_index', context })).toEqual({ kind: 'done' })
  const [request] = node.take('read_request')
  expect(request).toMatchObject({ from: 'n0', to: 'n1', term: 1 })
  return request?.context as number
}

const dropped = (node: ManualNode) => node.eventsOf('reads_dropped').flatMap(({ contexts }) => contexts)

describe('a follower', () => {
  test('asks its leader at once and hands on the index it is told', () => {
    const node = follower()
    const onWire = ask(node, 7)
    node.receive(response(onWire, 42))
    expect(node.reads).toEqual([{ context: 7, index: 42 }])
    node.receive(response(onWire, 43))
    expect(node.reads).toHaveLength(1)
  })

  test('takes no answer of a node that it does not follow', () => {
    const node = follower()
    const onWire = ask(node, 7)
    node.receive(response(onWire, 3, { from: 'n2' }))
    expect(node.reads).toEqual([])
    node.receive(response(onWire, 42))
    expect(node.reads).toEqual([{ context: 7, index: 42 }])
  })

  test('drops the read when the leader refuses', () => {
    const node = follower()
    node.receive(response(ask(node, 7), null))
    expect([node.reads, dropped(node)]).toEqual([[], [7]])
  })

  test('drops the read when no answer came within the longest election timeout', () => {
    const node = follower()
    ask(node, 7)
    for (let beat = 0; beat < 12; beat++) {
      node.wait(80)
      node.receive(heartbeat())
    }
    expect(dropped(node)).toEqual([])
    node.wait(40)
    expect(dropped(node)).toEqual([7])
    expect(node.status).toMatchObject({ role: 'follower', leader: 'n1' })
  })

  test('drops overdue reads after a pause, too, and only once', () => {
    const node = follower()
    ask(node, 7)
    node.now = 5_000
    node.receive(heartbeat())
    expect(dropped(node)).toEqual([7])
    node.step({ kind: 'applied', index: 0 })
    expect(node.eventsOf('stalled')).toHaveLength(1)
  })

  test('takes no answer of the old leader after the term changed, nor of another node', () => {
    const node = follower()
    const old = ask(node, 7)
    node.receive(heartbeat('n2', 2))
    node.persist()
    node.receive(response(old, 3))
    node.receive(response(old, 3, { from: 'n2', term: 2 }))
    expect([node.reads, dropped(node)]).toEqual([[], [7]])
    node.take()
    node.step({ kind: 'read_index', context: 8 })
    const [request] = node.take('read_request')
    expect(request).toMatchObject({ to: 'n2', term: 2 })
    node.receive(response(request?.context as number, 3))
    expect(node.reads).toEqual([])
  })

  test('drops its reads when the leader is lost, though the same may come back', () => {
    const node = follower()
    const old = ask(node, 7)
    node.receive({ kind: 'stepped_down', from: 'n1', to: 'n0', term: 1 })
    expect(dropped(node)).toEqual([7])
    node.receive(response(old, 3))
    expect(node.reads).toEqual([])
  })

  test('takes no answer that was meant for an earlier run of the node', () => {
    const before = follower({ random: () => 0.25 })
    const old = ask(before, 7)
    const after = follower({ random: () => 0.75 })
    expect(ask(after, 7)).not.toBe(old)
    after.receive(response(old, 3))
    expect(after.reads).toEqual([])
  })

  test('without a leader, or cut off from it, refuses as one that knows none', () => {
    const refusal = { kind: 'refused', refusal: { kind: 'not_leader', leader: null } }
    expect(new ManualNode().step({ kind: 'read_index', context: 1 })).toMatchObject(refusal)
    const node = follower()
    node.step({ kind: 'peer_lost', peer: 'n1' })
    expect(node.step({ kind: 'read_index', context: 1 })).toMatchObject(refusal)
  })

  test('asks for so many at a time and no more', () => {
    const node = follower({ config: { pendingReadsMax: 2 } })
    ask(node, 1)
    ask(node, 2)
    expect(node.step({ kind: 'read_index', context: 3 })).toMatchObject({
      refusal: { kind: 'reads_full', readsMax: 2 },
    })
  })

  test('may be a learner', () => {
    const node = follower({ voters: ['n1', 'n2'], learners: ['n0'] })
    node.receive(response(ask(node, 7), 42))
    expect(node.reads).toEqual([{ context: 7, index: 42 }])
  })
})

describe('the leader', () => {
  const request = (context: number): PeerMessage => ({ kind: 'read_request', from: 'n1', to: 'n0', term: 1, context })
  const answerRound = (node: ManualNode, round: number) =>
    node.receive({ kind: 'heartbeat_response', from: 'n2', to: 'n0', term: 1, round, session: 1, canLead: true })

  function leader(commit = true): ManualNode {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'], commit)
    node.take()
    return node
  }

  test('answers after a round that began after the request, with the commit of its beginning', () => {
    const node = leader()
    node.receive(request(5))
    const round = node.take('heartbeat').at(-1)?.round as number
    node.propose(1)
    node.persist()
    acknowledge(node, 'n1')
    answerRound(node, round - 1)
    expect(node.take('read_response')).toEqual([])
    answerRound(node, round)
    expect(node.take('read_response')).toMatchObject([{ to: 'n1', context: 5, index: 1 }])
    expect(node.reads).toEqual([])
  })

  test('answers only when the no-op of its term is committed', () => {
    const node = leader(false)
    node.receive(request(5))
    answerRound(node, 0)
    answerRound(node, 1)
    expect(node.take('read_response')).toEqual([])
    node.persist()
    acknowledge(node, 'n1')
    answerRound(node, node.take('heartbeat').at(-1)?.round as number)
    expect(node.take('read_response')).toMatchObject([{ context: 5, index: 1 }])
  })

  test('proves reads of followers and its own by the same round', () => {
    const node = leader()
    node.core.step({ kind: 'read_index', context: 3 }, node.now)
    node.core.step({ kind: 'message', message: request(3) }, node.now)
    node.drain()
    answerRound(node, node.take('heartbeat').at(-1)?.round as number)
    expect(node.reads).toEqual([{ context: 3, index: 1 }])
    expect(node.take('read_response')).toMatchObject([{ context: 3, index: 1 }])
  })

  test('refuses after a pause, before it is confirmed again', () => {
    const node = leader()
    node.now = 10_000
    node.receive(request(5))
    expect(node.take('read_response')).toMatchObject([{ context: 5, index: null }])
  })

  test('that is none any more refuses', () => {
    const node = new ManualNode({ term: 1 })
    node.receive(request(5))
    expect(node.take('read_response')).toMatchObject([{ context: 5, index: null }])
  })

  test('says nothing of reads of followers when it loses its quorum', () => {
    const node = leader()
    node.receive(request(5))
    node.wait(1000)
    expect(node.status.role).not.toBe('leader')
    expect([dropped(node), node.take('read_response')]).toEqual([[], []])
  })
})

test('in a group, a read on any node sees what was acknowledged before it began', () => {
  const cluster = new Cluster({ seed: 5, learners: ['l0'] })
  const leader = cluster.runUntilLed()
  for (let round = 1; round <= 10; round++) {
    cluster.propose(leader, 1)
    cluster.runUntil(() => cluster.status(leader).commit === round + 1, 1_000, 'a commit')
    for (const id of cluster.ids) cluster.read(id)
    cluster.runUntil(() => cluster.reads.length === round * cluster.ids.length, 1_000, 'the reads')
  }
})
