/** What the tests of recovery share: the folder of a single member that was written before, and its recovery. */
import { encodeMembership } from '../../../../src/broker/membership/codec.ts'
import { firstMembership } from '../../../../src/broker/membership/membership.ts'
import { defaultReplicaLimits, type ReplicaLimits } from '../../../../src/broker/options.ts'
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
export const limits: ReplicaLimits = { ...defaultReplicaLimits, zeroAheadBytes: segmentBytes }
const identity = { node: 'n0', disk: 'd0' }
export const configuration: FirstConfiguration = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  members: [{ node: 'n0', disk: 'd0', raftAddress: 'n0:1' }],
  segmentBytes,
  featureLevel: 1,
  formerIncarnations: [],
}

/** A log of these terms, all flushed; its last entry is a configuration. */
export async function folder(terms: readonly number[], commit: number): Promise<{ disk: MemoryDisk; frames: Frame[] }> {
  const disk = new MemoryDisk()
  await disk.makeDirectory('data')
  await disk.syncDirectory('.')
  const log = await openCommitLog(disk, {
    ...limits,
    directory: 'data/log',
    segmentBytes,
    incarnation: 'i',
  })
  const frames = terms.map((term, at) => {
    const isLast = at === terms.length - 1
    const body = isLast ? [encodeMembership(firstMembership(configuration))] : [Buffer.alloc(8)]
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

export function rotHeader(disk: MemoryDisk, frame: Frame | undefined): void {
  disk.flipBit(`data/log/${'0'.repeat(20)}`, headerBytes + (frame?.header.position ?? 0) + 33, 2)
}

/** Its terms stay known. */
export function rotBody(disk: MemoryDisk, frame: Frame | undefined): void {
  disk.flipBit(`data/log/${'0'.repeat(20)}`, headerBytes + (frame?.header.position ?? 0) + 64, 2)
}

export function openState(disk: MemoryDisk): Promise<StateStoreApi> {
  const engine = new MemoryKeyValueEngine()
  return openStateStore({ engine, disk, directory: 'data/state', trusted: true, schema: 1 })
}

export async function recoverFrom(disk: MemoryDisk, given: StateStoreApi | null = null): Promise<Recovered> {
  const store = given ?? (await openState(disk))
  const found = {
    directory: 'data',
    identity,
    generations: { log: 0, state: 0 },
    store,
    records: new FolderRecords(disk, 'data'),
    isShortOfSpace: false,
    onRot: () => {},
  }
  return recover(found, configuration, { disk }, limits)
}
