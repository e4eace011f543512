/** Which timers of the pages that were read make the next deliveries. */
import { expect, test } from 'vitest'
import type { TimerPage, TimerRow } from '../../../../src/broker/apply/timer-rows.ts'
import { DueQueues } from '../../../../src/broker/timers/due-queues.ts'

function row(time: number, queue: number, index = 1): TimerRow {
  return { key: { time, index, record: 0 }, place: { topicId: 7, queue, index, position: 0, record: 0 } }
}

function page(rows: readonly TimerRow[], asOf: number): TimerPage {
  return { rows, isComplete: false, asOf }
}

const always = (): boolean => true

test('timers go to their queues in their order, no more of one queue than wanted', () => {
  const due = new DueQueues(2)
  due.add(page([row(1, 4), row(2, 3), row(3, 4), row(4, 4)], 9), always)
  expect(due.queues.map(({ queue, rows }) => [queue, rows.map(({ key }) => key.time)])).toEqual([
    [4, [1, 3]],
    [3, [2]],
  ])
  expect(due.last).toMatchObject({ time: 4 })
})

test('what came after the first page was read is none of it: others may lie before it', () => {
  const due = new DueQueues(10)
  due.add(page([row(1, 0)], 9), () => false)
  due.add(page([row(2, 1), row(3, 2, 10), row(4, 2, 9)], 12), always)
  expect(due.asOf).toBe(9)
  expect(due.queues.map(({ queue, rows }) => [queue, rows.map(({ key }) => key.time)])).toEqual([
    [1, [2]],
    [2, [4]],
  ])
})

test('an empty page leaves the place where the next one begins', () => {
  const due = new DueQueues(10)
  expect([due.last, due.asOf, due.queues]).toEqual([null, 0, []])
  due.add(page([row(5, 0)], 3), () => false)
  due.add(page([], 4), always)
  expect(due.last).toMatchObject({ time: 5 })
  expect(due.asOf).toBe(3)
})
