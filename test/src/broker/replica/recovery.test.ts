/** What a folder is found to be, from files that were written before: no cluster, no time. */
import { expect, test } from 'vitest'
import { defaultRaftConfig, RaftCore } from '../../../../raft/index.ts'
import { openStateMachine } from '../../../../src/broker/apply/state-machine.ts'
import { encodeMembership } from '../../../../src/broker/membership/codec.ts'
import { MembershipHistory } from '../../../../src/broker/membership/history.ts'
import { firstMembership } from '../../../../src/broker/membership/membership.ts'
import { defaultReplicaLimits } from '../../../../src/broker/options.ts'
import { FolderRecords } from '../../../../src/broker/replica/identity.ts'
import { type Recovered, recover } from '../../../../src/broker/replica/recovery.ts'
import type { FirstConfiguration } from '../../../../src/rpc/methods.ts'
import {
  type Frame,
  frameTypes,
  MemoryDisk,
  MemoryKeyValueEngine,
  openCommitLog,
  openHardState,
  openStateStore,
  type StateStoreApi,
} from '../../../../store/index.ts'

const segmentBytes = 64 * 1024
const headerBytes = 4096
const limits = { ...defaultReplicaLimits, zeroAheadBytes: segmentBytes }
const identity = { node: 'n0', disk: 'd0' }
const configuration: FirstConfiguration = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  members: [{ node: 'n0', disk: 'd0', raftAddress: 'n0:1' }],
  segmentBytes,
  featureLevel: 1,
  formerIncarnations: [],
}

/** A log of these terms, all flushed; its last entry is a configuration. */
async function folder(terms: readonly number[], commit: number): Promise<{ disk: MemoryDisk; frames: Frame[] }> {
  const disk = new MemoryDisk()
  await disk.makeDirectory('data')
  const log = await openCommitLog(disk, {
    ...limits,
    directory: 'data/log',
    segmentBytes,
    incarnation: 'i',
  })
  const frames = terms.map((term, at) => {
    const isLast = at === terms.length - 1
    const body = isLast ? [encodeMembership(firstMembership(configuration))] : []
    const type = isLast ? frameTypes.configuration : frameTypes.noop
    return log.append({ index: at + 1, term, type, storeTime: 1000 + at, body })
  })
  await log.flush()
  await log.close()
  const hardState = await openHardState(disk, 'data/hard-state')
  await hardState.save({ term: terms.at(-1) ?? 0, vote: 'n0', commit })
  await hardState.close()
  return { disk, frames }
}

function rotHeader(disk: MemoryDisk, frame: Frame | undefined): void {
  disk.flipBit(`data/log/${'0'.repeat(20)}`, headerBytes + (frame?.header.position ?? 0) + 33, 2)
}

function openState(disk: MemoryDisk): Promise<StateStoreApi> {
  const engine = new MemoryKeyValueEngine()
  return openStateStore({ engine, disk, directory: 'data/state', trusted: true, schema: 1 })
}

async function recoverFrom(disk: MemoryDisk, given: StateStoreApi | null = null): Promise<Recovered> {
  const store = given ?? (await openState(disk))
  const found = {
    directory: 'data',
    identity,
    generations: { log: 0, state: 0 },
    store,
    records: new FolderRecords(disk, 'data'),
    onRot: () => {},
  }
  return recover(found, configuration, { disk }, limits)
}

test('P6: damage of unknown terms above the commit ends the log, as a rotten end does', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 2)
  rotHeader(disk, frames[3])
  const { log, boot, quarantine, memberships } = await recoverFrom(disk)
  expect(quarantine).toMatchObject({ pending: true, untilLeaderReached: true })
  expect(quarantine?.reason).toMatch(/nobody can say of which term entries 4 to 4 were/)
  expect(await new FolderRecords(disk, 'data').quarantine()).toEqual(quarantine)
  expect(log.lastIndex).toBe(3)
  expect(log.holes).toEqual([])
  expect(boot).toMatchObject({
    lastIndex: 3,
    termRuns: [{ first: 1, term: 1 }],
    hardState: { term: 3 },
    quarantine: { untilLeaderReached: true },
  })
  expect(memberships).toHaveLength(1)
  await log.close()
  const again = await recoverFrom(disk)
  expect(again.log.lastIndex).toBe(3)
  expect(again.quarantine).toMatchObject({ pending: true, untilLeaderReached: true })
})

test('P6: nothing is cut before the quarantine is on record', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 2)
  rotHeader(disk, frames[3])
  disk.fail('rename', { code: 'EIO', times: 1 })
  await expect(recoverFrom(disk)).rejects.toThrow()
  const { quarantine } = await recoverFrom(disk)
  expect(quarantine?.reason).toMatch(/entries 4 to 4/)
})

test('P6: damage below the commit, or whose terms are known, stays a hole', async () => {
  const committed = await folder([1, 1, 1, 2, 3, 3, 3], 4)
  rotHeader(committed.disk, committed.frames[3])
  const first = await recoverFrom(committed.disk)
  expect(first.log.lastIndex).toBe(7)
  expect(first.boot.quarantine).toEqual({ untilLeaderReached: false })
  const known = await folder([1, 1, 1, 1, 1, 3, 3], 2)
  rotHeader(known.disk, known.frames[3])
  const second = await recoverFrom(known.disk)
  expect(second.log.holes).toMatchObject([{ fromIndex: 4, toIndex: 4, termsKnown: true }])
  expect(second.boot.quarantine).toEqual({ untilLeaderReached: false })
})

test('P6: a membership that was applied stays in force when the log is cut before its entry', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 7)
  const store = await openState(disk)
  const machine = await openStateMachine(store)
  for (const { header, bytes } of frames) {
    const body = bytes.subarray(64, 64 + header.bodyLength)
    machine.apply({ ...header, body })
  }
  const changes = machine.takeChanges()
  if (changes) await store.write(changes)
  rotHeader(disk, frames[6])
  const { log, boot, memberships } = await recoverFrom(disk, store)
  expect(log.lastIndex).toBe(6)
  // Its entry comes again.
  new MembershipHistory(memberships, 6).appended(7, firstMembership(configuration))
  expect(boot.configurations.map(({ index }) => index)).toEqual([6])
  const core = new RaftCore({ ...defaultRaftConfig, id: 'n0' }, boot, () => 0.5, 0)
  expect(core.status(0)).toMatchObject({ lastIndex: 6, configurationIndex: 6 })
})
