/** Entries behind damage that was found while the log is open, where only some of the places are in memory. */
import { expect, test } from 'vitest'
import { defaultLogGrain } from '../../store/contract.ts'
import type { Frame } from '../../store/types.ts'
import { appendTo, newDisk, openTestLog } from './log-fixture.ts'
import { offsetOf, options, pathOf, ranges } from './rot-fixture.ts'

test('are read although the way to them led through it, or the log begins with it', async () => {
  const disk = await newDisk()
  const log = await openTestLog(disk, { ...options, segmentBytes: 16 * 1024 * 1024 })
  const frames: Frame[] = []
  // Only the last entries are known exactly.
  for (let count = 0; count < defaultLogGrain.exactEntries + 2048; count++) frames.push(...appendTo(log, 1, 0))
  await log.flush()
  for (const first of [1, 300]) {
    const { position } = frames[first - 1]!.header
    for (const at of [position, position + 64]) disk.flipBit(pathOf(0), offsetOf(0) + at + 33, 2)
    await log.scrub(position, 4096)
  }
  expect(ranges(log.holes)).toEqual(['1-2', '300-301'])
  for (const index of [3, 4, 100, 302, 303, 400]) {
    const [frame] = await log.read(index, index, 1)
    expect(frame?.bytes.equals(frames[index - 1]!.bytes)).toBe(true)
  }
  await log.close()
})
