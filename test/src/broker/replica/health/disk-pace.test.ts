/** When flushes of the log say that the disk is in distress, and when that is over. */
import { beforeEach, expect, test } from 'vitest'
import { DiskPace } from '../../../../../src/broker/replica/health/disk-pace.ts'

const slowMs = 200
let pace: DiskPace
let nowMs: number

beforeEach(() => {
  pace = new DiskPace(slowMs)
  nowMs = 5000
})

function flush(tookMs: number, pauseMs = 0): number | null {
  pace.began(nowMs)
  nowMs += tookMs
  const slow = pace.ended(nowMs)
  nowMs += pauseMs
  return slow
}

function flushes(count: number, tookMs: number, pauseMs = 0): void {
  for (let number = 0; number < count; number++) flush(tookMs, pauseMs)
}

test('only a flush that takes longer than the limit is slow', () => {
  expect([flush(200), flush(201), flush(1)]).toEqual([null, 201, null])
})

test('a row of slow flushes is distress once it lasts, and no sooner', () => {
  flushes(4, 600)
  expect(pace.judge(nowMs)).toBeNull()
  flush(600)
  expect(pace.judge(nowMs)).toBe('5 flushes in a row took more than 200 ms')
})

test('a hiccup of slow flushes is none', () => {
  flushes(5, 300)
  expect(pace.judge(nowMs)).toBeNull()
})

test('a quick flush between them ends the row', () => {
  for (let number = 0; number < 20; number++) {
    flushes(4, 500)
    flushes(1, 1, 3000)
    expect(pace.judge(nowMs)).toBeNull()
  }
})

test('slow flushes far apart are none: nobody waits for them most of the time', () => {
  for (let number = 0; number < 20; number++) {
    flush(400, 5000)
    expect(pace.judge(nowMs)).toBeNull()
  }
})

test('half of the time in slow flushes is distress, also with quick ones in between', () => {
  for (let number = 0; number < 8; number++) {
    flush(800)
    flushes(40, 10)
  }
  expect(pace.judge(nowMs)).toMatch(/^\d+ % of the last 10 s were spent in slow flushes$/)
})

test('a flush that hangs is distress before it ends', () => {
  pace.began(nowMs)
  expect(pace.judge(nowMs + 4999)).toBeNull()
  expect(pace.judge(nowMs + 5000)).not.toBeNull()
  expect(pace.judge(nowMs + 600_000)).not.toBeNull()
})

test('a disk that rests is well, and so is one flush that comes after', () => {
  flushes(10, 20)
  nowMs += 3_600_000
  expect(pace.judge(nowMs)).toBeNull()
  flush(1000)
  expect(pace.judge(nowMs)).toBeNull()
})

test('distress ends after a calm period, not with the first quick flush', () => {
  flushes(5, 600)
  expect(pace.judge(nowMs)).not.toBeNull()
  const endMs = nowMs
  while (nowMs < endMs + 25_000) flushes(1, 10, 90)
  expect(pace.judge(nowMs)).not.toBeNull()
  // A second one begins the count anew; one alone does not.
  flush(300)
  while (nowMs < endMs + 30_500) flushes(1, 10, 90)
  expect(pace.judge(nowMs)).toBeNull()
})

test('slow flushes now and then keep the distress up', () => {
  flushes(5, 600)
  for (let number = 0; number < 20; number++) {
    expect(pace.judge(nowMs)).not.toBeNull()
    flushes(1, 300, 9000)
  }
})
