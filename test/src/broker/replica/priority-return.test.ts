/** When a leader gives leadership to a voter with a higher priority: on a clock that the test holds, and in a group. */
import { afterEach, describe, expect, test } from 'vitest'
import type { PeerStatus, RaftStatus } from '../../../../raft/index.ts'
import { MembershipHistory } from '../../../../src/broker/membership/history.ts'
import { PriorityReturn } from '../../../../src/broker/replica/priority-return.ts'
import { adminMethods } from '../../../../src/rpc/methods.ts'
import { eventually } from '../../../support/eventually.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { callLeader, change } from '../membership/cluster.ts'
import { createTopic } from './support.ts'

const calmMs = 30_000

/** n0, which leads; n1 and n2 should rather. */
function leaderN0(priorities: readonly (readonly [string, number])[]) {
  const clock = new ManualClock()
  const voters = ['n0', 'n1', 'n2'].map((node) => ({ node, disk: `disk-${node}`, raftAddress: `${node}:1` }))
  const membership = { voters, outgoing: [], learners: [], returning: [], priorities }
  const peer = (id: string): PeerStatus => ({
    ...{ id, match: 50, next: 51, state: 'replicate', inflightMessages: 0, inflightBytes: 0, silentMs: 0 },
    canLead: true,
  })
  const state = {
    raft: { role: 'leader', termStarted: true, unconfirmed: false, transferringTo: null, lastIndex: 50 },
    peers: [peer('n0'), peer('n1'), peer('n2')],
    away: new Set<string>(),
  }
  const orders: string[] = []
  const back = new PriorityReturn({
    clock,
    node: 'n0',
    calmMs,
    history: new MembershipHistory([{ index: 0, membership }], 0),
    raftStatus: () => ({ ...state.raft, peers: state.peers }) as unknown as RaftStatus,
    isConnected: (node) => !state.away.has(node),
    step: (input) => {
      if (input.kind === 'transfer') orders.push(input.to)
      return { kind: 'done' }
    },
  })
  const set = (id: string, change: Partial<PeerStatus>): void => {
    state.peers = state.peers.map((each) => (each.id === id ? { ...each, ...change } : each))
  }
  return { back, clock, orders, state, set }
}

describe('a leader with a lower priority', () => {
  test('hands over to the voter that should rather lead, once that could have led for a calm time', async () => {
    const { back, clock, orders } = leaderN0([
      ['n1', 3],
      ['n2', 7],
    ])
    back.changed()
    await clock.advance(calmMs - 1)
    expect(orders).toEqual([])
    await clock.advance(1)
    expect(orders).toEqual(['n2'])
  })

  test('orders it again only after another calm time, whatever came of it', async () => {
    const { back, clock, orders } = leaderN0([['n1', 1]])
    back.changed()
    await clock.advance(calmMs)
    expect(orders).toEqual(['n1'])
    await clock.advance(calmMs - 1)
    expect(orders).toEqual(['n1'])
    await clock.advance(1)
    expect(orders).toEqual(['n1', 'n1'])
  })

  test.each([
    ['is cut off', { away: 'n1' }],
    ['is not well', { canLead: false }],
    ['lacks much', { match: -2000 }],
    ['is behind the log', { state: 'snapshot' as const }],
  ])('begins to count anew when the other one %s', async (_, { away, ...trouble }: Record<string, unknown>) => {
    const { back, clock, orders, state, set } = leaderN0([['n1', 1]])
    back.changed()
    await clock.advance(calmMs - 5000)
    if (away !== undefined) state.away.add(String(away))
    set('n1', trouble)
    await clock.advance(calmMs)
    expect(orders).toEqual([])
    state.away.clear()
    set('n1', { canLead: true, match: 50, state: 'replicate' })
    await clock.advance(calmMs - 1)
    expect(orders).toEqual([])
    await clock.advance(3000)
    expect(orders).toEqual(['n1'])
  })

  test('forgets it all when it leads no more', async () => {
    const { back, clock, orders, state } = leaderN0([['n1', 1]])
    back.changed()
    await clock.advance(calmMs - 5000)
    state.raft.role = 'follower'
    back.changed()
    expect(clock.timerCount).toBe(0)
    state.raft.role = 'leader'
    back.changed()
    await clock.advance(calmMs - 1)
    expect(orders).toEqual([])
  })

  test.each([
    ['before its term began', { termStarted: false }],
    ['before a quorum confirmed it after a pause', { unconfirmed: true }],
    ['while it hands over anyhow', { transferringTo: 'n2' }],
  ])('does nothing %s', async (_, phase) => {
    const { back, clock, orders, state } = leaderN0([['n1', 1]])
    Object.assign(state.raft, phase)
    back.changed()
    await clock.advance(2 * calmMs)
    expect(orders).toEqual([])
  })
})

test('a leader that nobody should rather replace looks at nothing', () => {
  for (const priorities of [[], [['n0', 5]], [['n0', 5] as const, ['n1', 5] as const]] as const) {
    const { back, clock } = leaderN0(priorities)
    back.changed()
    expect(clock.timerCount).toBe(0)
  }
})

describe('in a group', () => {
  let cluster: MemoryCluster

  afterEach(() => cluster.end())

  test('leadership goes to the voter that got the higher priority, and back to it after it was away', async () => {
    cluster = new MemoryCluster({ broker: { limits: { leadershipReturnMs: 200 } } })
    await cluster.start()
    const first = await cluster.leader()
    await createTopic(cluster.replica(first), 't')
    const [wanted] = cluster.nodes.filter((node) => node !== first) as [string]
    await change(cluster, 'priority', wanted, { priority: 5 })
    await eventually('it leads', () => cluster.replica(wanted).leading)
    cluster.kill(wanted)
    await eventually('another one leads', () => {
      return cluster.nodes.some((node) => node !== wanted && cluster.replica(node).leading)
    })
    await cluster.start(wanted)
    await eventually('it leads again', () => cluster.replica(wanted).leading)
    const [other] = cluster.nodes.filter((node) => node !== wanted) as [string]
    await callLeader(cluster, adminMethods.transferLeadership, { to: other })
    await eventually('it leads once more', () => cluster.replica(wanted).leading)
  })
})
