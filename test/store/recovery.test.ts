import { describe, expect, test } from 'vitest'
import type { CommitLogApi } from '../../store/contract.ts'
import { isZero } from '../../store/frame.ts'
import { loseAllUnsynced, type MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import type { CrashChoice } from '../../store/memory-file.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import {
  appendTo,
  crashEverywhere,
  described,
  entriesOf,
  logBytes,
  newDisk,
  openTestLog,
  testOptions,
} from './log-fixture.ts'

const keepAllUnsynced: CrashChoice = {
  entry: () => true,
  page: (_path, _page, versions) => versions,
  sector: () => true,
  size: (_path, sizes) => sizes.at(-1)!,
}

const firstSegment = 'log/00000000000000000000'

/** The log recovers without a hole, has only zeros behind its tail, and goes on from there. */
async function expectUsable(disk: MemoryDisk): Promise<readonly string[]> {
  const log = await openTestLog(disk)
  expect(log.recovery.tail).toBeNull()
  const entries = await entriesOf(log)
  expect(isZero(logBytes(disk).subarray(log.endPosition))).toBe(true)
  const more = described(appendTo(log, Math.max(99, log.lastTerm), 40, 7000, 9000))
  await log.flush()
  const again = await openTestLog(disk.clone().crash(loseAllUnsynced))
  expect(again.recovery).toMatchObject({ tail: null, tornBytes: 0 })
  expect(await entriesOf(again)).toEqual([...entries, ...more])
  await log.close()
  return entries
}

/** Overwrites part of a file for good. */
async function patch(disk: MemoryDisk, path: string, offset: number, bytes: Buffer): Promise<void> {
  const file = await disk.open(path, { create: false })
  await file.write([bytes], offset)
  await file.sync()
  await file.close()
}

describe('a torn last flush', () => {
  test('is cut at every byte to the entries that are whole', async () => {
    const base = await newDisk()
    const log = await openTestLog(base)
    const before = described(appendTo(log, 1, 100, 200))
    await log.flush()
    const start = log.endPosition
    const frames = appendTo(log, 1, 30, 0, 130, 64)
    await log.flush()
    const end = log.endPosition
    // As the power cut finds it: the mark knows of the flush before only.
    const flushed = base.clone()
    for (let cut = start; cut <= end; cut++) {
      const disk = flushed.clone()
      await patch(disk, firstSegment, 4096 + cut, Buffer.alloc(end - cut))
      // Zeros at the end of a frame that are missing are not missed.
      const whole = frames.filter(({ header, bytes }) => isZero(bytes.subarray(Math.max(0, cut - header.position))))
      const left = disk.clone()
      const recovered = await openTestLog(left)
      expect(recovered.recovery.tornBytes > 0).toBe(hasTorn(disk, recovered.endPosition))
      expect(await entriesOf(recovered)).toEqual([...before, ...described(whole)])
      await recovered.close()
      if (cut % 16 === 0) await expectUsable(disk)
    }
    await log.close()
  })

  function hasTorn(disk: MemoryDisk, end: number, segmentBytes?: number): boolean {
    return !isZero(logBytes(disk, segmentBytes).subarray(end))
  }

  test('recovers from every lost subset of its pages', async () => {
    const base = await newDisk()
    const log = await openTestLog(base, { segmentBytes: 64 * 1024, zeroAheadBytes: 64 * 1024 })
    const before = described(appendTo(log, 1, 900))
    await log.flush()
    const frames = described(appendTo(log, 1, 5000, 100, 9000, 3000, 200, 300, 12_000, 64))
    let cut: MemoryDisk | undefined
    base.schedule = async (operation) => {
      if (operation === 'sync') cut ??= base.clone()
    }
    await log.flush()
    const pages = cut!.dirtyPages()
    expect(pages.length).toBeGreaterThanOrEqual(9)
    expect(pages.length).toBeLessThanOrEqual(10)
    const found = new Set<number>()
    for (let subset = 0; subset < 2 ** pages.length; subset++) {
      const kept = new Set(pages.filter((_, at) => (subset >> at) % 2 === 1).map(({ page }) => page))
      const left = cut!.clone().crash({ ...loseAllUnsynced, page: (_path, page) => (kept.has(page) ? 1 : 0) })
      left.schedule = undefined
      const recovered = await openTestLog(left, { segmentBytes: 64 * 1024, zeroAheadBytes: 64 * 1024 })
      expect(recovered.recovery.tail).toBeNull()
      const entries = await entriesOf(recovered)
      expect(entries).toEqual([...before, ...frames].slice(0, entries.length))
      expect(entries.length).toBeGreaterThanOrEqual(before.length)
      expect(hasTorn(left, recovered.endPosition, 64 * 1024)).toBe(false)
      found.add(entries.length)
      await recovered.close()
    }
    // Both ends of the range were really met.
    expect(found.has(1) && found.has(9)).toBe(true)
  })

  test('that crosses a segment recovers from a crash before every disk operation', async () => {
    const base = await newDisk()
    const first = await openTestLog(base)
    const before = described(appendTo(first, 1, 7000, 7000))
    await first.flush()
    await first.close()
    const sizes = [5000, 9000, 100, 12_000, 300]
    const all = [...before, ...sizes.map((size, at) => `${at + 3}/1:${size}`)]
    let crashes = 0
    let promised = 2
    const work = async (disk: MemoryDisk): Promise<void> => {
      promised = 0
      const log = await openTestLog(disk)
      promised = log.lastIndex
      for (const size of sizes) {
        appendTo(log, 1, size)
        promised = await log.flush()
      }
      await log.close()
    }
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      for (const left of powerCuts(disk, crashes, 4)) {
        const entries = await expectUsable(left)
        expect(entries).toEqual(all.slice(0, entries.length))
        expect(entries.length).toBeGreaterThanOrEqual(Math.max(2, promised))
      }
    }
    expect(crashes).toBeGreaterThan(40)
  })
})

/** What a power cut, or the death of the process alone, may leave of this disk. */
function powerCuts(disk: MemoryDisk, seed: number, count: number): readonly MemoryDisk[] {
  const random = seededNumbers(seed)
  const chances = Array.from({ length: count }, () => disk.clone().crash(randomCrash(random)))
  return [disk.clone().crash(loseAllUnsynced), disk.clone().crash(keepAllUnsynced), disk.kill(), ...chances]
}

describe('a cut of the log', () => {
  test.each([
    ['inside a segment', [2000, 2000, 2000, 2000], 3],
    ['across segments', [7000, 9000, 7000, 16_000, 9000, 300], 2],
    ['at the padding', [16_000, 9000, 9000], 2],
    ['at a segment that is full to the byte', [16_384 - 64, 16_384 - 64, 100], 2],
    ['of everything', [9000, 9000, 9000], 1],
  ])('%s recovers from a crash before every disk operation', async (_name, sizes, from) => {
    const base = await newDisk()
    const first = await openTestLog(base)
    const old = described(appendTo(first, 1, ...sizes))
    await first.flush()
    await first.close()
    const kept = old.slice(0, from - 1)
    let crashes = 0
    let promised: readonly string[] = []
    const work = async (disk: MemoryDisk): Promise<void> => {
      promised = kept
      const log = await openTestLog(disk)
      log.truncateFrom(from)
      const fresh = described(appendTo(log, 2, 500, 3000))
      await log.flush()
      promised = [...kept, ...fresh]
      const more = described(appendTo(log, 2, 14_000, 20))
      await log.flush()
      promised = [...kept, ...fresh, ...more]
      await log.close()
    }
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      const line = [...kept, `${from}/2:500`, `${from + 1}/2:3000`, `${from + 2}/2:14000`, `${from + 3}/2:20`]
      for (const left of powerCuts(disk, crashes, 4)) {
        const entries = await expectUsable(left)
        const ofOld = entries.every((entry, at) => entry === old[at])
        const ofNew = entries.every((entry, at) => entry === line[at])
        expect(ofOld || ofNew).toBe(true)
        expect(entries.slice(0, promised.length)).toEqual(promised)
      }
    }
    expect(crashes).toBeGreaterThan(20)
  })

  test('S1: random work with power cuts never loses what was promised', async () => {
    for (let seed = 1; seed <= 60; seed++) await randomLife(seed)
  })
})

/** Appends, flushes, cuts, restarts and power cuts by chance; what was promised must always be there. */
async function randomLife(seed: number): Promise<void> {
  const random = seededNumbers(seed)
  const below = (limit: number): number => Math.floor(random() * limit)
  const options = {
    zeroAheadBytes: 4096 * (1 + below(4)),
    flushBytesMax: 2000 + below(20_000),
    tailCacheBytes: below(9000),
  }
  let disk = await newDisk()
  let log = await openTestLog(disk, options)
  let line: string[] = []
  let promised = 0
  let term = 1
  for (let step = 0; step < 60; step++) {
    const what = random()
    if (what < 0.45) line.push(...described(appendTo(log, term, below(below(3) === 0 ? 12_000 : 900))))
    else if (what < 0.65) promised = await log.flush()
    else if (what < 0.75) {
      const from = 1 + Math.max(0, log.lastIndex - below(12))
      term++
      log.truncateFrom(from)
      // Until the cut is flushed its entries may come back after a crash, so nothing beyond is asked for.
      promised = Math.min(promised, from - 1)
      line = line.slice(0, from - 1)
      line.push(...described(appendTo(log, term, below(2000))))
      if (random() < 0.8) promised = await log.flush()
      else {
        void log.flush().catch(() => undefined)
        disk = disk.crash(randomCrash(random))
        log = await openTestLog(disk, options)
        const found = await entriesOf(log)
        expect(found.slice(0, promised)).toEqual(line.slice(0, promised))
        line = [...found]
        promised = found.length
      }
    } else if (what < 0.9) {
      void log.flush().catch(() => undefined)
      for (let turns = below(60); turns > 0; turns--) await undefined
      const certain = Math.max(promised, log.durableIndex)
      disk = random() < 0.3 ? disk.kill() : disk.crash(randomCrash(random))
      log = await openTestLog(disk, options)
      expect(log.recovery.tail).toBeNull()
      const found = await entriesOf(log)
      expect(found.length).toBeGreaterThanOrEqual(certain)
      expect(found).toEqual(line.slice(0, found.length))
      line = [...found]
      promised = found.length
    } else {
      await log.close()
      log = await openTestLog(disk, options)
      expect(log.recovery).toMatchObject({ tornBytes: 0, tail: null, lastIndex: line.length })
      promised = line.length
    }
  }
  expect(await entriesOf(log)).toEqual(line)
  await log.close()
}

describe('rot', () => {
  async function closedLog(
    sizes: readonly number[],
  ): Promise<{ disk: MemoryDisk; entries: readonly string[]; end: number }> {
    const disk = await newDisk()
    const log = await openTestLog(disk, { zeroAheadBytes: 4096 })
    const entries: string[] = []
    for (const size of sizes) {
      entries.push(...described(appendTo(log, 1, size)))
      await log.flush()
    }
    const end = log.endPosition
    await log.close()
    return { disk, entries, end }
  }

  async function recoveredFrom(disk: MemoryDisk): Promise<CommitLogApi> {
    return openTestLog(disk, { zeroAheadBytes: 4096 })
  }

  test('S3: a bit that flips under a running log is never served', async () => {
    const { disk } = await closedLog([5, 0, 7000])
    const options = { zeroAheadBytes: 4096, tailCacheBytes: 0 }
    for (let offset = 0; offset < 512; offset++) {
      const rotten = disk.clone()
      const log = await openTestLog(rotten, options)
      rotten.flipBit(firstSegment, 4096 + offset, offset % 8)
      const results = await Promise.allSettled([log.read(1, 1, 1), log.read(2, 2, 1), log.read(3, 3, 1)])
      const failed = results.filter((result) => result.status === 'rejected')
      expect(failed).toHaveLength(1)
      expect(failed[0]!.reason).toMatchObject({ code: 'ROTTEN', details: { path: firstSegment } })
      await log.close()
    }
  })

  test('a sector that the disk cannot read is rot for its readers, not the end of the log', async () => {
    const { disk } = await closedLog([5, 100])
    const log = await openTestLog(disk, { zeroAheadBytes: 4096, tailCacheBytes: 0 })
    disk.fail('read', { code: 'EIO' })
    await expect(log.readAt(0)).rejects.toMatchObject({ code: 'ROTTEN' })
    expect((await log.readAt(0)).header.index).toBe(1)
    await log.close()
  })

  test('zeros below the durable mark are rot, also at the very end', async () => {
    const { disk, entries, end } = await closedLog([5, 100, 300])
    await patch(disk, firstSegment, 4096 + end - 384, Buffer.alloc(384))
    const log = await recoveredFrom(disk)
    expect(log.recovery.tail).toMatchObject({ fromIndex: 3, reason: 'zeros below the durable mark' })
    expect(await entriesOf(log)).toEqual(entries.slice(0, 2))
    await log.close()
  })

  test('with a rotten tail nothing is written before it is cut, and everything that writes is refused', async () => {
    const { disk, entries } = await closedLog([5, 100, 300])
    disk.flipBit(firstSegment, 4096 + 128 + 192 + 30, 1)
    const before = disk.contentOf(firstSegment)
    const log = await recoveredFrom(disk)
    expect(log.rottenTail).toMatchObject({ fromIndex: 3, position: 320 })
    expect(log.recovery.tail).toEqual(log.rottenTail)
    expect(() => appendTo(log, 9, 1)).toThrow('damaged')
    expect(() => log.truncateFrom(1)).toThrow('damaged')
    await expect(log.flush()).rejects.toMatchObject({ code: 'ROTTEN' })
    await expect(log.trim(2)).rejects.toMatchObject({ code: 'ROTTEN' })
    await expect(log.scrub(0, 1)).rejects.toMatchObject({ code: 'ROTTEN' })
    await expect(log.read(3, 3, 1)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    expect(await entriesOf(log)).toEqual(entries.slice(0, 2))
    await log.close()
    expect(disk.contentOf(firstSegment).equals(before)).toBe(true)
    expect(disk.paths()).toEqual([firstSegment])
  })

  test('S1: damage in padding takes nothing along that was promised behind it', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 16_000, 1000)
    expect(await log.flush()).toBe(2)
    // The newest mark ends at the first entry; that the second segment has begun says the rest.
    const rotten = disk.clone()
    rotten.flipBit(firstSegment, 4096 + 16_064 + 100, 3)
    const left = await openTestLog(rotten)
    expect(left.recovery).toMatchObject({ lastIndex: 2, tornBytes: 0, tail: null })
    expect(left.holes).toMatchObject([{ fromIndex: 2, toIndex: 2, position: 16_064, end: 16_384 + 1088 }])
    expect(rotten.paths()).toHaveLength(2)
    await left.close()
    await log.close()
  })

  test('two damaged marks are not the work of a torn write', async () => {
    const { disk, entries } = await closedLog([5, 100, 300])
    disk.flipBit(firstSegment, 512, 0)
    disk.flipBit(firstSegment, 1024, 0)
    const log = await recoveredFrom(disk)
    expect(log.recovery.tail).toMatchObject({ fromIndex: 4, reason: 'both slots of the durable mark are damaged' })
    expect(await entriesOf(log)).toEqual(entries)
    await log.close()
  })
})

describe('folders of others', () => {
  test('another incarnation, another segment size: refused, untouched', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 10)
    await log.close()
    const before = disk.contentOf(firstSegment)
    const others = [{ incarnation: 'another' }, { segmentBytes: 32 * 1024 }]
    for (const other of others) {
      await expect(openTestLog(disk, other)).rejects.toMatchObject({ code: 'FOREIGN_FOLDER' })
    }
    expect(disk.contentOf(firstSegment).equals(before)).toBe(true)
    expect(testOptions.incarnation).not.toBe('another')
  })
})
