import { expect, test } from 'vitest'
import { Ticker } from '../../../../src/broker/replica/ticker.ts'
import { ManualClock } from '../../../support/manual-clock.ts'

test('one tick per wake-up, however late it is, and none before the deadline', async () => {
  const clock = new ManualClock()
  const start = clock.monotonicMs()
  let deadline = start + 10
  const ticks: number[] = []
  const ticker = new Ticker({
    clock,
    deadline: () => deadline,
    tick: () => {
      ticks.push(clock.monotonicMs() - start)
      deadline = clock.monotonicMs() + 10
    },
  })
  ticker.update()
  await clock.advance(9)
  expect(ticks).toEqual([])
  // A heartbeat moved the deadline away: the timer that is armed fires early and only arms itself again.
  deadline = start + 15
  ticker.update()
  await clock.advance(1)
  expect(ticks).toEqual([])
  await clock.advance(5)
  expect(ticks).toEqual([15])
  // An earlier deadline replaces the timer.
  deadline = start + 17
  ticker.update()
  await clock.advance(2)
  expect(ticks).toEqual([15, 17])
  ticker.stop()
  await clock.advance(100)
  expect(ticks).toEqual([15, 17])
})
