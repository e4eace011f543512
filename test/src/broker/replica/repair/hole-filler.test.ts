/** Whose frames fill a hole, over real logs: only the network between them is left out. */
import { expect, test } from 'vitest'
import type { CopySourceView } from '../../../../../src/broker/replica/catch-up/planner.ts'
import { type FillerPorts, type FillOutcome, fillHole } from '../../../../../src/broker/replica/repair/hole-filler.ts'
import { LedgerError } from '../../../../../src/common/errors.ts'
import type { FetchLogReply } from '../../../../../src/rpc/methods.ts'
import { type CommitLogApi, frameTypes, MemoryDisk, openCommitLog } from '../../../../../store/index.ts'

const options = {
  directory: 'log',
  segmentBytes: 64 * 1024,
  incarnation: 'i',
  zeroAheadBytes: 4096,
  flushBytesMax: 1024 * 1024,
  tailCacheBytes: 64,
  blockCacheBytes: 64 * 1024,
}

interface Entry {
  readonly term: number
  readonly text: string
}

const entries = (...all: readonly [term: number, text: string][]): readonly Entry[] =>
  all.map(([term, text]) => ({ term, text }))

async function logOf(
  all: readonly Entry[],
  rotten: readonly number[] = [],
  disk: MemoryDisk = new MemoryDisk(),
): Promise<CommitLogApi> {
  const log = await openCommitLog(disk, options)
  const frames = all.map(({ term, text }, at) =>
    log.append({ index: at + 1, term, type: frameTypes.command, storeTime: 1000, body: [Buffer.from(text)] }),
  )
  await log.close()
  for (const index of rotten) {
    const position = frames[index - 1]?.header.position ?? 0
    disk.flipBit(`log/${'0'.repeat(20)}`, 4096 + position + 33, 2)
  }
  return openCommitLog(disk, options)
}

interface Peer {
  readonly log: CommitLogApi
  readonly commit: number
  readonly firstIndex?: number
  readonly applied?: number
}

/** Asks the peers in the order in which they are given. */
async function fillFrom(
  own: CommitLogApi,
  peers: Readonly<Record<string, Peer | null>>,
  applied = 0,
  said: string[] = [],
): Promise<FillOutcome> {
  const ports: FillerPorts = {
    log: own,
    appliedIndex: () => applied,
    sources: {
      nodes: Object.keys(peers),
      failed: (node) => said.push(`${node} failed`),
      served: (node) => said.push(`${node} served`),
      fetchLog: async (node, { fromIndex, toIndex, uncommitted }): Promise<FetchLogReply> => {
        const peer = peers[node]
        if (!peer) throw new LedgerError('UNAVAILABLE', 'silent')
        const { log, commit } = peer
        const to = Math.min(toIndex, uncommitted ? log.lastIndex : commit)
        const known = { firstIndex: 1, lastIndex: commit, endPosition: log.endPosition, frames: Buffer.alloc(0) }
        if (fromIndex > to) return known
        if (log.holes.some((hole) => hole.fromIndex <= fromIndex && fromIndex <= hole.toIndex))
          return { ...known, rotten: { fromIndex, toIndex: fromIndex } }
        const frames = await log.read(fromIndex, to, 1024 * 1024)
        return { ...known, frames: Buffer.concat(frames.map(({ bytes }) => bytes)) }
      },
    },
  }
  const views = Object.entries(peers).flatMap(([node, peer]): CopySourceView[] => {
    if (!peer) return []
    const { log, commit, firstIndex = 1, applied: appliedIndex = 0 } = peer
    const { endPosition, origin } = log
    return [{ node, firstIndex, origin, lastIndex: commit, endPosition, appliedIndex, leads: false }]
  })
  const [hole] = own.holes
  if (!hole) throw new Error('no hole')
  return fillHole(ports, hole, views, new AbortController().signal)
}

const truth = entries([1, 'one'], [1, 'two'], [2, 'three'], [2, 'four'], [2, 'five'])
/** What a leader of term 1 wrote at the end and nobody committed. */
const branch = entries([1, 'one'], [1, 'two'], [1, 'wrong'])

test('what a peer never committed does not fill a hole whose entries another one has committed', async () => {
  const own = await logOf(truth, [3, 4])
  expect(own.holes).toMatchObject([{ fromIndex: 3, toIndex: 4 }])
  const late = { log: await logOf(branch), commit: 2 }
  const good = { log: await logOf(truth), commit: 5 }
  expect(await fillFrom(own, { late, good })).toEqual({ kind: 'repaired' })
  expect((await own.read(3, 3, 1))[0]?.header.term).toBe(2)
})

test('above what anybody knows to be committed, uncommitted entries are taken', async () => {
  const own = await logOf(truth, [3, 4])
  const peer = { log: await logOf(truth), commit: 3 }
  expect(await fillFrom(own, { peer })).toEqual({ kind: 'repaired' })
})

test('committed entries that do not follow what lies before the hole are a misfit, whoever else is silent', async () => {
  const own = await logOf(entries([1, 'one'], [1, 'of another time'], ...truth.slice(2).map(pairOf)), [3, 4])
  const good = { log: await logOf(truth), commit: 5 }
  const rotten = { log: await logOf(truth, [3]), commit: 5 }
  expect(await fillFrom(own, { good, rotten, silent: null })).toMatchObject({ kind: 'misfit' })
  expect(own.holes).toMatchObject([{ fromIndex: 3, toIndex: 4 }])
})

test('uncommitted entries that do not fit prove nothing', async () => {
  const own = await logOf(entries([1, 'one'], [1, 'of another time'], ...truth.slice(2).map(pairOf)), [3, 4])
  expect(await fillFrom(own, { peer: { log: await logOf(truth), commit: 2 } })).toMatchObject({ kind: 'unknown' })
})

test('a hole that the others have trimmed cannot be filled any more', async () => {
  const own = await logOf(truth, [3])
  const peer = { log: await logOf(truth), commit: 5, firstIndex: 4 }
  expect(await fillFrom(own, { peer })).toMatchObject({ kind: 'misfit' })
})

test('an entry is lost only when every member has it rotten', async () => {
  const own = await logOf(truth, [3])
  const rotten = { log: await logOf(truth, [3]), commit: 5 }
  expect(await fillFrom(own, { a: rotten, b: null })).toMatchObject({ kind: 'unknown' })
  const lost = { kind: 'lost', range: { fromIndex: 3, toIndex: 3 } }
  expect(await fillFrom(own, { a: rotten, b: { ...rotten, commit: 2 } })).toEqual(lost)
})

test('who has one entry rotten is asked for the next ones when another member has given that one', async () => {
  const own = await logOf(truth, [2, 3, 4])
  const first = { log: await logOf(truth, [2]), commit: 5 }
  const second = { log: await logOf(truth, [3]), commit: 5 }
  expect(await fillFrom(own, { first, second })).toEqual({ kind: 'repaired' })
  expect((await own.read(2, 5, 1024)).map(({ header }) => header.index)).toEqual([2, 3, 4, 5])
})

function pairOf({ term, text }: Entry): [term: number, text: string] {
  return [term, text]
}

test('an entry that was applied is lost when the others have it rotten or never had it; one that was not may come', async () => {
  const own = await logOf(truth, [3])
  const rotten = { log: await logOf(truth, [3]), commit: 5 }
  const behind = { log: await logOf(truth.slice(0, 2)), commit: 2 }
  const lost = { kind: 'lost', range: { fromIndex: 3, toIndex: 3 } }
  expect(await fillFrom(own, { rotten, behind })).toMatchObject({ kind: 'unknown' })
  expect(await fillFrom(own, { rotten, behind }, 2)).toMatchObject({ kind: 'unknown' })
  expect(await fillFrom(own, { rotten, behind }, 3)).toEqual(lost)
  expect(await fillFrom(own, { rotten: { ...rotten, applied: 4 }, behind })).toEqual(lost)
  expect(await fillFrom(own, { rotten, behind, silent: null }, 5)).toMatchObject({ kind: 'unknown' })
  const trimmed = { log: await logOf(truth), commit: 5, firstIndex: 4 }
  expect(await fillFrom(own, { rotten, behind, trimmed }, 5)).toMatchObject({ kind: 'misfit' })
})

test('who gave its answer is not left alone for longer and longer, who gave none is', async () => {
  const said: string[] = []
  const own = await logOf(truth, [2, 3])
  const rotten = { log: await logOf(truth, [2]), commit: 5 }
  const good = { log: await logOf(truth), commit: 5 }
  await fillFrom(own, { silent: null, late: { ...good, commit: 2 }, rotten, good }, 0, said)
  expect(said).toEqual(['late served', 'rotten served'])
})

test('an own disk without space for a lost file is nobody else’s failure, and nobody else is asked for the same', async () => {
  const disk = new MemoryDisk()
  const all = Array.from({ length: 6 }, (_, at) => [1, `${at}`.repeat(30_000)] as [number, string])
  const own = await logOf(entries(...all), [], disk)
  await own.close()
  await disk.unlink(`log/${String(options.segmentBytes).padStart(20, '0')}`)
  const damaged = await openCommitLog(disk, options)
  expect(damaged.holes).toMatchObject([{ fromIndex: 3 }])
  disk.fillUp()
  const peer = { log: await logOf(entries(...all)), commit: 6 }
  const said: string[] = []
  const outcome = await fillFrom(damaged, { a: peer, b: peer }, 6, said)
  expect(outcome).toMatchObject({ kind: 'unknown', reason: expect.stringMatching(/^here: no space/) })
  expect(said).toEqual(['a served'])
  disk.capacityBytes = Number.POSITIVE_INFINITY
  expect(await fillFrom(damaged, { a: peer, b: peer }, 6)).toEqual({ kind: 'repaired' })
})
