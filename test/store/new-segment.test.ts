/** Regressions of the CommitLog around the birth of a segment, first seen in the simulator. */
import { expect, test } from 'vitest'
import { loseAllUnsynced } from '../../store/memory-disk.ts'
import { appendTo, entriesOf, newDisk, openTestLog } from './log-fixture.ts'

test('S1: nothing in a new segment is durable before the name of its file is', async () => {
  const disk = await newDisk()
  const log = await openTestLog(disk)
  let release = (): void => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  // The zeros of the next segment are made in the background; its name takes long to reach the disk.
  disk.schedule = (operation, path) => (operation === 'syncDirectory' && path === 'log' ? released : Promise.resolve())
  let flushed = 0
  for (let count = 0; count < 40; count++) {
    appendTo(log, 1, 1000)
    const flush = log.flush().then(() => {
      flushed = log.durableIndex
    })
    const turn = new Promise((resolve) => setImmediate(resolve))
    await Promise.race([flush, turn])
    const copy = disk.clone()
    copy.schedule = undefined
    const left = await openTestLog(copy.crash(loseAllUnsynced))
    expect((await entriesOf(left)).length).toBeGreaterThanOrEqual(flushed)
  }
  expect(flushed).toBeLessThan(40)
  release()
  await log.flush()
  expect(log.durableIndex).toBe(40)
})
