/** A log that begins later than entry 1: made so, or trimmed. */
import { describe, expect, test } from 'vitest'
import type { LogOrigin } from '../../store/contract.ts'
import { loseAllUnsynced, type MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import { segmentName } from '../../store/segment.ts'
import { frameTypes } from '../../store/types.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import { appendTo, crashEverywhere, described, entriesOf, newDisk, openTestLog, testOptions } from './log-fixture.ts'

const origin: LogOrigin = { position: 3 * testOptions.segmentBytes, index: 70, term: 4, checksum: 0x1234_5678 }
const noCaches = { tailCacheBytes: 0, blockCacheBytes: 1 }
const sizes = [9000, 9000, 300, 9000, 9000, 200, 100]

describe('a log that is created with an origin', () => {
  test('begins behind it, and keeps it without being told again', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, { origin })
    expect(log).toMatchObject({ origin, firstIndex: 71, previousTerm: 4, lastIndex: 70, lastTerm: 4, durableIndex: 70 })
    expect(log.endPosition).toBe(origin.position)
    const frames = appendTo(log, 5, ...sizes)
    expect(frames[0]!.header).toMatchObject({ index: 71, previousChecksum: origin.checksum, position: origin.position })
    await log.flush()
    await log.close()
    for (const options of [{}, { origin }, { origin: { ...origin, index: 3 } }]) {
      const again = await openTestLog(disk, options)
      expect(again).toMatchObject({ origin, firstIndex: 71, lastIndex: 77 })
      expect(again.recovery).toMatchObject({ firstIndex: 71, previousTerm: 4, tail: null, holes: [] })
      expect(await entriesOf(again)).toEqual(described(frames))
      await again.close()
    }
    expect(disk.paths()[0]).toBe(`log/${segmentName(origin.position)}`)
  })

  test('is known for what it is before its first entry, too', async () => {
    const disk = await newDisk()
    await (await openTestLog(disk, { origin })).close()
    const again = await openTestLog(disk)
    expect(again).toMatchObject({ origin, lastIndex: 70 })
    appendTo(again, 4, 10)
    again.truncateFrom(71)
    appendTo(again, 6, 20)
    await again.flush()
    await again.close()
    expect(await entriesOf(await openTestLog(disk))).toEqual(['71/6:20'])
  })

  test('comes up again after a crash before every disk operation', async () => {
    let crashes = 0
    const work = async (disk: MemoryDisk): Promise<void> => {
      const log = await openTestLog(disk, { origin })
      appendTo(log, 5, 9000, 9000)
      await log.flush()
      log.truncateFrom(71)
      appendTo(log, 6, 50)
      await log.flush()
      await log.close()
    }
    for await (const { disk } of crashEverywhere(await newDisk(), work)) {
      const left = disk.clone().crash(crashes % 2 === 0 ? loseAllUnsynced : randomCrash(seededNumbers(crashes)))
      crashes++
      const log = await openTestLog(left, { origin })
      expect(log).toMatchObject({ origin, rottenTail: null })
      expect(['', '71/5:9000', '71/5:9000 72/5:9000', '71/6:50']).toContain((await entriesOf(log)).join(' '))
      await log.close()
    }
    expect(crashes).toBeGreaterThan(30)
  })
})

test('a log made from the origin behind an entry goes on with the frames of the first', async () => {
  const log = await openTestLog(await newDisk(), noCaches)
  appendTo(log, 1, ...sizes)
  expect(log.originBehind(0)).toBeNull()
  await log.flush()
  expect(log.originBehind(0)).toEqual(log.origin)
  expect(log.originBehind(2)).toMatchObject({ index: 3, term: 1 })
  expect(log.originBehind(5)).toBeNull()
  const behind = log.originBehind(3)!
  expect(behind).toMatchObject({ index: 3, position: log.segments()[2]!.base })
  const copy = await openTestLog(await newDisk(), { ...noCaches, origin: behind })
  for (const { bytes } of await log.read(4, 7, 1_000_000)) copy.appendFrame(bytes)
  await copy.flush()
  expect(await entriesOf(copy)).toEqual((await entriesOf(log)).slice(3))
  await Promise.all([log.close(), copy.close()])
})

describe('trimming', () => {
  test('deletes the whole segments before the given entry, and all else goes on', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk, noCaches)
    const frames = appendTo(log, 1, ...sizes.slice(0, 4))
    frames.concat(appendTo(log, 2, ...sizes.slice(4)))
    await log.flush()
    const all = await entriesOf(log)
    const segments = log.segments()
    expect(segments.map(({ firstIndex, sealed }) => `${firstIndex} ${sealed}`)).toEqual([
      '1 true',
      '2 true',
      '4 true',
      '5 false',
    ])
    expect(await log.trim(3)).toBe(2)
    expect(await log.trim(2)).toBe(2)
    expect(await log.trim(4)).toBe(4)
    expect(log).toMatchObject({ firstIndex: 4, previousTerm: 1, lastIndex: 7 })
    expect(disk.paths()[0]).toBe(`log/${segmentName(segments[2]!.base)}`)
    await expect(log.read(3, 5, 100)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await expect(log.readAt(frames[2]!.header.position)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    expect(await entriesOf(log)).toEqual(all.slice(3))
    expect(log.segments()).toHaveLength(2)
    const more = described(appendTo(log, 3, 5000, 5000))
    await log.flush()
    expect(await log.trim(6)).toBe(5)
    expect(log.previousTerm).toBe(1)
    await log.close()
    const again = await openTestLog(disk, noCaches)
    expect(again).toMatchObject({ firstIndex: 5, previousTerm: 1 })
    expect(again.recovery.termRuns).toEqual([
      { first: 5, term: 2 },
      { first: 8, term: 3 },
    ])
    expect(await entriesOf(again)).toEqual([...all.slice(4), ...more])
    again.truncateFrom(5)
    expect(again).toMatchObject({ lastIndex: 4, lastTerm: 1 })
    appendTo(again, 7, 1)
    await again.flush()
    expect(await entriesOf(again)).toEqual(['5/7:1'])
    await again.close()
  })

  test('never takes the last durable entry, nor what only a staged one follows', async () => {
    const log = await openTestLog(await newDisk())
    appendTo(log, 1, 9000)
    await log.flush()
    appendTo(log, 1, 9000)
    expect(await log.trim(99)).toBe(1)
    await log.flush()
    expect(await log.trim(99)).toBe(2)
    log.truncateFrom(2)
    expect(log).toMatchObject({ lastIndex: 1, lastTerm: 1, firstIndex: 2 })
    await log.flush()
    expect(await log.trim(99)).toBe(2)
    await log.close()
  })

  test('runs beside flushes, reads and cuts, and a crash anywhere leaves no gap', async () => {
    const base = await newDisk()
    const first = await openTestLog(base)
    const all = described(appendTo(first, 1, ...sizes))
    await first.close()
    let crashes = 0
    let promised = 0
    const work = async (disk: MemoryDisk): Promise<void> => {
      promised = 7
      const log = await openTestLog(disk, noCaches)
      const reading = Promise.allSettled([log.read(1, 2, 1), log.read(4, 5, 1), log.read(7, 7, 1)])
      const trimming = log.trim(5)
      appendTo(log, 1, 9000)
      const flushing = log.flush()
      promised = 5
      log.truncateFrom(6)
      appendTo(log, 2, 9000, 9000)
      await Promise.all([flushing, log.flush(), trimming, reading])
      promised = 7
      await log.trim(6)
      await log.close()
    }
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      for (const choice of [loseAllUnsynced, randomCrash(seededNumbers(crashes))]) {
        const log = await openTestLog(disk.clone().crash(choice))
        expect(log.recovery).toMatchObject({ holes: [], tail: null })
        expect([1, 2, 4, 5, 6]).toContain(log.firstIndex)
        expect(log.lastIndex).toBeGreaterThanOrEqual(promised)
        const entries = await entriesOf(log)
        const old = all.slice(log.firstIndex - 1)
        const isOld = entries.slice(0, old.length).every((entry, at) => entry === old[at])
        const fresh = [...all.slice(log.firstIndex - 1, 5), '6/2:9000', '7/2:9000']
        expect(isOld || entries.every((entry, at) => entry === fresh[at])).toBe(true)
        appendTo(log, 9, 100)
        await log.flush()
        await log.close()
      }
    }
    expect(crashes).toBeGreaterThan(40)
  })

  test('a failed deletion is final', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, ...sizes)
    await log.flush()
    disk.fail('syncDirectory', { code: 'EIO' })
    await expect(log.trim(5)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(log.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await log.close()
  })
})

test('recovery hands out the configuration entries of the log', async () => {
  const disk = await newDisk()
  const log = await openTestLog(disk)
  appendTo(log, 1, 10)
  const body = [Buffer.from('who'), Buffer.from('votes')]
  log.append({ index: 2, term: 1, type: frameTypes.configuration, storeTime: 0, body })
  appendTo(log, 2, 10)
  await log.close()
  const again = await openTestLog(disk)
  expect(again.recovery.configurations).toEqual([{ index: 2, term: 1, body: Buffer.from('whovotes') }])
  await again.close()
})
