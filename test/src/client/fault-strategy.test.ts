/** Which broker groups are left alone, and how they come back. */
import { expect, test } from 'vitest'
import { FaultStrategy, unavailableMs, updateByProbe, updateFaultItem } from '../../../src/client/fault-strategy.ts'

test('the 5.x table: from these latencies on a group is away for that long', () => {
  const pairs = [0, 49, 50, 549, 550, 1799, 1800, 3000, 5000, 14_999, 15_000, 60_000].map((latencyMs) => [
    latencyMs,
    unavailableMs('5.x', latencyMs),
  ])
  expect(pairs).toEqual([
    [0, 0],
    [49, 0],
    [50, 0],
    [549, 0],
    [550, 2_000],
    [1799, 2_000],
    [1800, 5_000],
    [3000, 6_000],
    [5000, 10_000],
    [14_999, 10_000],
    [15_000, 30_000],
    [60_000, 30_000],
  ])
})

test('the 4.9 table is there as an option', () => {
  expect([550, 1000, 2000, 3000, 15_000].map((latencyMs) => unavailableMs('4.9', latencyMs))).toEqual([
    30_000, 60_000, 120_000, 180_000, 600_000,
  ])
})

test('isolation counts as 10 s of latency (5.x), whatever the attempt took', () => {
  const item = updateFaultItem(
    undefined,
    { latencyMs: 3, isolation: true, reachable: false },
    { table: '5.x', nowMs: 1_000, detector: true },
  )
  expect(item).toEqual({ latencyMs: 3, availableFromMs: 11_000, reachable: false, suspended: true })
})

test('the time to come back only ever moves later', () => {
  const options = { table: '5.x', detector: true } as const
  const slow = updateFaultItem(
    undefined,
    { latencyMs: 6_000, isolation: false, reachable: true },
    { ...options, nowMs: 0 },
  )
  const quick = updateFaultItem(slow, { latencyMs: 600, isolation: false, reachable: true }, { ...options, nowMs: 100 })
  expect(quick.availableFromMs).toBe(10_000)
})

test('a slow group comes back only after a quick probe, and not before its time', () => {
  const slow = updateFaultItem(
    undefined,
    { latencyMs: 800, isolation: false, reachable: true },
    { table: '5.x', nowMs: 0, detector: true },
  )
  expect(updateByProbe(slow, { latencyMs: 810, reachable: true }, '5.x').suspended).toBe(true)
  expect(updateByProbe(slow, { latencyMs: 2, reachable: false }, '5.x').suspended).toBe(true)
  const healed = updateByProbe(slow, { latencyMs: 2, reachable: true }, '5.x')
  expect(healed).toMatchObject({ suspended: false, reachable: true, availableFromMs: 2_000 })
})

const groups = [{ group: 'a' }, { group: 'b' }, { group: 'c' }]

function strategy(): FaultStrategy {
  return new FaultStrategy({ enabled: true, table: '5.x', detector: true })
}

test('the filters in order: available and not the last, reachable and not the last, any', () => {
  const faults = strategy()
  const names = (last: string | null, nowMs: number): string =>
    faults
      .filter(groups, last, nowMs)
      .map((entry) => entry.group)
      .join('')
  expect(names(null, 0)).toBe('abc')
  expect(names('a', 0)).toBe('bc')
  faults.updateFaultItem('b', { latencyMs: 800, isolation: false, reachable: true }, 0)
  expect(names('a', 0)).toBe('c')
  faults.updateFaultItem('c', { latencyMs: 1, isolation: true, reachable: false }, 0)
  expect(names('a', 0)).toBe('b')
  faults.updateFaultItem('b', { latencyMs: 1, isolation: true, reachable: false }, 0)
  expect(names('a', 0)).toBe('abc')
})

test('a new leader ends what was measured of the old one', () => {
  const faults = strategy()
  faults.updateFaultItem('a', { latencyMs: 1, isolation: true, reachable: false }, 0)
  expect(faults.isAvailable('a', 1)).toBe(false)
  expect(faults.groupsToProbe()).toEqual(['a'])
  faults.forget('a')
  expect(faults.isAvailable('a', 1)).toBe(true)
})

test('switched off, nothing is set aside', () => {
  const faults = new FaultStrategy({ enabled: false, table: '5.x', detector: true })
  faults.updateFaultItem('a', { latencyMs: 1, isolation: true, reachable: false }, 0)
  expect(faults.filter(groups, null, 0)).toHaveLength(3)
})
