/** Repair and scrubbing of an open log: what fits, what does not, crashes, and the log going on meanwhile. */
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { CommitLogApi, LogHole } from '../../store/contract.ts'
import { encodeFrame, isZero } from '../../store/frame.ts'
import { loseAllUnsynced, type MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import { NodeDisk } from '../../store/node-disk.ts'
import type { Frame } from '../../store/types.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import {
  appendTo,
  crashEverywhere,
  described,
  entriesOf,
  logBytes,
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
  pathOf,
  ranges,
  repairAll,
  rotBody,
  rotHeader,
} from './rot-fixture.ts'

const { segmentBytes } = testOptions
const sizes = [5000, 3000, 6000, 9000, 100, 3000, 9000, 200, 9000, 9000, 100]

/** Scrubs from the beginning to the end and returns the ranges that were found. */
async function scrubAll(log: CommitLogApi, bytesMax: number): Promise<readonly string[]> {
  const found: string[] = []
  let position = log.origin.position
  do {
    const { next, hole } = await log.scrub(position, bytesMax)
    if (hole !== null) found.push(`${hole.fromIndex}-${hole.toIndex}`)
    position = next
  } while (position !== log.origin.position)
  return found
}

describe('frames for a hole', () => {
  test('are refused when they are not the ones that were lost', async () => {
    const closed = await closedLog(sizes)
    const other = await closedLog(
      sizes.map((size) => size),
      [2],
    )
    const { disk, frames } = closed
    rotHeader(disk, frames[4]!)
    rotHeader(disk, frames[5]!)
    const before = logBytes(disk)
    const log = await openTestLog(disk, options)
    expect(ranges(log.holes)).toEqual(['5-6'])
    const forged = Buffer.from(frames[4]!.bytes)
    forged[70]! ^= 1
    // Fits behind what is there, but is not what the next frame follows.
    const { header } = frames[5]!
    const twin = encodeFrame(testEntry(6, 1, header.bodyLength), { ...header })
    const other6 = encodeFrame({ ...testEntry(6, 1, 0), body: [Buffer.alloc(header.bodyLength, 7)] }, { ...header })
    expect(twin.bytes.equals(frames[5]!.bytes)).toBe(true)
    const bad: readonly (readonly Frame[])[] = [
      [frames[4]!, other6],
      [frames[4]!, encodeFrame(testEntry(6, 1, 2000), { ...header })],
      other.frames.slice(4, 6),
      [frames[4]!, other.frames[5]!],
      [frames[4]!, frames[5]!, frames[6]!],
      [{ header: frames[4]!.header, bytes: forged }],
      [frames[4]!, frames[4]!],
    ]
    for (const attempt of bad) await expect(log.repair(attempt)).rejects.toMatchObject({ code: 'BAD_FRAME' })
    for (const attempt of [[], [frames[5]!], [frames[0]!]]) {
      await expect(log.repair(attempt)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    }
    expect(ranges(log.holes)).toEqual(['5-6'])
    expect(logBytes(disk).equals(before)).toBe(true)
    await log.close()
  })

  test('may come in pieces: what is left of the hole stays one', async () => {
    const closed = await closedLog(sizes, [1, 1, 1, 1, 2, 2, 2, 3])
    const { disk, frames } = closed
    await disk.unlink(pathOf(segmentBytes))
    const log = await openTestLog(disk, options)
    expect(ranges(log.holes)).toEqual(['4-7'])
    await log.repair(frames.slice(3, 5))
    expect(ranges(log.holes)).toEqual(['6-7'])
    await expectReads(log, frames)
    await log.close()
    const again = await openTestLog(disk, options)
    expect(ranges(again.holes)).toEqual(['6-7'])
    expect(again.recovery.termRuns).toEqual([
      { first: 1, term: 1 },
      { first: 5, term: 2 },
      { first: 8, term: 3 },
    ])
    await again.repair(frames.slice(5, 6))
    await repairAll(again, disk, closed)
  })

  test('find their terms again', async () => {
    const { disk, frames } = await closedLog([10, 10, 10, 10, 10, 10], [1, 2, 3, 3, 4, 5])
    for (const at of [1, 2, 3, 4]) rotHeader(disk, frames[at]!)
    const log = await openTestLog(disk, options)
    expect(log.holes).toMatchObject([{ fromIndex: 2, toIndex: 5, termsKnown: false }])
    expect(log.recovery.termRuns).toEqual([
      { first: 1, term: 1 },
      { first: 6, term: 5 },
    ])
    await log.repair(frames.slice(1, 5))
    log.truncateFrom(5)
    expect(log.lastTerm).toBe(3)
    log.truncateFrom(3)
    expect(log.lastTerm).toBe(2)
    await log.close()
  })

  test('find their terms again at the beginning of the log, too, where no entry tells any', async () => {
    const { disk, frames } = await closedLog([10, 10, 10, 10], [1, 1, 2, 2])
    for (const at of [0, 1, 2]) rotHeader(disk, frames[at]!)
    const log = await openTestLog(disk, options)
    expect(log.holes).toMatchObject([{ fromIndex: 1, toIndex: 3, termsKnown: false }])
    // Every entry has a run, if only a guessed one.
    expect(log.recovery.termRuns).toEqual([
      { first: 1, term: 0 },
      { first: 4, term: 2 },
    ])
    await log.repair(frames.slice(0, 3))
    for (const term of [2, 1, 1]) {
      log.truncateFrom(log.lastIndex)
      expect(log.lastTerm).toBe(term)
    }
    await log.close()
  })

  test('whose sync failed are written again by the next start, because the page cache shows what no disk holds', async () => {
    const { disk, frames } = await closedLog([10, 10, 10], [1, 1, 1])
    rotBody(disk, frames[1]!)
    const log = await openTestLog(disk, options)
    const { holes } = log
    expect(ranges(holes)).toEqual(['2-2'])
    disk.fail('sync', { code: 'EIO' })
    await expect(log.repair(frames.slice(1, 2))).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    const alive = disk.kill()
    const again = await openTestLog(alive, { ...options, doubtful: holes })
    expect(again.holes).toEqual([])
    await again.close()
    const last = await openTestLog(alive.crash(loseAllUnsynced), options)
    expect(last.holes).toEqual([])
    await last.close()
  })

  test('whose sync failed are written again behind rot that came since, too', async () => {
    const { disk, frames } = await closedLog([10, 5000, 5000, 5000, 10, 10])
    for (const at of [1, 4]) rotHeader(disk, frames[at]!)
    const log = await openTestLog(disk, options)
    const { holes } = log
    expect(ranges(holes)).toEqual(['2-5'])
    disk.fail('sync', { code: 'EIO' })
    await expect(log.repair(frames.slice(1, 5))).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    const alive = disk.kill()
    rotBody(alive, frames[2]!)
    const again = await openTestLog(alive, { ...options, doubtful: holes })
    expect(ranges(again.holes)).toEqual(['3-3'])
    await again.close()
    const last = await openTestLog(alive.crash(loseAllUnsynced), options)
    expect(ranges(last.holes)).toEqual(['3-3'])
    await last.close()
  })

  test('without space for a lost file are refused, and fit later', async () => {
    const closed = await closedLog(sizes)
    const { disk, frames } = closed
    await disk.unlink(pathOf(segmentBytes))
    const log = await openTestLog(disk, options)
    disk.capacityBytes = 0
    await expect(log.repair(frames.slice(3, 7))).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(ranges(log.holes)).toEqual(['4-7'])
    disk.capacityBytes = Number.POSITIVE_INFINITY
    await repairAll(log, disk, closed)
  })

  test('a failed write of theirs is final', async () => {
    const { disk, frames } = await closedLog(sizes)
    rotBody(disk, frames[4]!)
    const log = await openTestLog(disk, options)
    disk.fail('sync', { code: 'EIO' })
    await expect(log.repair([frames[4]!])).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(log.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await log.close()
  })

  test.each([
    ['a body', (disk: MemoryDisk, frames: readonly Frame[]) => rotBody(disk, frames[4]!)],
    ['pages over a segment end', (disk: MemoryDisk) => overwrite(disk, 3 * 4096, Buffer.alloc(4096))],
    ['a missing file', (disk: MemoryDisk) => disk.unlink(pathOf(segmentBytes))],
    [
      'two missing files',
      (disk: MemoryDisk) => disk.unlink(pathOf(segmentBytes)).then(() => disk.unlink(pathOf(2 * segmentBytes))),
    ],
  ])('%s: a crash at any moment leaves the hole, or a part of it, or none', async (_name, damage) => {
    const closed = await closedLog(sizes, [1, 1, 1, 1, 2, 2, 2, 3])
    const { disk: base, frames } = closed
    await damage(base, frames)
    await base.syncDirectory('log')
    let crashes = 0
    const work = async (disk: MemoryDisk): Promise<void> => {
      const log = await openTestLog(disk, options)
      const [hole] = log.holes
      const half = hole!.fromIndex + Math.floor((hole!.toIndex - hole!.fromIndex) / 2)
      await log.repair(frames.slice(hole!.fromIndex - 1, half))
      if (half < hole!.toIndex) await log.repair(frames.slice(half, hole!.toIndex))
      await log.close()
    }
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      for (const choice of [loseAllUnsynced, randomCrash(seededNumbers(crashes))]) {
        const left = disk.clone().crash(choice)
        left.schedule = undefined
        const log = await openTestLog(left, options)
        expect(log.rottenTail).toBeNull()
        expect(log.holes.length).toBeLessThanOrEqual(1)
        await expectReads(log, frames)
        await repairAll(log, left, closed)
      }
    }
    expect(crashes).toBeGreaterThan(15)
  })
})

describe('rot of a running log', () => {
  async function opened(terms: readonly number[] = []) {
    const closed = await closedLog(sizes, terms)
    const told: LogHole[] = []
    const log = await openTestLog(closed.disk, { ...options, onRot: (hole) => told.push(hole) })
    return { ...closed, log, told }
  }

  test('is found by the read that meets it, told once, and repaired', async () => {
    const { log, disk, frames, told, bytes } = await opened([1, 1, 2, 3])
    rotBody(disk, frames[1]!)
    rotHeader(disk, frames[4]!)
    await expect(log.read(1, 6, 99_999)).resolves.toHaveLength(1)
    await expect(log.read(2, 6, 99_999)).rejects.toMatchObject({
      code: 'ROTTEN',
      details: { fromIndex: 2, toIndex: 2 },
    })
    await expect(log.readAt(frames[4]!.header.position)).rejects.toMatchObject({
      details: { fromIndex: 5, toIndex: 5 },
    })
    expect(ranges(told)).toEqual(['2-2', '5-5'])
    expect(log.holes).toEqual(told)
    expect(told.every(({ termsKnown }) => termsKnown)).toBe(true)
    await expectReads(log, frames)
    expect(told).toHaveLength(2)
    await repairAll(log, disk, { disk, frames, bytes })
  })

  test.each([1, 5000, 1_000_000])(
    'is found by scrubbing %i bytes at a time, over all places and pages',
    async (bytesMax) => {
      const { disk: base, frames, bytes } = await closedLog(sizes, [1, 1, 2, 3])
      expect(await scrubAll(await openTestLog(base.clone(), options), bytesMax)).toEqual([])
      const end = frames.at(-1)!.header.position + frames.at(-1)!.header.frameLength
      for (let position = 32; position < end; position += 1024 + 64) {
        const disk = base.clone()
        const log = await openTestLog(disk, options)
        disk.flipBit(pathOf(position), offsetOf(position), position % 8)
        const found = await scrubAll(log, bytesMax)
        expect(found).toHaveLength(1)
        const lost = frames.findIndex(({ header }) => header.position + header.frameLength > position) + 1
        expect(found).toEqual([`${lost}-${lost}`])
        expect(await scrubAll(log, bytesMax)).toEqual([])
        await repairAll(log, disk, { disk, frames, bytes })
      }
    },
  )

  test('is found at the very end, and across several headers', async () => {
    const { log, disk, frames } = await opened()
    rotHeader(disk, frames[10]!)
    rotHeader(disk, frames[9]!)
    rotHeader(disk, frames[7]!)
    await expect(log.read(11, 11, 1)).rejects.toMatchObject({ details: { fromIndex: 10, toIndex: 11 } })
    expect(log).toMatchObject({ lastIndex: 11, rottenTail: null })
    await expect(log.read(8, 8, 1)).rejects.toMatchObject({ details: { fromIndex: 8, toIndex: 8 } })
    const more = appendTo(log, 5, 3000, 9000)
    await log.flush()
    await expectReads(log, [...frames, ...more])
    for (const { fromIndex, toIndex } of [...log.holes]) await log.repair(frames.slice(fromIndex - 1, toIndex))
    await log.close()
    const again = await openTestLog(disk, options)
    expect(again.holes).toEqual([])
    await expectReads(again, [...frames, ...more])
    await again.close()
  })

  test('that the disk takes back was none', async () => {
    const { log, disk, frames, told } = await opened()
    disk.fail('read', { code: 'EIO' })
    await expect(log.readAt(0)).rejects.toMatchObject({ code: 'ROTTEN' })
    expect(told).toEqual([])
    await expectReads(log, frames)
    disk.fail('read', { code: 'EIO', times: 50, path: pathOf(0) })
    await expect(log.readAt(0)).rejects.toMatchObject({ code: 'ROTTEN', details: { fromIndex: 1 } })
    expect(told).toHaveLength(1)
    await log.close()
  })

  test('does not hinder appending, flushing and cutting, and goes with what is cut', async () => {
    const { log, disk, frames } = await opened()
    rotHeader(disk, frames[7]!)
    rotHeader(disk, frames[2]!)
    await scrubAll(log, 4096)
    expect(ranges(log.holes)).toEqual(['3-3', '8-8'])
    appendTo(log, 2, 4000)
    await log.flush()
    expect(() => log.truncateFrom(4)).not.toThrow()
    expect(log).toMatchObject({ lastIndex: 3, lastTerm: 1 })
    expect(ranges(log.holes)).toEqual(['3-3'])
    appendTo(log, 3, 700)
    await log.flush()
    await expect(log.repair(frames.slice(7, 8))).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await log.close()
    const again = await openTestLog(disk, options)
    expect(ranges(again.holes)).toEqual(['3-3'])
    await again.repair(frames.slice(2, 3))
    expect(await entriesOf(again)).toEqual([...described(frames.slice(0, 3)), '4/3:700'])
    again.truncateFrom(3)
    await again.close()
  })

  test('inside a hole nothing can be cut, at its beginning everything', async () => {
    const { disk, frames } = await closedLog([10, 10, 10, 10, 10], [1, 1, 2, 2, 3])
    for (const at of [1, 2]) rotHeader(disk, frames[at]!)
    const log = await openTestLog(disk, options)
    expect(log.holes).toMatchObject([{ fromIndex: 2, toIndex: 3, termsKnown: false }])
    for (const index of [3, 4]) expect(() => log.truncateFrom(index)).toThrow(/entries 2 to 3 are damaged/)
    expect(log.lastIndex).toBe(5)
    log.truncateFrom(5)
    log.truncateFrom(2)
    expect(log).toMatchObject({ lastIndex: 1, holes: [] })
    appendTo(log, 4, 20)
    await log.close()
    expect(await entriesOf(await openTestLog(disk, options))).toEqual(['1/1:10', '2/4:20'])
  })

  test('is trimmed away', async () => {
    const { log, disk, frames } = await opened()
    disk.flipBit(pathOf(0), offsetOf(frames[2]!.header.position + frames[2]!.header.frameLength), 1)
    rotBody(disk, frames[1]!)
    await scrubAll(log, 4096)
    expect(ranges(log.holes)).toEqual(['2-2', '4-4'])
    expect(await log.trim(4)).toBe(4)
    expect(log.holes).toMatchObject([{ fromIndex: 4, toIndex: 4, position: segmentBytes }])
    await log.repair(frames.slice(3, 4))
    await expectReads(log, frames.slice(3))
    await log.close()
  })

  test('says of a segment whose beginning nobody knows no more than the hole does, and a trim gets past it', async () => {
    const { disk, frames } = await closedLog(sizes)
    await disk.unlink(pathOf(segmentBytes))
    await disk.unlink(pathOf(2 * segmentBytes))
    const log = await openTestLog(disk, options)
    expect(ranges(log.holes)).toEqual(['4-9'])
    // Whoever trims to what a segment says must not lose anything behind it.
    expect(log.segments().map(({ firstIndex }) => firstIndex)).toEqual([1, 4, 4, 9, 10])
    expect(await log.trim(9)).toBe(9)
    expect(ranges(log.holes)).toEqual(['9-9'])
    await log.repair(frames.slice(8, 9))
    await expectReads(log, frames.slice(8))
    await log.close()
  })
})

test('a repair beside cuts, flushes, trims and scrubs leaves only zeros behind the tail', async () => {
  const closed = await closedLog(sizes)
  rotBody(closed.disk, closed.frames[9]!)
  rotHeader(closed.disk, closed.frames[6]!)
  const outcomes = new Set<string>()
  for (let seed = 1; seed <= 80; seed++) {
    const random = seededNumbers(seed)
    const disk = closed.disk.clone()
    const log = await openTestLog(disk, options)
    disk.schedule = async () => {
      for (let turns = Math.floor(random() * 12); turns > 0; turns--) await undefined
    }
    const turn = async (most: number): Promise<void> => {
      for (let turns = Math.floor(random() * most); turns > 0; turns--) await undefined
    }
    const repairs = [log.repair(closed.frames.slice(9, 10)), log.repair(closed.frames.slice(6, 7))]
    const scrub = scrubAll(log, 20_000)
    await turn(300)
    log.truncateFrom(9)
    const trim = log.trim(7)
    await turn(300)
    const more = appendTo(log, 2, 4000)
    await log.flush()
    for (const { status } of await Promise.allSettled(repairs)) outcomes.add(status)
    await Promise.all([trim, scrub])
    await log.flush()
    await log.close()
    disk.schedule = undefined
    const again = await openTestLog(disk, options)
    expect(again.recovery).toMatchObject({ tornBytes: 0, tail: null, lastIndex: 9 })
    await expectReads(again, [...closed.frames.slice(6, 8), ...more])
    await again.close()
  }
  expect([...outcomes].sort()).toEqual(['fulfilled', 'rejected'])
})

test('a cut waits for the repair that writes into its range', async () => {
  const { disk, frames } = await closedLog(sizes)
  rotBody(disk, frames[9]!)
  const log = await openTestLog(disk, options)
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  let isHeld = false
  disk.schedule = (operation) => {
    if (operation !== 'write' || isHeld) return Promise.resolve()
    isHeld = true
    return held
  }
  const repair = log.repair(frames.slice(9, 10))
  while (!isHeld) await undefined
  log.truncateFrom(10)
  const flush = log.flush()
  await new Promise((resolve) => setImmediate(resolve))
  release()
  await expect(repair).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
  await flush
  expect(isZero(logBytes(disk).subarray(log.endPosition))).toBe(true)
  await log.close()
})

test('S3: random work, rot, repairs, trims and crashes never serve a wrong byte', async () => {
  for (let seed = 1; seed <= 60; seed++) await randomLife(seed)
})

/** What was durable stays there or is told to be damaged; what is read is what was written. */
async function randomLife(seed: number): Promise<void> {
  const random = seededNumbers(seed)
  const below = (limit: number): number => Math.floor(random() * limit)
  const own = { ...options, tailCacheBytes: random() < 0.5 ? 0 : 20_000 }
  let disk = await newDisk()
  let log = await openTestLog(disk, own)
  const line: Frame[] = []
  const isTrue = async (): Promise<void> => {
    for (let index = log.firstIndex; index <= log.lastIndex; index++) {
      const result = await log.read(index, index, 1).catch((error: unknown) => error)
      if (Array.isArray(result)) expect(result[0].bytes.equals(line[index - 1]!.bytes)).toBe(true)
      else expect(result).toMatchObject({ code: 'ROTTEN' })
    }
  }
  for (let step = 0; step < 40; step++) {
    const what = random()
    if (what < 0.4) {
      line.push(
        ...appendTo(log, Math.max(1, log.lastTerm + (random() < 0.2 ? 1 : 0)), below(random() < 0.4 ? 9000 : 300)),
      )
      if (random() < 0.8) await log.flush()
    } else if (what < 0.5 && log.lastIndex > log.firstIndex) {
      const from = log.lastIndex - below(3)
      try {
        log.truncateFrom(Math.max(log.firstIndex, from))
        line.length = log.lastIndex
        line.push(...appendTo(log, log.lastTerm + 1, below(3000)))
        await log.flush()
      } catch (error) {
        expect(error).toMatchObject({ code: 'ROTTEN' })
      }
    } else if (what < 0.55) await log.trim(log.firstIndex + below(6))
    else if (what < 0.7 && log.durableIndex >= log.firstIndex) {
      const position = log.origin.position + below(Math.max(1, log.endPosition - log.origin.position))
      const width = random() < 0.5 ? 0 : below(6000)
      if (width === 0) disk.flipBit(pathOf(position), offsetOf(position), below(8))
      else
        await overwrite(
          disk,
          position,
          Buffer.alloc(Math.min(width, segmentBytes - (position % segmentBytes)), below(2)),
        )
      if (random() < 0.5) await scrubAll(log, 1 + below(9000))
    } else if (what < 0.85) {
      const [hole] = log.holes
      if (hole !== undefined)
        await log.repair(line.slice(hole.fromIndex - 1, hole.toIndex - below(hole.toIndex - hole.fromIndex + 1)))
    } else {
      await log.flush()
      const durable = log.durableIndex
      if (random() < 0.5) await log.close()
      disk = disk.crash(random() < 0.5 ? loseAllUnsynced : randomCrash(random))
      log = await openTestLog(disk, own)
      if (log.rottenTail !== null) await log.cutRottenTail()
      else if (log.origin.index === 0 || log.lastIndex > 0) expect(log.lastIndex).toBeLessThanOrEqual(durable)
      line.length = log.lastIndex
    }
    await isTrue()
  }
  for (let hole = log.holes[0]; hole !== undefined; hole = log.holes[0]) {
    await log.repair(line.slice(hole.fromIndex - 1, hole.toIndex))
  }
  await isTrue()
  await log.close()
}

describe('a hole over missing files that goes while they are made anew', () => {
  /** Holds up the first write into a new file, and does the work meanwhile. */
  async function during(work: (log: CommitLogApi, fill: () => void) => Promise<void>): Promise<void> {
    const { disk, frames } = await closedLog(sizes)
    await disk.unlink(pathOf(segmentBytes))
    await disk.unlink(pathOf(2 * segmentBytes))
    const log = await openTestLog(disk, options)
    const [hole] = log.holes
    let fill = (): void => {}
    const filling = new Promise<void>((begun) => {
      disk.schedule = (operation, path) => {
        if (operation !== 'write' || path !== pathOf(segmentBytes)) return Promise.resolve()
        begun()
        return new Promise((resolve) => {
          fill = () => {
            disk.schedule = undefined
            resolve()
          }
        })
      }
    })
    const repair = expect(log.repair(frames.slice(hole!.fromIndex - 1, hole!.toIndex))).rejects.toMatchObject({
      code: 'OUT_OF_RANGE',
    })
    await filling
    await work(log, () => fill())
    await repair
    appendTo(log, 1, 100)
    await log.flush()
    await log.close()
    expect((await openTestLog(disk, options)).holes).toEqual([])
  }

  test('by a trim: the log goes on, and the files are deleted', async () => {
    await during(async (log, fill) => {
      const trimmed = log.trim(10)
      fill()
      expect(await trimmed).toBe(10)
    })
  })

  test('by a cut: the log goes on behind it', async () => {
    await during(async (log, fill) => {
      log.truncateFrom(2)
      const flushed = log.flush()
      fill()
      expect(await flushed).toBe(1)
    })
  })
})

test('on real files: rot, missing files and repair', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ledgermq-rot-'))
  try {
    const disk = new NodeDisk(directory)
    const log = await openTestLog(disk, options)
    const frames = appendTo(log, 1, ...sizes)
    await log.close()
    const file = await open(join(directory, pathOf(0)), 'r+')
    await file.write(Buffer.alloc(4096), 0, 4096, offsetOf(4096))
    await file.truncate(offsetOf(segmentBytes - 64))
    await file.close()
    await rm(join(directory, pathOf(2 * segmentBytes)))
    const again = await openTestLog(disk, options)
    expect(again.rottenTail).toBeNull()
    expect(ranges(again.holes)).toEqual(['1-2', '4-4', '7-9'])
    await expectReads(again, frames)
    for (const { fromIndex, toIndex } of [...again.holes]) await again.repair(frames.slice(fromIndex - 1, toIndex))
    await expectReads(again, frames)
    expect(await scrubAll(again, 10_000)).toEqual([])
    await again.close()
    const healed = await openTestLog(disk, options)
    expect(healed.holes).toEqual([])
    await expectReads(healed, frames)
    await healed.close()
  } finally {
    await rm(directory, { recursive: true })
  }
})
