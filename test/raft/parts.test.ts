/** The small parts: term runs, quorum, windows, progress, write ledger, read rounds, configuration. */
import { describe, expect, test } from 'vitest'
import { checkRaftConfig } from '../../raft/config.ts'
import { defaultRaftConfig } from '../../raft/index.ts'
import { Inflights } from '../../raft/inflights.ts'
import { Outbox } from '../../raft/outbox.ts'
import { Progress } from '../../raft/progress.ts'
import { membersOf, quorumValue, voteOutcome, votersOf } from '../../raft/quorum.ts'
import { ReadIndex, readRoundsMax } from '../../raft/read-index.ts'
import { RecentEntries } from '../../raft/recent-entries.ts'
import { TermRuns } from '../../raft/term-runs.ts'
import { WriteLedger } from '../../raft/write-ledger.ts'
import { entriesOf, runsOf, seededRandom } from './support.ts'

describe('term runs', () => {
  test('answer like a plain array of terms, through appends, cuts and compactions', () => {
    const random = seededRandom(3)
    for (let round = 0; round < 50; round++) {
      const terms: number[] = []
      const runs = new TermRuns([])
      let first = 1
      for (let i = 0; i < 60; i++) {
        const dice = random()
        const last = first + terms.length - 1
        if (dice < 0.7) {
          terms.push((terms.at(-1) ?? 1) + (random() < 0.3 ? 1 : 0))
          runs.append(last + 1, terms.at(-1) as number)
        } else if (dice < 0.85 && terms.length > 0) {
          const from = first + Math.floor(random() * terms.length)
          terms.length = from - first
          runs.truncateFrom(from)
        } else if (terms.length > 0) {
          const to = first + Math.floor(random() * (terms.length + 1))
          runs.compact(to, last)
          terms.splice(0, to - first)
          first = to
        }
        for (const [offset, term] of terms.entries()) expect(runs.termAt(first + offset)).toBe(term)
        if (terms.length === 0) continue
        const [index, term] = [first + Math.floor(random() * terms.length), Math.floor(random() * 6)]
        let expected = index
        while (expected >= first && (terms[expected - first] as number) > term) expected--
        const found = runs.lastAtMost(index, term)
        if (expected < first) expect(found).toBeNull()
        else expect(found).toEqual({ index: expected, term: terms[expected - first] })
      }
    }
  })

  test('R2: runs must ascend', () => {
    expect(() => new TermRuns([...runsOf([2], 1), ...runsOf([1], 2)])).toThrow(/^R2/)
    const runs = new TermRuns(runsOf([2], 1))
    expect(() => runs.append(2, 1)).toThrow(/^R2/)
  })
})

describe('recent entries', () => {
  test('R2: hold a contiguous range only', () => {
    const recent = new RecentEntries(5, 64)
    expect(() => recent.push(entriesOf(6, [1])[0] as never)).toThrow(/^R2/)
    for (const entry of entriesOf(5, [1, 1, 2])) recent.push(entry)
    recent.truncateFrom(7)
    expect(recent.range(5, 6)).toHaveLength(2)
    expect(recent.get(4)).toBeUndefined()
    expect(() => recent.range(4, 6)).toThrow(/^R2/)
    recent.truncateFrom(3)
    for (const entry of entriesOf(3, [4])) recent.push(entry)
    expect(recent.get(3)).toMatchObject({ term: 4 })
  })
})

describe('quorum', () => {
  const simple = (...voters: string[]) => ({ voters, outgoing: [], learners: ['x'] })

  test('the quorum value is the largest that a majority reached', () => {
    const values: Record<string, number> = { a: 9, b: 7, c: 5, d: 3, e: 1 }
    const reached = (id: string) => values[id] as number
    expect(quorumValue(simple('a'), reached)).toBe(9)
    expect(quorumValue(simple('a', 'b'), reached)).toBe(7)
    expect(quorumValue(simple('e', 'a', 'c'), reached)).toBe(5)
    expect(quorumValue(simple('a', 'b', 'c', 'd'), reached)).toBe(5)
    expect(quorumValue(simple('a', 'b', 'c', 'd', 'e'), reached)).toBe(5)
    expect(quorumValue(simple('a', 'b', 'c'), () => Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY)
  })

  test('agrees with counting, for random values', () => {
    const random = seededRandom(5)
    for (let round = 0; round < 500; round++) {
      const voters = Array.from({ length: 1 + Math.floor(random() * 7) }, (_, i) => `n${i}`)
      const values = new Map(voters.map((id) => [id, Math.floor(random() * 5)]))
      const value = quorumValue(simple(...voters), (id) => values.get(id) as number)
      const count = (least: number) => [...values.values()].filter((v) => v >= least).length
      expect(count(value)).toBeGreaterThan(voters.length / 2)
      expect(count(value + 1)).toBeLessThanOrEqual(voters.length / 2)
    }
  })

  test('section 6: a joint configuration needs a majority of both halves', () => {
    const joint = { voters: ['a', 'b', 'c'], outgoing: ['c', 'd', 'e'], learners: ['f'] }
    expect(votersOf(joint)).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(membersOf(joint)).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
    const grants = (...ids: string[]) => new Map(ids.map((id) => [id, true]))
    expect(voteOutcome(joint, grants('a', 'b', 'c'))).toBe('pending')
    expect(voteOutcome(joint, grants('a', 'c', 'd'))).toBe('won')
    const refused = new Map([
      ['d', false],
      ['e', false],
    ])
    expect(voteOutcome(joint, refused)).toBe('lost')
  })

  test('a round is lost as soon as it cannot be won', () => {
    const votes = new Map([
      ['a', true],
      ['b', false],
    ])
    expect(voteOutcome(simple('a', 'b', 'c'), votes)).toBe('pending')
    expect(voteOutcome(simple('a', 'b'), votes)).toBe('lost')
    votes.set('c', false)
    expect(voteOutcome(simple('a', 'b', 'c'), votes)).toBe('lost')
  })
})

describe('the inflight window', () => {
  test('counts messages and bytes, and frees them in order', () => {
    const window = new Inflights(3, 100)
    window.add(5, 30)
    window.add(7, 30)
    expect(window.isFull()).toBe(false)
    window.add(9, 1)
    expect([window.isFull(), window.messages, window.bytes]).toEqual([true, 3, 61])
    window.freeTo(6)
    expect([window.isFull(), window.messages, window.bytes]).toEqual([false, 2, 31])
    window.add(10, 90)
    window.freeTo(9)
    expect([window.isFull(), window.messages, window.bytes]).toEqual([false, 1, 90])
    window.clear()
    window.add(11, 100)
    expect(window.isFull()).toBe(true)
    expect(() => {
      for (let i = 0; i < 3; i++) window.add(12 + i, 1)
    }).toThrow(/^R5/)
  })
})

describe('the progress of a follower', () => {
  const progress = () => new Progress(11, 0, { messagesMax: 4, bytesMax: 1000 })

  test('probe: one append, then nothing before an answer; an answer opens the window', () => {
    const peer = progress()
    expect(peer.canSend()).toBe(true)
    peer.sent(12, 10, 0)
    expect([peer.canSend(), peer.next]).toEqual([false, 11])
    expect(peer.accepted(12)).toBe(true)
    expect([peer.state, peer.match, peer.next, peer.canSend()]).toEqual(['replicate', 12, 13, true])
  })

  test('replicate: next runs ahead, and a refusal falls back to a probe behind match', () => {
    const peer = progress()
    peer.accepted(10)
    peer.sent(20, 10, 0)
    peer.sent(30, 10, 0)
    expect([peer.next, peer.inflights.messages]).toEqual([31, 2])
    peer.rejected(30, 3)
    expect([peer.state, peer.next, peer.inflights.messages]).toEqual(['probe', 11, 0])
  })

  test('a commit that was told with appends that are lost counts as told only as far as the logs match', () => {
    const peer = progress()
    peer.accepted(10)
    peer.sent(20, 10, 0)
    peer.sentCommit = 20
    peer.rejected(20, 3)
    expect(peer.sentCommit).toBe(10)
    peer.accepted(20)
    peer.sentCommit = 20
    peer.forget(5)
    expect(peer.sentCommit).toBe(5)
  })

  test('refusals that are out of date change nothing', () => {
    const peer = progress()
    peer.rejected(8, 3)
    expect(peer.next).toBe(11)
    peer.accepted(10)
    peer.rejected(10, 3)
    expect(peer.state).toBe('replicate')
  })

  test('a late answer never takes match back', () => {
    const peer = progress()
    peer.accepted(20)
    expect([peer.accepted(15), peer.match, peer.next]).toEqual([false, 20, 21])
  })

  test('a probe is repeated only when its answer is overdue', () => {
    const peer = progress()
    peer.sent(12, 10, 100)
    peer.suspectLoss(150, 75)
    expect([peer.canSend(), peer.isCheckDue]).toEqual([false, false])
    peer.suspectLoss(175, 75)
    expect([peer.canSend(), peer.isCheckDue]).toEqual([true, true])
  })

  test('R5: match < next', () => {
    const peer = progress()
    peer.accepted(10)
    expect(() => peer.becomeProbe(10)).toThrow(/^R5/)
  })
})

describe('the write ledger', () => {
  const write = (ready: number, lastIndex: number | null, truncateFrom: number | null = null, term = 1) => ({
    ready,
    term,
    vote: null,
    truncateFrom,
    lastIndex,
  })

  test('R5 ABA: a durable index never passes a cut that is still on its way', () => {
    const ledger = new WriteLedger({ lastIndex: 4, term: 1, vote: null })
    ledger.record(write(1, 6))
    ledger.record(write(2, 5, 5, 2))
    ledger.record(write(4, 9, 5, 3))
    expect(ledger.stableIndex()).toBe(4)
    ledger.persisted(1)
    expect([ledger.stableIndex(), ledger.term]).toEqual([4, 1])
    ledger.persisted(3)
    expect([ledger.stableIndex(), ledger.term]).toEqual([4, 2])
    ledger.persisted(4)
    expect([ledger.stableIndex(), ledger.term]).toEqual([9, 3])
  })

  test('a cut without a new entry takes the durable end back', () => {
    const ledger = new WriteLedger({ lastIndex: 9, term: 1, vote: null })
    ledger.record(write(1, null, 4))
    ledger.persisted(1)
    expect(ledger.stableIndex()).toBe(3)
  })
})

const own = (context: number) => ({ context, from: null })

describe('read rounds', () => {
  test('many contexts share a round, and a later round proves the earlier ones', () => {
    const reads = new ReadIndex()
    for (const context of [1, 2, 3]) reads.add(own(context))
    reads.start(1, 10)
    reads.add(own(4))
    reads.start(2, 12)
    reads.add(own(5))
    expect(reads.confirm(0)).toEqual([])
    expect(reads.confirm(2).map(({ context, index }) => [context, index])).toEqual([
      [1, 10],
      [2, 10],
      [3, 10],
      [4, 12],
    ])
    expect([reads.size, reads.drop(), reads.size]).toEqual([1, [5], 0])
  })

  test('only so many rounds are under way, the rest waits', () => {
    const reads = new ReadIndex()
    for (let round = 1; round <= readRoundsMax; round++) {
      reads.add(own(round))
      expect(reads.wantsRound()).toBe(true)
      reads.start(round, 1)
    }
    reads.add(own(99))
    expect(reads.wantsRound()).toBe(false)
    reads.confirm(1)
    expect(reads.wantsRound()).toBe(true)
  })
})

describe('the outbox', () => {
  test('forgets acknowledgements of a term that ended before they left, and nothing else', () => {
    const outbox = new Outbox()
    const envelope = { from: 'n0', to: 'n1', term: 1 }
    outbox.sendAfterPersist({ ...envelope, kind: 'append_response', matchIndex: 3, rejected: null })
    outbox.sendAfterPersist({ ...envelope, kind: 'vote_response', refusal: null })
    outbox.forgetAcknowledgements()
    expect(outbox.take().sendAfterPersist.map(({ kind }) => kind)).toEqual(['vote_response'])
    expect(outbox.isEmpty()).toBe(true)
  })
})

describe('the configuration', () => {
  test('of the defaults is sound', () => {
    expect(() => checkRaftConfig({ ...defaultRaftConfig, id: 'n0' })).not.toThrow()
  })

  test.each([
    { heartbeatMs: 200 },
    { electionTimeoutMaxMs: 500 },
    { appendBytesMax: 0 },
    { inflightMessagesMax: Number.NaN },
    { splitRetryMinMs: 500 },
  ])('that contradicts itself is refused: %j', (change) => {
    expect(() => checkRaftConfig({ ...defaultRaftConfig, id: 'n0', ...change })).toThrow(/^config/)
  })
})
