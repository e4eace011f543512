import { expect, test } from 'vitest'
import { assignQueues, type Queue } from '../../../../src/broker/group/assign.ts'

function queues(count: number, topicId = 1): Queue[] {
  return Array.from({ length: count }, (_, queue) => ({ topicId, queue }))
}

function counts(assignment: ReadonlyMap<string, readonly Queue[]>): number[] {
  return [...assignment.values()].map((mine) => mine.length)
}

const nobody = new Map<string, readonly Queue[]>()

test('every queue has exactly one owner and the shares differ by at most one', () => {
  for (let members = 1; members <= 9; members++)
    for (let count = 0; count <= 20; count++) {
      const names = Array.from({ length: members }, (_, number) => `m${number}`)
      const assignment = assignQueues(names, queues(count), nobody)
      const owned = [...assignment.values()].flat().map(({ queue }) => queue)
      expect(owned.sort((a, b) => a - b)).toEqual(queues(count).map(({ queue }) => queue))
      expect([...assignment.keys()]).toEqual(names)
      expect(Math.max(...counts(assignment)) - Math.min(...counts(assignment))).toBeLessThanOrEqual(1)
    }
})

test('the order of members and queues does not matter', () => {
  const all = [...queues(5, 2), ...queues(4, 1)]
  expect(assignQueues(['b', 'a', 'c'], all, nobody)).toEqual(assignQueues(['c', 'b', 'a', 'b'], all.reverse(), nobody))
})

test('a balanced assignment stays as it is', () => {
  const before = assignQueues(['a', 'b', 'c'], queues(8), nobody)
  expect(assignQueues(['a', 'b', 'c'], queues(8), before)).toEqual(before)
})

test('the larger share stays with the member that has it, whatever its name', () => {
  const before = new Map([
    ['a', queues(2)],
    ['b', queues(5).slice(2)],
  ])
  expect(assignQueues(['a', 'b'], queues(5), before)).toEqual(before)
})

test('a member that joins takes only what makes the shares even; one that leaves gives only its own', () => {
  const two = assignQueues(['a', 'b'], queues(8), nobody)
  const three = assignQueues(['a', 'b', 'c'], queues(8), two)
  expect(counts(three)).toEqual([3, 3, 2])
  for (const member of ['a', 'b'])
    for (const queue of three.get(member) ?? []) expect(two.get(member)).toContainEqual(queue)

  const left = assignQueues(['a', 'c'], queues(8), three)
  for (const member of ['a', 'c'])
    for (const queue of three.get(member) ?? []) expect(left.get(member)).toContainEqual(queue)
  expect(counts(left)).toEqual([4, 4])
})

test('queues that are gone, or that two members claim, have one owner or none', () => {
  const before = new Map([
    ['a', queues(4)],
    ['b', queues(4)],
  ])
  const assignment = assignQueues(['a', 'b'], queues(2), before)
  expect(counts(assignment)).toEqual([1, 1])
})

test('more members than queues leaves some without', () => {
  expect(counts(assignQueues(['a', 'b', 'c'], queues(1), nobody))).toEqual([1, 0, 0])
})
