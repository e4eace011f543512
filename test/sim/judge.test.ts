/** Rules of the judge that are finer than they look: a judge that is wrong costs more trust than none. */
import { expect, test } from 'vitest'
import { heldByLeaderOf } from './judge.ts'

test('R3: a leader of a later term must hold everything that was committed before its term', () => {
  const committed = [1, 1, 4, 4].map((knownInTerm) => ({ knownInTerm }))
  expect(heldByLeaderOf(5, committed)).toBe(4)
  expect(heldByLeaderOf(9, committed)).toBe(4)
})

test('R3: a late winner of an old term need not hold what a newer term has committed', () => {
  // n1 stands in term 6 with 100 entries. Its last vote is on the way when n2 wins term 7 and commits up to 107. The
  // vote arrives: n1 leads term 6 until it hears of term 7, and can commit nothing.
  const old = Array.from({ length: 100 }, () => ({ knownInTerm: 5 }))
  const newer = Array.from({ length: 7 }, () => ({ knownInTerm: 7 }))
  expect(heldByLeaderOf(6, [...old, ...newer])).toBe(100)
  expect(heldByLeaderOf(8, [...old, ...newer])).toBe(107)
})

test('R3: with nothing committed before its term a leader may begin empty', () => {
  expect(heldByLeaderOf(1, [])).toBe(0)
  expect(heldByLeaderOf(2, [{ knownInTerm: 2 }])).toBe(0)
})
