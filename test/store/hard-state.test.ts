import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { SavedHardState } from '../../store/contract.ts'
import { openHardState } from '../../store/hard-state.ts'
import { loseAllUnsynced, MemoryDisk, randomCrash } from '../../store/memory-disk.ts'
import { NodeDisk } from '../../store/node-disk.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'
import { crashEverywhere } from './log-fixture.ts'

const one: SavedHardState = { term: 1, vote: 'n1', commit: 0 }
const two: SavedHardState = { term: 2, vote: null, commit: 10 }
const three: SavedHardState = { term: 2, vote: 'a node with a longer näme', commit: 2 ** 40 }

async function saved(...states: readonly SavedHardState[]): Promise<MemoryDisk> {
  const disk = new MemoryDisk()
  const file = await openHardState(disk, 'hard-state')
  for (const state of states) await file.save(state)
  await file.close()
  return disk
}

async function currentOf(disk: MemoryDisk): Promise<SavedHardState | null> {
  const file = await openHardState(disk, 'hard-state')
  const current = file.current
  await file.close()
  return current
}

describe('the hard state', () => {
  test('is null in a new file, and what was saved last after any number of saves', async () => {
    expect(await currentOf(await saved())).toBeNull()
    expect(await currentOf(await saved(one))).toEqual(one)
    expect(await currentOf(await saved(one, two))).toEqual(two)
    expect(await currentOf(await saved(one, two, three))).toEqual(three)
  })

  test('is durable when the save is fulfilled', async () => {
    const disk = new MemoryDisk()
    const file = await openHardState(disk, 'hard-state')
    expect(await currentOf(disk.clone().crash(loseAllUnsynced))).toBeNull()
    for (const state of [one, two, three]) {
      const saving = file.save(state)
      expect(file.current).not.toEqual(state)
      await saving
      expect(file.current).toEqual(state)
      expect(await currentOf(disk.clone().crash(loseAllUnsynced))).toEqual(state)
    }
    disk.lyingSync = true
    await file.save({ ...three, term: 9 })
    // The negative control: the check above does see a sync that lies.
    expect(await currentOf(disk.clone().crash(loseAllUnsynced))).toEqual(three)
  })

  test('saves that are asked for at once come in order', async () => {
    const disk = new MemoryDisk()
    const file = await openHardState(disk, 'hard-state')
    await Promise.all([file.save(one), file.save(two), file.save(three)])
    await file.close()
    expect(await currentOf(disk)).toEqual(three)
  })

  test('R1: a crash before every disk operation leaves the promised state or the one being saved', async () => {
    const states = [one, two, three, { ...three, term: 8 }]
    let promised = 0
    const work = async (disk: MemoryDisk): Promise<void> => {
      promised = 0
      const file = await openHardState(disk, 'hard-state')
      for (const state of states) {
        await file.save(state)
        promised++
      }
      await file.close()
      const again = await openHardState(disk, 'hard-state')
      await again.close()
    }
    let crashes = 0
    for await (const { disk } of crashEverywhere(new MemoryDisk(), work)) {
      crashes++
      const random = seededNumbers(crashes)
      for (let round = 0; round < 20; round++) {
        const left = await currentOf(disk.clone().crash(randomCrash(random)))
        const at = left === null ? 0 : states.findIndex((state) => JSON.stringify(state) === JSON.stringify(left)) + 1
        expect(at === promised || at === promised + 1).toBe(true)
      }
    }
    expect(crashes).toBeGreaterThan(10)
  })

  test('a write that is torn at any byte leaves the old state or the new one', async () => {
    for (const before of [[], [one], [one, two]]) {
      const base = await saved(...before)
      const content = base.contentOf('hard-state')
      const next = await saved(...before, three)
      const torn = next.contentOf('hard-state')
      for (let cut = 0; cut <= torn.length; cut += cut % 512 > 40 && cut % 512 < 470 ? 40 : 3) {
        const disk = new MemoryDisk()
        const file = await disk.open('hard-state', { create: true })
        await file.write([torn.subarray(0, cut), content.subarray(cut)], 0)
        const left = await currentOf(disk)
        expect([before.at(-1) ?? null, three]).toContainEqual(left)
      }
    }
  })

  test('every flipped bit is repaired by the second copy', async () => {
    const disk = await saved(one, two, three)
    for (let offset = 0; offset < 8192; offset++) {
      const rotten = disk.clone()
      rotten.flipBit('hard-state', offset, offset % 8)
      expect(await currentOf(rotten)).toEqual(three)
    }
  })

  test('a slot that lost both copies is refused: a vote may be forgotten with it', async () => {
    for (const slot of [0, 4096]) {
      const disk = await saved(one, two, three)
      disk.flipBit('hard-state', slot + 20, 0)
      disk.flipBit('hard-state', slot + 2048 + 20, 0)
      await expect(currentOf(disk)).rejects.toMatchObject({ code: 'ROTTEN' })
      const zeroed = await saved(one, two, three)
      const file = await zeroed.open('hard-state', { create: false })
      await file.write([Buffer.alloc(4096)], slot)
      await expect(currentOf(zeroed)).rejects.toMatchObject({ code: 'ROTTEN' })
    }
  })

  test.each([['write'], ['sync']] as const)('a failed %s is final', async (operation) => {
    const disk = new MemoryDisk()
    const file = await openHardState(disk, 'hard-state')
    await file.save(one)
    disk.fail(operation, { code: 'EIO' })
    await expect(file.save(two)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(file.save(three)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    expect(file.current).toEqual(one)
    await file.close()
    await expect(file.save(three)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
  })

  test('what a killed process left in the page cache is durable before it is believed', async () => {
    const disk = new MemoryDisk()
    const file = await openHardState(disk, 'hard-state')
    await file.save(one)
    disk.fail('sync', { code: 'EIO' })
    await expect(file.save(two)).rejects.toThrow()
    const restarted = disk.kill()
    expect(await currentOf(restarted)).toEqual(two)
    expect(await currentOf(restarted.crash(loseAllUnsynced))).toEqual(two)
  })

  test('R1: what a failed sync has left of the first save is never half of the file', async () => {
    const disk = new MemoryDisk()
    const file = await openHardState(disk, 'hard-state')
    disk.fail('sync', { code: 'EIO' })
    await expect(file.save(one)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await file.close()
    const again = async (tried: MemoryDisk): Promise<void> => {
      const opened = await openHardState(tried, 'hard-state')
      await opened.save(two)
      await opened.close()
    }
    let crashes = 0
    for await (const { disk: stopped } of crashEverywhere(disk, again)) {
      crashes++
      const random = seededNumbers(crashes)
      for (let round = 0; round < 20; round++) {
        const left = await currentOf(stopped.clone().crash(randomCrash(random)))
        expect([null, one, two]).toContainEqual(left)
      }
    }
    expect(crashes).toBeGreaterThan(5)
  })

  test('R1: a term that goes back is a bug of the caller', async () => {
    const file = await openHardState(new MemoryDisk(), 'hard-state')
    await file.save(two)
    await expect(file.save(one)).rejects.toThrow('R1')
  })

  test('survives a restart on real files', async () => {
    const root = await mkdtemp(join(tmpdir(), 'ledgermq-hard-state-'))
    try {
      const disk = new NodeDisk(root)
      for (const state of [one, two, three]) {
        const file = await openHardState(disk, 'hard-state')
        await file.save(state)
        await file.close()
        const again = await openHardState(disk, 'hard-state')
        expect(again.current).toEqual(state)
        await again.close()
      }
    } finally {
      await rm(root, { recursive: true })
    }
  })
})
