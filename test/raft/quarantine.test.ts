/** Nodes that lost what they acknowledged, or found rot: they follow, but have no say in elections (`quarantine.ts`). */
import { describe, expect, test } from 'vitest'
import { enterJoint, type Heartbeat, leaveJoint, type PeerMessage } from '../../raft/index.ts'
import {
  acknowledge,
  type BootOptions,
  Cluster,
  changeEntry,
  configurationOf,
  electByHand,
  entriesOf,
  ManualNode,
} from './support.ts'

const fromN1 = (term: number) => ({ from: 'n1', to: 'n0', term })
const heartbeat = (fields: Partial<Heartbeat> = {}): Heartbeat => ({
  kind: 'heartbeat',
  ...fromN1(3),
  commit: 0,
  round: 0,
  lastIndex: 0,
  session: 0,
  ...fields,
})
const append = (prevIndex: number, terms: readonly number[], commit = 0): PeerMessage => ({
  kind: 'append',
  ...fromN1(3),
  prevIndex,
  prevTerm: prevIndex === 0 ? 0 : 3,
  entries: entriesOf(prevIndex + 1, terms),
  commit,
})

/** n0 acknowledged entries up to 5 in term 3 and committed 4 of them; its disk gave back 2. */
function cutNode(fields: Pick<BootOptions, 'commit' | 'applied' | 'configurations'> = {}): ManualNode {
  const quarantine = { untilLeaderReached: true }
  const node = new ManualNode({ terms: [3, 3], term: 3, commit: 4, applied: 4, quarantine, ...fields })
  node.step({ kind: 'healed' })
  return node
}

/** The session of the node, as its answers tell it. */
function sessionOf(node: ManualNode): number {
  node.receive(heartbeat())
  return node.take('heartbeat_response').at(-1)?.session ?? 0
}

const isQuarantined = (node: ManualNode) => node.status.quarantine !== null

describe('a quarantined node', () => {
  test('R3: refuses votes and pre-votes, also for a handover and for a better log', () => {
    const node = cutNode()
    const request = { from: 'n2', to: 'n0', term: 9, lastIndex: 99, lastTerm: 8 }
    node.receive({ kind: 'pre_vote_request', ...request })
    node.receive({ kind: 'vote_request', ...request, transfer: true })
    node.persist()
    expect(node.take().map((message) => 'refusal' in message && message.refusal)).toEqual([
      'quarantined',
      'quarantined',
    ])
    expect(node.status).toMatchObject({ term: 3, vote: null })
  })

  test('R3: never stands, not by itself, not when ordered, not when leadership is handed to it', () => {
    const node = cutNode()
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    node.step({ kind: 'campaign' })
    node.receive(heartbeat())
    node.receive({ kind: 'timeout_now', ...fromN1(3) })
    node.step({ kind: 'peer_lost', peer: 'n1' })
    node.receive({ kind: 'stepped_down', ...fromN1(3) })
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    expect(node.status.role).toBe('follower')
  })

  test('does not stand as the only voter either', () => {
    const node = new ManualNode({ voters: ['n0'], terms: [1], quarantine: { untilLeaderReached: false } })
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    node.step({ kind: 'healed' })
    node.wait(1000)
    node.persist()
    expect(node.status.role).toBe('leader')
  })

  test('R5: takes appends and acknowledges them when they are on its disk', () => {
    const node = cutNode()
    node.receive(append(2, [3, 3, 3]))
    expect(node.take('append_response')).toEqual([])
    node.persist()
    expect(node.take('append_response')).toMatchObject([{ matchIndex: 5, rejected: null }])
    expect(isQuarantined(node)).toBe(true)
  })
})

describe('a log that lost committed entries and their terms', () => {
  /** Entries 2 and 3 are of term 2; nobody here knows it. */
  const holedNode = () =>
    new ManualNode({
      terms: [1, 1, 1, 3],
      term: 3,
      commit: 3,
      termsGuessedTo: 3,
      quarantine: { untilLeaderReached: false },
    })

  test('R6: takes no append for a contradiction that only its guesses contradict', () => {
    const node = holedNode()
    node.receive({
      kind: 'append',
      ...fromN1(3),
      prevIndex: 2,
      prevTerm: 2,
      entries: entriesOf(3, [2, 3, 3]),
      commit: 3,
    })
    node.persist()
    expect(node.take('append_response')).toMatchObject([{ matchIndex: 5, rejected: null }])
    expect(node.status).toMatchObject({ commit: 3, lastIndex: 5 })
  })

  test('R2: is trimmed by those who know the terms', () => {
    const node = holedNode()
    node.step({ kind: 'compacted', first: 4, previousTerm: 2 })
    expect(node.status).toMatchObject({ lastIndex: 4 })
  })

  test('R6: behind the guesses an append that contradicts committed entries stops the node', () => {
    const node = new ManualNode({ terms: [1, 1, 3], term: 3, commit: 3, termsGuessedTo: 2 })
    expect(() =>
      node.receive({ kind: 'append', ...fromN1(3), prevIndex: 3, prevTerm: 2, entries: [], commit: 3 }),
    ).toThrow(/^R6/)
  })
})

describe('a log that was cut below what was committed', () => {
  test('S4: starts with its state machine ahead, and hands out only what comes after', () => {
    const node = cutNode()
    expect(node.status).toMatchObject({ commit: 2, applied: 4, lastIndex: 2 })
    node.receive(append(2, [3, 3, 3], 5))
    node.persist()
    expect(node.readies.flatMap(({ committed }) => (committed === undefined ? [] : [committed]))).toEqual([
      { from: 5, to: 5 },
    ])
  })

  test('never stores a lower commit than it had', () => {
    const node = cutNode()
    node.receive(append(2, [3], 3))
    node.persist()
    for (const { hardState } of node.readies) expect(hardState?.commit ?? 4).toBeGreaterThanOrEqual(4)
  })

  test('R4: takes the commit of a leader that counts on the lost entries only as far as its log goes', () => {
    const node = cutNode()
    node.receive(heartbeat({ commit: 5, lastIndex: 5 }))
    expect(node.status.commit).toBe(2)
  })

  test('tells such a leader how far it really goes', () => {
    const node = cutNode()
    node.receive(heartbeat({ commit: 5, lastIndex: 5 }))
    expect(node.take('append_response')).toMatchObject([
      { rejected: { rejectedIndex: 5, hintIndex: 2, hintTerm: 3, hasLost: true } },
    ])
    node.receive(append(5, [3]))
    expect(node.take('append_response')).toMatchObject([
      { rejected: { rejectedIndex: 5, hintIndex: 2, hasLost: true } },
    ])
  })

  test('R1: the steps to a configuration that it had applied come again', () => {
    const joint = enterJoint(configurationOf(), { voters: ['n0', 'n1', 'n3'], learners: [] })
    const left = leaveJoint(joint)
    const node = cutNode({ configurations: [{ index: 2, configuration: left }] })
    const steps = [changeEntry(3, 3, joint), changeEntry(4, 3, left)]
    node.receive({ ...append(2, []), entries: steps, commit: 4 } as PeerMessage)
    node.persist()
    expect(node.take('append_response')).toMatchObject([{ matchIndex: 4, rejected: null }])
    expect(node.status).toMatchObject({ configurationIndex: 4, commit: 4 })
    // What comes behind them follows the rules again.
    expect(() =>
      node.receive({ ...append(4, []), entries: [changeEntry(5, 3, configurationOf())] } as PeerMessage),
    ).toThrow(/^R1/)
  })

  test('R1: what comes behind configurations that are missing need not follow from those that are there', () => {
    const hidden = configurationOf({ voters: ['n0', 'n1', 'n3'] })
    const next = enterJoint(hidden, { voters: ['n0', 'n3'], learners: [] })
    const step = { ...append(3, []), entries: [changeEntry(4, 3, next)] } as PeerMessage
    const boot = { terms: [1, 1, 3], term: 3, commit: 3, quarantine: { untilLeaderReached: false } }
    const node = new ManualNode({ ...boot, mayLackConfigurations: true })
    node.receive(step)
    node.persist()
    expect(node.take('append_response')).toMatchObject([{ matchIndex: 4, rejected: null }])
    expect(node.status).toMatchObject({ configurationIndex: 4 })
    expect(() => new ManualNode(boot).receive(step)).toThrow(/^R1/)
  })

  test('without a quarantine a commit beyond the log stops the node', () => {
    expect(() => new ManualNode({ terms: [3, 3], commit: 4 })).toThrow(/R4/)
    expect(() => new ManualNode({ terms: [3, 3], commit: 4, quarantine: { untilLeaderReached: false } })).toThrow(/R4/)
  })
})

describe('the quarantine of a cut log ends', () => {
  test('R3: when its own disk holds all that a leader had after the start', () => {
    const node = cutNode()
    const session = sessionOf(node)
    node.receive(heartbeat({ lastIndex: 5, session }))
    expect(node.status.quarantine).toEqual({ hasHoles: false, awaitsLeader: true, target: 5 })
    node.receive(append(2, [3, 3, 3]))
    node.receive(heartbeat({ lastIndex: 5, session }))
    expect(isQuarantined(node)).toBe(true)
    node.persist()
    expect(isQuarantined(node)).toBe(false)
    expect(node.eventsOf('quarantine_ended')).toHaveLength(1)
    expect(node.core.deadline()).toBeLessThan(Number.POSITIVE_INFINITY)
  })

  test('R3: not by a heartbeat that was sent to an earlier run, whose leader had sent less then', () => {
    const node = cutNode()
    const session = sessionOf(node)
    node.receive(heartbeat({ lastIndex: 2, session: 0 }))
    node.receive(heartbeat({ lastIndex: 2, session: session + 1 }))
    node.persist()
    expect(node.status.quarantine).toMatchObject({ target: null })
    node.receive(heartbeat({ lastIndex: 2, session }))
    expect(isQuarantined(node)).toBe(false)
  })

  test('R3: not by a heartbeat of a leader of an older term than the stored one', () => {
    const node = cutNode()
    const session = sessionOf(node)
    node.receive(heartbeat({ ...fromN1(2), lastIndex: 1, session }))
    expect(node.status.quarantine).toMatchObject({ target: null })
  })

  test('at the lowest end that any such leader told: entries that never committed may be gone', () => {
    const node = cutNode()
    const session = sessionOf(node)
    node.receive(heartbeat({ lastIndex: 50, session }))
    node.receive(heartbeat({ from: 'n2', to: 'n0', term: 4, lastIndex: 3, session }))
    node.receive({ ...append(2, [3]), from: 'n2', term: 4 } as PeerMessage)
    node.persist()
    expect(isQuarantined(node)).toBe(false)
  })

  test('not before the driver says that no holes are left', () => {
    const node = new ManualNode({ terms: [3, 3], quarantine: { untilLeaderReached: true } })
    node.receive(heartbeat({ lastIndex: 2, session: sessionOf(node) }))
    expect(node.status.quarantine).toEqual({ hasHoles: true, awaitsLeader: false, target: 2 })
    node.step({ kind: 'healed' })
    expect(isQuarantined(node)).toBe(false)
  })

  test('R3: not while there is a hole that was found when the others were filled already', () => {
    const node = cutNode()
    const session = sessionOf(node)
    node.step({ kind: 'quarantine' })
    node.receive(heartbeat({ lastIndex: 2, session }))
    expect(node.status.quarantine).toEqual({ hasHoles: true, awaitsLeader: false, target: 2 })
    node.step({ kind: 'healed' })
    expect(isQuarantined(node)).toBe(false)
  })

  test('two runs of a node tell different sessions', () => {
    const sessions = [0.1, 0.2].map((random) => {
      const node = new ManualNode({ random: () => random })
      node.receive(heartbeat())
      node.persist()
      return node.take('heartbeat_response').at(-1)?.session
    })
    expect(new Set(sessions).size).toBe(2)
  })
})

describe('the leader of a follower that lost acknowledged entries', () => {
  const lost = (hintIndex: number): PeerMessage => ({
    kind: 'append_response',
    from: 'n1',
    to: 'n0',
    term: 1,
    matchIndex: 0,
    rejected: { rejectedIndex: 4, hintIndex, hintTerm: 1, hasLost: true },
  })
  const matchOf = (node: ManualNode) => node.status.peers.find(({ id }) => id === 'n1')?.match

  function leader(): ManualNode {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.propose(1, 1, 1)
    node.persist()
    for (const from of ['n1', 'n2']) acknowledge(node, from)
    node.take()
    return node
  }

  test('forgets what it acknowledged and sends it again', () => {
    const node = leader()
    expect(matchOf(node)).toBe(4)
    node.receive(lost(2))
    expect(matchOf(node)).toBe(2)
    expect(node.take('append')).toMatchObject([{ to: 'n1', prevIndex: 2 }])
    acknowledge(node, 'n1')
    expect(matchOf(node)).toBe(4)
  })

  test('R4: keeps its commit', () => {
    const node = leader()
    node.receive(lost(0))
    expect(node.status.commit).toBe(4)
  })

  test('echoes the newest session of each follower', () => {
    const node = leader()
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round: 0, session: 77, canLead: true })
    node.wait(75)
    expect(node.take('heartbeat').map(({ to, session, lastIndex }) => [to, session, lastIndex])).toEqual([
      ['n1', 77, 4],
      ['n2', 0, 4],
    ])
  })
})

describe('rot found on a running node', () => {
  test('takes its vote and its candidacy, until it is healed', () => {
    const node = new ManualNode()
    node.step({ kind: 'campaign' })
    node.step({ kind: 'quarantine' })
    expect(node.status).toMatchObject({ role: 'follower', quarantine: { hasHoles: true, awaitsLeader: false } })
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ to: 'follower', reason: 'sick' })
    expect(node.core.deadline()).toBe(Number.POSITIVE_INFINITY)
    node.step({ kind: 'healed' })
    expect(node.core.deadline()).toBeLessThan(Number.POSITIVE_INFINITY)
    expect(node.events.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(['quarantine_started', 'quarantine_ended']),
    )
  })

  test('makes a leader hand over to the follower that holds most', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.propose(1)
    node.persist()
    acknowledge(node, 'n2')
    node.take()
    node.step({ kind: 'quarantine' })
    expect(node.take('timeout_now').map(({ to }) => to)).toEqual(['n2'])
    expect(node.propose(1)).toMatchObject({ refusal: { kind: 'transferring', to: 'n2' } })
  })

  test('makes a leader hand over to one that can lead, though it holds less than one that cannot', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.propose(1)
    node.persist()
    acknowledge(node, 'n2')
    const word = { kind: 'heartbeat_response', to: 'n0', term: 1, round: 0, session: 1 } as const
    node.receive({ ...word, from: 'n1', canLead: true })
    node.receive({ ...word, from: 'n2', canLead: false })
    node.step({ kind: 'quarantine' })
    expect(node.status.transferringTo).toBe('n1')
    node.receive({ ...word, from: 'n1', canLead: false })
    node.wait(75)
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ to: 'follower', reason: 'sick' })
  })

  test('makes a leader step down when nobody takes over', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.step({ kind: 'quarantine' })
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round: 0, session: 1, canLead: true })
    for (let beat = 0; beat < 20 && node.status.role === 'leader'; beat++) {
      node.wait(75)
      node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round: 0, session: 1, canLead: true })
    }
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ from: 'leader', to: 'follower', reason: 'sick' })
    expect(node.take('stepped_down')).toHaveLength(2)
  })

  test('makes a leader without followers that answer step down at once', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.wait(499)
    node.step({ kind: 'quarantine' })
    expect(node.status.role).toBe('leader')
    const alone = new ManualNode({ voters: ['n0'] })
    alone.wait(1)
    alone.persist()
    expect(alone.status.role).toBe('leader')
    alone.step({ kind: 'quarantine' })
    expect(alone.status.role).toBe('follower')
  })

  test('in a group: another leads within a second, and the rotten one follows it', () => {
    const cluster = new Cluster({ seed: 3 })
    const old = cluster.runUntilLed()
    cluster.propose(old, 3)
    cluster.run(50)
    cluster.step(old, { kind: 'quarantine' })
    const isOver = () => cluster.leader() !== null && cluster.leader() !== old
    expect(cluster.runUntil(isOver, 1_000, 'a handover')).toBeLessThan(100)
    cluster.run(500)
    expect(cluster.status(old)).toMatchObject({ role: 'follower', leader: cluster.leader() })
  })
})
