/** Directories of a data folder that no record names are removed, whatever stage their removal had reached. */
import { expect, test } from 'vitest'
import {
  firstGenerations,
  logDirectory,
  removeOthers,
  stateDirectory,
} from '../../../../src/broker/replica/generations.ts'
import { loseAllUnsynced, MemoryDisk, MemoryKeyValueEngine } from '../../../../store/index.ts'

const folder = 'data/n0'

async function made(names: readonly string[]): Promise<MemoryDisk> {
  const disk = new MemoryDisk()
  for (const name of names) {
    await disk.makeDirectory(`${folder}/${name}`)
    const file = await disk.open(`${folder}/${name}/file`, { create: true })
    await file.close()
    await disk.syncDirectory(`${folder}/${name}`)
  }
  for (const path of [folder, 'data', '.']) await disk.syncDirectory(path)
  return disk
}

test('generation 0 has plain names, later ones carry their number', () => {
  expect(logDirectory(folder, 0)).toBe('data/n0/log')
  expect(stateDirectory(folder, 12)).toBe('data/n0/state.12')
})

test('only what a record names stays, and other files are never touched', async () => {
  const disk = await made(['log', 'log.1', 'log.2', 'state', 'state.2', 'logs', 'log.01', 'log.x'])
  await removeOthers({ disk, engine: new MemoryKeyValueEngine() }, folder, [
    { log: 1, state: 0 },
    { log: 2, state: 0 },
  ])
  expect(await disk.list(folder)).toEqual(['log.01', 'log.1', 'log.2', 'log.x', 'logs', 'state'])
  const after = disk.crash(loseAllUnsynced)
  expect(await after.list(folder)).toEqual(['log.01', 'log.1', 'log.2', 'log.x', 'logs', 'state'])
})

test('a removal that was cut short is finished by the next one', async () => {
  const disk = await made(['log', 'log.1'])
  disk.fail('unlink', { code: 'EIO' })
  const ports = { disk, engine: new MemoryKeyValueEngine() }
  await expect(removeOthers(ports, folder, [firstGenerations])).rejects.toThrow()
  await removeOthers(ports, folder, [firstGenerations])
  expect(await disk.list(folder)).toEqual(['log'])
})
