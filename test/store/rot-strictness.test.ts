/** What must never be taken for a frame of the log, and what a log says when its own parts contradict each other. */
import { describe, expect, test } from 'vitest'
import type { CommitLogApi } from '../../store/contract.ts'
import { chainStart, encodeFrame, frameHeaderBytes } from '../../store/frame.ts'
import { loseAllUnsynced, type MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import type { Frame, LogEntry } from '../../store/types.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import {
  appendTo,
  crashEverywhere,
  described,
  entriesOf,
  newDisk,
  openTestLog,
  testEntry,
  testOptions,
} from './log-fixture.ts'
import {
  closedLog,
  expectReads,
  offsetOf,
  options,
  overwrite,
  patch,
  pathOf,
  ranges,
  rotBody,
  rotHeader,
} from './rot-fixture.ts'

const { segmentBytes } = testOptions

describe('a message body full of frames', () => {
  /** Frames of entries `index` and on, laid out as if they stood where the body lies. */
  function forged(position: number, index: number, count: number): Buffer {
    const frames: Frame[] = []
    for (let at = 0; at < count; at++) {
      const last = frames.at(-1)?.header
      const place = {
        position: last === undefined ? position + frameHeaderBytes : last.position + last.frameLength,
        previousChecksum: last?.headerChecksum ?? chainStart,
      }
      frames.push(encodeFrame({ ...testEntry(index + at, 1, 6), body: [Buffer.from('forged')] }, place))
    }
    return Buffer.concat(frames.map(({ bytes }) => bytes))
  }

  test.each([0, 1, 20])(
    'S3: is never served in place of what was lost with its header (%i lost before)',
    async (lost) => {
      const disk = await newDisk()
      const log = await openTestLog(disk, options)
      const frames: Frame[] = [...appendTo(log, 1, 100)]
      for (let count = 0; count < lost; count++) frames.push(...appendTo(log, 1, 10))
      const position = log.endPosition
      const index = log.lastIndex + 1
      // Every index that could be claimed, at the right place, with the right checksums of its own.
      const claims = Array.from({ length: lost + 1 }, (_, at) => forged(position + at * 640, 2 + at, 5))
      const entry: LogEntry = { ...testEntry(index, 1, 0), body: claims }
      frames.push(log.append(entry), ...appendTo(log, 1, 100, 200))
      await log.close()
      for (const frame of frames.slice(1, index)) rotHeader(disk, frame)
      const again = await openTestLog(disk, options)
      expect(again.recovery.tail).toBeNull()
      expect(ranges(again.holes)).toEqual([`2-${index}`])
      await expectReads(again, frames)
      await again.repair(frames.slice(1, index))
      await expectReads(again, frames)
      await again.close()
    },
  )

  test('S3: is not followed beyond the damage when its last frame reaches there', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    const first = appendTo(log, 1, 10, 10)
    const position = log.endPosition
    const body = forged(position, 3, 3)
    const frames = [...first, log.append({ ...testEntry(3, 1, 0), body: [body] }), ...appendTo(log, 1, 50)]
    await log.close()
    rotHeader(disk, frames[1]!)
    rotHeader(disk, frames[2]!)
    rotHeader(disk, frames[3]!)
    const again = await openTestLog(disk, options)
    expect(again.rottenTail).toMatchObject({ fromIndex: 2 })
    expect(await entriesOf(again)).toEqual(['1/1:10'])
    await again.close()
  })
})

describe('bytes of another time', () => {
  test('S3: a page that fell back to cut entries costs a hole, never an entry that was replaced', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    const kept = appendTo(log, 1, 1000, 1000)
    const cut = appendTo(log, 1, 3000, 3000, 3000)
    await log.flush()
    const { position } = cut[0]!.header
    const old = disk.contentOf(pathOf(0)).subarray(offsetOf(position))
    log.truncateFrom(3)
    const frames = [...kept, ...appendTo(log, 2, 3000, 3000, 3000, 4000, 9000, 500)]
    await log.close()
    for (const bytes of [3072, 3072 * 2, 3072 * 3]) {
      const stale = disk.clone()
      await overwrite(stale, position, old.subarray(0, bytes))
      const again = await openTestLog(stale, options)
      expect(again.rottenTail).toBeNull()
      // Two intact pieces contradict each other: what lies before the divergence in this segment hangs in the air too.
      expect(again.holes).toMatchObject([{ fromIndex: 1, toIndex: 2 + bytes / 3072 }])
      await expectReads(again, frames)
      await again.repair(frames.slice(0, again.holes[0]!.toIndex))
      await expectReads(again, frames)
      await again.close()
    }
  })

  test('S3: an old copy of a segment in the middle is a hole', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    const kept = appendTo(log, 1, 9000)
    appendTo(log, 1, 9000, 4000, 1000)
    await log.flush()
    const old = disk.contentOf(pathOf(segmentBytes))
    log.truncateFrom(3)
    const frames = [...kept, ...(await log.read(2, 2, 1)), ...appendTo(log, 2, 4000, 1000, 9000, 9000)]
    await log.close()
    await patch(disk, pathOf(segmentBytes), 0, old)
    const again = await openTestLog(disk, options)
    expect(again.rottenTail).toBeNull()
    expect(ranges(again.holes)).toEqual(['2-5'])
    await expectReads(again, frames)
    await again.repair(frames.slice(1, 5))
    await expectReads(again, frames)
    await again.close()
  })

  test('S3: an old copy of a full segment is a hole back to where the last header agreed', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    const kept = appendTo(log, 1, 9000, 9000)
    appendTo(log, 1, 5000, 9000)
    await log.flush()
    const old = disk.contentOf(pathOf(segmentBytes))
    log.truncateFrom(3)
    const frames = [...kept, ...appendTo(log, 2, 5000, 9000, 9000)]
    await log.close()
    await patch(disk, pathOf(segmentBytes), 0, old)
    const again = await openTestLog(disk, options)
    expect(again.rottenTail).toBeNull()
    expect(ranges(again.holes)).toEqual(['2-4'])
    await again.repair(frames.slice(1, 4))
    await expectReads(again, frames)
    await again.close()
  })

  test('S3: an old copy of the last segment is a rotten tail', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    appendTo(log, 1, 9000, 9000, 2000)
    await log.flush()
    const old = disk.contentOf(pathOf(segmentBytes)).subarray(4096)
    log.truncateFrom(3)
    appendTo(log, 2, 2000)
    await log.close()
    await patch(disk, pathOf(segmentBytes), 4096, old)
    const again = await openTestLog(disk, options)
    expect(again.rottenTail).toMatchObject({ fromIndex: 2 })
    expect(await entriesOf(again)).toEqual(['1/1:9000'])
    await again.close()
  })

  test('a cut that a crash interrupts behind a hole does not bring its entries back over another one', async () => {
    const { disk: base, frames } = await closedLog([500, 500, 500, 500, 3000, 3000, 3000, 500])
    rotBody(base, frames[1]!)
    let crashes = 0
    const work = async (disk: MemoryDisk): Promise<void> => {
      const log = await openTestLog(disk, options)
      log.truncateFrom(5)
      appendTo(log, 2, 700)
      await log.flush()
      await log.close()
    }
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      for (const choice of [loseAllUnsynced, randomCrash(seededNumbers(crashes))]) {
        const log = await openTestLog(disk.clone().crash(choice), options)
        expect(log.rottenTail).toBeNull()
        expect(ranges(log.holes)).toEqual(['2-2'])
        const left = (await log.read(3, 99, 99_999)).map(({ header }) => `${header.index}/${header.term}`)
        expect(['3/1 4/1', '3/1 4/1 5/2']).toContain(left.filter((entry) => !/[5-8]\/1/.test(entry)).join(' '))
        await log.close()
      }
    }
    expect(crashes).toBeGreaterThan(15)
  })
})

describe('the promised end', () => {
  test('with its last header gone is a rotten tail, and cutting that survives a crash anywhere', async () => {
    const { disk: base, frames } = await closedLog([5000, 3000, 9000, 9000, 700, 300])
    rotHeader(base, frames[3]!)
    rotHeader(base, frames[5]!)
    rotHeader(base, frames[4]!)
    const good = described(frames.slice(0, 3))
    let crashes = 0
    const work = async (disk: MemoryDisk): Promise<void> => {
      const log = await openTestLog(disk, options)
      expect(log.rottenTail).toMatchObject({ fromIndex: 4 })
      await log.cutRottenTail()
      expect(log.rottenTail).toBeNull()
      appendTo(log, 3, 9000, 10)
      await log.flush()
      await log.close()
    }
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      for (const choice of [loseAllUnsynced, randomCrash(seededNumbers(crashes))]) {
        const log = await openTestLog(disk.clone().crash(choice), options)
        await log.cutRottenTail()
        const entries = await entriesOf(log)
        expect(entries.slice(0, 3)).toEqual(good)
        expect(['', '4/3:9000', '4/3:9000 5/3:10']).toContain(entries.slice(3).join(' '))
        appendTo(log, 4, 1)
        await log.flush()
        await log.close()
      }
    }
    expect(crashes).toBeGreaterThan(30)
  })

  test('is not known when both marks are damaged, whatever else is', async () => {
    const { disk: base, frames } = await closedLog([5000, 3000, 9000, 9000, 700, 300])
    for (const also of [[], [1], [4], [1, 4]]) {
      const disk = base.clone()
      for (const slot of [512, 1024]) await patch(disk, pathOf(2 * segmentBytes), slot, Buffer.alloc(64, 9))
      for (const at of also) rotHeader(disk, frames[at]!)
      const log = await openTestLog(disk, options)
      const lastGood = also.includes(4) ? 4 : 6
      expect(log.rottenTail).toMatchObject({ fromIndex: lastGood + 1 })
      expect(ranges(log.holes)).toEqual(also.includes(1) ? ['2-2'] : [])
      await log.cutRottenTail()
      appendTo(log, 2, 10)
      await log.close()
      const again = await openTestLog(disk, options)
      expect(again).toMatchObject({ rottenTail: null, lastIndex: lastGood + 1 })
      await again.close()
    }
  })

  test('behind a hole that reaches to it is where the log goes on', async () => {
    const closed = await closedLog([500, 600, 700])
    const disk = closed.disk.clone()
    rotBody(disk, closed.frames[2]!)
    const log = await openTestLog(disk, options)
    expect(ranges(log.holes)).toEqual(['3-3'])
    expect(log).toMatchObject({ lastIndex: 3, lastTerm: 1 })
    const more = appendTo(log, 2, 800, 9000, 9000)
    await log.close()
    const again = await openTestLog(disk, options)
    expect(ranges(again.holes)).toEqual(['3-3'])
    await again.repair([closed.frames[2]!])
    await expectReads(again, [...closed.frames, ...more])
    await again.close()
  })

  test('is known to the entry although the mark is old, when the frame behind it is whole', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    const frames = [...appendTo(log, 1, 500), ...appendTo(log, 1, 600)]
    await log.flush()
    frames.push(...appendTo(log, 1, 700))
    await log.flush()
    // As a power cut leaves it: the mark names entry 2, entry 3 lies behind it.
    const left = disk.clone().crash(loseAllUnsynced)
    rotHeader(left, frames[1]!)
    const again = await openTestLog(left, options)
    expect(again).toMatchObject({ rottenTail: null, lastIndex: 3 })
    expect(ranges(again.holes)).toEqual(['2-2'])
    await again.repair([frames[1]!])
    await expectReads(again, frames)
    await again.close()
    await log.close()
  })
})

describe('an entry that fills its segment to the last byte', () => {
  /** Entry 2 ends with its segment, entry 3 begins the next one, whose header holds the newest mark. */
  async function filled(): Promise<{
    readonly disk: MemoryDisk
    readonly log: CommitLogApi
    readonly frames: readonly Frame[]
  }> {
    const disk = await newDisk()
    const log = await openTestLog(disk, options)
    const frames: Frame[] = []
    for (const size of [4000, segmentBytes - 4096 - frameHeaderBytes, 500]) {
      frames.push(...appendTo(log, 1, size))
      await log.flush()
    }
    expect(frames[2]!.header.position).toBe(segmentBytes)
    return { disk, log, frames }
  }

  async function expectRemembered(disk: MemoryDisk): Promise<void> {
    const log = await openTestLog(disk, options)
    expect(ranges(log.holes)).toEqual(['2-2'])
    expect(log).toMatchObject({ lastIndex: 2, rottenTail: null })
    await log.close()
  }

  test('S1: is not forgotten when what lies behind it is cut', async () => {
    const { disk, log, frames } = await filled()
    log.truncateFrom(3)
    await log.flush()
    await log.close()
    rotBody(disk, frames[1]!)
    await expectRemembered(disk)
  })

  test('S1: is not forgotten when the first flush behind it was torn', async () => {
    const { disk, log, frames } = await filled()
    const left = disk.clone().crash(loseAllUnsynced)
    await log.close()
    rotHeader(left, frames[2]!)
    await (await openTestLog(left, options)).close()
    rotBody(left, frames[1]!)
    await expectRemembered(left)
  })
})

test('the first segment of a trimmed log that lost its header says so, and the whole log is given up', async () => {
  const closed = await closedLog([9000, 9000, 9000, 9000])
  const { disk } = closed
  const log = await openTestLog(disk, options)
  await log.trim(2)
  await log.close()
  await patch(disk, pathOf(segmentBytes), 0, Buffer.alloc(4096))
  const again = await openTestLog(disk, options)
  expect(again.rottenTail).toMatchObject({ fromIndex: 1, position: 0 })
  await again.cutRottenTail()
  appendTo(again, 1, 10)
  await again.close()
  expect(await entriesOf(await openTestLog(disk, options))).toEqual(['1/1:10'])
})
