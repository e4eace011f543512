/** Who should lead: nodes that are not well enough, and those with a lower priority, stand back, but never for good. */
import { describe, expect, test } from 'vitest'
import { defaultRaftConfig } from '../../raft/config.ts'
import { enterJoint, type PeerMessage } from '../../raft/index.ts'
import { acknowledge, Cluster, electByHand, ManualNode } from './support.ts'

const heartbeat = (term = 1): PeerMessage => ({
  kind: 'heartbeat',
  from: 'n1',
  to: 'n0',
  term,
  commit: 0,
  round: 0,
  lastIndex: 0,
  session: 0,
})

function follower(fields: ConstructorParameters<typeof ManualNode>[0] = {}): ManualNode {
  const node = new ManualNode(fields)
  node.receive(heartbeat())
  node.persist()
  node.take()
  return node
}

/** Milliseconds until the node stands, by steps of its own deadline. */
function standsAfter(node: ManualNode): number {
  const start = node.now
  while (node.status.role === 'follower' && node.now - start < 60_000) node.wait(node.core.deadline() - node.now)
  return node.now - start
}

describe('a node that cannot lead', () => {
  test('does not stand, and refuses a handover', () => {
    const node = follower()
    node.step({ kind: 'health', health: 'unable' })
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    node.receive({ kind: 'timeout_now', from: 'n1', to: 'n0', term: 1 })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    node.step({ kind: 'campaign' })
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    expect(node.status).toMatchObject({ role: 'follower', term: 1, health: 'unable' })
  })

  test('votes and gives pre-votes as ever', () => {
    const node = follower()
    node.step({ kind: 'health', health: 'unable' })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    const request = { from: 'n2', to: 'n0', term: 2, lastIndex: 0, lastTerm: 0 }
    node.receive({ kind: 'pre_vote_request', ...request })
    node.receive({ kind: 'vote_request', ...request, transfer: false })
    node.persist()
    expect(node.take().map((message) => 'refusal' in message && message.refusal)).toEqual([null, null])
  })

  test('gives up a candidacy, and stands again when it is well', () => {
    const node = new ManualNode()
    node.step({ kind: 'campaign' })
    node.step({ kind: 'health', health: 'unable' })
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ to: 'follower', reason: 'sick' })
    node.step({ kind: 'health', health: 'well' })
    node.wait(1000)
    expect(node.status.role).toBe('pre_candidate')
  })

  test('leads on if it leads: handing over is for its driver to order', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.step({ kind: 'health', health: 'unable' })
    expect(node.status.role).toBe('leader')
    node.wait(75)
    expect(node.take('heartbeat')).toHaveLength(2)
  })

  test('in a group: another leads, and a handover to it comes to nothing at its first word', () => {
    const cluster = new Cluster({ seed: 11 })
    const leader = cluster.runUntilLed()
    const [sick] = cluster.ids.filter((id) => id !== leader) as [string]
    cluster.step(sick, { kind: 'health', health: 'reluctant' })
    cluster.step(leader, { kind: 'transfer', to: sick })
    cluster.run(200)
    expect(cluster.leader()).toBe(leader)
    expect(cluster.events.map(({ event }) => event)).toContainEqual({
      kind: 'transfer_ended',
      to: sick,
      outcome: 'refused',
    })
    cluster.run(1_300)
    cluster.kill(leader)
    cluster.run(2_000)
    expect([sick, leader]).not.toContain(cluster.leader())
    expect(cluster.leader()).not.toBeNull()
  })
})

describe('a node that would lead badly', () => {
  test('stands within two timeouts of silence, and later than anybody who is well', () => {
    for (const random of [0, 0.5, 0.999]) {
      const node = follower({ random: () => random })
      node.step({ kind: 'health', health: 'reluctant' })
      const { electionTimeoutMaxMs } = defaultRaftConfig
      const waitedMs = standsAfter(node)
      expect(waitedMs).toBeGreaterThanOrEqual(electionTimeoutMaxMs)
      expect(waitedMs).toBeLessThanOrEqual(2 * electionTimeoutMaxMs)
      expect(node.status.role).toBe('pre_candidate')
    }
  })

  test('lets a round pass each time that a leader was lost', () => {
    const node = follower({ random: () => 0 })
    node.step({ kind: 'health', health: 'reluctant' })
    expect(standsAfter(node)).toBe(1000)
    node.receive(heartbeat(2))
    expect(standsAfter(node)).toBe(1000)
  })

  test('does not wait for anybody where nobody else could stand', () => {
    const node = follower({ random: () => 0 })
    node.step({ kind: 'health', health: 'reluctant' })
    node.step({ kind: 'peer_lost', peer: 'n2' })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    expect(standsAfter(node)).toBe(0)
  })

  test('refuses a handover, and stands at the first chance when it is well again', () => {
    const node = follower({ random: () => 0 })
    node.step({ kind: 'health', health: 'reluctant' })
    node.receive({ kind: 'timeout_now', from: 'n1', to: 'n0', term: 1 })
    expect(node.status.role).toBe('follower')
    node.step({ kind: 'health', health: 'well' })
    expect(standsAfter(node)).toBe(500)
  })
})

describe('a handover', () => {
  test('to a learner or a stranger is refused', () => {
    const node = new ManualNode({ learners: ['l0'] })
    electByHand(node, ['n1', 'n2'])
    for (const to of ['l0', 'nx']) {
      expect(node.step({ kind: 'transfer', to })).toMatchObject({ refusal: { kind: 'unknown_peer', peer: to } })
    }
  })

  test('to a voter on its way out is refused', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.change(enterJoint(node.status.configuration, { voters: ['n0', 'n2'], learners: [] }))
    expect(node.step({ kind: 'transfer', to: 'n1' })).toMatchObject({ refusal: { kind: 'unknown_peer', peer: 'n1' } })
    expect(node.step({ kind: 'transfer', to: 'n2' })).toEqual({ kind: 'done' })
  })

  test('waits for a node that is not up to date', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.propose(1)
    node.persist()
    node.step({ kind: 'transfer', to: 'n2' })
    expect(node.take('timeout_now')).toEqual([])
    acknowledge(node, 'n2')
    expect(node.take('timeout_now')).toMatchObject([{ to: 'n2' }])
  })
})

describe('a voter with a lower priority', () => {
  test.each([
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 3],
    [4, 4],
    [1_000_000, 4],
  ])('behind by %i stands at the %i. silent timeout', (gap, timeouts) => {
    const node = follower({ priorities: [['n2', gap]] })
    expect(standsAfter(node)).toBe(timeouts * 750)
  })

  test('waits only shortly where everybody knows that the leader is gone', () => {
    const node = follower({ priorities: [['n2', 3]] })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    expect(standsAfter(node)).toBe(15 + 100 + 100)
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ reason: 'connection_lost' })
  })

  test('waits for nobody who is out of reach, nor for the leader that was lost', () => {
    const priorities: [string, number][] = [
      ['n1', 9],
      ['n2', 9],
    ]
    const node = follower({ priorities })
    node.step({ kind: 'peer_lost', peer: 'n2' })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    expect(standsAfter(node)).toBe(15)
    const again = follower({ priorities })
    again.step({ kind: 'peer_lost', peer: 'n2' })
    again.receive({ ...heartbeat(), kind: 'heartbeat_response', from: 'n2', round: 0, session: 1, canLead: true })
    expect(standsAfter(again)).toBe(4 * 750)
  })

  test('starts anew with its patience after every leader', () => {
    const node = follower({ priorities: [['n2', 1]] })
    expect(standsAfter(node)).toBe(2 * 750)
    node.receive(heartbeat())
    expect(standsAfter(node)).toBe(2 * 750)
    node.receive(heartbeat(2))
    node.persist()
    node.wait(750)
    node.receive(heartbeat(2))
    expect(standsAfter(node)).toBe(2 * 750)
  })

  test('votes for anyone, stands at once when ordered or handed over to', () => {
    const node = follower({ priorities: [['n2', 9]] })
    node.receive({ kind: 'timeout_now', from: 'n1', to: 'n0', term: 1 })
    expect(node.status.role).toBe('candidate')
    const ordered = new ManualNode({ priorities: [['n2', 9]] })
    ordered.step({ kind: 'campaign' })
    expect(ordered.status.role).toBe('pre_candidate')
  })

  test('lets the one with the highest lead, if it can', () => {
    let wins = 0
    for (let seed = 1; seed <= 20; seed++) {
      const cluster = new Cluster({ seed, priorities: [['n2', 4]] })
      if (cluster.runUntilLed() === 'n2') wins++
    }
    expect(wins).toBeGreaterThanOrEqual(18)
  })

  test('leads when the others cannot: a silent one of the highest priority costs some timeouts, not the leader', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const cluster = new Cluster({ seed, priorities: [['n2', 1_000_000]] })
      cluster.cut(['n0', 'n1'], ['n2'])
      const isLed = () => cluster.leader() !== null
      expect(cluster.runUntil(isLed, 5_000, 'a leader')).toBeLessThan(4_500)
    }
  })
})
