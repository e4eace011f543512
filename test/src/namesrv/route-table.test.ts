import { expect, test } from 'vitest'
import { type RegisterOutcome, RouteTable } from '../../../src/namesrv/route-table.ts'
import type { Registration, TopicInfo } from '../../../src/rpc/methods.ts'

function registration(fields: Partial<Registration> = {}): Registration {
  const node = fields.node ?? 'n0'
  return {
    cluster: 'c',
    group: 'g',
    node,
    address: `127.0.0.1:${3000 + Number(node.slice(1))}`,
    incarnation: 'i1',
    term: 1,
    role: 'follower',
    topics: [],
    topicsVersion: 0,
    ...fields,
  }
}

function topic(name: string, topicId: number, queues = 4): TopicInfo {
  return { topicId, config: { topic: name, readQueues: queues, writeQueues: queues, permission: 6 } }
}

function accepted(outcome: RegisterOutcome): Extract<RegisterOutcome, { readonly kind: 'accepted' }> {
  if (outcome.kind !== 'accepted') throw new Error(`refused: ${outcome.message}`)
  return outcome
}

function leaderOf(table: RouteTable): string {
  const group = table.route([]).groups[0]
  return group ? `${group.leader}@${group.term}` : 'gone'
}

test('N1: an old leader that comes back never hides the new one', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n0', role: 'leader', term: 3 }), 0)
  table.register(2, registration({ node: 'n1', role: 'leader', term: 4 }), 0)
  expect(leaderOf(table)).toBe('n1@4')

  const stale = accepted(table.register(1, registration({ node: 'n0', role: 'leader', term: 3 }), 1))

  expect(stale.newerLeader).toEqual({ node: 'n1', address: '127.0.0.1:3001', term: 4 })
  expect(stale.change.brokers).toBe(false)
  expect(leaderOf(table)).toBe('n1@4')
  expect(table.route([]).groups[0]?.nodes.map((node) => node.node)).toEqual(['n0', 'n1'])
})

test('N1: the term of a leader that is gone is remembered, even when the whole group is', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n1', role: 'leader', term: 4 }), 0)
  table.removeStream(1)
  expect(leaderOf(table)).toBe('gone')

  table.register(2, registration({ node: 'n0', role: 'leader', term: 3 }), 1)
  expect(leaderOf(table)).toBe('@0')
  table.register(3, registration({ node: 'n2', role: 'leader', term: 4 }), 1)
  expect(leaderOf(table)).toBe('@0')
  table.register(4, registration({ node: 'n1', role: 'leader', term: 4 }), 1)
  expect(leaderOf(table)).toBe('n1@4')
  table.register(2, registration({ node: 'n0', role: 'leader', term: 5 }), 2)
  expect(leaderOf(table)).toBe('n0@5')
})

test('a leader that steps down leaves the group without one', () => {
  const table = new RouteTable()
  table.register(1, registration({ role: 'leader', term: 2 }), 0)
  const outcome = accepted(table.register(1, registration({ role: 'follower', term: 3 }), 1))
  expect(outcome.change.brokers).toBe(true)
  expect(leaderOf(table)).toBe('@0')
})

test('another incarnation is refused while the group lives, and takes over when it is gone', () => {
  const table = new RouteTable()
  table.register(1, registration({ role: 'leader', term: 9 }), 0)
  const other = registration({ node: 'n1', incarnation: 'i2', role: 'leader', term: 1 })
  expect(table.register(2, other, 0)).toMatchObject({ kind: 'refused', code: 'WRONG_CLUSTER' })
  expect(table.register(2, { ...other, cluster: 'd' }, 0)).toMatchObject({ kind: 'refused', code: 'WRONG_CLUSTER' })
  expect(leaderOf(table)).toBe('n0@9')

  table.removeStream(1)
  accepted(table.register(2, other, 1))
  expect(leaderOf(table)).toBe('n1@1')

  table.removeStream(2)
  table.register(3, registration({ role: 'leader', term: 8 }), 2)
  expect(leaderOf(table)).toBe('@0')
})

test('a node is taken over by a later stream with no smaller term, and the older stream is told', () => {
  const table = new RouteTable()
  table.register(5, registration({ term: 3 }), 0)
  expect(table.register(6, registration({ term: 2, address: 'h:1' }), 0).kind).toBe('refused')
  expect(accepted(table.register(6, registration({ term: 3, address: 'h:1' }), 0)).evicted).toEqual([5])
  expect(table.register(5, registration({ term: 9 }), 0).kind).toBe('refused')

  expect(table.removeStream(5).brokers).toBe(false)
  expect(table.route([]).groups[0]?.nodes).toEqual([{ node: 'n0', address: 'h:1' }])
})

test('an address belongs to one node: a later one of the group may take it, another group may not', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n0', address: 'h:1', term: 2 }), 0)
  expect(table.register(2, registration({ node: 'n1', address: 'h:1', term: 1 }), 0).kind).toBe('refused')
  expect(table.register(3, registration({ group: 'x', address: 'h:1', term: 9 }), 0).kind).toBe('refused')
  expect(accepted(table.register(4, registration({ node: 'n1', address: 'h:1', term: 2 }), 0)).evicted).toEqual([1])
  expect(table.route([]).groups[0]?.nodes).toEqual([{ node: 'n1', address: 'h:1' }])
})

test('an address is free again when its broker has left or moved', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n0', address: 'h:1' }), 0)
  table.removeStream(1)
  table.register(2, registration({ node: 'n0', address: 'h:2' }), 0)
  accepted(table.register(3, registration({ group: 'x', address: 'h:1' }), 0))
  table.register(2, registration({ node: 'n0', address: 'h:3' }), 0)
  accepted(table.register(4, registration({ group: 'y', address: 'h:2' }), 0))
})

test('a stream registers one node only', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n0' }), 0)
  expect(table.register(1, registration({ node: 'n1' }), 0).kind).toBe('refused')
})

test('silent brokers are removed by the time that is passed in, and their streams are named', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n0', role: 'leader' }), 0)
  table.register(2, registration({ node: 'n1' }), 100)
  expect(table.expire(120_000, 120_000).streams).toEqual([])
  const expired = table.expire(120_001, 120_000)
  expect(expired.streams).toEqual([1])
  expect(expired.change.brokers).toBe(true)
  expect(leaderOf(table)).toBe('@0')
})

test('topics come from the leader, from the best informed follower without one, and never go back', () => {
  const table = new RouteTable()
  table.register(1, registration({ node: 'n0', topics: [topic('a', 5)], topicsVersion: 5 }), 0)
  expect(table.route(['a']).topics).toHaveLength(1)
  const both = { topics: [topic('a', 5), topic('b', 8)], topicsVersion: 8 }
  const change = accepted(table.register(2, registration({ node: 'n1', role: 'leader', ...both }), 0)).change
  expect([...change.topics]).toEqual(['b'])

  table.removeStream(2)
  table.register(1, registration({ node: 'n0', topics: [topic('a', 5)], topicsVersion: 5 }), 1)
  expect(table.route(['a', 'b']).topics.map((one) => one.topic)).toEqual(['a', 'b'])

  const deleted = registration({ node: 'n0', role: 'leader', term: 2, topics: [topic('b', 8, 6)], topicsVersion: 9 })
  expect([...accepted(table.register(1, deleted, 2)).change.topics].sort()).toEqual(['a', 'b'])
  expect(table.route(['a', 'b', 'c', 'b']).topics).toEqual([
    { topic: 'b', queues: [{ group: 'g', topicId: 8, readQueues: 6, writeQueues: 6, permission: 6 }] },
  ])
})

test('the topics of a group go with its last broker', () => {
  const table = new RouteTable()
  table.register(1, registration({ topics: [topic('a', 5)], topicsVersion: 5 }), 0)
  const change = table.removeStream(1)
  expect([...change.topics]).toEqual(['a'])
  expect(table.route(['a'])).toMatchObject({ groups: [], topics: [] })
})

test('the version grows with what readers can see, and only with that', () => {
  const table = new RouteTable()
  table.register(1, registration({ role: 'leader', term: 1 }), 0)
  const { version } = table
  table.register(1, registration({ role: 'leader', term: 1 }), 30_000)
  expect(table.version).toBe(version)
  table.register(1, registration({ role: 'leader', term: 2 }), 60_000)
  expect(table.version).toBe(version + 1)
})

test('one topic on two groups is one route with the queues of both', () => {
  const table = new RouteTable()
  table.register(1, registration({ topics: [topic('a', 5)], topicsVersion: 5 }), 0)
  table.register(2, registration({ group: 'h', address: 'h:9', topics: [topic('a', 7)], topicsVersion: 7 }), 0)
  expect(table.route(['a']).topics[0]?.queues.map((queues) => queues.group)).toEqual(['g', 'h'])
})

test('a group that nobody remembers makes room when the table is full', () => {
  const table = new RouteTable()
  for (let stream = 1; stream <= 1000; stream++)
    table.register(stream, registration({ group: `g${stream}`, address: `h:${stream}` }), 0)
  const late = registration({ group: 'late', address: 'h:9999' })
  expect(table.register(5000, late, 0)).toMatchObject({ kind: 'refused', code: 'OVERLOADED' })
  table.removeStream(7)
  expect(table.register(5000, late, 0).kind).toBe('accepted')
})
