/** The state store on a full disk: with somebody who makes space it goes on, without it ends and keeps what it had. */
import { expect, test } from 'vitest'
import {
  installStateStore,
  MemoryDisk,
  MemoryKeyValueEngine,
  openStateStore,
  type StateStoreApi,
} from '../../store/index.ts'

interface Machine {
  readonly engine: MemoryKeyValueEngine
  readonly disk: MemoryDisk
}

function newMachine(): Machine {
  const disk = new MemoryDisk()
  return { disk, engine: new MemoryKeyValueEngine({ spaceLeft: () => disk.spaceLeft }) }
}

function open(machine: Machine, makeSpace?: () => Promise<void>): Promise<StateStoreApi> {
  const options = { ...machine, directory: '/state', trusted: true, schema: 1 }
  return openStateStore(makeSpace ? { ...options, makeSpace } : options)
}

async function write(store: StateStoreApi, appliedIndex: number): Promise<void> {
  const hash = appliedIndex.toString(16).padStart(16, '0')
  const operations = [{ kind: 'put', key: Buffer.from([1, appliedIndex]), value: Buffer.alloc(100) }] as const
  await store.write({ appliedIndex, hash, operations })
}

async function countOf(store: StateStoreApi): Promise<number> {
  return (await store.range({ from: Buffer.from([1]), to: Buffer.from([2]), limit: 100 })).length
}

test('S4: a write that finds no space is made once more after space was made, and nothing is lost or doubled', async () => {
  const machine = newMachine()
  let asked = 0
  const store = await open(machine, async () => {
    asked++
    machine.disk.capacityBytes += 100_000
  })
  await write(store, 1)
  machine.disk.fillUp()
  await write(store, 2)
  await write(store, 3)
  await store.checkpoint()
  expect(asked).toBe(1)
  expect(store.appliedIndex).toBe(3)
  await store.close()
  const again = await open(machine)
  expect(again).toMatchObject({ appliedIndex: 3, rebuiltBecause: null })
  expect(await countOf(again)).toBe(3)
})

test('reads, deletions and a checkpoint that meet the reopening wait for it', async () => {
  const machine = newMachine()
  machine.engine.schedule = () => new Promise((resolve) => setImmediate(resolve))
  const store = await open(machine, async () => {
    machine.disk.capacityBytes += 100_000
  })
  for (let index = 1; index <= 5; index++) await write(store, index)
  machine.disk.fillUp()
  const all = await Promise.all([
    write(store, 6),
    store.deleteRange(Buffer.from([1, 1]), Buffer.from([1, 3]), 10),
    store.get(Buffer.from([1, 5])),
    countOf(store),
    store.checkpoint(),
    store.image().then((image) => image.close()),
  ])
  expect(all[2]).toHaveLength(100)
  expect(store.appliedIndex).toBe(6)
  expect(await countOf(store)).toBe(4)
})

test('without anybody who makes space, or when it is not enough, the store fails for good with STORAGE_FAILED', async () => {
  for (const makeSpace of [undefined, async () => {}]) {
    const machine = newMachine()
    const store = await open(machine, makeSpace)
    await write(store, 1)
    machine.disk.fillUp()
    await expect(write(store, 2)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(write(store, 3)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await store.close()
    machine.disk.capacityBytes = Number.POSITIVE_INFINITY
    const again = await open(machine)
    expect(again).toMatchObject({ appliedIndex: 1, rebuiltBecause: null })
  }
})

test('the checkpoint file needs no space after it was made', async () => {
  const machine = newMachine()
  machine.engine.spaceLeft = () => Number.POSITIVE_INFINITY
  const store = await open(machine)
  // No hole in it that would want a block later.
  expect(machine.disk.contentOf('/state/checkpoint')).toHaveLength(8192)
  machine.disk.fillUp()
  for (let index = 1; index <= 4; index++) {
    await write(store, index)
    await store.checkpoint()
  }
  await store.close()
  expect((await open(machine)).appliedIndex).toBe(4)
})

test('opening without space is DISK_FULL and leaves everything as it is', async () => {
  const machine = newMachine()
  const store = await open(machine)
  await write(store, 1)
  await store.close()
  machine.disk.fillUp()
  await expect(open(machine)).rejects.toMatchObject({ code: 'DISK_FULL' })
  machine.disk.capacityBytes = Number.POSITIVE_INFINITY
  expect(await open(machine)).toMatchObject({ appliedIndex: 1, rebuiltBecause: null })
})

test('S4: an image that finds no space is DISK_FULL at every step, and the next one begins when there is some', async () => {
  const machine = newMachine()
  const { disk } = machine
  const begin = () =>
    installStateStore({ ...machine, directory: '/state', schema: 1 }, { appliedIndex: 7, hash: '0'.repeat(16) })
  const rows = [[Buffer.from([1]), Buffer.alloc(100)]] as const
  disk.fillUp()
  await expect(begin()).rejects.toMatchObject({ code: 'DISK_FULL' })
  disk.capacityBytes = Number.POSITIVE_INFINITY
  const filling = await begin()
  disk.fillUp()
  await expect(filling.put(rows)).rejects.toMatchObject({ code: 'DISK_FULL' })
  await filling.close()
  disk.capacityBytes = Number.POSITIVE_INFINITY
  const finishing = await begin()
  await finishing.put(rows)
  disk.fillUp()
  await expect(finishing.finish()).rejects.toMatchObject({ code: 'DISK_FULL' })
  await finishing.close()
  disk.capacityBytes = Number.POSITIVE_INFINITY
  const last = await begin()
  await last.put(rows)
  await last.finish()
  await last.close()
  const store = await open(machine)
  expect(store.appliedIndex).toBe(7)
  expect(await countOf(store)).toBe(1)
})
