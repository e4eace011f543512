/** When late timers say that the event loop is in distress, and when that is over. */
import { expect, test } from 'vitest'
import { LoopPace } from '../../../../../src/broker/replica/health/loop-pace.ts'

const stallMs = 250

function stalls(pace: LoopPace, fromMs: number, ...lengthsMs: readonly number[]): number {
  let nowMs = fromMs
  for (const lengthMs of lengthsMs) {
    pace.fired(nowMs, nowMs + lengthMs)
    nowMs += lengthMs + 250
  }
  return nowMs
}

test('a single stall is no distress, however long', () => {
  const pace = new LoopPace(stallMs)
  expect(pace.judge(stalls(pace, 1000, 30_000))).toBeNull()
})

test('timers that are a little late are none, however many', () => {
  const pace = new LoopPace(stallMs)
  expect(pace.judge(stalls(pace, 1000, ...Array(30).fill(250)))).toBeNull()
})

test('repeated stalls are distress', () => {
  const pace = new LoopPace(stallMs)
  const nowMs = stalls(pace, 1000, 400, 400)
  expect(pace.judge(nowMs)).toBeNull()
  expect(pace.judge(stalls(pace, nowMs, 400))).toBe('stalled 3 times for 1200 ms in the last 10 s')
})

test('stalls that take little of the time are none', () => {
  const pace = new LoopPace(stallMs)
  expect(pace.judge(stalls(pace, 1000, 300, 300, 300))).toBeNull()
})

test('distress ends after a calm period', () => {
  const pace = new LoopPace(stallMs)
  const nowMs = stalls(pace, 1000, 500, 500, 500)
  expect(pace.judge(nowMs)).not.toBeNull()
  expect(pace.judge(nowMs + 28_000)).not.toBeNull()
  expect(pace.judge(nowMs + 30_000)).toBeNull()
})
