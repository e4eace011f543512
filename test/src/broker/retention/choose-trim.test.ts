/** Which segments go: age, size, use of the disk, and followers that are waited for. */
import { describe, expect, test } from 'vitest'
import { chooseTrim, type RetentionFacts, segmentsPerRoundMax } from '../../../../src/broker/retention/choose-trim.ts'
import { checkRetention, defaultRetention, followerLagBytesMax } from '../../../../src/broker/retention/settings.ts'
import type { SegmentInfo } from '../../../../store/index.ts'

/** Segments of 100 bytes and ten entries each; the last one is not sealed. */
function segments(count: number, from = 0): SegmentInfo[] {
  return Array.from({ length: count }, (_, at) => ({
    base: (from + at) * 100,
    end: (from + at + 1) * 100,
    firstIndex: (from + at) * 10 + 1,
    previousTerm: 1,
    bytes: 120,
    sealed: at < count - 1,
  }))
}

function facts(changes: Partial<RetentionFacts> = {}): RetentionFacts {
  return {
    settings: defaultRetention,
    segments: segments(5),
    expiredCount: 0,
    endPosition: 450,
    appliedIndex: 1000,
    space: { totalBytes: 10_000, freeBytes: 9000 },
    wantedFreeBytes: 0,
    followers: [],
    ...changes,
  }
}

const within = (settings: Partial<typeof defaultRetention>): typeof defaultRetention => ({
  ...defaultRetention,
  ...settings,
})

describe('choosing what to trim', () => {
  test('young messages on a disk with space all stay', () => {
    expect(chooseTrim(facts())).toBeNull()
  })

  test('by age: the expired segments go, but never the one that is written', () => {
    expect(chooseTrim(facts({ expiredCount: 2 }))).toEqual({ firstIndex: 21, reason: 'age', leftBehind: [] })
    expect(chooseTrim(facts({ expiredCount: 5 }))?.firstIndex).toBe(41)
    expect(chooseTrim(facts({ expiredCount: 1, segments: segments(1) }))).toBeNull()
  })

  test('P1: no segment goes before all of it is applied, because the queues are read from the applied state', () => {
    const choose = (appliedIndex: number) => chooseTrim(facts({ expiredCount: 5, appliedIndex }))
    expect(choose(0)).toBeNull()
    expect(choose(9)).toBeNull()
    expect(choose(10)?.firstIndex).toBe(11)
    expect(choose(39)?.firstIndex).toBe(31)
    expect(choose(40)?.firstIndex).toBe(41)
  })

  test('by bytes: whole segments go until the rest is small enough', () => {
    const choose = (logBytesMax: number) => chooseTrim(facts({ settings: within({ logBytesMax }) }))
    expect(choose(450)).toBeNull()
    expect(choose(449)).toMatchObject({ firstIndex: 11, reason: 'bytes' })
    expect(choose(250)?.firstIndex).toBe(21)
    expect(choose(1)?.firstIndex).toBe(41)
  })

  test('by use of the disk: as many of the oldest as bring it below the limit, whatever their age', () => {
    const choose = (freeBytes: number) => chooseTrim(facts({ space: { totalBytes: 10_000, freeBytes } }))
    expect(choose(1500)).toBeNull()
    expect(choose(1499)).toMatchObject({ firstIndex: 11, reason: 'disk' })
    expect(choose(1300)?.firstIndex).toBe(21)
    expect(choose(0)?.firstIndex).toBe(41)
  })

  test('on a full disk: as many as let it take writes again, unless the use of the disk has no limit', () => {
    const space = { totalBytes: 10_000, freeBytes: 3000 }
    const choose = (wantedFreeBytes: number, diskUseMax: number) =>
      chooseTrim(facts({ space, wantedFreeBytes, settings: within({ diskUseMax }) }))
    expect(choose(0, 0.85)).toBeNull()
    expect(choose(3000, 0.85)).toBeNull()
    expect(choose(3001, 0.85)).toMatchObject({ firstIndex: 11, reason: 'disk' })
    expect(choose(3121, 0.99)?.firstIndex).toBe(21)
    expect(choose(3001, 0.6)?.firstIndex).toBe(41)
    expect(choose(3121, 1)).toBeNull()
  })

  test('the strongest reason counts, and one round gives up a bounded number of segments', () => {
    const much = facts({ segments: segments(40), endPosition: 3950, expiredCount: 3 })
    const choice = chooseTrim({ ...much, settings: within({ logBytesMax: 100 }) })
    expect(choice).toMatchObject({ firstIndex: segmentsPerRoundMax * 10 + 1, reason: 'bytes' })
  })

  test('a follower within its bound is waited for, with all it still needs', () => {
    const settings = within({ followerLagBytesMax: 350 })
    const lagging = (matchIndex: number) =>
      chooseTrim(facts({ settings, expiredCount: 4, followers: [{ node: 'n1', matchIndex }] }))
    expect(lagging(44)?.firstIndex).toBe(41)
    expect(lagging(40)?.firstIndex).toBe(41)
    expect(lagging(39)?.firstIndex).toBe(31)
    expect(lagging(12)?.firstIndex).toBe(11)
    expect(lagging(10)?.firstIndex).toBe(11)
  })

  test('beyond its bound it is left behind, and its name is told', () => {
    const settings = within({ followerLagBytesMax: 350 })
    const followers = [
      { node: 'n1', matchIndex: 9 },
      { node: 'n2', matchIndex: 25 },
    ]
    const choice = chooseTrim(facts({ settings, expiredCount: 4, followers }))
    expect(choice).toEqual({ firstIndex: 21, reason: 'age', leftBehind: ['n1'] })
  })

  test('the default bound is 4 GiB, or a quarter of a smaller disk', () => {
    const gibibyte = 1024 ** 3
    expect(followerLagBytesMax(defaultRetention, 100 * gibibyte)).toBe(4 * gibibyte)
    expect(followerLagBytesMax(defaultRetention, 8 * gibibyte)).toBe(2 * gibibyte)
    expect(followerLagBytesMax(within({ followerLagBytesMax: 7 }), 8 * gibibyte)).toBe(7)
  })
})

test.each([
  [{ reservedMs: 0 }, 'retention.reservedMs'],
  [{ reservedMs: Number.NaN }, 'retention.reservedMs'],
  [{ logBytesMax: 0 }, 'retention.logBytesMax'],
  [{ logBytesMax: 1.5 }, 'retention.logBytesMax'],
  [{ diskUseMax: 1.1 }, 'retention.diskUseMax'],
  [{ diskUseMax: 0 }, 'retention.diskUseMax'],
  [{ followerLagBytesMax: -1 }, 'retention.followerLagBytesMax'],
])('settings like %j are refused with CONFIG_INVALID that names %s', (settings, key) => {
  expect(() => checkRetention(settings)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  expect(() => checkRetention(settings)).toThrow(key)
})

test('settings that say nothing, and RocketMQ’s defaults, are accepted', () => {
  expect(() => checkRetention({})).not.toThrow()
  expect(() => checkRetention(defaultRetention)).not.toThrow()
  expect(defaultRetention).toMatchObject({ reservedMs: 72 * 3600 * 1000, diskUseMax: 0.85, logBytesMax: null })
})
