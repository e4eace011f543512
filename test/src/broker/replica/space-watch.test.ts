/** When the log stops to grow, the reserve goes, and both come back; on a real reserve and a disk of the test. */
import { beforeEach, expect, test } from 'vitest'
import { SpaceWatch } from '../../../../src/broker/replica/space-watch.ts'
import { MemoryDisk, SpaceReserve } from '../../../../store/index.ts'
import { ManualClock } from '../../../support/manual-clock.ts'

const reserveBytes = 100 * 1024
const path = 'reserve'

let clock: ManualClock
let disk: MemoryDisk
let reserve: SpaceReserve
let watch: SpaceWatch
let changes: boolean[]
let failures: unknown[]
let spaceCount: number
let log: { diskFull: boolean; limits: (number | null)[]; grown: number; onGrow: () => Promise<void> }

beforeEach(async () => {
  clock = new ManualClock()
  disk = new MemoryDisk({ capacityBytes: 10 * reserveBytes })
  reserve = await SpaceReserve.open(disk, path, reserveBytes)
  changes = []
  failures = []
  spaceCount = 0
  log = { diskFull: false, limits: [], grown: 0, onGrow: async () => {} }
  watch = makeWatch()
})

function makeWatch(): SpaceWatch {
  return new SpaceWatch({
    clock,
    log: {
      get diskFull() {
        return log.diskFull
      },
      limitGrowth: (bytes) => log.limits.push(bytes),
      grow: async () => {
        log.grown++
        await log.onGrow()
      },
    },
    reserve,
    freeBytes: async () => (await disk.space('')).freeBytes,
    retryMs: 500,
    hasSpace: () => {
      spaceCount++
    },
    changed: (full) => changes.push(full),
    failed: (error) => failures.push(error),
  })
}

test('makes the reserve in the background and says nothing', async () => {
  watch.start()
  await clock.advance(100)
  expect(reserve.isHeld).toBe(true)
  expect(spaceCount).toBe(1)
  expect(changes).toEqual([])
  expect(log.limits).toEqual([])
})

test('a full disk gets the reserve back and a quarter of it is for the log, until there is twice its space', async () => {
  watch.start()
  await clock.advance(100)
  disk.fillUp()
  watch.notice()
  watch.notice()
  await clock.advance(0)
  expect(reserve.isHeld).toBe(false)
  expect(disk.spaceLeft).toBe(reserveBytes)
  expect(log.limits).toEqual([0, reserveBytes / 4])
  await clock.advance(5000)
  expect(changes).toEqual([true])

  disk.fillUp(2 * reserveBytes)
  await clock.advance(1000)
  expect(changes).toEqual([true, false])
  expect(log.limits).toEqual([0, reserveBytes / 4, null])
  expect(log.grown).toBe(1)
  expect(spaceCount).toBe(2)
  expect(reserve.isHeld).toBe(true)
})

test('the log that finds the disk full again at once gives the reserve back', async () => {
  watch.start()
  await clock.advance(100)
  watch.notice()
  log.diskFull = true
  await clock.advance(500)
  expect(changes).toEqual([true])
  expect(log.limits).toEqual([0, reserveBytes / 4, null, 0, reserveBytes / 4])
  log.diskFull = false
  await clock.advance(1000)
  expect(changes).toEqual([true, false])
  expect(failures).toEqual([])
})

test('a reserve that the state store takes while the log grows again leaves the disk full', async () => {
  watch.start()
  await clock.advance(100)
  watch.notice()
  log.onGrow = () => reserve.give()
  await clock.advance(600)
  expect(log.grown).toBe(1)
  expect(changes).toEqual([true])
  expect(log.limits.at(-1)).toBe(reserveBytes / 4)
  log.onGrow = async () => {}
  await clock.advance(1000)
  expect(changes).toEqual([true, false])
  expect(reserve.isHeld).toBe(true)
})

test('somebody else who fills the disk is noticed before a write fails', async () => {
  watch.start()
  await clock.advance(100)
  disk.fillUp(reserveBytes / 4 - 4096)
  await clock.advance(1000)
  expect(changes).toEqual([true])
  expect(reserve.isHeld).toBe(false)
})

test('a reserve that the state store had to give back makes the disk count as full', async () => {
  watch.start()
  await clock.advance(100)
  await reserve.give()
  await clock.advance(0)
  expect(changes).toEqual([true])
  expect(log.limits).toEqual([0, reserveBytes / 4])
})

test('what a start lends to the log on a full disk is never all that is left', async () => {
  disk.fillUp((reserveBytes * 3) / 4)
  watch.start()
  await clock.advance(0)
  expect(log.limits).toEqual([0, reserveBytes / 4])
  for (const [left, lent] of [
    [reserveBytes / 2, reserveBytes / 8],
    [reserveBytes / 4 + 1000, 500],
    [1000, 0],
  ] as const) {
    disk.fillUp(left)
    await watch.stop()
    watch = makeWatch()
    watch.start()
    await clock.advance(0)
    expect(log.limits.at(-1)).toBe(lent)
  }
})

test('a log that was opened without leave to grow counts as full until it grows', async () => {
  log.diskFull = true
  watch.start()
  await clock.advance(100)
  expect(changes).toEqual([true])
  expect(spaceCount).toBe(0)
  log.diskFull = false
  await clock.advance(1000)
  expect(changes).toEqual([true, false])
  expect(spaceCount).toBe(1)
})

test('a start without space for the reserve is a start on a full disk', async () => {
  disk.fillUp(2 * reserveBytes - 1)
  watch.start()
  await clock.advance(0)
  expect(changes).toEqual([true])
})

test('a disk that fails is reported, and nothing is after the stop', async () => {
  disk.fail('write', { code: 'EIO', path })
  watch.start()
  await clock.advance(100)
  expect(failures).toHaveLength(1)
  await watch.stop()
  watch.notice()
  await clock.advance(10_000)
  expect(changes).toEqual([])
})
