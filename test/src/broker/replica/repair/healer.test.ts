/** What the healer concludes from holes that were filled, or not: over real logs, only the network is left out. */
import { expect, test } from 'vitest'
import type { CopySourceView } from '../../../../../src/broker/replica/catch-up/planner.ts'
import type { Sources } from '../../../../../src/broker/replica/catch-up/sources.ts'
import { FolderRecords } from '../../../../../src/broker/replica/identity.ts'
import { Healer } from '../../../../../src/broker/replica/repair/healer.ts'
import { Quarantine } from '../../../../../src/broker/replica/repair/quarantine.ts'
import { LedgerError } from '../../../../../src/common/errors.ts'
import { silentLogger } from '../../../../../src/common/logger.ts'
import type { FetchLogReply } from '../../../../../src/rpc/methods.ts'
import { type CommitLogApi, frameTypes, MemoryDisk, openCommitLog } from '../../../../../store/index.ts'
import { ManualClock, settle } from '../../../../support/manual-clock.ts'

const options = {
  directory: 'log',
  segmentBytes: 64 * 1024,
  incarnation: 'i',
  zeroAheadBytes: 4096,
  flushBytesMax: 1024 * 1024,
  tailCacheBytes: 64,
  blockCacheBytes: 64 * 1024,
}

/** Entries of these terms, of which some are rotten: at this byte of their frame, by default in the header. */
async function logOf(terms: readonly number[], rotten: readonly number[], byte = 33): Promise<CommitLogApi> {
  const disk = new MemoryDisk()
  const log = await openCommitLog(disk, options)
  const frames = terms.map((term, at) =>
    log.append({ index: at + 1, term, type: frameTypes.command, storeTime: 1000, body: [Buffer.alloc(8)] }),
  )
  await log.close()
  for (const index of rotten)
    disk.flipBit(`log/${'0'.repeat(20)}`, 4096 + (frames[index - 1]?.header.position ?? 0) + byte, 2)
  return openCommitLog(disk, options)
}

/** The only other member, which gives one entry at a time. */
function sourcesOf(log: CommitLogApi): Sources {
  const { endPosition, origin } = log
  const lastIndex = log.lastIndex
  const view: CopySourceView = {
    node: 'n1',
    firstIndex: 1,
    origin,
    lastIndex,
    endPosition,
    appliedIndex: 0,
    leads: false,
  }
  const known = { firstIndex: 1, lastIndex, endPosition, frames: Buffer.alloc(0) }
  const fetchLog = async (_: string, { fromIndex }: { readonly fromIndex: number }): Promise<FetchLogReply> => {
    if (log.holes.some((hole) => hole.fromIndex <= fromIndex && fromIndex <= hole.toIndex))
      return { ...known, rotten: { fromIndex, toIndex: fromIndex } }
    const frames = await log.read(fromIndex, fromIndex, 1)
    return { ...known, frames: Buffer.concat(frames.map(({ bytes }) => bytes)) }
  }
  const sources: Pick<Sources, 'nodes' | 'describe' | 'fetchLog' | 'failed' | 'served'> = {
    nodes: ['n1'],
    describe: async () => [view],
    fetchLog,
    failed: () => {},
    served: () => {},
  }
  return sources as Sources
}

interface Healing {
  readonly healer: Healer
  readonly clock: ManualClock
  /** What the healer concluded so far. */
  readonly said: string[]
  readonly ended: Promise<void>
}

/** Heals `own`, whose memory of terms and memberships has gaps. */
async function begin(own: CommitLogApi, sources: Sources): Promise<Healing> {
  const disk = new MemoryDisk()
  await disk.makeDirectory('data')
  const record = { pending: true, untilLeaderReached: false, reason: 'rot', lost: [] }
  const said: string[] = []
  const clock = new ManualClock()
  let resolve = (): void => {}
  const ended = new Promise<void>((done) => {
    resolve = done
  })
  const end = (what: string) => () => {
    said.push(what)
    resolve()
  }
  const healer = new Healer({
    clock,
    logger: silentLogger,
    events: { emit: () => {} },
    log: own,
    sources,
    quarantine: new Quarantine(new FolderRecords(disk, 'data'), record),
    isBeyondRepair: false,
    term: () => 1,
    appliedIndex: () => 0,
    quarantined: () => {},
    findMembers: async () => {},
    healed: end('healed'),
    beginAgain: end('beginAgain'),
    repaired: () => said.push('repaired'),
    lost: ({ fromIndex, toIndex }) => said.push(`lost ${fromIndex}-${toIndex}`),
    unrepairable: ({ fromIndex, toIndex }) => said.push(`unrepairable ${fromIndex}-${toIndex}`),
    failed: end('failed'),
  })
  healer.start()
  return { healer, clock, said, ended }
}

/** What came of it. */
async function heal(own: CommitLogApi, peer: CommitLogApi): Promise<readonly string[]> {
  const { said, ended } = await begin(own, sourcesOf(peer))
  await ended
  return said
}

const terms = [1, 1, 2, 3, 4, 5]

test('P6: what was missing at the start is read anew once it is back', async () => {
  const own = await logOf(terms, [3, 4, 5])
  expect(own.holes).toMatchObject([{ fromIndex: 3, toIndex: 5, termsKnown: false }])
  expect(await heal(own, await logOf(terms, []))).toEqual(['repaired', 'beginAgain'])
})

test('P6: also when only the first part of it is back, and the rest is lost', async () => {
  const own = await logOf(terms, [3, 4, 5])
  expect(await heal(own, await logOf(terms, [4]))).toEqual(['repaired', 'lost 4-5', 'beginAgain'])
  expect(own.holes).toMatchObject([{ fromIndex: 4, toIndex: 5 }])
})

test('P6: nothing is read anew when nothing came back', async () => {
  const own = await logOf(terms, [3, 4, 5])
  expect(await heal(own, await logOf(terms, [3]))).toEqual(['lost 3-5', 'healed'])
})

const bodyAt = 70

/** A member that has trimmed the entries before this one, and gives nothing of what it has. */
function silentSources(log: CommitLogApi, firstIndex: number): Sources {
  const sources = sourcesOf(log)
  return {
    ...sources,
    describe: async (signal: AbortSignal) => (await sources.describe(signal)).map((view) => ({ ...view, firstIndex })),
    fetchLog: () => Promise.reject(new LedgerError('UNAVAILABLE', 'silent')),
  } as unknown as Sources
}

test('many holes that do not fit at the first attempt are no reason for a copy', async () => {
  const own = await logOf([1, 1, 1, 1, 1, 1, 1, 1], [2, 4, 6], bodyAt)
  expect(own.holes).toHaveLength(3)
  const { healer, clock, said } = await begin(own, silentSources(own, 9))
  await settle()
  expect(said).toEqual([])
  await clock.advance(1000)
  expect(said).toEqual(['unrepairable 2-2', 'unrepairable 4-4', 'unrepairable 6-6'])
  await healer.close()
})

test('a hole that cannot be filled now does not hide that another one never will be', async () => {
  const own = await logOf([1, 1, 1, 1, 1, 1, 1, 1], [2, 6], bodyAt)
  const { healer, clock, said } = await begin(own, silentSources(own, 4))
  await clock.advance(1000)
  expect(said).toEqual(['unrepairable 2-2'])
  await healer.close()
})
