import { expect, test } from 'vitest'
import type { Half } from '../../../../src/broker/apply/halves.ts'
import { byStoredBatch, dueChecks, dueChecksMax } from '../../../../src/broker/transactions/due-checks.ts'

const settings = { timeOutMs: 6000, checkMax: 15 }

function half(index: number, fields: Partial<Half> = {}): Half {
  const place = { atIndex: index, atPosition: 0, atRecord: 0 }
  const state = { checks: 0, nextCheck: 0, storeTime: 1000, producerGroup: 'pg' }
  return { index, record: 0, topicId: 1, queue: 0, ...place, ...state, ...fields }
}

function indexes(halves: readonly Half[]): readonly number[] {
  return halves.map(({ index }) => index)
}

test('a transaction is asked about from its time-out on, and not before its next question', () => {
  const pending = [half(1), half(2, { storeTime: 1001 }), half(3, { nextCheck: 7001 }), half(4, { nextCheck: 7000 })]
  expect(indexes(dueChecks(pending, 6999, settings).ask)).toEqual([])
  expect(indexes(dueChecks(pending, 7000, settings).ask)).toEqual([1, 4])
  expect(indexes(dueChecks(pending, 7001, settings).ask)).toEqual([1, 2, 3, 4])
})

test('a transaction is given up when its producers had the whole interval for the last question', () => {
  const last = half(1, { checks: 15, nextCheck: 50_000 })
  expect(dueChecks([last], 49_999, settings)).toEqual({ ask: [], giveUp: [] })
  expect(dueChecks([last], 50_000, settings)).toEqual({ ask: [], giveUp: [last] })
  expect(dueChecks([half(2, { checks: 14, nextCheck: 50_000 })], 50_000, settings).giveUp).toEqual([])
})

test('one round is bounded, the oldest come first', () => {
  const pending = Array.from({ length: dueChecksMax + 1 }, (_, index) => half(index + 1))
  const { ask } = dueChecks(pending, 10_000, settings)
  expect(ask).toHaveLength(dueChecksMax)
  expect(ask[0]?.index).toBe(1)
})

test('half messages of one stored batch are asked about together, those of another producer group apart', () => {
  const [a, b, c, d] = [half(1), half(2), half(3), half(4)]
  const together = [a, { ...b, atIndex: 1 }, { ...c, atIndex: 9 }, { ...d, atIndex: 1, producerGroup: 'other' }]
  expect(byStoredBatch(together).map(indexes)).toEqual([[1, 2], [3], [4]])
})
