/** A leader that cuts the log inside damage: nobody can say where it would end, so it is cut where the damage begins. */
import { expect, test } from 'vitest'
import { defaultRaftConfig, type PeerMessage, RaftCore } from '../../../../raft/index.ts'
import { FolderRecords } from '../../../../src/broker/replica/identity.ts'
import { ReplicaLoop } from '../../../../src/broker/replica/loop.ts'
import type { Recovered } from '../../../../src/broker/replica/recovery.ts'
import { Quarantine } from '../../../../src/broker/replica/repair/quarantine.ts'
import { SpacePatience } from '../../../../src/broker/replica/space-patience.ts'
import { frameTypes, type LogHole, loseAllUnsynced, type MemoryDisk, randomCrash } from '../../../../store/index.ts'
import { crashEverywhere } from '../../../store/log-fixture.ts'
import { ManualClock, settle } from '../../../support/manual-clock.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { folder, limits, recoverFrom, rotBody, rotHeader } from './recovery-fixture.ts'

const terms = [1, 1, 1, 2, 2, 2, 2]

/** Entries 3 to 5 are damaged, 3 is known to be committed. */
async function damaged(): Promise<MemoryDisk> {
  const { disk, frames } = await folder(terms, 3)
  for (const frame of frames.slice(2, 5)) rotBody(disk, frame)
  return disk
}

function makeLoop({ log, hardState, boot, lastStoreTime }: Recovered, recorded: Promise<void> | null = null) {
  const cuts: { readonly fromIndex: number; readonly hole: LogHole }[] = []
  const sent: PeerMessage[] = []
  const failures: unknown[] = []
  const nothing = (): void => {}
  const clock = new ManualClock()
  const core = new RaftCore({ ...defaultRaftConfig, id: 'n0' }, boot, () => 0.5, clock.monotonicMs())
  const loop = new ReplicaLoop(
    {
      clock,
      limits,
      core,
      log,
      hardState,
      stamp: (previous) => previous,
      send: (message) => sent.push(message),
      event: nothing,
      readConfirmed: nothing,
      committed: nothing,
      configurationStaged: nothing,
      cut: () => recorded,
      cutInHole: (fromIndex, hole) => cuts.push({ fromIndex, hole }),
      leftBehind: nothing,
      turnEnded: nothing,
      diskFull: nothing,
      patience: new SpacePatience(),
      staysFull: nothing,
      flushBegan: nothing,
      flushEnded: nothing,
      failed: (error) => failures.push(error),
    },
    { lastStoreTime, term: boot.hardState.term },
  )
  return { loop, clock, cuts, sent, failures }
}

/** The leader of term 3 has another entry behind `prevIndex`. */
function appendBehind(prevIndex: number): PeerMessage {
  const entries = [{ index: prevIndex + 1, term: 3, kind: 'noop', bytes: 0 }] as const
  const prevTerm = terms[prevIndex - 1] ?? 0
  return { kind: 'append', from: 'n1', to: 'n0', term: 3, prevIndex, prevTerm, entries, commit: prevIndex + 1 }
}

test('P6: the loop stops at a cut inside damage: nothing is answered, written or called a failure', async () => {
  const recovered = await recoverFrom(await damaged())
  const { loop, clock, cuts, sent, failures } = makeLoop(recovered)
  loop.start()
  await settle()
  loop.receive(appendBehind(4), [])
  await settle()
  await clock.advance(10_000)
  expect(cuts).toMatchObject([{ fromIndex: 5, hole: { fromIndex: 3, toIndex: 5 } }])
  expect(sent.filter(({ kind }) => kind === 'append_response')).toEqual([])
  expect(failures).toEqual([])
  expect(recovered.log).toMatchObject({ lastIndex: 7, durableIndex: 7 })
  expect(recovered.hardState.current).toMatchObject({ term: 2, commit: 3 })
  expect(loop.step({ kind: 'tick' })).toMatchObject({ kind: 'refused' })
})

test('a cut right behind damage of known terms is an ordinary one', async () => {
  const recovered = await recoverFrom(await damaged())
  const { loop, cuts, sent } = makeLoop(recovered)
  loop.receive(appendBehind(5), [])
  await settle(30)
  expect(cuts).toEqual([])
  expect(recovered.log).toMatchObject({ lastIndex: 6, lastTerm: 3, durableIndex: 6 })
  expect(sent).toContainEqual(expect.objectContaining({ kind: 'append_response', matchIndex: 6 }))
  loop.stop()
})

test('P6: what comes in the place of a cut is neither flushed nor acknowledged before the cut is on record', async () => {
  const { disk } = await folder(terms, 3)
  const recovered = await recoverFrom(disk)
  let record = (): void => {}
  const recorded = new Promise<void>((resolve) => {
    record = resolve
  })
  const { loop, sent } = makeLoop(recovered, recorded)
  loop.receive(appendBehind(5), [])
  await settle(30)
  expect(recovered.log).toMatchObject({ lastIndex: 6, lastTerm: 3, durableIndex: 5 })
  expect(sent.filter(({ kind }) => kind === 'append_response')).toEqual([])
  record()
  await settle(30)
  expect(recovered.log.durableIndex).toBe(6)
  expect(sent).toContainEqual(expect.objectContaining({ kind: 'append_response', matchIndex: 6 }))
  loop.stop()
})

test('P6: a cut that cannot be put on record ends the loop', async () => {
  const { disk } = await folder(terms, 3)
  const recovered = await recoverFrom(disk)
  let fail = (_: Error): void => {}
  const recorded = new Promise<void>((_, reject) => {
    fail = reject
  })
  const { loop, sent, failures } = makeLoop(recovered, recorded)
  loop.receive(appendBehind(5), [])
  await settle(30)
  fail(new Error('no record'))
  await settle(30)
  expect(failures).toMatchObject([{ message: 'no record' }])
  expect(sent.filter(({ kind }) => kind === 'append_response')).toEqual([])
})

test('P6: what a leader gave up is cut where the damage begins, once, and never voted for before it is back', async () => {
  const disk = await damaged()
  const records = new FolderRecords(disk, 'data')
  const first = await recoverFrom(disk)
  expect(first.quarantine).toMatchObject({ pending: true, untilLeaderReached: false })
  await new Quarantine(records, first.quarantine).cuts({ fromIndex: 3, reason: 'body checksum' })
  await first.log.close()
  const { log, boot, quarantine } = await recoverFrom(disk)
  expect(log).toMatchObject({ lastIndex: 2, holes: [] })
  expect(boot).toMatchObject({ lastIndex: 2, quarantine: { untilLeaderReached: true } })
  expect(await records.quarantine()).toEqual(quarantine)
  expect(quarantine).not.toHaveProperty('cutFrom')
  // What comes in its place stays, whatever happens to it.
  for (const index of [3, 4, 5, 6])
    log.append({ index, term: 3, type: frameTypes.noop, storeTime: 2000, body: [Buffer.alloc(8)] })
  await log.flush()
  const [frame] = await log.read(5, 5, 1)
  await log.close()
  rotBody(disk, frame)
  const again = await recoverFrom(disk)
  expect(again.log).toMatchObject({ lastIndex: 6, holes: [{ fromIndex: 5, toIndex: 5 }] })
  expect(again.quarantine).toMatchObject({ pending: true, untilLeaderReached: true })
})

test('P6: damage that grew is cut where it begins now, and what was put back meanwhile stays', async () => {
  const grown = await folder(terms, 3)
  for (const frame of grown.frames.slice(1, 5)) rotBody(grown.disk, frame)
  const healed = await folder(terms, 3)
  rotBody(healed.disk, healed.frames[4])
  const whole = await folder(terms, 3)
  const cases = [
    { disk: grown.disk, lastIndex: 1 },
    { disk: healed.disk, lastIndex: 4 },
    { disk: whole.disk, lastIndex: 7 },
  ]
  for (const { disk, lastIndex } of cases) {
    await new Quarantine(new FolderRecords(disk, 'data'), null).cuts({ fromIndex: 3, reason: 'body checksum' })
    const { log, quarantine } = await recoverFrom(disk)
    expect(log).toMatchObject({ lastIndex, holes: [] })
    expect(quarantine).toMatchObject({ pending: true, untilLeaderReached: true })
    expect(quarantine).not.toHaveProperty('cutFrom')
  }
})

test('P6: a crash at any step of the cut ends in the same log, and in quarantine from its first step on', async () => {
  const { disk: base, frames } = await folder(terms, 3)
  for (const frame of frames.slice(2, 4)) rotBody(base, frame)
  rotHeader(base, frames[4])
  const before = await recoverFrom(base.clone())
  let crashes = 0
  const work = async (disk: MemoryDisk): Promise<void> => {
    await new Quarantine(new FolderRecords(disk, 'data'), before.quarantine).cuts({ fromIndex: 3, reason: 'rot' })
    await recoverFrom(disk)
  }
  for await (const { disk } of crashEverywhere(base, work)) {
    crashes++
    for (const choice of [loseAllUnsynced, randomCrash(seededNumbers(crashes))]) {
      const left = disk.clone().crash(choice)
      left.schedule = undefined
      const record = await new FolderRecords(left, 'data').quarantine()
      const { log, quarantine, boot } = await recoverFrom(left)
      // Until the record is durable, the whole log is still there.
      if (record?.untilLeaderReached !== true) expect([2, 7]).toContain(log.lastIndex)
      else expect(log).toMatchObject({ lastIndex: 2, holes: [] })
      if (log.lastIndex < 7) expect(boot.quarantine).toEqual({ untilLeaderReached: true })
      expect(quarantine).toMatchObject({ pending: true })
      expect(quarantine).not.toHaveProperty('cutFrom')
    }
  }
  expect(crashes).toBeGreaterThan(10)
})
