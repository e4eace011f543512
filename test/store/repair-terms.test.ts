/** Frames for a hole are of the terms that were lost there, as far as anything of those terms is left. */
import { expect, test } from 'vitest'
import { openTestLog } from './log-fixture.ts'
import { closedLog, options, ranges, repairAll, rotBody, rotHeader } from './rot-fixture.ts'

test('frames are refused when they are of a branch that the known terms contradict, also a part of them', async () => {
  const closed = await closedLog([10, 10, 10, 10, 10, 10], [1, 1, 1, 2, 2, 2])
  for (const frame of closed.frames.slice(2)) rotBody(closed.disk, frame)
  const log = await openTestLog(closed.disk, options)
  expect(log.holes).toMatchObject([{ fromIndex: 3, toIndex: 6, termsKnown: true }])
  // What was never committed elsewhere begins like what was lost, and ends before the chain would tell.
  const older = await closedLog([10, 10, 10, 10], [1])
  const newer = await closedLog([10, 10, 10, 10], [1, 1, 1, 4])
  for (const { frames } of [older, newer])
    await expect(log.repair(frames.slice(2))).rejects.toMatchObject({ code: 'BAD_FRAME' })
  expect(ranges(log.holes)).toEqual(['3-6'])
  await repairAll(log, closed.disk, closed)
})

test('frames are refused when they contradict the terms that are left of those that were lost', async () => {
  const closed = await closedLog([10, 10, 10, 10, 10, 10], [1, 1, 3, 4, 5, 6])
  rotBody(closed.disk, closed.frames[2]!)
  rotHeader(closed.disk, closed.frames[3]!)
  rotBody(closed.disk, closed.frames[4]!)
  const log = await openTestLog(closed.disk, options)
  expect(log.holes).toMatchObject([{ fromIndex: 3, toIndex: 5, termsKnown: false }])
  const older = await closedLog([10, 10, 10, 10], [1])
  const newer = await closedLog([10, 10, 10, 10], [1, 1, 3, 6])
  for (const { frames } of [older, newer])
    await expect(log.repair(frames.slice(2))).rejects.toMatchObject({ code: 'BAD_FRAME' })
  await log.repair(closed.frames.slice(2, 3))
  await repairAll(log, closed.disk, closed)
})

test('frames are refused when they are of a later term than the entry behind the hole', async () => {
  const closed = await closedLog([10, 10, 10, 10, 10, 10], [1, 5, 5, 5, 5, 9])
  for (const at of [1, 2, 3]) rotHeader(closed.disk, closed.frames[at]!)
  const log = await openTestLog(closed.disk, options)
  expect(log.holes).toMatchObject([{ fromIndex: 2, toIndex: 4, termsKnown: false }])
  await log.repair(closed.frames.slice(1, 2))
  const { frames } = await closedLog([10, 10, 10], [1, 5, 7])
  await expect(log.repair(frames.slice(2))).rejects.toMatchObject({ code: 'BAD_FRAME' })
  await repairAll(log, closed.disk, closed)
})
