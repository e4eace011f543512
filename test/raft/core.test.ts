/** The contract of the core with its driver: numbering, durability split, implausible input, reads, transfer. */
import { describe, expect, test } from 'vitest'
import { positionMax, termJumpMax } from '../../raft/gateway.ts'
import type { PeerMessage } from '../../raft/index.ts'
import {
  acknowledge,
  Cluster,
  changeEntry,
  configurationOf,
  electByHand,
  entriesOf,
  ManualNode,
  makeBoot,
} from './support.ts'

function leaderOf3(): ManualNode {
  const node = new ManualNode()
  electByHand(node, ['n1', 'n2'])
  return node
}

describe('Readies', () => {
  test('are numbered from 1 without gaps, and there is none when nothing is to do', () => {
    const node = leaderOf3()
    expect(node.readies.map((ready) => ready.number)).toEqual(node.readies.map((_, i) => i + 1))
    expect(node.core.hasReady()).toBe(false)
    expect(() => node.core.ready()).toThrow(/none/)
  })

  test('must be fsynced when term, vote or entries changed, not for a commit or messages', () => {
    const node = leaderOf3()
    node.propose(1)
    expect(node.readies.at(-1)).toMatchObject({ mustSync: true })
    node.persist()
    acknowledge(node, 'n1')
    expect(node.readies.at(-1)).toMatchObject({ mustSync: false, hardState: { commit: 2 }, committed: { from: 2 } })
  })

  test('hand out every committed entry once, in order, again after a restart from what was applied', () => {
    const node = leaderOf3()
    for (let i = 0; i < 5; i++) {
      node.propose(1, 1)
      node.persist()
      acknowledge(node, 'n2')
    }
    const ranges = node.readies.flatMap((ready) => (ready.committed ? [ready.committed] : []))
    let next = 1
    for (const { from, to } of ranges) {
      expect(from).toBe(next)
      next = to + 1
    }
    expect(next).toBe(12)
    const restarted = new ManualNode({ terms: [1, 1, 1], commit: 3, applied: 1 })
    restarted.drain()
    expect(restarted.readies[0]?.committed).toEqual({ from: 2, to: 3 })
  })

  test('a number that was not taken cannot be durable', () => {
    const node = new ManualNode()
    expect(() => node.step({ kind: 'persisted', ready: 1 })).toThrow(/^S1/)
  })

  test('a heartbeat is answered at once when the term is durable, and only then', () => {
    const node = new ManualNode({ term: 2 })
    const heartbeat = {
      kind: 'heartbeat' as const,
      from: 'n1',
      to: 'n0',
      commit: 0,
      round: 5,
      lastIndex: 0,
      session: 0,
    }
    node.receive({ ...heartbeat, term: 2 })
    expect(node.take('heartbeat_response')).toMatchObject([{ term: 2, round: 5 }])
    node.receive({ ...heartbeat, term: 3 })
    expect(node.take('heartbeat_response')).toEqual([])
    node.persist()
    expect(node.take('heartbeat_response')).toMatchObject([{ term: 3, round: 5 }])
  })

  test('S1: an acknowledgement of a term that ended before its Ready was taken does not leave', () => {
    const node = new ManualNode({ term: 1 })
    const append = { kind: 'append' as const, to: 'n0', prevIndex: 0, prevTerm: 0, commit: 0 }
    node.core.step({ kind: 'message', message: { ...append, from: 'n1', term: 1, entries: entriesOf(1, [1]) } }, 0)
    node.core.step({ kind: 'message', message: { ...append, from: 'n2', term: 2, entries: entriesOf(1, [2]) } }, 0)
    node.drain()
    node.persist()
    expect(node.take('append_response').map(({ to, term }) => [to, term])).toEqual([['n2', 2]])
  })

  test('the time never goes back', () => {
    const node = new ManualNode({ now: 10 })
    expect(() => node.core.step({ kind: 'tick' }, 9)).toThrow(/time/)
  })
})

describe('implausible input changes nothing', () => {
  const base = { from: 'n1', to: 'n0' }
  const members = configurationOf()
  const membersNamedTwice = configurationOf({ voters: ['n0', 'n1', 'n1'] })
  const messages: [string, PeerMessage][] = [
    [
      'a term beyond the maximum',
      { ...base, kind: 'heartbeat', term: positionMax + 1, commit: 0, round: 0, lastIndex: 0, session: 0 },
    ],
    ['a jump of the term', { ...base, kind: 'stepped_down', term: termJumpMax + 2 }],
    ['a negative term', { ...base, kind: 'timeout_now', term: -1 }],
    ['a broken term', { ...base, kind: 'stepped_down', term: 1.5 }],
    [
      'a commit that is no number',
      { ...base, kind: 'heartbeat', term: 2, commit: Number.NaN, round: 0, lastIndex: 0, session: 0 },
    ],
    ['an index beyond the maximum', vote({ lastIndex: positionMax + 1 })],
    ['a last term beyond the term', vote({ lastTerm: 9 })],
    ['entries with a gap', append({ entries: [...entriesOf(1, [1]), ...entriesOf(3, [1])] })],
    ['entries of falling terms', append({ entries: entriesOf(1, [2, 1]) })],
    ['entries beyond the term', append({ entries: entriesOf(1, [3]) })],
    ['entries of negative size', append({ entries: entriesOf(1, [1], -5) })],
    ['members of whom one is named twice', append({ entries: [changeEntry(1, 2, membersNamedTwice)] })],
    ['members in an entry of another kind', append({ entries: [{ ...changeEntry(1, 2, members), kind: 'normal' }] })],
    ['a change of members that names none', append({ entries: [{ ...entriesOf(1, [2])[0], kind: 'configuration' }] })],
  ]

  function vote(change: object): PeerMessage {
    return { ...base, kind: 'vote_request', term: 2, lastIndex: 0, lastTerm: 0, transfer: false, ...change }
  }

  function append(change: object): PeerMessage {
    return { ...base, kind: 'append', term: 2, prevIndex: 0, prevTerm: 0, entries: [], commit: 0, ...change }
  }

  test.each(messages)('%s', (_, message) => {
    const node = new ManualNode({ term: 1 })
    const before = node.status
    expect(node.receive(message)).toEqual({ kind: 'done' })
    expect(node.status).toEqual(before)
    expect(node.readies).toEqual([])
  })

  test('an answer of a node that is not in the configuration, or a message for someone else, is refused', () => {
    const node = new ManualNode()
    const unknown = node.receive({
      kind: 'heartbeat_response',
      from: 'nx',
      to: 'n0',
      term: 4,
      round: 0,
      session: 0,
      canLead: true,
    })
    expect(unknown).toEqual({ kind: 'refused', refusal: { kind: 'unknown_peer', peer: 'nx' } })
    expect(
      node.receive({ kind: 'heartbeat', from: 'n1', to: 'n2', term: 4, commit: 0, round: 0, lastIndex: 0, session: 0 })
        .kind,
    ).toBe('refused')
    expect(
      node.receive({ kind: 'heartbeat', from: 'n0', to: 'n0', term: 4, commit: 0, round: 0, lastIndex: 0, session: 0 })
        .kind,
    ).toBe('refused')
    expect(node.status.term).toBe(0)
  })

  test('R3: an acknowledgement beyond the log of the leader stops the node', () => {
    const node = leaderOf3()
    expect(() => acknowledge(node, 'n1', 99)).toThrow(/^R3/)
  })

  test('R2: a log beyond the stored term cannot be started', () => {
    expect(() => new ManualNode({ terms: [5], term: 4 })).toThrow(/^R2/)
    expect(makeBoot({ terms: [5] }).hardState.term).toBe(5)
  })
})

describe('reads', () => {
  test('many reads share one round of heartbeats', () => {
    const node = leaderOf3()
    for (let context = 1; context <= 100; context++) node.core.step({ kind: 'read_index', context }, node.now)
    node.drain()
    expect(node.take('heartbeat')).toHaveLength(2)
    node.receive({ kind: 'heartbeat_response', from: 'n2', to: 'n0', term: 1, round: 1, session: 0, canLead: true })
    expect(node.reads).toHaveLength(100)
  })

  test('the lost round of a read is repeated by the next heartbeat', () => {
    const node = leaderOf3()
    node.step({ kind: 'read_index', context: 5 })
    node.take()
    node.wait(75)
    expect(node.take('heartbeat')).toMatchObject([{ round: 1 }, { round: 1 }])
  })

  test('are dropped with their contexts when the leadership ends, and refused by a follower', () => {
    const node = leaderOf3()
    node.step({ kind: 'read_index', context: 5 })
    node.step({ kind: 'read_index', context: 6 })
    node.receive({ kind: 'stepped_down', from: 'n1', to: 'n0', term: 9 })
    expect(node.eventsOf('reads_dropped')).toEqual([{ kind: 'reads_dropped', contexts: [5, 6] }])
    expect(node.step({ kind: 'read_index', context: 7 })).toMatchObject({ refusal: { kind: 'not_leader' } })
  })

  test('are refused as full beyond their limit', () => {
    const node = new ManualNode({ config: { pendingReadsMax: 2 } })
    electByHand(node, ['n1', 'n2'])
    for (const context of [1, 2]) node.step({ kind: 'read_index', context })
    expect(node.step({ kind: 'read_index', context: 3 })).toMatchObject({
      refusal: { kind: 'reads_full', readsMax: 2 },
    })
  })

  test('of a leader that was cut off are never answered', () => {
    const cluster = new Cluster()
    const old = cluster.runUntilLed()
    cluster.cut([old])
    cluster.step(old, { kind: 'read_index', context: 1 })
    cluster.run(3_000)
    expect(cluster.reads).toEqual([])
    const dropped = cluster.events.find(({ event }) => event.kind === 'reads_dropped')
    expect(dropped).toMatchObject({ id: old, event: { contexts: [1] } })
  })
})

describe('transfer', () => {
  test('waits until the target holds everything, then orders, and repeats the order with every heartbeat', () => {
    const node = leaderOf3()
    node.propose(1)
    node.step({ kind: 'transfer', to: 'n1' })
    expect(node.take('timeout_now')).toEqual([])
    acknowledge(node, 'n1')
    expect(node.take('timeout_now')).toMatchObject([{ to: 'n1', term: 1 }])
    node.wait(75)
    expect(node.take('timeout_now')).toMatchObject([{ to: 'n1' }])
  })

  test('that does not come about ends by its timeout, and proposals are accepted again', () => {
    const node = leaderOf3()
    node.step({ kind: 'transfer', to: 'n1' })
    expect(node.step({ kind: 'transfer', to: 'n2' })).toMatchObject({ refusal: { kind: 'transferring', to: 'n1' } })
    for (let i = 0; i < 5; i++) {
      node.wait(200)
      node.receive({ kind: 'heartbeat_response', from: 'n2', to: 'n0', term: 1, round: 0, session: 0, canLead: true })
    }
    expect(node.eventsOf('transfer_ended')).toMatchObject([{ to: 'n1', outcome: 'timed_out' }])
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
  })

  test('ends at once when the connection to the target breaks', () => {
    const node = leaderOf3()
    node.step({ kind: 'transfer', to: 'n1' })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    expect(node.eventsOf('transfer_ended')).toMatchObject([{ outcome: 'lost' }])
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
  })

  test('to a node that said that it cannot lead is refused, and ends at once when it says so later', () => {
    const node = leaderOf3()
    const word = { kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round: 0, session: 0 } as const
    node.receive({ ...word, canLead: false })
    expect(node.step({ kind: 'transfer', to: 'n1' })).toMatchObject({ refusal: { kind: 'cannot_lead', peer: 'n1' } })
    expect(node.status.peers.map(({ canLead }) => canLead)).toEqual([true, false, true])
    node.receive({ ...word, canLead: true })
    node.propose(1)
    expect(node.step({ kind: 'transfer', to: 'n1' })).toEqual({ kind: 'done' })
    node.receive({ ...word, from: 'n2', canLead: false })
    expect(node.eventsOf('transfer_ended')).toEqual([])
    node.receive({ ...word, canLead: false })
    expect(node.eventsOf('transfer_ended')).toMatchObject([{ to: 'n1', outcome: 'refused' }])
    acknowledge(node, 'n1')
    expect(node.take('timeout_now')).toEqual([])
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
  })

  test('to oneself is nothing to do, to a node without a vote or from a follower it is refused', () => {
    const node = leaderOf3()
    expect(node.step({ kind: 'transfer', to: 'n0' })).toEqual({ kind: 'done' })
    expect(node.step({ kind: 'transfer', to: 'nx' })).toMatchObject({ refusal: { kind: 'unknown_peer' } })
    expect(new ManualNode().step({ kind: 'transfer', to: 'n1' })).toMatchObject({ refusal: { kind: 'not_leader' } })
  })

  test('an order of an older term, or of someone who does not lead, is ignored', () => {
    const node = new ManualNode()
    node.receive({ kind: 'heartbeat', from: 'n1', to: 'n0', term: 3, commit: 0, round: 0, lastIndex: 0, session: 0 })
    node.receive({ kind: 'timeout_now', from: 'n2', to: 'n0', term: 3 })
    node.receive({ kind: 'timeout_now', from: 'n1', to: 'n0', term: 2 })
    expect(node.status).toMatchObject({ role: 'follower', term: 3 })
    node.receive({ kind: 'timeout_now', from: 'n1', to: 'n0', term: 3 })
    expect(node.status).toMatchObject({ role: 'candidate', term: 4 })
    node.persist()
    expect(node.take('vote_request')).toMatchObject([{ transfer: true }, { transfer: true }])
  })
})
