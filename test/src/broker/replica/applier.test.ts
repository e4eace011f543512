/** The applier on a real log: what is not in memory is read from disk while the loop goes on. */
import { expect, test } from 'vitest'
import { openStateMachine } from '../../../../src/broker/apply/state-machine.ts'
import { defaultReplicaLimits } from '../../../../src/broker/options.ts'
import { Applier } from '../../../../src/broker/replica/applier.ts'
import { systemClock } from '../../../../src/common/clock.ts'
import {
  frameTypes,
  MemoryDisk,
  MemoryKeyValueEngine,
  openCommitLog,
  openStateStore,
  StoreError,
} from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { ManualClock, settle } from '../../../support/manual-clock.ts'

const logOptions = {
  directory: 'log',
  segmentBytes: 64 * 1024,
  incarnation: '3f0e6c2a-0000-4000-8000-000000000001',
  zeroAheadBytes: 32 * 1024,
  flushBytesMax: 1024 * 1024,
  tailCacheBytes: 0,
  blockCacheBytes: 1024 * 1024,
}

test('a cut of uncommitted entries while committed ones are read from disk does not stop the replica', async () => {
  const disk = new MemoryDisk()
  const log = await openCommitLog(disk, logOptions)
  const append = (term: number): unknown =>
    log.append({ index: log.lastIndex + 1, term, type: frameTypes.noop, storeTime: 1_700_000_000_000, body: [] })
  for (let count = 0; count < 10; count++) append(1)
  await log.flush()
  const engine = new MemoryKeyValueEngine()
  const store = await openStateStore({ engine, disk, directory: 'state', trusted: true })
  const machine = await openStateMachine(store)
  const failures: unknown[] = []
  const applier = new Applier({
    clock: systemClock,
    log,
    machine,
    limits: defaultReplicaLimits,
    paused: false,
    applied: () => {},
    progressed: () => {},
    rotten: (error) => failures.push(error),
    failed: (error) => failures.push(error),
  })
  let cut = false
  disk.schedule = async (operation) => {
    if (operation !== 'read' || cut) return
    cut = true
    // A new leader replaces what the old one never got committed.
    log.truncateFrom(9)
    append(2)
  }
  applier.applyTo(8)
  await eventually('all committed entries are applied, or it gave up', () => failures.length > 0 || applier.done)
  expect([cut, failures, machine.appliedIndex]).toEqual([true, [], 8])
  await log.close()
})

test('what cannot be read now, and lies in no hole that a repair would fill, is read again', async () => {
  const disk = new MemoryDisk()
  const log = await openCommitLog(disk, logOptions)
  for (let index = 1; index <= 3; index++)
    log.append({ index, term: 1, type: frameTypes.noop, storeTime: 1_700_000_000_000, body: [] })
  await log.flush()
  const engine = new MemoryKeyValueEngine()
  const machine = await openStateMachine(await openStateStore({ engine, disk, directory: 'state', trusted: true }))
  const clock = new ManualClock()
  const said: unknown[] = []
  const applier = new Applier({
    clock,
    log,
    machine,
    limits: defaultReplicaLimits,
    paused: false,
    applied: () => {},
    progressed: () => {},
    rotten: () => said.push('rotten'),
    failed: (error) => said.push(error),
  })
  const { read } = log
  log.read = () => Promise.reject(new StoreError('ROTTEN', 'the disk refuses to read it'))
  for (const index of [1, 2, 3]) {
    applier.applyTo(index)
    await settle()
  }
  expect([said, machine.appliedIndex]).toEqual([['rotten', 'rotten', 'rotten'], 0])
  // Each commit tried. They leave one more try, not one each.
  await clock.advance(500)
  await settle()
  expect(said).toHaveLength(4)
  log.read = read
  await clock.advance(500)
  await settle()
  expect([said.length, machine.appliedIndex]).toEqual([4, 3])
  await log.close()
})
