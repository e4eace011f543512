/** Every strategy gives each queue to one member; what else they promise. */
import { describe, expect, test } from 'vitest'
import { assignBy } from '../../../../src/broker/group/strategies.ts'

const queues = Array.from({ length: 24 }, (_, number) => ({ topicId: 1 + (number % 3), queue: Math.floor(number / 3) }))
const nobody = new Map<string, never[]>()
const strategies = ['averagely', 'by_circle', 'consistent_hash'] as const
type Strategy = (typeof strategies)[number]

function assign(strategy: Strategy, members: readonly string[], order = queues): Map<string, string[]> {
  const assigned = assignBy(strategy, members, order, nobody)
  return new Map(
    [...assigned].map(([member, mine]) => [member, mine.map(({ topicId, queue }) => `${topicId}/${queue}`)]),
  )
}

describe.each(strategies)('%s', (strategy) => {
  test.each([1, 2, 5, 24, 30])('gives each queue to one of %i members, and every member is named', (count) => {
    const members = Array.from({ length: count }, (_, number) => `m${number}`)
    const assigned = assign(strategy, members)
    expect([...assigned.keys()].sort()).toEqual([...members].sort())
    expect([...assigned.values()].flat().sort()).toEqual(
      queues.map(({ topicId, queue }) => `${topicId}/${queue}`).sort(),
    )
  })

  test('does not depend on the order of members and queues', () => {
    const forth = assign(strategy, ['a', 'b', 'c'])
    const back = assign(strategy, ['c', 'b', 'a'], [...queues].reverse())
    expect(new Map([...back].sort())).toEqual(new Map([...forth].sort()))
  })
})

test('by_circle deals the queues out in turn', () => {
  expect(assign('by_circle', ['b', 'a'], queues.slice(0, 6))).toEqual(
    new Map([
      ['a', ['1/0', '2/0', '3/0']],
      ['b', ['1/1', '2/1', '3/1']],
    ]),
  )
})

test('consistent_hash moves only what a member that comes gets, and what one that goes had', () => {
  const before = assign('consistent_hash', ['a', 'b', 'c'])
  const after = assign('consistent_hash', ['a', 'b', 'c', 'd'])
  for (const member of ['a', 'b', 'c']) expect(before.get(member)).toEqual(expect.arrayContaining(after.get(member)!))
  expect(after.get('d')!.length).toBeGreaterThan(0)
  expect(
    assign(
      'consistent_hash',
      ['a', 'b', 'c', 'd'].filter((member) => member !== 'd'),
    ),
  ).toEqual(before)
})

test('consistent_hash is nearly even where queues are many', () => {
  const many = Array.from({ length: 4_000 }, (_, queue) => ({ topicId: 7, queue }))
  const members = Array.from({ length: 8 }, (_, number) => `member-${number}`)
  for (const mine of assign('consistent_hash', members, many).values()) {
    expect(mine.length).toBeGreaterThan(250)
    expect(mine.length).toBeLessThan(900)
  }
})
