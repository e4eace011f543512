import { describe, expect, test } from 'vitest'
import { ensureDirectory, readRecordFile, writeRecordFile } from '../../store/folder.ts'
import { loseAllUnsynced, MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import { crashEverywhere } from './log-fixture.ts'

const old = { node: 'n0', disk: 'aaaa', members: [{ node: 'n0' }, { node: 'ü' }] }
const next = { node: 'n0', disk: 'bbbb', members: [] }

describe('a record file', () => {
  test('holds the value that was written, null when there is none', async () => {
    const disk = new MemoryDisk()
    expect(await readRecordFile(disk, 'identity')).toBeNull()
    await writeRecordFile(disk, 'identity', old)
    expect(await readRecordFile(disk, 'identity')).toEqual(old)
    await writeRecordFile(disk, 'identity', next)
    expect(await readRecordFile(disk.crash(loseAllUnsynced), 'identity')).toEqual(next)
  })

  test('a crash before every disk operation leaves the old value or the new one', async () => {
    const base = new MemoryDisk()
    await ensureDirectory(base, 'node')
    await writeRecordFile(base, 'node/identity', old)
    let done = false
    const work = async (disk: MemoryDisk): Promise<void> => {
      done = false
      await writeRecordFile(disk, 'node/identity', next)
      done = true
      await disk.list('node')
    }
    let crashes = 0
    for await (const { disk } of crashEverywhere(base, work)) {
      crashes++
      const random = seededNumbers(crashes)
      for (let round = 0; round < 30; round++) {
        const left = await readRecordFile(disk.clone().crash(randomCrash(random)), 'node/identity')
        expect(done ? [next] : [old, next]).toContainEqual(left)
      }
    }
    expect(crashes).toBeGreaterThan(6)
  })

  test('every flipped bit and every cut is found', async () => {
    const disk = new MemoryDisk()
    await writeRecordFile(disk, 'identity', old)
    const length = disk.contentOf('identity').length
    for (let offset = 0; offset < length; offset++) {
      for (let bit = 0; bit < 8; bit++) {
        const rotten = disk.clone()
        rotten.flipBit('identity', offset, bit)
        await expect(readRecordFile(rotten, 'identity')).rejects.toMatchObject({ code: 'ROTTEN' })
      }
      const cut = disk.clone()
      const file = await cut.open('identity', { create: false })
      await file.truncate(offset)
      await expect(readRecordFile(cut, 'identity')).rejects.toMatchObject({ code: 'ROTTEN' })
    }
  })

  test('a disk that fails keeps the old value', async () => {
    const disk = new MemoryDisk()
    await writeRecordFile(disk, 'identity', old)
    for (const operation of ['open', 'write', 'sync', 'rename'] as const) {
      disk.fail(operation, { code: 'EIO' })
      await expect(writeRecordFile(disk, 'identity', next)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
      expect(await readRecordFile(disk, 'identity')).toEqual(old)
    }
  })
})
