import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LevelKeyValueEngine, MemoryKeyValueEngine } from '../../store/index.ts'
import { keyValueSuite } from '../conformance/key-value.suite.ts'

keyValueSuite('level', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ledgermq-key-value-'))
  return { engine: new LevelKeyValueEngine(), directory, cleanUp: () => rm(directory, { recursive: true }) }
})

keyValueSuite('memory', async () => ({
  engine: new MemoryKeyValueEngine(),
  directory: '/state',
  cleanUp: async () => {},
}))

keyValueSuite('memory with latency', async () => ({
  engine: new MemoryKeyValueEngine({ schedule: () => Promise.resolve() }),
  directory: '/state',
  cleanUp: async () => {},
}))
