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

test('P6: what was lost is forgotten where the log has no hole any more', async () => {
  const disk = new MemoryDisk()
  await disk.makeDirectory('data')
  const records = new FolderRecords(disk, 'data')
  const lost = [
    { fromIndex: 3, toIndex: 4 },
    { fromIndex: 10, toIndex: 20 },
  ]
  const quarantine = new Quarantine(records, { pending: false, untilLeaderReached: false, reason: '', lost })
  const holes = lost.map((range) => ({ ...range, position: 0, end: 64, reason: 'rot', termsKnown: true }))
  expect(quarantine.shortened(holes)).toBeNull()
  await quarantine.shortened(holes.slice(0, 1))
  expect(quarantine.lost).toEqual(lost.slice(0, 1))
  expect(await records.quarantine()).toMatchObject({ lost: lost.slice(0, 1) })
  await quarantine.shortened(holes.slice(0, 1).map((hole) => ({ ...hole, fromIndex: 4 })))
  expect(quarantine.lost).toEqual([{ fromIndex: 4, toIndex: 4 }])
  await quarantine.shortened([])
  expect(quarantine.lost).toEqual([])
  expect(await records.quarantine()).toBeNull()
})
