import { describe, expect, test } from 'vitest'
import { loseAllUnsynced, MemoryDisk } from '../../store/memory-disk.ts'
import { appendTo, described, entriesOf, newDisk, openTestLog } from './log-fixture.ts'

describe('a disk that fails', () => {
  test.each([
    ['write', 'EIO'],
    ['write', 'SHORT_WRITE'],
    ['write', 'EROFS'],
    ['sync', 'EIO'],
    ['sync', 'ENOSPC'],
  ] as const)('a failed %s (%s) is final: nothing is retried, everything is refused', async (operation, code) => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 100)
    await log.flush()
    disk.fail(operation, { code })
    appendTo(log, 1, 200)
    await expect(log.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    const writes: string[] = []
    disk.schedule = async (next) => {
      writes.push(next)
    }
    await expect(log.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    expect(() => appendTo(log, 1, 1)).toThrow('failed')
    expect(() => log.truncateFrom(1)).toThrow('failed')
    expect(log.durableIndex).toBe(1)
    expect(described(await log.read(1, 1, 10))).toEqual(['1/1:100'])
    await log.close()
    expect(writes.filter((next) => next !== 'close')).toEqual([])
    const left = await openTestLog(disk.clone().crash(loseAllUnsynced))
    expect(await entriesOf(left)).toEqual(['1/1:100'])
  })

  test('a process that starts again after a failed sync trusts no page that the kernel calls clean', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 100)
    await log.flush()
    disk.fail('sync', { code: 'EIO' })
    appendTo(log, 1, 200)
    await expect(log.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    // The failed write is still read from the page cache, yet the platter does not have it.
    const restarted = disk.kill()
    const again = await openTestLog(restarted)
    expect(await entriesOf(again)).toEqual(['1/1:100', '2/1:200'])
    const left = await openTestLog(restarted.clone().crash(loseAllUnsynced))
    expect(await entriesOf(left)).toEqual(['1/1:100', '2/1:200'])
  })

  test('a failed sync of zeros in the background is not forgotten by the next flush', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 6000)
    let failed = false
    disk.schedule = async (operation) => {
      if (operation !== 'sync' || log.durableIndex !== 1 || failed) return
      failed = true
      disk.fail('sync', { code: 'EIO' })
    }
    await log.flush()
    appendTo(log, 1, 100)
    await expect(log.flush().then(() => log.flush())).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    expect(failed).toBe(true)
  })

  test('a full disk refuses new space only: reads go on, staged entries stay, and it recovers by itself', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 3000)
    await log.flush()
    disk.capacityBytes = 4096 + 12_288
    expect(log.diskFull).toBe(false)
    appendTo(log, 1, 3000, 3000, 3000, 3000, 3000)
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(log.diskFull).toBe(true)
    // What had room went in.
    expect(log.durableIndex).toBeGreaterThan(1)
    expect(log.lastIndex).toBe(6)
    expect(await entriesOf(log)).toHaveLength(6)
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    const left = await openTestLog(disk.clone().crash(loseAllUnsynced))
    expect(left.lastIndex).toBe(log.durableIndex)
    disk.capacityBytes = Number.POSITIVE_INFINITY
    expect(await log.flush()).toBe(6)
    expect(log.diskFull).toBe(false)
    await log.close()
    expect(await entriesOf(await openTestLog(disk))).toHaveLength(6)
  })

  test('a log whose growth is limited takes no more than that, for what is staged alone', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    appendTo(log, 1, 3000)
    await log.flush()
    log.limitGrowth(8192)
    expect(log.diskFull).toBe(true)
    const before = log.segments().reduce((sum, segment) => sum + segment.bytes, 0)
    appendTo(log, 1, ...Array.from({ length: 20 }, () => 1000))
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    const after = log.segments().reduce((sum, segment) => sum + segment.bytes, 0)
    expect(after - before).toBeLessThanOrEqual(8192 + 4096)
    expect(log.durableIndex).toBeGreaterThan(4)
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    log.limitGrowth(null)
    expect(await log.flush()).toBe(21)
    expect(log.diskFull).toBe(false)
    await log.close()
  })

  test('S1: a log that grows on makes nothing durable by that', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    disk.fillUp()
    appendTo(log, 1, ...Array.from({ length: 8 }, () => 3000))
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    const { durableIndex } = log
    await log.grow()
    expect(log.diskFull).toBe(true)
    disk.fillUp(1_000_000)
    await log.grow()
    expect(log.diskFull).toBe(false)
    expect(log.durableIndex).toBe(durableIndex)
    const { spaceLeft } = disk
    expect(await log.flush()).toBe(8)
    expect(disk.spaceLeft).toBe(spaceLeft)
    await log.close()
  })

  test('a log that grows on while it is cut waits for the cut: neither touches files of the other', async () => {
    for (let growAt = 1; growAt <= 24; growAt++) {
      const disk = await newDisk()
      const log = await openTestLog(disk)
      appendTo(log, 1, ...Array.from({ length: 12 }, () => 4000))
      await log.flush()
      log.truncateFrom(4)
      let count = 0
      let grown = Promise.resolve()
      disk.schedule = async () => {
        if (++count === growAt) grown = Promise.resolve().then(() => log.grow())
      }
      await log.flush()
      disk.schedule = undefined
      await grown
      appendTo(log, 2, ...Array.from({ length: 9 }, () => 4000))
      await log.flush()
      const left = await openTestLog(disk.clone().crash(loseAllUnsynced))
      expect(await entriesOf(left), `grown at operation ${growAt}`).toHaveLength(12)
      await log.close()
    }
  })

  test('a log that is opened without leave to grow prepares nothing', async () => {
    const disk = await newDisk()
    const first = await openTestLog(disk, { zeroAheadBytes: 4096 })
    appendTo(first, 1, 3000)
    await first.close()
    disk.fillUp(1_000_000)
    const { spaceLeft } = disk
    const log = await openTestLog(disk, { growthBytesMax: 0 })
    expect(log.diskFull).toBe(true)
    appendTo(log, 1, ...Array.from({ length: 20 }, () => 3000))
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(disk.spaceLeft).toBe(spaceLeft)
    log.limitGrowth(null)
    expect(await log.flush()).toBe(21)
    await log.close()
  })

  test('a log whose growth is limited does not take space that comes back', async () => {
    const disk = await newDisk()
    const log = await openTestLog(disk)
    disk.fillUp()
    appendTo(log, 1, ...Array.from({ length: 8 }, () => 3000))
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    const before = disk.spaceLeft
    log.limitGrowth(0)
    disk.fillUp(100_000)
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(disk.spaceLeft - before).toBe(100_000)
    log.limitGrowth(null)
    expect(await log.flush()).toBe(8)
    await log.close()
  })

  test('a log on a full disk closes and opens, and goes on when there is space', async () => {
    const disk = await newDisk()
    disk.capacityBytes = 4096 + 8192
    const log = await openTestLog(disk)
    appendTo(log, 1, 3000, 3000, 3000)
    await expect(log.flush()).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(log).toMatchObject({ durableIndex: 2, diskFull: true })
    await log.close()
    const again = await openTestLog(disk)
    expect(again).toMatchObject({ lastIndex: 2, diskFull: true })
    expect(again.recovery.tornBytes).toBe(0)
    disk.capacityBytes = 1_000_000
    expect(await again.flush()).toBe(2)
    expect(again.diskFull).toBe(false)
    appendTo(again, 1, 3000)
    expect(await again.flush()).toBe(3)
    await again.close()
  })

  test('without space for even the first segment the log opens full and empty', async () => {
    const disk = await newDisk()
    disk.capacityBytes = 0
    const log = await openTestLog(disk)
    expect(log).toMatchObject({ lastIndex: 0, diskFull: true })
    await log.close()
    disk.capacityBytes = 1_000_000
    const again = await openTestLog(disk)
    appendTo(again, 1, 10)
    expect(await again.flush()).toBe(1)
    await again.close()
  })

  test('a closed log refuses everything', async () => {
    const log = await openTestLog(new MemoryDisk())
    await log.close()
    await log.close()
    expect(() => appendTo(log, 1, 1)).toThrow('closed')
    await expect(log.flush()).rejects.toMatchObject({ code: 'CLOSED' })
  })
})
