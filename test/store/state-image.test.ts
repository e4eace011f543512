/** Images of the state store and stores that are filled from one: consistent, bounded, whole or empty. */
import { describe, expect, test } from 'vitest'
import {
  installStateStore,
  loseAllUnsynced,
  loseAllUnsyncedBatches,
  MemoryDisk,
  MemoryKeyValueEngine,
  openImagesMax,
  openStateStore,
  randomBatchCrash,
  randomCrash,
  type StateImage,
  type StateRow,
  type StateStoreApi,
} from '../../store/index.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'

interface Machine {
  readonly engine: MemoryKeyValueEngine
  readonly disk: MemoryDisk
}

const identity = { appliedIndex: 600, hash: '0123456789abcdef' }

function newMachine(): Machine {
  return { engine: new MemoryKeyValueEngine(), disk: new MemoryDisk() }
}

function open(machine: Machine, trusted = true): Promise<StateStoreApi> {
  return openStateStore({ ...machine, directory: '/state', schema: 1, trusted })
}

function keyOf(at: number): Buffer {
  return Buffer.from([5, at >> 8, at & 0xff])
}

/** Rows of 13 bytes. */
function rowsOf(count: number): StateRow[] {
  return Array.from({ length: count }, (_, at) => [keyOf(at), Buffer.alloc(10, at)] as const)
}

async function filled(machine: Machine, count: number): Promise<StateStoreApi> {
  const store = await open(machine)
  const operations = rowsOf(count).map(([key, value]) => ({ kind: 'put', key, value }) as const)
  await store.write({ ...identity, operations })
  return store
}

async function readAll(image: StateImage, bytesMax: number): Promise<StateRow[]> {
  const rows: StateRow[] = []
  for (let piece = await image.next(bytesMax); piece !== null; piece = await image.next(bytesMax)) rows.push(...piece)
  return rows
}

function allRows(store: StateStoreApi): Promise<readonly StateRow[]> {
  return store.range({ from: Buffer.from([1]), to: Buffer.from([0xff]), limit: 100_000 })
}

async function install(machine: Machine, rows: readonly StateRow[]): Promise<void> {
  const installing = await installStateStore({ ...machine, directory: '/state', schema: 1 }, identity)
  for (let at = 0; at < rows.length; at += 100) await installing.put(rows.slice(at, at + 100))
  await installing.finish()
  await installing.close()
}

describe('image of the state store', () => {
  test('S4: an image is the state at its index, whatever is written, deleted and checkpointed while it is read', async () => {
    const store = await filled(newMachine(), 600)
    const image = await store.image()
    expect(image).toMatchObject(identity)
    const first = await image.next(50)
    await store.write({ ...identity, appliedIndex: 601, operations: [{ kind: 'delete', key: keyOf(300) }] })
    await store.deleteRange(keyOf(400), keyOf(500), 1000)
    await store.checkpoint()
    expect([...(first ?? []), ...(await readAll(image, 997))]).toEqual(rowsOf(600))
    expect(await image.next(1)).toBeNull()
    expect(await allRows(store)).toHaveLength(499)
  })

  test('pieces hold at most the bytes asked for, but never less than a row', async () => {
    const store = await filled(newMachine(), 600)
    const image = await store.image()
    expect(await image.next(1)).toHaveLength(1)
    expect(await image.next(26)).toHaveLength(2)
    expect(await image.next(38)).toHaveLength(2)
    expect(await image.next(13 * 400)).toHaveLength(400)
    expect(await image.next(1e6)).toHaveLength(195)
    expect(await image.next(1e6)).toBeNull()
  })

  test('the markers of the store are no part of it, and an empty store has an empty image', async () => {
    const store = await open(newMachine())
    const empty = await store.image()
    expect(empty.appliedIndex).toBe(0)
    expect(await empty.next(1000)).toBeNull()
    await store.write({ ...identity, operations: [] })
    const image = await store.image()
    expect(await image.next(1000)).toBeNull()
  })

  test('more than the allowed number of open images is refused with BUSY until one is closed', async () => {
    const store = await filled(newMachine(), 3)
    const images = await Promise.all(Array.from({ length: openImagesMax }, () => store.image()))
    await expect(store.image()).rejects.toMatchObject({ code: 'BUSY' })
    await images[0]?.close()
    await images[0]?.close()
    const next = await store.image()
    await expect(store.image()).rejects.toMatchObject({ code: 'BUSY' })
    expect(await readAll(next, 1000)).toHaveLength(3)
  })

  test('closing or resetting the store closes its images', async () => {
    const machine = newMachine()
    const store = await filled(machine, 3)
    const before = await store.image()
    await store.reset('test')
    await expect(before.next(10)).rejects.toMatchObject({ code: 'CLOSED' })
    const later = await store.image()
    await store.close()
    await expect(later.next(10)).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(store.image()).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe('state store that is filled from an image', () => {
  test('S4: holds rows, index and hash of the image after it was finished, after a power cut too', async () => {
    const source = await filled(newMachine(), 600)
    const rows = await readAll(await source.image(), 1000)
    for (const trusted of [true, false]) {
      const machine = newMachine()
      await install(machine, rows)
      const left = { engine: machine.engine.crash(loseAllUnsyncedBatches), disk: machine.disk.crash(loseAllUnsynced) }
      const store = await open(left, trusted)
      expect(store).toMatchObject({ ...identity, rebuiltBecause: null })
      expect(await allRows(store)).toEqual(rowsOf(600))
      await store.write({ appliedIndex: 601, hash: identity.hash, operations: [] })
      await store.close()
      expect(await open(left, false)).toMatchObject({ appliedIndex: 601, rebuiltBecause: null })
    }
  })

  test('S4: the name of the new database is durable before the image is called whole', async () => {
    const { engine, disk } = newMachine()
    const steps: string[] = []
    disk.schedule = async (operation) => {
      steps.push(operation)
    }
    const watched = {
      destroy: (directory: string) => engine.destroy(directory),
      open: (directory: string) => {
        steps.push('open database')
        return engine.open(directory)
      },
    }
    const install = await installStateStore({ engine: watched, disk, directory: '/state', schema: 1 }, identity)
    expect(steps.slice(steps.lastIndexOf('open database'))).toContain('syncDirectory')
    await install.close()
  })

  test('what the directory held before is gone', async () => {
    const machine = newMachine()
    await (await filled(machine, 600)).close()
    await install(machine, rowsOf(5))
    expect(await allRows(await open(machine))).toEqual(rowsOf(5))
  })

  test('S4: a power cut at any step leaves the old state, an empty store, or the whole image', async () => {
    const found = new Set<number>()
    for (let step = 1; ; step++) {
      const machine = newMachine()
      await (await filled(machine, 7)).close()
      const { isDone, left } = await cutAt(machine, step)
      for (const trusted of [true, false]) {
        const store = await open({ engine: left.engine.clone(), disk: left.disk.clone() }, trusted)
        const rows = await allRows(store)
        expect([0, 7, 300]).toContain(rows.length)
        expect(store.appliedIndex).toBe(rows.length === 0 ? 0 : 600)
        found.add(rows.length)
      }
      if (isDone) break
    }
    expect([...found].sort((a, b) => a - b)).toEqual([0, 7, 300])
  })

  test('an unfinished install is not taken for a state although the checkpoint file is lost', async () => {
    const machine = newMachine()
    const installing = await installStateStore({ ...machine, directory: '/state', schema: 1 }, identity)
    await installing.put(rowsOf(5))
    await installing.close()
    await machine.disk.unlink('/state/checkpoint')
    const store = await open(machine)
    expect(store).toMatchObject({ appliedIndex: 0, rebuiltBecause: 'there are rows, but no marker' })
    expect(await allRows(store)).toEqual([])
  })

  test('rows that are no image’s are refused with BAD_IMAGE, and then nothing more is taken', async () => {
    const wrong: readonly StateRow[][] = [
      [[Buffer.from([0, 0x6d]), Buffer.alloc(1)]],
      [[Buffer.alloc(0), Buffer.alloc(1)]],
      [[Buffer.from([0xff]), Buffer.alloc(1)]],
      [...rowsOf(2), ...rowsOf(1)],
      [...rowsOf(1), ...rowsOf(1)],
    ]
    for (const rows of wrong) {
      const machine = newMachine()
      const installing = await installStateStore({ ...machine, directory: '/state', schema: 1 }, identity)
      await expect(installing.put(rows)).rejects.toMatchObject({ code: 'BAD_IMAGE' })
      await expect(installing.put(rowsOf(1))).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
      await expect(installing.finish()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
      await installing.close()
      expect(await open(machine)).toMatchObject({ appliedIndex: 0 })
    }
    const nothing = { appliedIndex: 0, hash: identity.hash }
    const refused = installStateStore({ ...newMachine(), directory: '/state' }, nothing)
    await expect(refused).rejects.toMatchObject({ code: 'BAD_IMAGE' })
  })

  test('an open store is not filled over, and an unfinished one holds the lock', async () => {
    const machine = newMachine()
    const store = await filled(machine, 3)
    const place = { ...machine, directory: '/state', schema: 1 }
    await expect(installStateStore(place, identity)).rejects.toMatchObject({ code: 'FOLDER_IN_USE' })
    expect(await allRows(store)).toHaveLength(3)
    await store.close()
    const installing = await installStateStore(place, identity)
    await expect(open(machine)).rejects.toMatchObject({ code: 'FOLDER_IN_USE' })
    await installing.close()
    await installing.close()
    await expect(installing.put(rowsOf(1))).rejects.toMatchObject({ code: 'CLOSED' })
    expect(await open(machine)).toMatchObject({ rebuiltBecause: 'an earlier rebuild was interrupted' })
  })
})

describe('rows that nobody reaches any more', () => {
  test('are deleted in slices from the front, without a new index', async () => {
    const store = await filled(newMachine(), 10)
    const next = await store.deleteRange(keyOf(0), keyOf(5), 3)
    expect((await allRows(store)).map(([key]) => key[2])).toEqual([3, 4, 5, 6, 7, 8, 9])
    expect(await store.deleteRange(next ?? keyOf(9), keyOf(5), 3)).toBeNull()
    expect((await allRows(store)).map(([key]) => key[2])).toEqual([5, 6, 7, 8, 9])
    expect(store.appliedIndex).toBe(600)
  })

  test('the own rows of the store are never among them', async () => {
    const machine = newMachine()
    const store = await filled(machine, 10)
    expect(() => store.deleteRange(Buffer.from([0]), Buffer.from([0xff]), 100)).toThrow(/^S4: /)
    expect(await store.deleteRange(Buffer.from([1]), Buffer.from([0xff, 0xff]), 100)).toBeNull()
    await store.close()
    expect(await open(machine, false)).toMatchObject({ appliedIndex: 600, rebuiltBecause: null })
  })
})

/** Replaces what the machine holds by an image of 300 rows and cuts the power at this step, if there are as many. */
async function cutAt(machine: Machine, step: number): Promise<{ readonly isDone: boolean; readonly left: Machine }> {
  const { engine, disk } = machine
  const random = seededNumbers(step)
  let steps = 0
  let isDone = false
  const cut = new Promise<void>((resolve) => {
    const schedule = (): Promise<void> => {
      if (++steps < step) return Promise.resolve()
      resolve()
      return new Promise(() => {})
    }
    engine.schedule = schedule
    disk.schedule = schedule
    void install(machine, rowsOf(300)).then(() => {
      isDone = true
      resolve()
    })
  })
  await cut
  engine.schedule = undefined
  disk.schedule = undefined
  return { isDone, left: { engine: engine.crash(randomBatchCrash(random)), disk: disk.crash(randomCrash(random)) } }
}
