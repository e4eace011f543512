import { describe, expect, test } from 'vitest'
import type { DiskFile } from '../../store/disk.ts'
import { loseAllUnsynced, MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import type { CrashChoice } from '../../store/memory-file.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'

const keepAll: CrashChoice = {
  entry: () => true,
  page: (_path, _page, versions) => versions,
  sector: () => true,
  size: (_path, sizes) => sizes.at(-1)!,
}

async function durableFile(disk: MemoryDisk, path: string, content: Buffer): Promise<DiskFile> {
  const file = await disk.open(path, { create: true })
  await file.write([content], 0)
  await file.sync()
  await disk.syncDirectory('.')
  return file
}

describe('a power cut of the memory disk', () => {
  test('loses what was not synced, keeps what was', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.from('synced'))
    await file.write([Buffer.from('UNSYNCED')], 0)
    expect(disk.contentOf('a').toString()).toBe('UNSYNCED')
    const left = disk.clone().crash(loseAllUnsynced)
    expect(left.contentOf('a').toString()).toBe('synced')
    expect(disk.clone().crash(keepAll).contentOf('a').toString()).toBe('UNSYNCED')
    expect(disk.kill().contentOf('a').toString()).toBe('UNSYNCED')
  })

  test('rot also reaches a file whose removal it would undo', async () => {
    const disk = new MemoryDisk()
    await durableFile(disk, 'a', Buffer.from('synced'))
    await disk.unlink('a')
    disk.flipBit('a', 0, 0)
    expect(disk.clone().crash(loseAllUnsynced).contentOf('a').toString()).toBe('rynced')
    await disk.syncDirectory('.')
    expect(() => disk.flipBit('a', 0, 0)).toThrow('does not exist')
  })

  test('keeps or loses each page by itself, and tears at 512 bytes', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.alloc(12_288, 1))
    await file.write([Buffer.alloc(12_288, 2)], 0)
    expect(disk.dirtyPages()).toEqual([0, 1, 2].map((page) => ({ path: 'a', page })))
    const second = disk.clone().crash({ ...keepAll, page: (_path, page) => (page === 1 ? 1 : 0) })
    expect([0, 4096, 8192].map((at) => second.contentOf('a')[at])).toEqual([1, 2, 1])
    const torn = disk.clone().crash({ ...keepAll, sector: (_path, page, sector) => page === 0 && sector < 3 })
    expect(torn.contentOf('a').subarray(0, 2048)).toEqual(Buffer.concat([Buffer.alloc(1536, 2), Buffer.alloc(512, 1)]))
  })

  test('may leave any version of a page that was written several times', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.from('0'))
    for (const version of ['1', '2', '3']) await file.write([Buffer.from(version)], 0)
    const versions = [0, 1, 2, 3].map((version) =>
      disk
        .clone()
        .crash({ ...keepAll, page: () => version })
        .contentOf('a')
        .toString(),
    )
    expect(versions).toEqual(['0', '1', '2', '3'])
  })

  test('may undo a truncation, and grow a file without its bytes', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.alloc(5000, 1))
    await file.truncate(10)
    expect(disk.clone().crash(loseAllUnsynced).contentOf('a')).toEqual(Buffer.alloc(5000, 1))
    await file.write([Buffer.alloc(4096, 2)], 8192)
    const grown = disk.crash({ ...keepAll, page: () => 0 }).contentOf('a')
    expect(grown).toHaveLength(12_288)
    expect(grown.subarray(8192).every((byte) => byte === 0)).toBe(true)
  })

  test('loses entries of directories that were not synced, with all that stands on them', async () => {
    const disk = new MemoryDisk()
    await disk.makeDirectory('folder')
    const file = await disk.open('folder/a', { create: true })
    await file.sync()
    await disk.syncDirectory('folder')
    // The entry of the folder itself is not durable.
    expect(disk.clone().crash(loseAllUnsynced).paths()).toEqual([])
    await disk.syncDirectory('.')
    expect(disk.clone().crash(loseAllUnsynced).paths()).toEqual(['folder/a'])
    await disk.rename('folder/a', 'folder/b')
    expect(disk.clone().crash(loseAllUnsynced).paths()).toEqual(['folder/a'])
    expect(disk.clone().crash(keepAll).paths()).toEqual(['folder/b'])
    await disk.syncDirectory('folder')
    await disk.unlink('folder/b')
    expect(disk.clone().crash(loseAllUnsynced).paths()).toEqual(['folder/b'])
    expect(disk.crash(keepAll).paths()).toEqual([])
  })

  test('ends what its process still waits for', async () => {
    const disk = new MemoryDisk()
    let release = (): void => undefined
    const file = await durableFile(disk, 'a', Buffer.from('old'))
    disk.schedule = () =>
      new Promise((resolve) => {
        release = resolve
      })
    let settled = false
    const writing = file.write([Buffer.from('new')], 0).finally(() => {
      settled = true
    })
    const left = disk.crash(keepAll)
    release()
    await Promise.race([writing, new Promise((resolve) => setImmediate(resolve))])
    expect(settled).toBe(false)
    expect(left.contentOf('a').toString()).toBe('old')
  })

  test('is the same for the same numbers', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.alloc(100_000, 1))
    await file.write([Buffer.alloc(100_000, 2)], 50)
    const leave = (seed: number): Buffer =>
      disk
        .clone()
        .crash(randomCrash(seededNumbers(seed)))
        .contentOf('a')
    expect(leave(1).equals(leave(1))).toBe(true)
    expect(leave(1).equals(leave(2))).toBe(false)
  })

  test('a clone lives on apart from its original', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.from('one'))
    const copy = disk.clone()
    await file.write([Buffer.from('two')], 0)
    expect(copy.contentOf('a').toString()).toBe('one')
    copy.flipBit('a', 0, 0)
    expect(disk.contentOf('a').toString()).toBe('two')
    expect(copy.contentOf('a').toString()).toBe('nne')
  })
})

describe('faults of the memory disk', () => {
  test('a lying sync makes nothing durable', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.from('old'))
    disk.lyingSync = true
    await file.write([Buffer.from('new')], 0)
    await file.sync()
    expect(disk.crash(loseAllUnsynced).contentOf('a').toString()).toBe('old')
  })

  test('after a failed sync the pages count as clean: the next sync succeeds and the bytes are lost', async () => {
    const disk = new MemoryDisk()
    const file = await durableFile(disk, 'a', Buffer.from('old'))
    const second = await disk.open('a', { create: false })
    await file.write([Buffer.from('new')], 0)
    disk.fail('sync', { code: 'EIO' })
    await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' })
    await file.sync()
    // Each handle is told once.
    await expect(second.sync()).rejects.toMatchObject({ code: 'EIO' })
    await second.sync()
    expect(disk.contentOf('a').toString()).toBe('new')
    expect(disk.crash(loseAllUnsynced).contentOf('a').toString()).toBe('old')
  })

  test('a full disk takes what fits and says ENOSPC; overwriting needs no space', async () => {
    const disk = new MemoryDisk({ capacityBytes: 8192 })
    const file = await disk.open('a', { create: true })
    await expect(file.write([Buffer.alloc(10_000, 1)], 0)).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await file.size()).toBe(8192)
    await file.write([Buffer.alloc(8192, 2)], 0)
    const other = await disk.open('b', { create: true })
    await expect(other.write([Buffer.from('x')], 0)).rejects.toMatchObject({ code: 'ENOSPC' })
    await disk.unlink('a')
    await other.write([Buffer.from('x')], 0)
  })

  test('a short write leaves half of the bytes and is an error', async () => {
    const disk = new MemoryDisk()
    const file = await disk.open('a', { create: true })
    disk.fail('write', { code: 'SHORT_WRITE', path: 'a' })
    await expect(file.write([Buffer.from('abcdef')], 0)).rejects.toMatchObject({ code: 'SHORT_WRITE' })
    expect(disk.contentOf('a').toString()).toBe('abc')
  })

  test('planted faults hit their path, as often as asked, until healed', async () => {
    const disk = new MemoryDisk()
    const [a, b] = [await disk.open('a', { create: true }), await disk.open('b', { create: true })]
    disk.fail('write', { code: 'EIO', path: 'a', times: Number.POSITIVE_INFINITY })
    for (let round = 0; round < 3; round++) {
      await expect(a.write([Buffer.from('x')], 0)).rejects.toMatchObject({ code: 'EIO' })
      await b.write([Buffer.from('x')], 0)
    }
    disk.heal()
    await a.write([Buffer.from('x')], 0)
  })
})
