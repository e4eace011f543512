/** Cuts that would end the log inside damage, where nobody knows what the last entry was. */
import { expect, test } from 'vitest'
import { appendTo, openTestLog } from './log-fixture.ts'
import { closedLog, expectReads, options, ranges, repairAll, rotBody, rotHeader } from './rot-fixture.ts'

const sizes = [5000, 3000, 6000, 9000, 100, 3000, 9000, 200, 9000, 9000, 100]

test('a cut inside a hole is refused and changes nothing, at its beginning it goes', async () => {
  const closed = await closedLog(sizes, [1, 1, 1, 2, 2, 3])
  const { disk: base, frames } = closed
  for (const frame of frames.slice(3, 7)) rotBody(base, frame)
  for (const index of [5, 6, 7]) {
    const disk = base.clone()
    const log = await openTestLog(disk, options)
    expect(() => log.truncateFrom(index)).toThrow('entries 4 to 7 are damaged')
    await log.flush()
    expect(log).toMatchObject({ lastIndex: 11, durableIndex: 11 })
    expect(ranges(log.holes)).toEqual(['4-7'])
    await repairAll(log, disk, closed)
  }
  const log = await openTestLog(base, options)
  log.truncateFrom(4)
  expect(log).toMatchObject({ lastIndex: 3, holes: [] })
  const more = appendTo(log, 4, 3000, 9000)
  await log.close()
  const again = await openTestLog(base, options)
  expect(again.recovery).toMatchObject({ lastIndex: 5, holes: [], tail: null })
  await expectReads(again, [...frames.slice(0, 3), ...more])
  await again.close()
})

test('a cut right behind a hole needs its terms', async () => {
  const { disk: base, frames } = await closedLog([500, 500, 500, 500, 500], [1, 1, 2, 2, 3])
  const known = base.clone()
  rotBody(known, frames[2]!)
  const log = await openTestLog(known, options)
  log.truncateFrom(4)
  expect(log).toMatchObject({ lastIndex: 3, lastTerm: 2 })
  await log.close()
  rotHeader(base, frames[2]!)
  const guessed = await openTestLog(base, options)
  expect(guessed.holes).toMatchObject([{ fromIndex: 3, toIndex: 3, termsKnown: false }])
  expect(() => guessed.truncateFrom(4)).toThrow('entries 3 to 3 are damaged')
  guessed.truncateFrom(3)
  expect(guessed).toMatchObject({ lastIndex: 2, lastTerm: 1, holes: [] })
  await guessed.close()
})
