/** The record of a copy under way and its directories, whenever the process dies between two of their changes. */
import { expect, test } from 'vitest'
import { defaultReplicaLimits } from '../../../../../src/broker/options.ts'
import { Incoming, type IncomingPorts, isPending } from '../../../../../src/broker/replica/catch-up/incoming.ts'
import { firstGenerations } from '../../../../../src/broker/replica/generations.ts'
import { FolderRecords } from '../../../../../src/broker/replica/identity.ts'
import { installStateStore, MemoryDisk, MemoryKeyValueEngine } from '../../../../../store/index.ts'

const directory = 'data/n1'
const origin = { position: 64 * 1024, index: 9, term: 1, checksum: 5 }

function portsOn(disk: MemoryDisk, engine: MemoryKeyValueEngine): IncomingPorts {
  return {
    disk,
    engine,
    directory,
    records: new FolderRecords(disk, directory),
    configuration: {
      cluster: 'c',
      group: 'g',
      incarnation: 'i',
      segmentBytes: 64 * 1024,
      members: [],
      featureLevel: 1,
      formerIncarnations: [],
    },
    limits: defaultReplicaLimits,
    generations: () => firstGenerations,
  }
}

test('a state that is whole is never named by the record once its directory is being removed', async () => {
  const disk = new MemoryDisk()
  const engine = new MemoryKeyValueEngine()
  await disk.makeDirectory(directory)
  const ports = portsOn(disk, engine)
  const incoming = new Incoming(ports)
  await incoming.begin(null)
  const place = { disk, engine, directory: `${directory}/state.1`, schema: 1 }
  const install = await installStateStore(place, { appliedIndex: 12, hash: '0123456789abcdef' })
  await install.finish()
  await install.close()
  await incoming.stateCopied(12)
  // A whole copy takes its place.
  const found: unknown[] = []
  disk.schedule = async (operation, path) => {
    if (operation !== 'unlink' || !path.startsWith(`${directory}/state.1/`)) return
    const record = await new FolderRecords(disk.clone(), directory).incoming()
    found.push(record && isPending(record, firstGenerations) ? record.stateIndex : null)
  }
  await incoming.begin(origin)
  expect(found.length).toBeGreaterThan(0)
  expect(new Set(found)).toEqual(new Set([null]))
  disk.schedule = undefined
  expect(await ports.records.incoming()).toMatchObject({ log: 1, state: 2, stateIndex: null })
  await incoming.close()
})
