/** What a log lacks, told from what hard state, state machine and records say. */
import { expect, test } from 'vitest'
import { findLostFront } from '../../../../../src/broker/replica/repair/damage.ts'

const inForce = { log: 0, state: 0 }
const state = (trimmedTo: number): Parameters<typeof findLostFront>[1] => ({
  appliedIndex: 900,
  trimmed: { firstIndex: trimmedTo, index: trimmedTo + 10 },
})

test('P6: a log may begin before what was trimmed, never behind it', () => {
  expect(findLostFront(1, state(0), inForce)).toBeNull()
  expect(findLostFront(1, state(300), inForce)).toBeNull()
  expect(findLostFront(300, state(300), inForce)).toBeNull()
  expect(findLostFront(301, state(300), inForce)).toContain('begins at 301, not at 300')
  expect(findLostFront(2, state(0), inForce)).toContain('begins at 2, not at 1')
})

test('P6: a copied log may begin where its source began, although its state does not know of that trim yet', () => {
  const copied = { log: 1, state: 1, logFirstIndex: 250 }
  expect(findLostFront(250, state(0), copied)).toBeNull()
  expect(findLostFront(251, state(0), copied)).not.toBeNull()
  expect(findLostFront(300, state(300), copied)).toBeNull()
})

test('an empty state says nothing about the log: it is asked again once it was copied', () => {
  expect(findLostFront(300, { appliedIndex: 0, trimmed: { firstIndex: 0, index: 0 } }, inForce)).toBeNull()
})
