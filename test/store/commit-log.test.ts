import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { CommitLogApi, LogHole } from '../../store/contract.ts'
import { frameBody } from '../../store/frame.ts'
import { loseAllUnsynced, MemoryDisk } from '../../store/memory-disk.ts'
import { NodeDisk } from '../../store/node-disk.ts'
import { frameTypes } from '../../store/types.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import {
  appendTo,
  described,
  entriesOf,
  logBytes,
  newDisk,
  openTestLog,
  testEntry,
  testOptions,
} from './log-fixture.ts'

const noCaches = { tailCacheBytes: 0, blockCacheBytes: 1 }

describe('appending and reading', () => {
  test('a new log is empty', async () => {
    const log = await openTestLog(new MemoryDisk())
    expect(log).toMatchObject({ firstIndex: 1, lastIndex: 0, lastTerm: 0, durableIndex: 0, endPosition: 0 })
    expect(log.recovery).toEqual({
      firstIndex: 1,
      lastIndex: 0,
      lastTerm: 0,
      termRuns: [],
      tornBytes: 0,
      previousTerm: 0,
      configurations: [],
      holes: [],
      tail: null,
    })
    expect(log.cached(1, 1000)).toBeUndefined()
    await expect(log.read(1, 1, 1000)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await expect(log.readAt(0)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await log.close()
  })

  test('entries of all sizes and types come back by index and by position, from memory and from disk', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk)
    const sizes = [0, 1, 63, 64, 65, 1000, 5000, 100, 15_000, 0, 4032, 9000, 16_384 - 64, 3, 7000]
    const frames = appendTo(log, 3, ...sizes)
    await log.flush()
    expect(described(log.cached(1, 1_000_000)!)).toEqual(described(frames))
    expect(log.cachedAt(frames[6]!.header.position)).toBe(frames[6])
    await log.close()

    const again = await openTestLog(disk, noCaches)
    expect(again.cached(1, 1000)).toBeUndefined()
    expect(await entriesOf(again)).toEqual(described(frames))
    for (const frame of frames) {
      const read = await again.readAt(frame.header.position)
      expect(read.header).toEqual(frame.header)
      expect(read.bytes.equals(frame.bytes)).toBe(true)
      expect(frame.header.position % 64).toBe(0)
    }
    expect(again.recovery.termRuns).toEqual([{ first: 1, term: 3 }])
    await again.close()
  })

  test('body pieces are laid out one after the other', async () => {
    const log = await openTestLog(new MemoryDisk())
    const frame = log.append({
      index: 1,
      term: 1,
      type: frameTypes.command,
      storeTime: 5,
      body: [Buffer.from('ab'), Buffer.alloc(0), new Uint8Array([99])],
    })
    expect(frameBody(frame).toString()).toBe('abc')
    await log.close()
  })

  test('reads stop at `to`, at the byte limit, and return at least one frame', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 36, 36, 36, 36, 36)
    expect(described(log.cached(2, 256)!)).toEqual(['2/1:36', '3/1:36'])
    expect(described(log.cached(2, 1)!)).toEqual(['2/1:36'])
    await log.close()
    const again = await openTestLog(disk, noCaches)
    expect(described(await again.read(2, 3, 10_000))).toEqual(['2/1:36', '3/1:36'])
    expect(described(await again.read(4, 5, 1))).toEqual(['4/1:36'])
    expect(described(await again.read(1, 99, 256))).toEqual(['1/1:36', '2/1:36'])
    await expect(again.read(6, 9, 100)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await expect(again.readAt(64)).rejects.toMatchObject({ code: 'ROTTEN' })
    await expect(again.readAt(63)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await again.close()
  })

  test('old entries are found through the sparse index far behind the exact one', async () => {
    const disk = new MemoryDisk()
    const big = { segmentBytes: 64 * 1024 * 1024, zeroAheadBytes: 1024 * 1024 }
    const log = await openTestLog(disk, big)
    const count = 140_000
    for (let index = 1; index <= count; index++) {
      log.append({ index, term: 1, type: 3, storeTime: 0, body: index % 1000 === 0 ? [Buffer.alloc(700)] : [] })
    }
    await log.close()
    const again = await openTestLog(disk, { ...big, tailCacheBytes: 1000 })
    for (const index of [1, 2, 255, 256, 257, 999, 1000, 1001, 4096, 4097, 9999, 15_000, count - 1, count]) {
      const [frame] = await again.read(index, index, 1)
      expect(frame!.header.index).toBe(index)
    }
    expect(() => again.truncateFrom(2)).toThrow(/too far back/)
    await again.close()
  })

  test('many readers of a block share one read of the disk, and going forward reads ahead', async () => {
    const disk = new MemoryDisk()
    const wide = { segmentBytes: 4 * 1024 * 1024, zeroAheadBytes: 1024 * 1024, tailCacheBytes: 0 }
    const log = await openTestLog(disk, wide)
    const frames = appendTo(log, 1, ...new Array(50).fill(40_000))
    await log.flush()
    let reads = 0
    disk.schedule = async (operation) => {
      if (operation === 'read') reads++
    }
    await Promise.all(frames.slice(0, 6).map((frame) => log.readAt(frame.header.position)))
    expect(reads).toBe(1)
    await log.readAt(frames[7]!.header.position)
    // The block of that frame and the one that a reader going forward needs next.
    expect(reads).toBeGreaterThan(2)
    for (const frame of frames) await log.readAt(frame.header.position)
    expect(reads).toBe(Math.ceil(log.endPosition / (256 * 1024)))
    await log.close()
  })

  test('a block that was read at the tail is read again when the log has grown', async () => {
    const log = await openTestLog(new MemoryDisk(), { tailCacheBytes: 0 })
    appendTo(log, 1, 100)
    await log.flush()
    await log.readAt(0)
    appendTo(log, 1, 100, 100)
    await log.flush()
    expect(await entriesOf(log)).toEqual(['1/1:100', '2/1:100', '3/1:100'])
    await log.close()
  })

  test('R2: gaps and terms that go back are bugs of the caller', async () => {
    const log = await openTestLog(new MemoryDisk())
    expect(() => log.append(testEntry(2, 1, 0))).toThrow('R2')
    appendTo(log, 5, 0)
    expect(() => log.append(testEntry(2, 4, 0))).toThrow('R2')
    expect(() => log.append(testEntry(2, 5, testOptions.segmentBytes))).toThrow('S2')
    await log.close()
  })
})

describe('frames from a peer', () => {
  async function leaderFrames(): Promise<readonly Buffer[]> {
    const leader = await openTestLog(new MemoryDisk())
    const frames = appendTo(leader, 2, 100, 9000, 9000, 0, 63)
    return frames.map((frame) => frame.bytes)
  }

  test('S2: a follower that stages the leader’s frames has the same bytes, padding included', async () => {
    const [one, two] = [new MemoryDisk(), new MemoryDisk()]
    const leader = await openTestLog(one)
    const follower = await openTestLog(two)
    for (const frame of appendTo(leader, 2, 100, 9000, 9000, 0, 12_000, 5)) {
      expect(follower.appendFrame(frame.bytes).bytes).toBe(frame.bytes)
      await follower.flush()
    }
    await leader.flush()
    expect(follower.endPosition).toBe(leader.endPosition)
    expect(logBytes(one).equals(logBytes(two))).toBe(true)
    await leader.close()
    await follower.close()
  })

  test.each<readonly [string, (frames: readonly Buffer[]) => Buffer]>([
    ['empty', () => Buffer.alloc(0)],
    ['zeros', () => Buffer.alloc(64)],
    ['cut off', (frames) => frames[1]!.subarray(0, 4096)],
    ['longer than its header says', (frames) => Buffer.concat([frames[1]!, Buffer.alloc(64)])],
    ['the one before', (frames) => frames[0]!],
    ['one too far', (frames) => frames[2]!],
    ['with a flipped bit in the body', (frames) => flipped(frames[1]!, 5000)],
    ['with a flipped bit in the header', (frames) => flipped(frames[1]!, 20)],
    ['with a flipped bit in the alignment', (frames) => flipped(frames[1]!, frames[1]!.length - 1)],
  ])('a frame that is %s is refused and nothing staged', async (_name, choose) => {
    const frames = await leaderFrames()
    const log = await openTestLog(new MemoryDisk())
    log.appendFrame(frames[0]!)
    const before = log.stagedBytes
    let code: unknown
    try {
      log.appendFrame(choose(frames))
    } catch (error) {
      code = (error as { code: unknown }).code
    }
    expect(code).toBe('BAD_FRAME')
    expect(log).toMatchObject({ lastIndex: 1, stagedBytes: before })
    for (const frame of frames.slice(1)) log.appendFrame(frame)
    expect(log.lastIndex).toBe(5)
    await log.close()
  })

  test('a frame of another history does not fit the chain', async () => {
    const other = await openTestLog(new MemoryDisk())
    const ours = await openTestLog(new MemoryDisk())
    appendTo(other, 1, 100)
    appendTo(ours, 2, 100)
    const [frame] = appendTo(other, 2, 50)
    expect(() => ours.appendFrame(frame!.bytes)).toThrow('chain')
  })

  test('padding is never taken from a peer', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 16_000, 1000)
    await log.flush()
    const padding = logBytes(disk).subarray(16_064, 16_384)
    const follower = await openTestLog(new MemoryDisk())
    appendTo(follower, 1, 16_000)
    expect(() => follower.appendFrame(padding)).toThrow('padding')
  })
})

function flipped(bytes: Buffer, offset: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[offset]! ^= 0x10
  return copy
}

describe('flushing', () => {
  test('S1: a flush is fulfilled only after the sync that covers it', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    const random = seededNumbers(4)
    let appended = 0
    for (let round = 0; round < 60; round++) {
      const sizes = Array.from({ length: 1 + Math.floor(random() * 4) }, () => Math.floor(random() * 6000))
      appendTo(log, 1, ...sizes)
      appended += sizes.length
      expect(log.durableIndex).toBeLessThan(appended)
      const durable = await log.flush()
      expect(durable).toBe(appended)
      const left = await openTestLog(disk.clone().crash(loseAllUnsynced))
      expect(left.lastIndex).toBe(durable)
      expect(left.recovery.tail).toBeNull()
    }
    await log.close()
  })

  test('a lying sync is seen by the same check', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    disk.lyingSync = true
    appendTo(log, 1, 100)
    expect(await log.flush()).toBe(1)
    expect((await openTestLog(disk.clone().crash(loseAllUnsynced))).lastIndex).toBe(0)
  })

  test('what is staged while a flush runs goes with the next, in one write and one sync', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk, { segmentBytes: 1024 * 1024, zeroAheadBytes: 512 * 1024 })
    appendTo(log, 1, 10)
    await log.flush()
    const operations: string[] = []
    disk.schedule = async (operation) => {
      operations.push(operation)
    }
    appendTo(log, 1, 100, 100, 100)
    const first = log.flush()
    appendTo(log, 1, 100)
    const second = log.flush()
    appendTo(log, 1, 100)
    const third = log.flush()
    expect(await first).toBe(4)
    expect(log).toMatchObject({ durableIndex: 4, stagedBytes: 384 })
    expect(await second).toBe(6)
    expect(await third).toBe(6)
    // Frames and the mark of the flush before, one sync for both.
    expect(operations).toEqual(['write', 'write', 'sync', 'write', 'write', 'sync'])
    disk.schedule = undefined
    await log.close()
  })

  test('what is not durable stays in memory however small the cache is', async () => {
    const log = await openTestLog(new MemoryDisk(), { tailCacheBytes: 0 })
    appendTo(log, 1, 100)
    const first = log.flush()
    appendTo(log, 1, 200, 300)
    expect(await first).toBe(1)
    expect(log.cached(1, 1000)).toBeUndefined()
    expect(described(log.cached(2, 10_000)!)).toEqual(['2/1:200', '3/1:300'])
    expect(await entriesOf(log)).toEqual(['1/1:100', '2/1:200', '3/1:300'])
    await log.close()
  })

  test('only one flush runs at a time, in whatever moment another is asked for', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk, { segmentBytes: 1024 * 1024, zeroAheadBytes: 1024 * 1024 })
    const flushes: Promise<number>[] = []
    for (let turn = 0; turn < 500; turn++) {
      if (turn % 7 === 0) appendTo(log, 1, 100)
      flushes.push(log.flush())
      await undefined
    }
    const durable = await Promise.all(flushes)
    expect(durable.at(-1)).toBe(log.lastIndex)
    expect(durable).toEqual([...durable].sort((a, b) => a - b))
    await log.close()
    expect(await entriesOf(await openTestLog(disk, { segmentBytes: 1024 * 1024 }))).toHaveLength(log.lastIndex)
  })

  test('a flush is split at flushBytesMax and at segments, in order', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk, { flushBytesMax: 4096 })
    const frames = appendTo(log, 1, ...new Array(30).fill(2000))
    const covered: number[] = []
    disk.schedule = async (operation) => {
      if (operation === 'sync') covered.push(log.durableIndex)
    }
    expect(await log.flush()).toBe(30)
    expect(new Set(covered).size).toBeGreaterThan(10)
    await log.close()
    expect(await entriesOf(await openTestLog(disk, noCaches))).toEqual(described(frames))
  })

  test('S2: the same entries make the same bytes, whatever the flushes and cuts in between', async () => {
    const random = seededNumbers(8)
    const sizes = Array.from({ length: 60 }, () => Math.floor(random() * 5000))
    const plainDisk = new MemoryDisk()
    const plain = await openTestLog(plainDisk)
    appendTo(plain, 7, ...sizes)
    await plain.close()
    for (let seed = 0; seed < 5; seed++) {
      const choose = seededNumbers(seed)
      const disk = new MemoryDisk()
      let log = await openTestLog(disk, { flushBytesMax: 3000 + seed * 3000, zeroAheadBytes: 4096 * (1 + (seed % 4)) })
      while (log.lastIndex < sizes.length) {
        const what = choose()
        if (what < 0.7) appendTo(log, 7, sizes[log.lastIndex]!)
        else if (what < 0.85) await log.flush()
        else if (what < 0.9) {
          await log.close()
          log = await openTestLog(disk)
        } else {
          const keep = log.lastIndex - Math.floor(choose() * Math.min(3, log.lastIndex))
          // Entries of another leader that came and went.
          appendTo(log, 7, 1234, 8000)
          if (choose() < 0.7) await log.flush()
          log.truncateFrom(keep + 1)
        }
      }
      await log.close()
      const [expected, actual] = [logBytes(plainDisk), logBytes(disk)]
      const length = Math.max(expected.length, actual.length)
      expect(Buffer.concat([actual], length).equals(Buffer.concat([expected], length))).toBe(true)
    }
  })

  test('frames go only into space that was zeroed and synced before', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    const random = seededNumbers(11)
    for (let round = 0; round < 40; round++) {
      appendTo(log, 1, Math.floor(random() * 9000))
      disk.schedule = async (operation, path) => {
        if (operation !== 'sync') return
        const usedEnd = disk.contentOf(path).findLastIndex((byte) => byte !== 0) + 1
        expect(disk.durableContentOf(path).length).toBeGreaterThanOrEqual(usedEnd)
      }
      await log.flush()
      disk.schedule = undefined
    }
    await log.close()
  })
})

describe('cutting', () => {
  test('staged entries are dropped in memory, the chain goes on from what stays', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 10, 20, 30)
    log.truncateFrom(2)
    expect(log).toMatchObject({ lastIndex: 1, lastTerm: 1, stagedBytes: 128, endPosition: 128 })
    expect(log.cached(2, 1000)).toBeUndefined()
    appendTo(log, 2, 40)
    expect(await log.flush()).toBe(2)
    await log.close()
    const again = await openTestLog(disk)
    expect(await entriesOf(again)).toEqual(['1/1:10', '2/2:40'])
    expect(again.recovery.termRuns).toEqual([
      { first: 1, term: 1 },
      { first: 2, term: 2 },
    ])
    await again.close()
  })

  test('durable entries go, across segments, and zeros are all that is left behind the tail', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk, { tailCacheBytes: 0 })
    appendTo(log, 1, ...new Array(20).fill(3000))
    await log.flush()
    await log.readAt(0)
    log.truncateFrom(3)
    expect(log).toMatchObject({ lastIndex: 2, durableIndex: 2 })
    await expect(log.read(3, 3, 10)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    expect(await log.flush()).toBe(2)
    expect(
      logBytes(disk)
        .subarray(log.endPosition)
        .every((byte) => byte === 0),
    ).toBe(true)
    appendTo(log, 2, 500, 16_000, 500)
    expect(await log.flush()).toBe(5)
    expect(await entriesOf(log)).toEqual(['1/1:3000', '2/1:3000', '3/2:500', '4/2:16000', '5/2:500'])
    await log.close()
    expect(await entriesOf(await openTestLog(disk))).toHaveLength(5)
  })

  test('everything can be cut', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, ...new Array(8).fill(5000))
    await log.flush()
    log.truncateFrom(1)
    expect(log).toMatchObject({ lastIndex: 0, lastTerm: 0, endPosition: 0, durableIndex: 0 })
    await log.flush()
    appendTo(log, 4, 77)
    await log.close()
    expect(await entriesOf(await openTestLog(disk))).toEqual(['1/4:77'])
  })

  test('padding is cut with the entry it belongs to', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 16_000, 5000)
    await log.flush()
    log.truncateFrom(2)
    expect(log.endPosition).toBe(16_064)
    appendTo(log, 2, 100)
    await log.flush()
    expect(log.endPosition).toBe(16_064 + 192)
    await log.close()
    expect(await entriesOf(await openTestLog(disk))).toEqual(['1/1:16000', '2/2:100'])
  })

  test('S1: a cut while a flush runs is never called durable, at whatever disk operation it comes', async () => {
    for (let at = 1; at < 40; at++) {
      const disk = await newDisk()
      const log = await openTestLog(disk)
      appendTo(log, 1, 3000, 3000)
      await log.flush()
      appendTo(log, 1, 3000, 9000, 3000)
      let count = 0
      disk.schedule = async () => {
        count++
        if (count !== at) return
        log.truncateFrom(2)
        appendTo(log, 9, 111, 222)
      }
      await log.flush()
      expect(log.durableIndex).toBe(count >= at ? Math.min(log.durableIndex, 3) : 5)
      const durable = log.durableIndex
      const expected = (await entriesOf(log)).slice(0, durable)
      disk.schedule = undefined
      const left = await openTestLog(disk.clone().crash(loseAllUnsynced))
      expect(left.recovery.tail).toBeNull()
      expect(await entriesOf(left)).toEqual(expected)
      await log.flush()
      await log.close()
      expect(await entriesOf(await openTestLog(disk))).toEqual(
        await entriesOf(log).catch(() => ['1/1:3000', '2/9:111', '3/9:222']),
      )
      if (count < at) return
    }
  })

  test('a read that waits for the disk while its entries are cut ends with OUT_OF_RANGE', async () => {
    const disk = new MemoryDisk()
    const log = await openTestLog(disk, { tailCacheBytes: 0 })
    appendTo(log, 1, 100, 100, 100)
    await log.flush()
    const gate = gateAt(disk, 'read')
    const reading = log.read(1, 3, 10_000)
    await gate.reached
    log.truncateFrom(2)
    appendTo(log, 2, 50, 60)
    gate.open()
    await expect(reading).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await log.flush()
    expect(await entriesOf(log)).toEqual(['1/1:100', '2/2:50', '3/2:60'])
    await log.close()
  })
})

/** Holds the first operation of this kind until opened. */
function gateAt(disk: MemoryDisk, wanted: string): { readonly reached: Promise<void>; open(): void } {
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  const reached = new Promise<void>((resolve) => {
    disk.schedule = async (operation) => {
      if (operation !== wanted) return
      resolve()
      await opened
    }
  })
  return { reached, open }
}

describe('on real files', () => {
  async function fill(log: CommitLogApi): Promise<void> {
    for (let round = 0; round < 30; round++) {
      appendTo(log, 1, 10, 700, 3000)
      await log.flush()
    }
    log.truncateFrom(80)
    appendTo(log, 2, 5)
    await log.flush()
  }

  test('the log survives a restart, byte for byte as in memory', async () => {
    const root = await mkdtemp(join(tmpdir(), 'ledgermq-log-'))
    try {
      const disk = new NodeDisk(root)
      const memory = new MemoryDisk()
      const [real, simulated] = [await openTestLog(disk), await openTestLog(memory)]
      await fill(real)
      await fill(simulated)
      await real.close()
      await simulated.close()
      const again = await openTestLog(disk, noCaches)
      expect(again.recovery).toMatchObject({ lastIndex: 80, lastTerm: 2, tornBytes: 0, tail: null })
      expect(await entriesOf(again)).toEqual(await entriesOf(await openTestLog(memory)))
      await again.close()
      for (const path of memory.paths()) {
        const file = await disk.open(path, { create: false })
        const bytes = await file.read(0, await file.size())
        expect(bytes.subarray(4096).equals(memory.contentOf(path).subarray(4096))).toBe(true)
        await file.close()
      }
    } finally {
      await rm(root, { recursive: true })
    }
  })
})

test('a closed log reads nothing: its descriptors may be those of other files by then', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ledgermq-closed-'))
  try {
    const disk = new NodeDisk(directory)
    const found: LogHole[] = []
    const log = await openTestLog(disk, { ...noCaches, onRot: (hole) => found.push(hole) })
    const frames = appendTo(log, 1, 3000, 3000, 3000)
    await log.flush()
    await log.close()
    await writeFile(join(directory, 'other'), Buffer.alloc(30_000, 7))
    const others = await Promise.all([1, 2, 3, 4, 5].map(() => disk.open('other', { create: false })))
    for (const read of [() => log.readAt(frames[0]!.header.position), () => log.read(2, 2, 1)]) {
      await expect(read()).rejects.toMatchObject({ code: 'CLOSED' })
    }
    expect(found).toEqual([])
    for (const other of others) await other.close()
  } finally {
    await rm(directory, { recursive: true })
  }
})
