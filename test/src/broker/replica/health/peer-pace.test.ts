/** How a leader tells quick followers from slow ones. */
import { beforeEach, expect, test } from 'vitest'
import type { Append, AppendResponse } from '../../../../../raft/messages.ts'
import { PeerPace } from '../../../../../src/broker/replica/health/peer-pace.ts'

let pace: PeerPace
let nowMs: number
const now = (): number => nowMs

beforeEach(() => {
  pace = new PeerPace()
  nowMs = 1000
})

function send(prevIndex: number, count: number): void {
  const entries = Array.from({ length: count }, (_, at) => ({
    index: prevIndex + 1 + at,
    term: 1,
    kind: 'normal' as const,
    bytes: 10,
  }))
  const append: Append = { kind: 'append', from: 'a', to: 'b', term: 1, prevIndex, prevTerm: 1, entries, commit: 0 }
  pace.sent(append, now)
}

function acknowledge(matchIndex: number, rejected: AppendResponse['rejected'] = null): void {
  pace.received({ kind: 'append_response', from: 'b', to: 'a', term: 1, matchIndex, rejected }, now)
}

test('a follower that nothing is known of counts as quick', () => {
  expect(pace.isQuick('b', 200, nowMs)).toBe(true)
})

test('the slowest of the last four counts', () => {
  for (const tookMs of [300, 5, 5, 5]) {
    send(nowMs, 1)
    nowMs += tookMs
    acknowledge(nowMs - tookMs + 1)
  }
  expect(pace.isQuick('b', 200, nowMs)).toBe(false)
  send(nowMs, 1)
  acknowledge(nowMs + 1)
  expect(pace.isQuick('b', 200, nowMs)).toBe(true)
})

test('an append that is not acknowledged yet counts as it ages, probes and refusals do not', () => {
  send(5, 0)
  nowMs += 1000
  expect(pace.isQuick('b', 200, nowMs)).toBe(true)
  send(5, 3)
  acknowledge(7)
  acknowledge(8, { index: 5, conflictTerm: null, conflictIndex: 1 } as unknown as AppendResponse['rejected'])
  expect(pace.isQuick('b', 200, nowMs + 200)).toBe(true)
  expect(pace.isQuick('b', 200, nowMs + 201)).toBe(false)
  pace.forget()
  expect(pace.isQuick('b', 200, nowMs + 201)).toBe(true)
})
