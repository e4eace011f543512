/** The stall rule: a process that was paused does not act on the time it slept through. */
import { describe, expect, test } from 'vitest'
import { Cluster, electByHand, ManualNode } from './support.ts'

function leaderOf3(): ManualNode {
  const node = new ManualNode()
  electByHand(node, ['n1', 'n2'])
  return node
}

describe('a stalled leader', () => {
  test('refuses to propose and to read until a round that began afterwards reached a quorum', () => {
    const node = leaderOf3()
    node.wait(75)
    const roundBefore = node.take('heartbeat')[0]?.round as number
    node.now += 75 + 251
    expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'unconfirmed' } })
    expect(node.step({ kind: 'read_index', context: 1 })).toMatchObject({ refusal: { kind: 'unconfirmed' } })
    expect(node.eventsOf('stalled')).toEqual([{ kind: 'stalled', lateMs: 251 }])
    const round = node.take('heartbeat')[0]?.round as number
    expect(round).toBeGreaterThan(roundBefore)
    node.receive({
      kind: 'heartbeat_response',
      from: 'n1',
      to: 'n0',
      term: 1,
      round: roundBefore,
      session: 0,
      canLead: true,
    })
    expect(node.status.unconfirmed).toBe(true)
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round, session: 0, canLead: true })
    expect(node.status.unconfirmed).toBe(false)
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
  })

  test('is not deposed by its own pause, but by silence after it', () => {
    const node = leaderOf3()
    node.now += 5_000
    node.step({ kind: 'tick' })
    expect(node.status.role).toBe('leader')
    node.wait(499)
    expect(node.status.role).toBe('leader')
    node.wait(1)
    expect(node.status.role).toBe('follower')
  })

  test('is noticed once, also while a transfer was under way', () => {
    const node = leaderOf3()
    node.propose(1)
    node.step({ kind: 'transfer', to: 'n1' })
    node.now += 5_000
    for (let i = 0; i < 3; i++) node.step({ kind: 'tick' })
    expect(node.eventsOf('stalled')).toHaveLength(1)
    expect(node.eventsOf('transfer_ended')).toMatchObject([{ outcome: 'timed_out' }])
  })

  test('is noticed once, too, when calls wake it and no tick: the overdue transfer ends with the pause', () => {
    const node = leaderOf3()
    node.propose(1)
    node.step({ kind: 'transfer', to: 'n1' })
    node.now += 5_000
    for (let i = 0; i < 3; i++) {
      expect(node.propose(1)).toEqual({ kind: 'refused', refusal: { kind: 'unconfirmed' } })
    }
    expect(node.eventsOf('stalled')).toHaveLength(1)
    expect(node.eventsOf('transfer_ended')).toMatchObject([{ outcome: 'timed_out' }])
  })

  test('a small delay is no stall', () => {
    const node = leaderOf3()
    node.now = node.core.deadline() + 250
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
    expect(node.eventsOf('stalled')).toEqual([])
  })

  test('with an only voter in the group it is confirmed at once', () => {
    const node = new ManualNode({ voters: ['n0'], learners: ['n1'] })
    node.wait(0)
    node.persist()
    node.persist()
    node.now += 10_000
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
    expect(node.propose(1)).toMatchObject({ kind: 'accepted' })
    expect(node.eventsOf('stalled')).toHaveLength(1)
  })

  test('P1: that was replaced meanwhile accepts no proposal when it wakes up', () => {
    const cluster = new Cluster()
    const old = cluster.runUntilLed()
    cluster.pause(old)
    cluster.runUntil(() => cluster.ids.some((id) => id !== old && cluster.status(id).role === 'leader'), 3_000)
    const node = cluster.node(old)
    node.isPaused = false
    expect(cluster.propose(old)).toEqual({ kind: 'refused', refusal: { kind: 'unconfirmed' } })
    cluster.run(500)
    expect(cluster.status(old).role).toBe('follower')
  })
})

describe('a stalled follower', () => {
  test('does not stand at once: messages of its leader may wait in the sockets', () => {
    const node = new ManualNode()
    node.receive({ kind: 'heartbeat', from: 'n1', to: 'n0', term: 1, commit: 0, round: 0, lastIndex: 0, session: 0 })
    node.now += 10_000
    node.step({ kind: 'tick' })
    expect(node.status).toMatchObject({ role: 'follower', leader: 'n1' })
    expect(node.core.deadline()).toBe(node.now + 750)
    node.wait(750)
    expect(node.status.role).toBe('pre_candidate')
  })

  test('notices by any input, before it acts on it', () => {
    const node = new ManualNode()
    node.now += 10_000
    node.step({ kind: 'applied', index: 0 })
    node.step({ kind: 'tick' })
    expect(node.status.role).toBe('follower')
    expect(node.eventsOf('stalled')).toHaveLength(1)
  })

  test('that was paused for long returns without an election', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    const { term } = cluster.status(leader)
    const paused = cluster.ids.find((id) => id !== leader) as string
    cluster.pause(paused)
    cluster.run(10_000)
    cluster.resume(paused)
    cluster.run(2_000)
    expect(cluster.status(leader)).toMatchObject({ role: 'leader', term })
  })
})
