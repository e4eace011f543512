/** When the log stops to grow, the reserve goes, and both come back; on a real reserve and a disk of the test. */
import { beforeEach, expect, test } from 'vitest'
import { SpaceWatch } from '../../../../src/broker/replica/space-watch.ts'
import { MemoryDisk, SpaceReserve, StoreError } from '../../../../store/index.ts'
import { ManualClock } from '../../../support/manual-clock.ts'

const reserveBytes = 100 * 1024
const path = 'reserve'

let clock: ManualClock
let disk: MemoryDisk
let reserve: SpaceReserve
let watch: SpaceWatch
let changes: boolean[]
let failures: unknown[]
let log: { diskFull: boolean; limits: (number | null)[]; error: StoreError | null }

beforeEach(async () => {
  clock = new ManualClock()
  disk = new MemoryDisk({ capacityBytes: 10 * reserveBytes })
  reserve = await SpaceReserve.open(disk, path, reserveBytes)
  changes = []
  failures = []
  log = { diskFull: false, limits: [], error: null }
  watch = new SpaceWatch({
    clock,
    log: {
      get diskFull() {
        return log.diskFull
      },
      limitGrowth: (bytes) => log.limits.push(bytes),
      flush: async () => {
        if (log.error) throw log.error
        return 0
      },
    },
    reserve,
    freeBytes: async () => (await disk.space('')).freeBytes,
    retryMs: 500,
    changed: (full) => changes.push(full),
    failed: (error) => failures.push(error),
  })
})

test('makes the reserve in the background and says nothing', async () => {
  watch.start()
  await clock.advance(100)
  expect(reserve.isHeld).toBe(true)
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
  expect(log.limits).toEqual([reserveBytes / 4])
  await clock.advance(5000)
  expect(changes).toEqual([true])

  disk.fillUp(2 * reserveBytes)
  await clock.advance(1000)
  expect(changes).toEqual([true, false])
  expect(log.limits).toEqual([reserveBytes / 4, null])
  expect(reserve.isHeld).toBe(true)
})

test('the log that finds the disk full again at once gives the reserve back', async () => {
  watch.start()
  await clock.advance(100)
  watch.notice()
  log.diskFull = true
  log.error = new StoreError('DISK_FULL', 'no space')
  await clock.advance(500)
  expect(changes).toEqual([true])
  expect(log.limits).toEqual([reserveBytes / 4, null, reserveBytes / 4])
  log.diskFull = false
  log.error = null
  await clock.advance(1000)
  expect(changes).toEqual([true, false])
  expect(failures).toEqual([])
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
  expect(changes).toEqual([true])
  expect(log.limits).toEqual([reserveBytes / 4])
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
