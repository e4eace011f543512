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
