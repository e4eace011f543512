/** The record of what must be made good: one writer at a time, the newest last. */
import { expect, test } from 'vitest'
import { FolderRecords } from '../../../../../src/broker/replica/identity.ts'
import { Quarantine } from '../../../../../src/broker/replica/repair/quarantine.ts'
import { MemoryDisk } from '../../../../../store/index.ts'

test('is settled when everything that was said is on disk', async () => {
  const disk = new MemoryDisk()
  await disk.makeDirectory('data')
  const records = new FolderRecords(disk, 'data')
  const quarantine = new Quarantine(records, null)
  void quarantine.begin('rot')
  void quarantine.addLost({ fromIndex: 3, toIndex: 4 })
  await quarantine.settled()
  expect(await records.quarantine()).toMatchObject({
    pending: true,
    reason: 'rot',
    lost: [{ fromIndex: 3, toIndex: 4 }],
  })
})
