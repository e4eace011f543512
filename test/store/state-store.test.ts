/** The state store on the memory ports: what it keeps, what it refuses, and every way to lose batches. */
import { describe, expect, test } from 'vitest'
import {
  type KeyValueEngine,
  loseAllUnsynced,
  loseAllUnsyncedBatches,
  MemoryDisk,
  MemoryKeyValueEngine,
  openStateStore,
  randomBatchCrash,
  randomCrash,
  type StateStoreApi,
} from '../../store/index.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'

const directory = '/state'

interface Machine {
  readonly engine: MemoryKeyValueEngine
  readonly disk: MemoryDisk
}

function newMachine(): Machine {
  return { engine: new MemoryKeyValueEngine(), disk: new MemoryDisk() }
}

/** A machine whose synced writes are lost like others: only it can show what the chain of markers is for. */
function lyingMachine(): Machine {
  return { engine: new MemoryKeyValueEngine({ lyingSync: true }), disk: new MemoryDisk() }
}

function killed({ engine, disk }: Machine): Machine {
  return { engine: engine.kill(), disk: disk.kill() }
}

function open(
  machine: { readonly engine: KeyValueEngine; readonly disk: MemoryDisk },
  trusted: boolean,
  schema = 1,
): Promise<StateStoreApi> {
  return openStateStore({ ...machine, directory, trusted, schema })
}

function hashOf(index: number): string {
  return index.toString(16).padStart(16, '0')
}

function keyOf(index: number): Buffer {
  return Buffer.from([1, index])
}

/** Entry `index` adds its own row and counts in a shared one, so that a missing batch can be seen in the rows. */
async function apply(store: StateStoreApi, index: number): Promise<void> {
  const counter = (await store.get(Buffer.from([2])))?.readUInt32LE(0) ?? 0
  const value = Buffer.alloc(4)
  value.writeUInt32LE(counter + 1)
  await store.write({
    appliedIndex: index,
    hash: hashOf(index),
    operations: [
      { kind: 'put', key: keyOf(index), value: Buffer.from(hashOf(index)) },
      { kind: 'put', key: Buffer.from([2]), value },
    ],
  })
}

async function applyRange(store: StateStoreApi, from: number, to: number): Promise<void> {
  for (let index = from; index <= to; index++) await apply(store, index)
}

/** The rows are those of the entries up to appliedIndex, all of them and no others. */
async function expectWhole(store: StateStoreApi): Promise<void> {
  const rows = await store.range({ from: Buffer.alloc(0), to: Buffer.from([2]), limit: 1000 })
  expect(rows.map(([key]) => key[1])).toEqual(Array.from({ length: store.appliedIndex }, (_, at) => at + 1))
  expect((await store.get(Buffer.from([2])))?.readUInt32LE(0) ?? 0).toBe(store.appliedIndex)
  expect(store.hash).toBe(hashOf(store.appliedIndex))
}

describe('state store', () => {
  test('a new store is empty, with index 0 and a zero hash', async () => {
    const store = await open(newMachine(), false)
    expect(store).toMatchObject({ appliedIndex: 0, hash: '0000000000000000', rebuiltBecause: null })
    await expectWhole(store)
  })

  test('S4: rows and appliedIndex are there together after close and open, trusted or not', async () => {
    for (const trusted of [true, false]) {
      const machine = newMachine()
      const store = await open(machine, false)
      await applyRange(store, 1, 5)
      await store.close()
      const again = await open(machine, trusted)
      expect(again).toMatchObject({ appliedIndex: 5, rebuiltBecause: null })
      await expectWhole(again)
    }
  })

  test('S4: a killed process loses nothing that was answered', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 5)
    await store.checkpoint()
    await applyRange(store, 6, 9)
    const again = await open(killed(machine), true)
    expect(again.appliedIndex).toBe(9)
    await expectWhole(again)
  })

  test('S4: state and appliedIndex never go backwards or stand still', async () => {
    const store = await open(newMachine(), false)
    await applyRange(store, 1, 3)
    await expect(apply(store, 3)).rejects.toThrow(/^S4: /)
    await expect(open(newMachine(), false).then((fresh) => apply(fresh, 0))).rejects.toThrow(/^S4: /)
  })

  test('S4: a batch may cover many entries, and indexes without changes leave only their marker', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await store.write({ appliedIndex: 1000, hash: 'ffffffffffffffff', operations: [] })
    await store.write({ appliedIndex: 2 ** 40, hash: '00000000deadbeef', operations: [] })
    const again = await open(killed(machine), false)
    expect(again).toMatchObject({ appliedIndex: 2 ** 40, hash: '00000000deadbeef', rebuiltBecause: null })
  })

  test('the own rows of the store can be neither read nor written by callers', async () => {
    const store = await open(newMachine(), false)
    await applyRange(store, 1, 3)
    const own = Buffer.from([0, 0x6d])
    await expect(store.get(own)).rejects.toThrow(/^S4: /)
    const rows = await store.range({ from: Buffer.alloc(0), to: Buffer.alloc(9, 0xff), limit: 100 })
    expect(rows.every(([key]) => key[0] !== 0)).toBe(true)
    expect(await store.range({ from: Buffer.from([0]), to: Buffer.from([0, 0xff]), limit: 100 })).toEqual([])
    const write = store.write({ appliedIndex: 4, hash: hashOf(4), operations: [{ kind: 'delete', key: own }] })
    await expect(write).rejects.toThrow(/^S4: /)
  })

  test('writes that do not wait for each other happen in the order of the calls, up to a limit', async () => {
    const store = await open({ ...newMachine(), engine: new MemoryKeyValueEngine({ schedule: jitter(3) }) }, false)
    const writes = Array.from({ length: 64 }, (_, at) =>
      store.write({ appliedIndex: at + 1, hash: hashOf(at + 1), operations: [] }),
    )
    expect(() => store.write({ appliedIndex: 65, hash: hashOf(65), operations: [] })).toThrow(/more than 64 writes/)
    await Promise.all(writes)
    expect(store.appliedIndex).toBe(64)
  })

  test('a second opener is refused with FOLDER_IN_USE and touches nothing', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 3)
    const before = machine.disk.contentOf('/state/checkpoint')
    await expect(open(machine, false)).rejects.toMatchObject({ code: 'FOLDER_IN_USE' })
    expect(machine.disk.contentOf('/state/checkpoint')).toEqual(before)
    await apply(store, 4)
    await expectWhole(store)
  })

  test('closing releases the folder, waits for what runs and may be repeated', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    const write = apply(store, 1)
    await Promise.resolve()
    await write
    await Promise.all([store.checkpoint(), store.close()])
    await store.close()
    await expect(store.get(Buffer.from([1]))).rejects.toMatchObject({ code: 'CLOSED' })
    expect((await open(machine, true)).appliedIndex).toBe(1)
  })

  test('after a failed write every further write and checkpoint is refused with STORAGE_FAILED', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    const bad = store.write({ appliedIndex: 1, hash: 'no hash', operations: [] })
    await expect(bad).rejects.toThrow(/16 hex digits/)
    await expect(apply(store, 1)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(store.checkpoint()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
  })

  test('a checkpoint that the disk refuses is reported, and an open that it refuses leaves no lock behind', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await apply(store, 1)
    machine.disk.fail('sync', { code: 'EIO', path: 'checkpoint' })
    await expect(store.checkpoint()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await store.close()
    machine.disk.fail('write', { code: 'ENOSPC', path: 'checkpoint' })
    await expect(open(machine, false)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    const again = await open(machine, false)
    expect(again.appliedIndex).toBe(1)
  })

  test('rows of another layout are thrown away, and the reason is told', async () => {
    const machine = newMachine()
    const store = await open(machine, false, 1)
    await applyRange(store, 1, 3)
    await store.close()
    const again = await open(machine, true, 2)
    expect(again).toMatchObject({ appliedIndex: 0, rebuiltBecause: 'rows have layout 1, this build writes 2' })
    await expectWhole(again)
    await applyRange(again, 1, 2)
    await again.close()
    expect(await open(machine, true, 2)).toMatchObject({ appliedIndex: 2, rebuiltBecause: null })
  })

  test('S4: a state ahead of its log is reset on demand and starts from 0', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 5)
    await store.checkpoint()
    await store.reset('the log ends at 3')
    expect(store).toMatchObject({ appliedIndex: 0, rebuiltBecause: 'the log ends at 3' })
    await expectWhole(store)
    await applyRange(store, 1, 3)
    const again = await open(killed(machine), true)
    expect(again).toMatchObject({ appliedIndex: 3, rebuiltBecause: null })
    await expectWhole(again)
  })
})

describe('state store after a power cut', () => {
  test('S4: nothing that was answered is lost, with a checkpoint and without', async () => {
    for (const checkpoints of [false, true]) {
      const machine = newMachine()
      const store = await open(machine, false)
      await applyRange(store, 1, 5)
      if (checkpoints) await store.checkpoint()
      await applyRange(store, 6, 8)
      const left = { engine: machine.engine.crash(loseAllUnsyncedBatches), disk: machine.disk.crash(loseAllUnsynced) }
      const again = await open(left, false)
      expect(again).toMatchObject({ appliedIndex: 8, rebuiltBecause: null })
      await expectWhole(again)
    }
  })

  test('S4: every subset of lost batches gives a whole prefix or an empty store that says why', async () => {
    const machine = lyingMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 3)
    await store.checkpoint()
    await applyRange(store, 4, 11)
    const found = new Map<number, number>()
    // Nine un-synced batches: the pruned markers of the checkpoint and eight writes.
    for (let subset = 0; subset < 512; subset++) {
      const engine = machine.engine.clone().crash((at) => ((subset >> at) & 1) === 1)
      const again = await open({ engine, disk: machine.disk.clone() }, false)
      await expectWhole(again)
      const writesKept = subset >> 1
      const isPrefix = (writesKept & (writesKept + 1)) === 0
      expect(again.rebuiltBecause === null).toBe(isPrefix)
      if (isPrefix) expect(again.appliedIndex).toBe(3 + Math.log2(writesKept + 1))
      else expect(again.rebuiltBecause).toMatch(/are missing$/)
      found.set(again.appliedIndex, (found.get(again.appliedIndex) ?? 0) + 1)
    }
    expect([...found.keys()].sort((a, b) => a - b)).toEqual([0, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  })

  test('without a checkpoint the chain must begin at 0', async () => {
    const machine = lyingMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 4)
    const lost = await open({ engine: machine.engine.clone().crash((at) => at !== 0), disk: machine.disk }, false)
    expect(lost).toMatchObject({ appliedIndex: 0, rebuiltBecause: 'changes of (0, 1] are missing' })
    await expectWhole(lost)
  })

  test('a database that holds less than its checkpoint is thrown away, even when only a process is said to have died', async () => {
    for (const trusted of [true, false]) {
      const machine = newMachine()
      const store = await open(machine, false)
      await applyRange(store, 1, 4)
      await store.checkpoint()
      await store.close()
      await machine.engine.destroy('/state/database')
      const again = await open(machine, trusted)
      expect(again).toMatchObject({
        appliedIndex: 0,
        rebuiltBecause: 'the database does not hold its checkpoint 4',
      })
    }
  })

  test('a lost checkpoint file after pruning means that nothing can be proved', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 4)
    await store.checkpoint()
    await apply(store, 5)
    await store.close()
    await machine.disk.unlink('/state/checkpoint')
    const again = await open(machine, true)
    expect(again.appliedIndex).toBe(0)
    expect(again.rebuiltBecause).toMatch(/^changes of \(0, 3\] are missing$/)
  })

  test('a rotten slot of the checkpoint file is never guessed at: the older one counts, or none', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 3)
    await store.checkpoint()
    await applyRange(store, 4, 6)
    await store.checkpoint()
    await store.close()
    machine.disk.flipBit('/state/checkpoint', 4096 + 40, 1)
    const one = await open({ engine: machine.engine.clone(), disk: machine.disk.clone() }, true)
    expect(one).toMatchObject({ appliedIndex: 6, rebuiltBecause: null })
    const checked = await open({ engine: machine.engine.clone(), disk: machine.disk.clone() }, false)
    expect(checked.rebuiltBecause).toBe('the database does not hold its checkpoint 3')
    machine.disk.flipBit('/state/checkpoint', 40, 1)
    const both = await open(machine, true)
    expect(both.rebuiltBecause).toBe('changes of (0, 5] are missing')
  })

  test('a checkpoint deletes the markers before it', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    for (let index = 1; index <= 2500; index++) {
      await store.write({ appliedIndex: index, hash: hashOf(index), operations: [] })
    }
    await store.checkpoint()
    await store.close()
    const keyValue = await machine.engine.open('/state/database')
    const rows = await keyValue.range({ from: Buffer.from([0]), to: Buffer.from([1]), limit: 9999 })
    expect(rows).toHaveLength(1)
    await keyValue.close()
    expect((await open(machine, false)).appliedIndex).toBe(2500)
  })

  test('a check that was cut short is repeated although the next open is told to trust', async () => {
    const machine = lyingMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 4)
    const disk = machine.disk.kill()
    const engine = machine.engine.crash((at) => at !== 1)
    const cut = cutAtRange(engine)
    void open({ engine: cut.engine, disk }, false)
    await cut.reached
    const again = await open({ engine: engine.kill(), disk: disk.kill() }, true)
    expect(again.rebuiltBecause).toBe('changes of (1, 2] are missing')
    await expectWhole(again)
  })

  test('S4: with crashes of process and power at any moment, again and again, a store is whole or empty', async () => {
    let rebuilt = 0
    for (let seed = 1; seed <= 100; seed++) rebuilt += await liveThroughCrashes(seed, lyingMachine())
    expect(rebuilt).toBeGreaterThan(50)
  })

  test('S4: on an honest disk no crash at any moment costs a write that was answered, or a rebuild', async () => {
    let rebuilt = 0
    for (let seed = 1; seed <= 100; seed++) rebuilt += await liveThroughCrashes(seed, newMachine())
    expect(rebuilt).toBe(0)
  })
})

/** Ten lives of one machine; returns how often the store was rebuilt. Checkpoints must hold through all of them. */
async function liveThroughCrashes(seed: number, first: Machine): Promise<number> {
  const random = seededNumbers(seed)
  const isHonest = !first.engine.lyingSync
  let machine = first
  let trusted = false
  let durableIndex = 0
  let rebuilt = 0
  for (let life = 0; life < 10; life++) {
    const store = await open(machine, trusted)
    await expectWhole(store)
    if (store.rebuiltBecause !== null) rebuilt++
    else expect(store.appliedIndex).toBeGreaterThanOrEqual(durableIndex)
    expect(trusted && store.rebuiltBecause !== null).toBe(false)
    // Only a check makes what it found durable.
    if (!trusted || store.rebuiltBecause !== null) durableIndex = store.appliedIndex
    for (let step = Math.floor(random() * 8); step > 0; step--) {
      await apply(store, store.appliedIndex + 1)
      if (isHonest) durableIndex = store.appliedIndex
      if (random() < 0.2) {
        await store.checkpoint()
        durableIndex = store.appliedIndex
      }
    }
    // A checkpoint may be under way when the machine stops.
    if (random() < 0.3) void store.checkpoint()
    for (let turns = Math.floor(random() * 12); turns > 0; turns--) await Promise.resolve()
    trusted = random() < 0.4
    machine = trusted ? killed(machine) : powerCut(machine, random)
  }
  return rebuilt
}

function powerCut({ engine, disk }: Machine, random: () => number): Machine {
  return { engine: engine.crash(randomBatchCrash(random)), disk: disk.crash(randomCrash(random)) }
}

describe('state store whose rebuild is interrupted', () => {
  test('S4: a reset that was cut short is finished by the next open', async () => {
    const machine = newMachine()
    const store = await open(machine, false)
    await applyRange(store, 1, 5)
    await store.checkpoint()
    const counter = stepCounter(2)
    machine.engine.schedule = counter.schedule
    void store.reset('the log ends at 3')
    await counter.reached
    machine.engine.schedule = undefined
    const again = await open(killed(machine), true)
    expect(again).toMatchObject({ appliedIndex: 0, rebuiltBecause: 'an earlier rebuild was interrupted' })
    await expectWhole(again)
  })

  test('S4: a power cut at every step of a rebuild leaves a store that is rebuilt or empty', async () => {
    for (let step = 1; ; step++) {
      const { engine, disk } = await machineWithHole()
      const counter = stepCounter(step)
      disk.schedule = counter.schedule
      engine.schedule = counter.schedule
      const opened = open({ engine, disk }, false)
      const finished = await Promise.race([opened.then(() => true), counter.reached.then(() => false)])
      if (finished) {
        expect(step).toBeGreaterThan(15)
        return
      }
      disk.schedule = undefined
      engine.schedule = undefined
      const left = { engine: engine.crash(() => true), disk: disk.crash(loseAllUnsynced) }
      const again = await open(left, false)
      expect(again.appliedIndex).toBe(0)
      await expectWhole(again)
    }
  })
})

async function machineWithHole(): Promise<Machine> {
  const machine = lyingMachine()
  const store = await open(machine, false)
  await applyRange(store, 1, 3)
  await store.checkpoint()
  await applyRange(store, 4, 8)
  return { engine: machine.engine.crash((at) => at !== 3), disk: machine.disk.kill() }
}

/** A schedule that never comes back from its `last` call. */
function stepCounter(last: number): { readonly schedule: () => Promise<void>; readonly reached: Promise<void> } {
  let steps = 0
  let tell = (): void => {}
  const reached = new Promise<void>((resolve) => {
    tell = resolve
  })
  return {
    reached,
    schedule: () => {
      if (++steps < last) return Promise.resolve()
      tell()
      return new Promise(() => {})
    },
  }
}

/** The engine of a process that dies while it reads a range. */
function cutAtRange(engine: MemoryKeyValueEngine): {
  readonly engine: KeyValueEngine
  readonly reached: Promise<void>
} {
  let tell = (): void => {}
  const reached = new Promise<void>((resolve) => {
    tell = resolve
  })
  return {
    reached,
    engine: {
      destroy: (at) => engine.destroy(at),
      open: async (at) => {
        const keyValue = await engine.open(at)
        return Object.assign(Object.create(keyValue), {
          range: () => {
            tell()
            return new Promise(() => {})
          },
        })
      },
    },
  }
}

/** Latency of a few turns, different from call to call. */
function jitter(seed: number): () => Promise<void> {
  const random = seededNumbers(seed)
  return async () => {
    for (let turns = Math.floor(random() * 5); turns > 0; turns--) await Promise.resolve()
  }
}

test('S4: what a killed process left un-synced is durable before anything is written behind it', async () => {
  // The process dies while its writes are being synced: the next one sees them, a power loss would not leave them.
  const first = lyingMachine()
  await applyRange(await open(first, false), 1, 3)
  const second = killed(first)
  second.engine.lyingSync = false
  await apply(await open(second, true), 4)
  const left = { engine: second.engine.crash(loseAllUnsyncedBatches), disk: second.disk.crash(loseAllUnsynced) }
  const store = await open(left, false)
  expect(store).toMatchObject({ rebuiltBecause: null, appliedIndex: 4 })
})
