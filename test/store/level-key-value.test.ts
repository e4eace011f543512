/** What only real LevelDB can show: locks between processes, damage in its files, what a flush is worth. */
import { spawn } from 'node:child_process'
import { cp, mkdtemp, open, readdir, readlink, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LevelKeyValueEngine, openStateStore, type StateStoreApi } from '../../store/index.ts'
import { NodeDisk } from '../../store/node-disk.ts'

const engine = new LevelKeyValueEngine()
let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ledgermq-level-'))
})
afterEach(() => rm(root, { recursive: true }))

function openStore(directory: string, trusted: boolean): Promise<StateStoreApi> {
  return openStateStore({ engine, disk: new NodeDisk(), directory, trusted })
}

/** Entries of a KiB each, so that damage of a page hits a few of them. */
async function apply(store: StateStoreApi, from: number, to: number): Promise<void> {
  for (let index = from; index <= to; index++) {
    const key = Buffer.alloc(5, 1)
    key.writeUInt32BE(index, 1)
    const hash = index.toString(16).padStart(16, '0')
    await store.write({
      appliedIndex: index,
      hash,
      operations: [{ kind: 'put', key, value: Buffer.alloc(1024, index) }],
    })
  }
}

async function countRows(store: StateStoreApi): Promise<number> {
  return (await store.range({ from: Buffer.from([1]), to: Buffer.from([2]), limit: 10_000 })).length
}

/** The files as a crash of the process at this moment leaves them. */
async function copyLive(directory: string, name: string): Promise<string> {
  const copy = join(root, name)
  await cp(directory, copy, { recursive: true })
  return copy
}

/** LevelDB's write-ahead logs. */
async function logFiles(directory: string): Promise<readonly string[]> {
  const database = join(directory, 'database')
  return (await readdir(database)).filter((name) => name.endsWith('.log')).map((name) => join(database, name))
}

describe('state store on real LevelDB', () => {
  test('S4: the files of a killed process hold everything that was answered', async () => {
    const store = await openStore(join(root, 'state'), false)
    await apply(store, 1, 100)
    const left = await openStore(await copyLive(join(root, 'state'), 'left'), true)
    expect(left).toMatchObject({ appliedIndex: 100, rebuiltBecause: null })
    expect(await countRows(left)).toBe(100)
    await left.close()
    await store.close()
  })

  test('S4: damage in the middle of the log, which LevelDB skips in silence, is noticed by the chain', async () => {
    const store = await openStore(join(root, 'state'), false)
    await apply(store, 1, 300)
    const left = await copyLive(join(root, 'state'), 'left')
    await store.close()
    const [log] = await logFiles(left)
    await overwrite(log!, 64 * 1024 + 100, Buffer.alloc(512))
    const forSilence = await cpDatabase(left)
    const silent = await engine.open(forSilence)
    const rows = await silent.range({ from: Buffer.from([1]), to: Buffer.from([2]), limit: 10_000 })
    expect(rows.length).toBeLessThan(300)
    expect(rows.length).toBeGreaterThan(100)
    await silent.close()

    const again = await openStore(left, false)
    expect(again.appliedIndex).toBe(0)
    expect(again.rebuiltBecause).toMatch(/^changes of .* are missing$/)
    expect(await countRows(again)).toBe(0)
    await apply(again, 1, 3)
    await again.close()
  })

  test('S4: a log that ends early is an older state, not a broken one', async () => {
    const store = await openStore(join(root, 'state'), false)
    await apply(store, 1, 50)
    const left = await copyLive(join(root, 'state'), 'left')
    await store.close()
    const [log] = await logFiles(left)
    await truncate(log!, Math.floor((await stat(log!)).size / 2))
    const again = await openStore(left, false)
    expect(again.rebuiltBecause).toBeNull()
    expect(again.appliedIndex).toBeGreaterThan(10)
    expect(again.appliedIndex).toBeLessThan(50)
    expect(await countRows(again)).toBe(again.appliedIndex)
    await again.close()
  })

  test('S4: what a checkpoint covers needs no log of LevelDB any more', async () => {
    const store = await openStore(join(root, 'state'), false)
    await apply(store, 1, 50)
    await store.checkpoint()
    await apply(store, 51, 60)
    const left = await copyLive(join(root, 'state'), 'left')
    await store.close()
    for (const log of await logFiles(left)) await truncate(log, 0)
    const again = await openStore(left, false)
    expect(again).toMatchObject({ appliedIndex: 50, rebuiltBecause: null })
    expect(await countRows(again)).toBe(50)
    await again.close()
  })

  test.each([
    ['CURRENT is garbage', 'CURRENT', 'garbage'],
    ['CURRENT names a manifest that is gone', 'CURRENT', 'MANIFEST-999999\n'],
  ])('a database that cannot be opened is rebuilt: %s', async (_title, file, content) => {
    const directory = join(root, 'state')
    const store = await openStore(directory, false)
    await apply(store, 1, 5)
    await store.close()
    await writeFile(join(directory, 'database', file), content)
    const again = await openStore(directory, true)
    expect(again.appliedIndex).toBe(0)
    expect(again.rebuiltBecause).toMatch(/cannot open the state database in .*state\/database/)
    await apply(again, 1, 2)
    await again.close()
  })

  test('a table file that is gone means a rebuild', async () => {
    const directory = join(root, 'state')
    const store = await openStore(directory, false)
    await apply(store, 1, 5)
    await store.checkpoint()
    await store.close()
    const tables = (await readdir(join(directory, 'database'))).filter((name) => name.endsWith('.ldb'))
    for (const table of tables) await rm(join(directory, 'database', table))
    const again = await openStore(directory, true)
    expect(again.appliedIndex).toBe(0)
    expect(again.rebuiltBecause).not.toBeNull()
    await again.close()
  })

  test('another process that holds the folder is an error that says so, until it is killed', async () => {
    const directory = join(root, 'state')
    const holder = await holdInOtherProcess(join(directory, 'database'))
    try {
      const refused = openStore(directory, false)
      await expect(refused).rejects.toMatchObject({ name: 'StoreError', code: 'FOLDER_IN_USE' })
      await expect(refused).rejects.toThrow(/another process uses this folder/)
      expect(await readdir(directory)).toEqual(['database'])
    } finally {
      holder.kill('SIGKILL')
      await new Promise((resolve) => holder.once('exit', resolve))
    }
    const store = await openStore(directory, false)
    await store.close()
  })

  test('a file in the way of the folder is a clear error and leaves no handle behind', async () => {
    await writeFile(join(root, 'state'), 'not a folder')
    await expect(engine.open(join(root, 'state'))).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('cannot open the state database'),
    })
    await rm(join(root, 'state'))
    await (await engine.open(join(root, 'state'))).close()
  })

  test.runIf(process.platform === 'linux')('a closed store holds no file open, also after failures', async () => {
    const directory = join(root, 'state')
    const store = await openStore(directory, false)
    await apply(store, 1, 5)
    await store.checkpoint()
    await store.range({ from: Buffer.from([1]), to: Buffer.from([2]), limit: 2 })
    await store.reset('for the test')
    await expect(openStore(directory, false)).rejects.toMatchObject({ code: 'FOLDER_IN_USE' })
    expect((await openFiles()).length).toBeGreaterThan(0)
    await store.close()
    await expect.poll(openFiles, { timeout: 60_000 }).toEqual([])
  })
})

/** Files below the test's folder that this process holds open. */
async function openFiles(): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd')
  const paths = await Promise.all(descriptors.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
  return paths.filter((path) => path.startsWith(root))
}

async function overwrite(path: string, position: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(bytes, 0, bytes.length, position)
  await file.close()
}

async function cpDatabase(directory: string): Promise<string> {
  const copy = join(root, 'for-silence')
  await cp(join(directory, 'database'), copy, { recursive: true })
  return copy
}

function holdInOtherProcess(directory: string): Promise<ReturnType<typeof spawn>> {
  const level = createRequire(import.meta.url).resolve('level')
  const script = `
    const { Level } = require(${JSON.stringify(level)})
    const database = new Level(${JSON.stringify(directory)})
    database.open().then(() => { console.log('open'); setInterval(() => {}, 1000) })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  return new Promise((resolve, reject) => {
    child.stdout.once('data', () => resolve(child))
    child.once('exit', (code) => reject(new Error(`the holder of the lock ended with ${code}`)))
  })
}
