/** How long a reader passes over replicas that failed it. */
import { expect, test } from 'vitest'
import { passOverMs, ReplicaFailures } from '../../../src/client/consumer/replica-failures.ts'

const [first, second] = ['n3:30911', 'n4:30911'] as const

test('P8: a replica that kept silent stays passed over when the group gets another leader', () => {
  const failures = new ReplicaFailures()
  failures.note(first, 'UNAVAILABLE', 1000)
  failures.note(second, 'DEADLINE_EXCEEDED', 1000)
  failures.onLeaderChanged('n1:30911')
  failures.onLeaderChanged(null)
  for (const address of [first, second]) {
    expect(failures.usable(address, 1500)).toBe(false)
    expect(failures.doubtful(address, 1500 + passOverMs.max)).toBe(true)
  }
})

test('a replica that refused, and the new leader, are asked at once when there is a leader', () => {
  const failures = new ReplicaFailures()
  failures.note(first, 'NOT_LEADER', 1000)
  failures.note(second, 'UNAVAILABLE', 1000)
  failures.onLeaderChanged(second)
  for (const address of [first, second]) {
    expect(failures.usable(address, 1000)).toBe(true)
    expect(failures.doubtful(address, 1000)).toBe(false)
  }
})

test('each failure in a row is passed over for twice as long, up to a limit', () => {
  const failures = new ReplicaFailures()
  const waits = Array.from({ length: 8 }, () => {
    failures.note(first, 'UNAVAILABLE', 0)
    let waitMs = 0
    while (!failures.usable(first, waitMs)) waitMs += 500
    return waitMs
  })
  expect(waits).toEqual([1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 15_000])
  failures.forget(first)
  failures.note(first, 'UNAVAILABLE', 0)
  expect(failures.usable(first, 1000)).toBe(true)
})
