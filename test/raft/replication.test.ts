/** Appends as messages: batching, windows, what was lost, what was compacted, limits of proposals. */
import { describe, expect, test } from 'vitest'
import type { Append, RaftConfig } from '../../raft/index.ts'
import { acknowledge, Cluster, electByHand, entriesOf, ManualNode } from './support.ts'

function leaderOf3(config: Partial<RaftConfig> = {}): ManualNode {
  const node = new ManualNode({ config })
  electByHand(node, ['n1', 'n2'])
  return node
}

const appendsTo = (node: ManualNode, to: string): Append[] => node.take('append').filter((append) => append.to === to)
const indexes = (append: Append | undefined) => append?.entries.map((entry) => entry.index)

describe('batching', () => {
  test('many proposals share one append per follower and one Ready', () => {
    const node = leaderOf3()
    for (let i = 0; i < 100; i++) {
      node.core.step({ kind: 'propose', entries: [{ kind: 'normal', bytes: 10 }] }, node.now)
    }
    const ready = node.core.ready()
    expect(ready.append).toHaveLength(100)
    expect(ready.sendNow.map(({ kind, to }) => [kind, to])).toEqual([
      ['append', 'n1'],
      ['append', 'n2'],
    ])
    expect(node.core.hasReady()).toBe(false)
  })

  test('a proposal gets consecutive indexes in the own term', () => {
    const node = leaderOf3()
    expect(node.propose(1, 2, 3)).toEqual({ kind: 'accepted', first: 2, term: 1 })
    expect(node.propose(1)).toEqual({ kind: 'accepted', first: 5, term: 1 })
  })

  test('an append is cut at its byte limit and at its entry limit, but holds at least one entry', () => {
    const node = leaderOf3({ appendBytesMax: 100, appendEntriesMax: 3 })
    node.propose(60, 30, 20, 1, 1, 1, 500, 1)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[2, 3], [4, 5, 6], [7], [8], [9]])
  })

  test('a new commit is told by an empty append to those with nothing under way, else by the next append', () => {
    const node = leaderOf3()
    node.propose(1)
    node.persist()
    node.take()
    acknowledge(node, 'n1')
    const [first, ...others] = node.take('append')
    expect(first).toMatchObject({ to: 'n1', prevIndex: 2, entries: [], commit: 2 })
    expect(others).toEqual([])
    acknowledge(node, 'n2')
    expect(node.take('append')).toMatchObject([{ to: 'n2', prevIndex: 2, entries: [], commit: 2 }])
  })

  test('the news of a commit waits a moment for an append to ride on, and leaves alone when there is none', () => {
    const node = leaderOf3({ commitNewsDelayMs: 2 })
    node.wait(2)
    node.take()
    node.propose(1)
    node.persist()
    node.take()
    acknowledge(node, 'n1')
    acknowledge(node, 'n2')
    expect(node.status.commit).toBe(2)
    expect(node.take('append')).toEqual([])
    node.propose(1)
    expect(node.take('append')).toMatchObject([
      { to: 'n1', prevIndex: 2, commit: 2 },
      { to: 'n2', prevIndex: 2, commit: 2 },
    ])
    node.persist()
    acknowledge(node, 'n1')
    acknowledge(node, 'n2')
    expect(node.take('append')).toEqual([])
    node.wait(2)
    expect(node.take('append')).toMatchObject([
      { to: 'n1', prevIndex: 3, entries: [], commit: 3 },
      { to: 'n2', prevIndex: 3, entries: [], commit: 3 },
    ])
    expect(node.core.deadline()).toBeGreaterThan(node.now)
  })

  test('a follower that answers after the news was told to the others gets it, too', () => {
    const node = leaderOf3({ commitNewsDelayMs: 2 })
    node.wait(2)
    node.take()
    node.propose(1)
    node.persist()
    acknowledge(node, 'n1')
    node.wait(2)
    node.take()
    acknowledge(node, 'n2')
    node.wait(2)
    expect(node.take('append')).toMatchObject([{ to: 'n2', prevIndex: 2, entries: [], commit: 2 }])
  })
})

describe('the window', () => {
  test('stops at its limit of messages, and goes on as answers come', () => {
    const node = leaderOf3({ inflightMessagesMax: 2 })
    for (let i = 0; i < 4; i++) node.propose(1)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[2], [3]])
    acknowledge(node, 'n1', 2)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[4, 5]])
  })

  test('stops at its limit of bytes, but one large message may always leave', () => {
    const node = leaderOf3({ inflightBytesMax: 100, appendBytesMax: 60 })
    node.propose(500, 10, 10)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[2]])
    acknowledge(node, 'n1', 2)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[3, 4]])
  })

  test('that is full still gets an empty append after a silent heartbeat, so that a lost window recovers', () => {
    const node = leaderOf3({ inflightMessagesMax: 1 })
    node.propose(1)
    node.propose(1)
    node.wait(75)
    node.take()
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round: 0, session: 0, canLead: true })
    const [check] = appendsTo(node, 'n1')
    expect(check).toMatchObject({ prevIndex: 2, entries: [] })
    const rejected = { rejectedIndex: 2, hintIndex: 1, hintTerm: 1, hasLost: false }
    node.receive({ kind: 'append_response', from: 'n1', to: 'n0', term: 1, matchIndex: 0, rejected })
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[2, 3]])
  })
})

describe('lost messages', () => {
  test('a lost append is made good within three heartbeats', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    cluster.run(100)
    cluster.filter = (message) => message.kind !== 'append'
    cluster.propose(leader, 5)
    cluster.run(5)
    cluster.heal()
    const last = cluster.status(leader).lastIndex
    const tookMs = cluster.runUntil(() => cluster.ids.every((id) => cluster.status(id).commit === last), 3_000)
    expect(tookMs).toBeLessThan(3 * 75)
  })

  test('lost answers are made good within three heartbeats', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    cluster.run(100)
    cluster.filter = (message) => message.kind !== 'append_response'
    cluster.propose(leader, 5)
    cluster.run(5)
    cluster.heal()
    const last = cluster.status(leader).lastIndex
    const tookMs = cluster.runUntil(() => cluster.status(leader).commit === last, 3_000)
    expect(tookMs).toBeLessThan(3 * 75)
  })

  test('with a tenth of all messages lost, proposals go on', () => {
    const cluster = new Cluster({ config: { inflightMessagesMax: 8 } })
    cluster.runUntilLed()
    cluster.lossRate = 0.1
    for (let i = 0; i < 200; i++) {
      const leader = cluster.leader()
      if (leader !== null) cluster.propose(leader, 3)
      cluster.run(10)
    }
    expect(cluster.judge.committed.size).toBeGreaterThan(400)
  })

  test('unreachable: what was in flight is sent again from the last known match, by one probe', () => {
    const node = leaderOf3()
    node.propose(1)
    node.propose(1)
    node.take()
    node.step({ kind: 'unreachable', peer: 'n1' })
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[2, 3]])
    node.propose(1)
    expect(appendsTo(node, 'n1')).toEqual([])
    acknowledge(node, 'n1', 3)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[4]])
  })

  test('an idle group sends heartbeats and nothing else', () => {
    const cluster = new Cluster()
    cluster.runUntilLed()
    cluster.run(500)
    const kinds = new Set<string>()
    cluster.filter = (message) => {
      kinds.add(message.kind)
      return true
    }
    cluster.run(2_000)
    expect([...kinds].sort()).toEqual(['heartbeat', 'heartbeat_response'])
  })

  test('a healthy busy group sends no checks', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    cluster.run(500)
    let empty = 0
    let refused = 0
    cluster.filter = (message) => {
      if (message.kind === 'append' && message.entries.length === 0) empty++
      if (message.kind === 'append_response' && message.rejected !== null) refused++
      return true
    }
    for (let i = 0; i < 500; i++) {
      cluster.propose(leader)
      cluster.run(0.2)
    }
    expect(refused).toBe(0)
    expect(empty).toBeLessThan(10)
  })
})

describe('entries from before the start', () => {
  test('an entry of unknown size counts as a sixteenth of an append and has bytes 0', () => {
    const node = new ManualNode({ terms: Array.from({ length: 40 }, () => 1) })
    electByHand(node, ['n1', 'n2'], false)
    node.take()
    const rejected = { rejectedIndex: 40, hintIndex: 0, hintTerm: 0, hasLost: false }
    node.receive({ kind: 'append_response', from: 'n1', to: 'n0', term: 2, matchIndex: 0, rejected })
    const [probe] = appendsTo(node, 'n1')
    expect(probe).toMatchObject({ prevIndex: 0, prevTerm: 0 })
    expect(indexes(probe)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1))
    expect(probe?.entries[0]).toEqual({ index: 1, term: 1, kind: 'normal', bytes: 0 })
  })

  test('a follower that needs compacted entries is in state snapshot, and probed once per heartbeat', () => {
    const node = new ManualNode({ terms: [1, 1, 1, 1], commit: 4 })
    electByHand(node, ['n1', 'n2'], false)
    node.persist()
    acknowledge(node, 'n2')
    node.persist()
    node.step({ kind: 'applied', index: 5 })
    node.step({ kind: 'compacted', first: 4, previousTerm: 1 })
    node.take()
    const refuse = (rejectedIndex: number) =>
      node.receive({
        ...{ kind: 'append_response', from: 'n1', to: 'n0', term: 2, matchIndex: 0 },
        rejected: { rejectedIndex, hintIndex: 1, hintTerm: 1, hasLost: false },
      })
    refuse(4)
    expect(node.status.peers.find(({ id }) => id === 'n1')).toMatchObject({ state: 'snapshot', match: 0 })
    expect(appendsTo(node, 'n1')).toMatchObject([{ prevIndex: 3, entries: [] }])
    refuse(3)
    expect(appendsTo(node, 'n1')).toEqual([])
    node.wait(75)
    node.take()
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 2, round: 0, session: 0, canLead: true })
    expect(appendsTo(node, 'n1')).toMatchObject([{ prevIndex: 3, entries: [] }])
    acknowledge(node, 'n1', 3)
    expect(appendsTo(node, 'n1').map(indexes)).toEqual([[4, 5]])
  })

  test('R6: compaction beyond what was applied stops the node', () => {
    const node = new ManualNode({ terms: [1, 1, 1], commit: 2 })
    expect(() => node.step({ kind: 'compacted', first: 4, previousTerm: 1 })).toThrow(/^R6/)
  })

  test('a follower whose start was compacted accepts appends that reach back before it', () => {
    const node = new ManualNode({ firstIndex: 5, previousTerm: 1, terms: [1, 1], commit: 5 })
    const entries = [3, 4, 5, 6, 7].map((index) => ({ index, term: 1, kind: 'normal' as const, bytes: 1 }))
    const append = { kind: 'append' as const, from: 'n1', to: 'n0', term: 1, prevIndex: 2, prevTerm: 1, commit: 2 }
    node.receive({ ...append, entries })
    node.receive({ ...append, entries: [] })
    node.persist()
    expect(node.take('append_response').map(({ matchIndex }) => matchIndex)).toEqual([7, 5])
  })
})

describe('limits of proposals', () => {
  test('proposals are refused as full beyond the uncommitted bytes and entries, and accepted again after a commit', () => {
    const node = leaderOf3({ uncommittedBytesMax: 100, uncommittedEntriesMax: 3 })
    expect(node.propose(90)).toMatchObject({ kind: 'accepted' })
    expect(node.propose(11)).toEqual({ kind: 'refused', refusal: { kind: 'full', uncommittedBytes: 90 } })
    expect(node.propose(1, 1)).toMatchObject({ kind: 'accepted' })
    expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'full', uncommittedBytes: 92 } })
    acknowledge(node, 'n1')
    node.persist()
    expect(node.propose(100)).toMatchObject({ kind: 'accepted' })
  })

  test('what an earlier leader left uncommitted counts, too', () => {
    const node = new ManualNode({ config: { uncommittedBytesMax: 100 } })
    const entries = entriesOf(1, [1], 90)
    node.receive({ kind: 'append', from: 'n1', to: 'n0', term: 1, prevIndex: 0, prevTerm: 0, entries, commit: 0 })
    node.persist()
    electByHand(node, ['n1', 'n2'], false)
    expect(node.propose(11)).toEqual({ kind: 'refused', refusal: { kind: 'full', uncommittedBytes: 90 } })
    node.persist()
    acknowledge(node, 'n1')
    expect(node.status).toMatchObject({ commit: 2, lastIndex: 2 })
    expect(node.propose(100)).toMatchObject({ kind: 'accepted' })
    expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'full', uncommittedBytes: 100 } })
  })

  test('one proposal beyond the limit is accepted when nothing is uncommitted', () => {
    const node = leaderOf3({ uncommittedBytesMax: 100 })
    expect(node.propose(1_000)).toMatchObject({ kind: 'accepted' })
    expect(node.propose(1)).toMatchObject({ kind: 'refused' })
  })

  test('a follower names the leader', () => {
    const node = new ManualNode()
    expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'not_leader', leader: null, term: 0 } })
    node.receive({ kind: 'heartbeat', from: 'n1', to: 'n0', term: 3, commit: 0, round: 0, lastIndex: 0, session: 0 })
    expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'not_leader', leader: 'n1', term: 3 } })
  })
})
