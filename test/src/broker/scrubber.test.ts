/** Reading the log again and again, over a real log: what counts as a pass. */
import { expect, test } from 'vitest'
import { Scrubber } from '../../../src/broker/scrubber.ts'
import { frameTypes, MemoryDisk, openCommitLog } from '../../../store/index.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const options = {
  directory: 'log',
  segmentBytes: 64 * 1024,
  incarnation: 'i',
  zeroAheadBytes: 4096,
  flushBytesMax: 1024 * 1024,
  tailCacheBytes: 64,
  blockCacheBytes: 64 * 1024,
}

test('a pass counts when it has come to the end of the log, not when the log changed too often to be verified', async () => {
  const disk = new MemoryDisk()
  const log = await openCommitLog(disk, options)
  for (let index = 1; index <= 200; index++) {
    log.append({ index, term: 1, type: frameTypes.command, storeTime: 1000, body: [Buffer.alloc(100)] })
  }
  await log.flush()
  const clock = new ManualClock()
  const failures: unknown[] = []
  const scrubber = new Scrubber({
    clock,
    log,
    passMs: 1000,
    pieceBytes: 256 * 1024,
    bytesPerSecondMax: 10 * 1024 * 1024,
    failed: (error) => failures.push(error),
  })
  disk.schedule = async () => {
    if (log.lastIndex > 100) log.truncateFrom(log.lastIndex)
  }
  scrubber.start()
  await clock.advance(1000)
  expect(log.lastIndex).toBeLessThan(200)
  expect(log.lastIndex).toBeGreaterThan(100)
  expect(scrubber.status).toEqual({ position: 0, passes: 0 })
  disk.schedule = undefined
  await clock.advance(1000)
  expect(scrubber.status).toEqual({ position: 0, passes: 1 })
  await scrubber.close()
  expect(failures).toEqual([])
})
