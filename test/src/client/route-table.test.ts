/** What a client believes of routes, whoever told it. */
import { expect, test } from 'vitest'
import { RouteTable } from '../../../src/client/route-table.ts'
import { routeOf } from './scripted-transport.ts'

test('N1: within an incarnation a smaller term never replaces a larger one', () => {
  const table = new RouteTable()
  table.merge(routeOf({ a: { term: 5, leader: 'a-n1' } }))
  expect(table.merge(routeOf({ a: { term: 4, leader: 'a-n0' } }))).toEqual([])
  expect(table.group('a')).toMatchObject({ term: 5, leader: { node: 'a-n1' } })
})

test('N1: a namesrv that knows no leader does not take the known one away', () => {
  const table = new RouteTable()
  table.merge(routeOf({ a: { term: 5, leader: 'a-n1' } }))
  table.merge(routeOf({ a: { term: 0, leader: '' } }))
  table.merge(routeOf({ a: { term: 5, leader: '' } }))
  expect(table.group('a')).toMatchObject({ term: 5, leader: { node: 'a-n1' } })
})

test('N1: coming back to an older incarnation does not go back in its term', () => {
  const table = new RouteTable()
  const other = routeOf({ a: { term: 1, leader: 'a-n2' } })
  table.merge(routeOf({ a: { term: 5, leader: 'a-n1' } }))
  table.merge({ ...other, groups: other.groups.map((group) => ({ ...group, incarnation: 'new' })) })
  expect(table.group('a')).toMatchObject({ term: 1, incarnation: 'new', leader: { node: 'a-n2' } })
  table.merge(routeOf({ a: { term: 3, leader: 'a-n0' } }))
  expect(table.group('a')).toMatchObject({ term: 5, leader: { node: 'a-n1' } })
})

test('a hint with a higher term is believed, one with a smaller term or another leader of the same term is not', () => {
  const table = new RouteTable()
  table.merge(routeOf({ a: { term: 5, leader: 'a-n1' } }))
  expect(table.learnLeader('a', 4, { node: 'a-n0', address: 'a-n0:1' })).toBeNull()
  expect(table.learnLeader('a', 5, { node: 'a-n0', address: 'a-n0:1' })).toBeNull()
  expect(table.learnLeader('a', 6, { node: 'a-n2', address: 'a-n2:1' })).toMatchObject({
    from: { node: 'a-n1' },
    to: { node: 'a-n2' },
    term: 6,
  })
})

test('a namesrv that came back empty takes nothing away', () => {
  const table = new RouteTable()
  table.merge(routeOf({ a: {}, b: {} }, { T: { a: 2, b: 2 } }))
  table.merge(routeOf({}))
  table.merge(routeOf({ b: {} }, { T: { b: 2 } }))
  expect(table.groups().map((route) => route.group)).toEqual(['a', 'b'])
  expect(table.queues('T', 'write')).toHaveLength(4)
})

test('a group that is listed without the topic has lost it', () => {
  const table = new RouteTable()
  table.merge(routeOf({ a: {}, b: {} }, { T: { a: 2, b: 2 } }))
  table.merge(routeOf({ a: {}, b: {} }, { T: { b: 2 } }))
  expect(table.queues('T', 'write').map((queue) => queue.group)).toEqual(['b', 'b'])
})

test('queues alternate between the groups and respect the permission', () => {
  const table = new RouteTable()
  table.merge(routeOf({ a: {}, b: {} }, { T: { a: 2, b: 3 } }))
  expect(table.queues('T', 'write').map((queue) => `${queue.group}${queue.queue}`)).toEqual([
    'a0',
    'b0',
    'a1',
    'b1',
    'b2',
  ])
  const readOnly = routeOf({ a: {} }, { U: { a: 2 } })
  table.merge({
    ...readOnly,
    topics: readOnly.topics.map((topic) => ({
      ...topic,
      queues: topic.queues.map((queue) => ({ ...queue, permission: 4 })),
    })),
  })
  expect(table.queues('U', 'write')).toEqual([])
  expect(table.queues('U', 'read')).toHaveLength(2)
})
