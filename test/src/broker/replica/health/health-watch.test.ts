/** Distress is told once, when it begins and when it is over. */
import { expect, test } from 'vitest'
import { HealthWatch } from '../../../../../src/broker/replica/health/health-watch.ts'
import { ManualClock } from '../../../../support/manual-clock.ts'

function open(): { readonly clock: ManualClock; readonly watch: HealthWatch; readonly told: string[] } {
  const clock = new ManualClock()
  const told: string[] = []
  const watch = new HealthWatch({
    clock,
    slowFlushMs: 200,
    stallMs: 250,
    slowFlush: (tookMs) => told.push(`slow ${tookMs}`),
    changed: (what, why) => told.push(`${what} ${why === null ? 'over' : 'began'}`),
  })
  watch.start()
  return { clock, watch, told }
}

test('a flush that hangs is told of while it hangs, and its end after the calm period', async () => {
  const { clock, watch, told } = open()
  watch.flushBegan()
  await clock.advance(10_000)
  expect(told).toEqual(['slow_disk began'])
  watch.flushEnded()
  await clock.advance(34_000)
  expect(told).toEqual(['slow_disk began', 'slow 10000'])
  await clock.advance(2000)
  expect(told.at(-1)).toBe('slow_disk over')
  watch.stop()
  expect(clock.timerCount).toBe(0)
})

test('a process that is held up again and again is told of, one that slept once is not', async () => {
  const { clock, watch, told } = open()
  await clock.sleepThrough(60_000)
  await clock.advance(20_000)
  expect(told).toEqual([])
  for (let stall = 0; stall < 3; stall++) {
    await clock.sleepThrough(1000)
    await clock.advance(500)
  }
  expect(told).toEqual(['busy began'])
  await clock.advance(45_000)
  expect(told).toEqual(['busy began', 'busy over'])
  watch.stop()
})

test('a flush that was under way while the process slept is not the fault of the disk', async () => {
  const { clock, watch, told } = open()
  for (let round = 0; round < 2; round++) {
    watch.flushBegan()
    await clock.sleepThrough(8000)
    watch.flushEnded()
    await clock.advance(15_000)
  }
  expect(told).toEqual([])
  watch.stop()
})

test('a disk that hangs is found out all the same, before and behind a pause of the process', async () => {
  const { clock, watch, told } = open()
  watch.flushBegan()
  await clock.advance(3000)
  await clock.sleepThrough(8000)
  await clock.advance(3000)
  expect(told).toEqual(['slow_disk began'])
  watch.stop()
})

test('the end of a flush may be heard of before the look that is overdue', () => {
  const clock = new ManualClock()
  const told: string[] = []
  let nowMs = 0
  const watch = new HealthWatch({
    clock: {
      monotonicMs: () => nowMs,
      wallMs: () => nowMs,
      after: clock.after.bind(clock),
      defer: clock.defer.bind(clock),
    },
    slowFlushMs: 200,
    stallMs: 250,
    slowFlush: (tookMs) => told.push(`slow ${tookMs}`),
    changed: (what) => told.push(what),
  })
  watch.start()
  watch.flushBegan()
  nowMs = 8000
  watch.flushEnded()
  expect(told).toEqual([])
  watch.stop()
})
