/** What leaves a node while its log waits for space: answers that promise term and vote, never one about the log. */
import { expect, test } from 'vitest'
import type { PeerMessage, Ready } from '../../../../raft/index.ts'
import { defaultReplicaLimits } from '../../../../src/broker/options.ts'
import { Persister } from '../../../../src/broker/replica/persister.ts'
import { SpacePatience } from '../../../../src/broker/replica/space-patience.ts'
import { type CommitLogApi, type HardStateApi, type SavedHardState, StoreError } from '../../../../store/index.ts'
import { ManualClock, settle } from '../../../support/manual-clock.ts'

const envelope = { from: 'n1', to: 'n0' } as const
const acknowledgement: PeerMessage = { ...envelope, kind: 'append_response', term: 3, matchIndex: 7, rejected: null }
const grant: PeerMessage = { ...envelope, kind: 'vote_response', term: 4, refusal: null }
const ownRequest: PeerMessage = {
  ...envelope,
  kind: 'vote_request',
  term: 5,
  lastIndex: 7,
  lastTerm: 3,
  transfer: false,
}
const alive: PeerMessage = { ...envelope, kind: 'heartbeat_response', term: 5, round: 1, session: 0, canLead: true }

function readyOf(number: number, fields: Partial<Ready>): Ready {
  const nothing = { append: [], sendNow: [], sendAfterPersist: [], readStates: [], events: [] }
  return { number, mustSync: true, ...nothing, ...fields }
}

function open(): {
  readonly persister: Persister
  readonly clock: ManualClock
  readonly sent: string[]
  readonly saves: (() => void)[]
  readonly patience: SpacePatience
  room: boolean
  durableIndex: number
} {
  const clock = new ManualClock()
  const sent: string[] = []
  const saves: (() => void)[] = []
  const patience = new SpacePatience()
  const bench = { clock, sent, saves, patience, room: false, durableIndex: 0, persister: null as Persister | null }
  const log = {
    get durableIndex() {
      return bench.durableIndex
    },
    diskFull: true,
    flush: async () => {
      if (!bench.room) throw new StoreError('DISK_FULL', 'no space')
      return 7
    },
  } as unknown as CommitLogApi
  const hardState: HardStateApi = {
    current: { term: 3, vote: null, commit: 0 },
    save: ({ term, vote }: SavedHardState) =>
      new Promise((resolve) => {
        saves.push(() => {
          sent.push(`saved ${term} ${vote}`)
          resolve()
        })
      }),
    close: async () => {},
  }
  const persister = new Persister({
    clock,
    log,
    hardState,
    limits: { ...defaultReplicaLimits, diskFullRetryMs: 500 },
    persisted: (ready, messages) => sent.push(`persisted ${ready}`, ...messages.map(({ kind }) => kind)),
    released: (messages) => sent.push(...messages.map(({ kind }) => kind)),
    failed: (error) => {
      throw error
    },
    diskFull: () => {},
    patience,
    staysFull: () => {
      sent.push('stays full')
      bench.persister?.stop()
    },
    flushBegan: () => {},
    flushEnded: () => {},
  })
  return Object.assign(bench, { persister })
}

test('R1, S1: while the log waits for space a vote leaves once it is saved, and nothing that claims the log', async () => {
  const bench = open()
  const { persister, clock, sent, saves } = bench
  persister.add(readyOf(1, { sendAfterPersist: [acknowledgement] }))
  await settle()
  expect(sent).toEqual([])
  persister.add(readyOf(2, { hardState: { term: 4, vote: 'n0', commit: 0 }, sendAfterPersist: [grant] }))
  await settle()
  expect(sent).toEqual([])
  saves.shift()?.()
  await settle()
  expect(sent.splice(0)).toEqual(['saved 4 n0', 'vote_response'])

  persister.add(readyOf(3, { hardState: { term: 5, vote: 'n1', commit: 0 }, sendAfterPersist: [ownRequest] }))
  await settle()
  saves.shift()?.()
  persister.add(readyOf(4, { mustSync: false, sendAfterPersist: [alive] }))
  await settle()
  expect(sent.splice(0)).toEqual(['saved 5 n1', 'heartbeat_response'])

  bench.room = true
  await clock.advance(500)
  expect(sent).toEqual(['persisted 4', 'append_response', 'vote_request'])
  expect(saves).toEqual([])
})

test('what finds no space for too long is told, once, and each time it takes twice as long', async () => {
  for (const refusals of [10, 20]) {
    const bench = open()
    const { persister, clock, sent, patience } = bench
    if (refusals === 20) patience.ended()
    persister.add(readyOf(1, { sendAfterPersist: [acknowledgement] }))
    await clock.advance((refusals - 2) * 500)
    // A part of it fits.
    bench.durableIndex = 3
    await clock.advance(500 * refusals)
    expect(sent).toEqual([])
    await clock.advance(500)
    expect(sent).toEqual(['stays full'])
    await persister.drained()
    await clock.advance(60_000)
    expect(sent).toEqual(['stays full'])
  }
})

test('patience that has grown is not for a node that stands: the leader it was for is gone', async () => {
  const bench = open()
  const { persister, clock, sent, saves, patience } = bench
  for (let times = 0; times < 8; times++) patience.ended()
  persister.add(readyOf(1, { sendAfterPersist: [acknowledgement] }))
  await clock.advance(100 * 500)
  persister.add(readyOf(2, { hardState: { term: 4, vote: 'n0', commit: 0 }, sendAfterPersist: [grant] }))
  await settle()
  saves.shift()?.()
  await clock.advance(100 * 500)
  expect(sent.splice(0)).toEqual(['saved 4 n0', 'vote_response'])
  persister.add(readyOf(3, { hardState: { term: 5, vote: 'n1', commit: 0 }, sendAfterPersist: [ownRequest] }))
  await settle()
  saves.shift()?.()
  await clock.advance(500)
  expect(sent).toEqual(['saved 5 n1', 'stays full'])
})
