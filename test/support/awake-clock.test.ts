/** The clock of whole groups in one process: as real time while the process runs, and still while it does not. */
import { expect, test } from 'vitest'
import { AwakeClock } from './awake-clock.ts'
import { ManualClock } from './manual-clock.ts'

function started(): { readonly real: ManualClock; readonly clock: AwakeClock; readonly fired: string[] } {
  const real = new ManualClock()
  const clock = new AwakeClock(real)
  const fired: string[] = []
  // Something always waits in a group: its heartbeats.
  const beat = (): void => void clock.after(30, beat)
  beat()
  return { real, clock, fired }
}

test('time passes as it does outside, and timers fire in their order when they are due', async () => {
  const { real, clock, fired } = started()
  clock.after(300, () => fired.push('later'))
  clock.after(100, () => fired.push('first'))
  clock.after(100, () => fired.push('second'))
  clock.after(100, () => fired.push('cancelled'))()
  await real.advance(99)
  expect(fired).toEqual([])
  await real.advance(1)
  expect(fired).toEqual(['first', 'second'])
  await real.advance(199)
  expect(fired).toEqual(['first', 'second'])
  await real.advance(1)
  expect(fired).toEqual(['first', 'second', 'later'])
  expect(clock.monotonicMs()).toBe(300)
  expect(clock.wallMs() - real.wallMs()).toBe(0)
})

test('a pause of the process counts for no more than one turn', async () => {
  const { real, clock, fired } = started()
  clock.after(100, () => fired.push('due'))
  await real.advance(50)
  await real.sleepThrough(3000)
  expect(fired).toEqual([])
  expect(clock.monotonicMs()).toBe(75)
  await real.advance(24)
  expect(fired).toEqual([])
  await real.advance(1)
  expect(fired).toEqual(['due'])
})

test('timers that are due together fire in turns of their own, each with what it sets off', async () => {
  const { real, clock, fired } = started()
  for (const name of ['a', 'b', 'c']) {
    clock.after(10, () => {
      fired.push(name)
      queueMicrotask(() => fired.push(`behind ${name}`))
    })
  }
  await real.advance(10)
  expect(fired).toEqual(['a', 'behind a', 'b', 'behind b', 'c', 'behind c'])
})

test('a callback that throws takes no other timer with it', async () => {
  const { real, clock, fired } = started()
  clock.after(10, () => {
    throw new Error('its own affair')
  })
  clock.after(20, () => fired.push('next'))
  await expect(real.advance(10)).rejects.toThrow('its own affair')
  await real.advance(20)
  expect(fired).toEqual(['next'])
})
