import { expect, test } from 'vitest'
import { type ClockView, judgeClocks, nextStamp } from '../../../../src/broker/replica/log-time.ts'

const base = 1_700_000_000_000

function view(own: number, peers: readonly number[]): ClockView {
  return { ownWallMs: base + own, nowMs: 1000, samples: peers.map((peer) => ({ wallMs: base + peer, atMs: 1000 })) }
}

test('the median of three clocks is the stamp', () => {
  expect(judgeClocks(view(30, [10, 20]))).toEqual({ wallMs: base + 20, ownOffMs: 10, ownIsOff: false })
})

test('one clock that is years off moves nothing', () => {
  const year = 365 * 86_400_000
  expect(judgeClocks(view(0, [5, year])).wallMs).toBe(base + 5)
  expect(judgeClocks(view(0, [5, -year])).wallMs).toBe(base)
})

test('an own clock that is off by more than 5 s is reported and not used', () => {
  expect(judgeClocks(view(10_000, [100, 300]))).toEqual({ wallMs: base + 200 + 100, ownOffMs: 9700, ownIsOff: true })
  expect(judgeClocks(view(5300, [100, 300])).ownIsOff).toBe(false)
})

test('of two clocks that disagree the own one counts: no majority says that it is wrong', () => {
  expect(judgeClocks(view(0, [3_600_000]))).toEqual({ wallMs: base, ownOffMs: 0, ownIsOff: false })
})

test('a sample of a peer goes on with the own monotonic clock', () => {
  const samples = [
    { wallMs: base, atMs: 1000 },
    { wallMs: base, atMs: 61_000 },
  ]
  expect(judgeClocks({ ownWallMs: base + 500_000, nowMs: 61_000, samples }).wallMs).toBe(base + 60_000)
})

test('a stamp is whole and never before the entry in front of it', () => {
  const judgement = { wallMs: base + 0.7, ownOffMs: 0, ownIsOff: false }
  expect(nextStamp(0, judgement)).toBe(base)
  expect(nextStamp(base + 99, judgement)).toBe(base + 99)
})
