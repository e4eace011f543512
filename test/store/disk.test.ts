import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MemoryDisk } from '../../store/memory-disk.ts'
import { NodeDisk } from '../../store/node-disk.ts'
import { diskSuite } from '../conformance/disk.suite.ts'

diskSuite('files', async () => {
  const root = await mkdtemp(join(tmpdir(), 'ledgermq-disk-'))
  return { disk: new NodeDisk(root), cleanUp: () => rm(root, { recursive: true }) }
})

diskSuite('memory', async () => ({ disk: new MemoryDisk(), cleanUp: async () => undefined }))
