/** What only the memory version of the key-value port can show: its crash model. */
import { describe, expect, test } from 'vitest'
import {
  type KeyValue,
  type KeyValueEngine,
  loseAllUnsyncedBatches,
  MemoryKeyValueEngine,
  randomBatchCrash,
} from '../../store/index.ts'
import { seededNumbers } from '../support/seeded-numbers.ts'

const directory = '/state'

function putOne(keyValue: KeyValue, key: number, sync = false): Promise<void> {
  return keyValue.write([{ kind: 'put', key: Buffer.from([key]), value: Buffer.from([key]) }], { sync })
}

async function keysOf(engine: KeyValueEngine): Promise<readonly number[]> {
  const keyValue = await engine.open(directory)
  const rows = await keyValue.range({ from: Buffer.from([0]), to: Buffer.from([0xff]), limit: 1000 })
  await keyValue.close()
  return rows.map(([key]) => key[0]!)
}

describe('crash model of the memory key-value store', () => {
  test('a killed process loses nothing and its lock is gone', async () => {
    const engine = new MemoryKeyValueEngine()
    const keyValue = await engine.open(directory)
    for (let key = 1; key <= 5; key++) await putOne(keyValue, key)
    expect(await keysOf(engine.kill())).toEqual([1, 2, 3, 4, 5])
  })

  test('a durable row is that of the last synced batch, or of the last flush', async () => {
    const engine = new MemoryKeyValueEngine()
    const keyValue = await engine.open(directory)
    const key = Buffer.from([7])
    const put = (value: number, sync: boolean): Promise<void> =>
      keyValue.write([{ kind: 'put', key, value: Buffer.from([value]) }], { sync })
    await put(1, false)
    expect(engine.durableRow(directory, key)).toBeUndefined()
    await keyValue.flush()
    await put(2, false)
    expect(engine.durableRow(directory, key)).toEqual(Buffer.from([1]))
    await put(3, true)
    await put(4, false)
    expect(engine.durableRow(directory, key)).toEqual(Buffer.from([3]))
  })

  test('a power cut loses exactly the un-synced batches that the choice names', async () => {
    const engine = new MemoryKeyValueEngine()
    const keyValue = await engine.open(directory)
    await putOne(keyValue, 1)
    await keyValue.flush()
    for (let key = 2; key <= 6; key++) await putOne(keyValue, key, key === 4)
    await putOne(keyValue, 7)
    // Un-synced are 2, 3, 5, 6, 7: the synced write of 4 carries nobody along.
    expect(await keysOf(engine.clone().crash(loseAllUnsyncedBatches))).toEqual([1, 4])
    expect(await keysOf(engine.crash((at) => at % 2 === 1))).toEqual([1, 3, 4, 6])
  })

  test('what survived one power cut is durable in the next', async () => {
    const engine = new MemoryKeyValueEngine()
    const keyValue = await engine.open(directory)
    for (let key = 1; key <= 3; key++) await putOne(keyValue, key)
    const left = engine.crash((at) => at === 1)
    expect(await keysOf(left.crash(loseAllUnsyncedBatches))).toEqual([2])
  })

  test('a chance crash loses a tail in some runs and holes in others, the same for the same numbers', async () => {
    const losses = new Set<string>()
    for (let seed = 1; seed <= 50; seed++) {
      const engine = new MemoryKeyValueEngine()
      const keyValue = await engine.open(directory)
      for (let key = 1; key <= 6; key++) await putOne(keyValue, key)
      const first = await keysOf(engine.clone().crash(randomBatchCrash(seededNumbers(seed))))
      expect(await keysOf(engine.crash(randomBatchCrash(seededNumbers(seed))))).toEqual(first)
      losses.add(first.join())
    }
    expect(losses).toContain('1,2,3')
    expect(losses.size).toBeGreaterThan(10)
  })

  test('nothing comes back into a process that died, and its late write does not happen', async () => {
    let goOn = (): void => {}
    let slow = false
    const wait = (): Promise<void> =>
      new Promise((resolve) => {
        goOn = resolve
        if (!slow) resolve()
      })
    const engine = new MemoryKeyValueEngine({ schedule: wait })
    const keyValue = await engine.open(directory)
    slow = true
    let settled = false
    void putOne(keyValue, 1).finally(() => {
      settled = true
    })
    const left = engine.kill()
    slow = false
    goOn()
    expect(await keysOf(left)).toEqual([])
    expect(settled).toBe(false)
  })

  test('the log of un-synced batches stays bounded: old ones become durable as in LevelDB', async () => {
    const engine = new MemoryKeyValueEngine()
    const keyValue = await engine.open(directory)
    await putOne(keyValue, 1)
    for (let write = 0; write < 5000; write++) await putOne(keyValue, 2)
    expect(await keysOf(engine.crash(loseAllUnsyncedBatches))).toEqual([1, 2])
  })
})
