/** The reserve: made while there is plenty, given back at once, never in the way of others. */
import { expect, test } from 'vitest'
import { loseAllUnsynced, MemoryDisk, SpaceReserve } from '../../store/index.ts'

const bytes = 3 * 1024 * 1024
const path = 'node/reserve'

async function newDisk(capacityBytes = Number.POSITIVE_INFINITY): Promise<MemoryDisk> {
  const disk = new MemoryDisk({ capacityBytes })
  await disk.makeDirectory('node')
  await disk.syncDirectory('.')
  return disk
}

test('takes its space, gives it back, and takes it again', async () => {
  const disk = await newDisk(10 * bytes)
  const reserve = await SpaceReserve.open(disk, path, bytes)
  expect(reserve.isHeld).toBe(false)
  expect(await reserve.take()).toBe(true)
  expect(reserve.isHeld).toBe(true)
  expect(disk.spaceLeft).toBe(9 * bytes)
  await reserve.give()
  expect(reserve.isHeld).toBe(false)
  expect(disk.spaceLeft).toBe(10 * bytes)
  await reserve.give()
  expect(await reserve.take()).toBe(true)
})

test('what an earlier process holds counts, also after a power cut', async () => {
  const disk = await newDisk()
  await (await SpaceReserve.open(disk, path, bytes)).take()
  await disk.syncDirectory('node')
  const later = disk.crash(loseAllUnsynced)
  expect((await SpaceReserve.open(later, path, bytes)).isHeld).toBe(true)
  expect((await SpaceReserve.open(later, path, 2 * bytes)).isHeld).toBe(false)
})

test('tells what must be free for it to be made, less what it has taken already', async () => {
  const disk = await newDisk(10 * bytes)
  const reserve = await SpaceReserve.open(disk, path, bytes)
  expect(reserve.wantedFreeBytes).toBe(2 * bytes)
  const wanted: number[] = []
  await reserve.take(async () => {
    wanted.push(reserve.wantedFreeBytes)
    return true
  })
  expect(wanted).toEqual([(5 / 3) * bytes, (4 / 3) * bytes])
  expect(reserve.wantedFreeBytes).toBe(0)
  await reserve.give()
  expect(reserve.wantedFreeBytes).toBe(2 * bytes)
})

test('is not made of the last space: twice as much must be free', async () => {
  const disk = await newDisk(2 * bytes - 1)
  const reserve = await SpaceReserve.open(disk, path, bytes)
  expect(await reserve.take()).toBe(false)
  expect(disk.spaceLeft).toBe(2 * bytes - 1)
  disk.capacityBytes++
  expect(await reserve.take()).toBe(true)
  expect(await reserve.take()).toBe(true)
})

test('space that ends on the way leaves nothing behind', async () => {
  const disk = await newDisk(10 * bytes)
  const reserve = await SpaceReserve.open(disk, path, bytes)
  const taken = await reserve.take(async () => {
    disk.fillUp()
    return true
  })
  expect(taken).toBe(false)
  expect(reserve.isHeld).toBe(false)
  expect(disk.contentOf(path)).toHaveLength(0)
})

test('whoever wants the space back does not wait for the end of the taking', async () => {
  const disk = await newDisk()
  const reserve = await SpaceReserve.open(disk, path, bytes)
  let steps = 0
  let given: Promise<void> | null = null
  const taken = await reserve.take(async () => {
    steps++
    given ??= reserve.give()
    return true
  })
  await given
  expect(taken).toBe(false)
  expect(steps).toBe(1)
  expect(disk.contentOf(path)).toHaveLength(0)
})

test('a taking that its caller ends leaves nothing behind', async () => {
  const disk = await newDisk()
  const reserve = await SpaceReserve.open(disk, path, bytes)
  expect(await reserve.take(async () => false)).toBe(false)
  expect(disk.contentOf(path)).toHaveLength(0)
})

test('at a start nearly without space it is given back before anything is written, else it is kept', async () => {
  const disk = await newDisk(10 * bytes)
  await (await SpaceReserve.open(disk, path, bytes)).take()
  const found = await SpaceReserve.open(disk, path, bytes)
  await found.giveIfTight()
  expect(found.isHeld).toBe(true)
  disk.fillUp(bytes - 4096)
  await found.giveIfTight()
  expect(found.isHeld).toBe(false)
  expect(disk.spaceLeft).toBe(2 * bytes - 4096)
})

test('a reserve of no bytes is always held and touches nothing', async () => {
  const disk = await newDisk(0)
  const reserve = await SpaceReserve.open(disk, path, 0)
  expect(reserve.isHeld).toBe(true)
  expect(await reserve.take()).toBe(true)
})

test('a disk that fails is an error, not a lack of space', async () => {
  const disk = await newDisk()
  const reserve = await SpaceReserve.open(disk, path, bytes)
  disk.fail('write', { code: 'EIO', path: 'reserve' })
  await expect(reserve.take()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
  disk.fail('truncate', { code: 'EIO', path: 'reserve' })
  await expect(reserve.give()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
})
