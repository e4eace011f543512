/** When a copy may be shorter than the log that it replaces, and when a state may go with a log. */
import { expect, test } from 'vitest'
import { agreesAt, holds } from '../../../../../src/broker/replica/catch-up/own-log.ts'
import { frameTypes, MemoryDisk, openCommitLog } from '../../../../../store/index.ts'

const options = {
  directory: 'log',
  segmentBytes: 64 * 1024,
  incarnation: 'i',
  zeroAheadBytes: 4096,
  flushBytesMax: 1024 * 1024,
  tailCacheBytes: 64,
  blockCacheBytes: 64 * 1024,
}

test('S1: a log is known to differ from a copy only by an entry that can be read', async () => {
  const disk = new MemoryDisk()
  const written = await openCommitLog(disk, options)
  const frames = [1, 1, 2, 2, 2].map((term, at) =>
    written.append({ index: at + 1, term, type: frameTypes.noop, storeTime: 1000, body: [] }),
  )
  await written.close()
  disk.flipBit(`log/${'0'.repeat(20)}`, 4096 + (frames[3]?.header.position ?? 0) + 33, 2)
  const log = await openCommitLog(disk, options)
  expect(log.holes).toMatchObject([{ fromIndex: 4, toIndex: 4 }])
  expect(await agreesAt(log, { index: 3, term: 2 })).toBe(true)
  expect(await agreesAt(log, { index: 3, term: 1 })).toBe(false)
  // This node may have acknowledged entry 5: a copy up to 4 must not replace it.
  expect(await agreesAt(log, { index: 4, term: 2 })).toBe(true)
  expect(await agreesAt(log, { index: 9, term: 7 })).toBe(true)
})

test('S4: an entry is held only when it can be read, is the same one, and is durable', async () => {
  const disk = new MemoryDisk()
  const log = await openCommitLog(disk, options)
  for (const [at, term] of [1, 1, 2, 2, 2].entries()) {
    log.append({ index: at + 1, term, type: frameTypes.noop, storeTime: 1000, body: [] })
    if (at === 3) await log.flush()
  }
  expect(await holds(log, { index: 3, term: 2 })).toBe(true)
  expect(await holds(log, { index: 3, term: 1 })).toBe(false)
  expect(await holds(log, { index: 4, term: 2 })).toBe(true)
  expect(await holds(log, { index: 5, term: 2 })).toBe(false)
  expect(await holds(log, { index: 0, term: 0 })).toBe(false)
  expect(await holds(log, { index: 9, term: 2 })).toBe(false)
  const position = (await log.read(3, 3, 1))[0]?.header.position ?? 0
  await log.close()
  disk.flipBit(`log/${'0'.repeat(20)}`, 4096 + position + 33, 2)
  const rotten = await openCommitLog(disk, options)
  expect(rotten.holes).toMatchObject([{ fromIndex: 3, toIndex: 3 }])
  expect(await holds(rotten, { index: 3, term: 2 })).toBe(false)
})
