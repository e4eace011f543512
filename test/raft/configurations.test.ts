/** Configurations as entries of the log (Raft section 6): which are in force, which may follow, and what leaders make of them. */
import { describe, expect, test } from 'vitest'
import { Configurations } from '../../raft/configurations.ts'
import { type Configuration, enterJoint, isLegalStep, leaveJoint, membersMax } from '../../raft/index.ts'
import { isWellFormed } from '../../raft/membership.ts'
import { acknowledge, configurationOf, electByHand, ManualNode } from './support.ts'

const three = configurationOf()
const joint = enterJoint(three, { voters: ['n1', 'n2', 'n3'], learners: [] })
const left = leaveJoint(joint)

const listOf = (commit: number, id = 'n0') => new Configurations(id, [{ index: 0, configuration: three }], commit)

describe('the configurations of a log', () => {
  test('the newest is in force before it is committed, and the one before comes back with a cut', () => {
    const list = listOf(0)
    list.push(4, joint)
    expect(list).toMatchObject({ newest: joint, index: 4, isCommitted: false, isVoter: true })
    expect(list.otherVoters).toEqual(['n1', 'n2', 'n3'])
    list.cut(5)
    expect(list.newest).toBe(joint)
    list.cut(4)
    expect(list).toMatchObject({ newest: three, index: 0, isCommitted: true })
    expect(list.otherVoters).toEqual(['n1', 'n2'])
  })

  test('who leaves is served until that is committed, and may stand until then', () => {
    const list = listOf(0)
    list.push(4, joint)
    list.commitTo(4)
    list.push(5, left)
    expect(list).toMatchObject({ isVoter: false, mayStand: true, isCommitted: false })
    const other = listOf(0, 'n1')
    other.push(4, joint)
    other.commitTo(4)
    other.push(5, left)
    expect(other.otherMembers).toEqual(['n2', 'n3', 'n0'])
    expect(['n0', 'n3'].map((id) => other.isLeaving(id))).toEqual([true, false])
    list.commitTo(5)
    other.commitTo(5)
    expect([list.mayStand, other.isLeaving('n0')]).toEqual([false, false])
    expect(other.otherMembers).toEqual(['n2', 'n3'])
  })

  test('the revision grows with every change, and only then', () => {
    const list = listOf(0)
    const revisions = [list.revision]
    const act = (change: () => void) => {
      change()
      revisions.push(list.revision)
    }
    act(() => list.commitTo(3))
    act(() => list.push(4, joint))
    act(() => list.cut(9))
    act(() => list.commitTo(4))
    expect(revisions).toEqual([0, 0, 1, 1, 2])
  })

  test('R1 R2 R3: a list that cannot be is refused', () => {
    const make = (...list: [number, Configuration][]) => {
      const logged = list.map(([index, configuration]) => ({ index, configuration }))
      return () => new Configurations('n0', logged, 5)
    }
    expect(make()).toThrow(/^R3/)
    expect(make([6, three])).toThrow(/^R3/)
    expect(make([3, three], [3, joint])).toThrow(/^R2/)
    expect(make([3, configurationOf({ voters: [] })])).toThrow(/^R1/)
  })

  test('R1 R2 R6: no illegal step, no step back, and no cut of what is committed', () => {
    const list = listOf(3)
    expect(() => list.push(4, left)).toThrow(/^R1/)
    list.push(4, joint)
    expect(() => list.push(4, left)).toThrow(/^R2/)
    list.commitTo(4)
    expect(() => list.cut(4)).toThrow(/^R6/)
  })
})

describe('the steps of section 6', () => {
  const learners = configurationOf({ learners: ['n3'] })
  test.each<[string, boolean, Configuration, Configuration]>([
    ['into a joint configuration', true, three, joint],
    ['out of it', true, joint, left],
    ['learners alone', true, three, learners],
    ['the order of names does not count', true, joint, { ...left, voters: ['n3', 'n2', 'n1'] }],
    ['a voter on its way to become a learner', true, three, enterJoint(three, { voters: ['n1'], learners: ['n0'] })],
    ['voters without a joint configuration', false, three, configurationOf({ voters: ['n0', 'n1'] })],
    ['one voter more, without one', false, three, configurationOf({ voters: ['n0', 'n1', 'n2', 'n3'] })],
    ['joint to joint', false, joint, enterJoint(left, { voters: ['n1'], learners: [] })],
    ['a joint configuration of another group', false, three, { ...joint, outgoing: ['n0', 'n1'] }],
    ['out of it to other voters', false, joint, three],
    ['out of it to fewer voters', false, joint, { ...left, voters: ['n1', 'n2'] }],
    ['a voter that is a learner', false, three, configurationOf({ learners: ['n0'] })],
    ['nobody votes', false, three, enterJoint(three, { voters: [], learners: ['n0'] })],
    ['a name twice', false, three, enterJoint(three, { voters: ['n1', 'n1'], learners: [] })],
  ])('%s: %s', (_, isLegal, current, next) => {
    expect(isLegalStep(current, next)).toBe(isLegal)
  })

  test('priorities stay, and the number of members has a limit', () => {
    const prior = { ...three, priorities: [['n1', 5]] as const }
    expect(leaveJoint(enterJoint(prior, { voters: ['n1'], learners: [] })).priorities).toEqual([['n1', 5]])
    const names = Array.from({ length: membersMax + 1 }, (_, i) => `n${i}`)
    expect(isWellFormed(configurationOf({ voters: names }))).toBe(false)
    expect(isWellFormed(configurationOf({ voters: names.slice(1) }))).toBe(true)
  })
})

describe('a leader in a joint configuration', () => {
  /** Leads {n0 n1 n2} on the way to {n0 n3 n4}. */
  function jointLeader(): ManualNode {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.change(enterJoint(three, { voters: ['n0', 'n3', 'n4'], learners: [] }))
    node.persist()
    node.take()
    return node
  }

  const answer = (node: ManualNode, from: string, round: number) =>
    node.receive({ kind: 'heartbeat_response', from, to: 'n0', term: 1, round, session: 1, canLead: true })

  test.each([
    ['the new majority', ['n3', 'n4'], 'n1'],
    ['the old majority', ['n1', 'n2'], 'n3'],
  ])('R5: %s alone commits nothing and proves no read', (_, side, other) => {
    const node = jointLeader()
    const { commit, lastIndex } = node.status
    node.step({ kind: 'read_index', context: 7 })
    const round = node.take('heartbeat')[0]?.round ?? 0
    for (const from of side) {
      acknowledge(node, from)
      answer(node, from, round)
    }
    expect(node.status.commit).toBe(commit)
    expect(node.reads).toEqual([])
    answer(node, other, round)
    expect(node.reads).toEqual([{ context: 7, index: commit }])
    acknowledge(node, other)
    expect(node.status.commit).toBe(lastIndex)
  })

  test.each([
    ['the new', ['n3', 'n4']],
    ['the old', ['n1', 'n2']],
  ])('gives up when it hears %s majority alone', (_, side) => {
    const node = jointLeader()
    for (let i = 0; i < 12 && node.status.role === 'leader'; i++) {
      node.wait(50)
      for (const from of side) if (node.status.role === 'leader') answer(node, from, 0)
    }
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ to: 'follower', reason: 'quorum_lost' })
    expect(node.now).toBeGreaterThanOrEqual(500)
  })

  test('waits a whole window for voters that were just named', () => {
    const node = new ManualNode({ voters: ['n0'] })
    node.wait(0)
    node.persist()
    node.persist()
    node.wait(60_000)
    const alone = configurationOf({ voters: ['n0'] })
    expect(node.change(enterJoint(alone, three)).kind).toBe('accepted')
    expect(new Set(node.take('heartbeat').map(({ to }) => to))).toEqual(new Set(['n1', 'n2']))
    node.wait(499)
    expect(node.status).toMatchObject({ role: 'leader', unconfirmed: false })
    expect(node.eventsOf('stalled')).toEqual([])
    node.wait(1)
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ to: 'follower', reason: 'quorum_lost' })
  })
})

describe('a quarantined leader', () => {
  test('hands over to a voter that stays, though another holds more, and was not removed when a change commits', () => {
    const node = new ManualNode()
    electByHand(node, ['n1', 'n2'])
    node.change(enterJoint(three, { voters: ['n0', 'n2'], learners: [] }))
    node.persist()
    acknowledge(node, 'n1')
    node.step({ kind: 'quarantine' })
    expect(node.status).toMatchObject({ role: 'leader', transferringTo: 'n2', configurationCommitted: false })
    acknowledge(node, 'n2')
    expect(node.status).toMatchObject({ role: 'leader', transferringTo: 'n2', configurationCommitted: true })
    expect(node.take('timeout_now').map(({ to }) => to)).toContain('n2')
  })
})
