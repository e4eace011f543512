/** Which change of membership may begin, where it leads, and how it goes on by itself. */
import { expect, test } from 'vitest'
import {
  type Change,
  type ChangeFacts,
  type Judgement,
  judgeChange,
  nextStep,
  underWay,
} from '../../../../src/broker/membership/change.ts'
import type { Membership } from '../../../../src/broker/membership/membership.ts'
import { group, learner, member, shown } from './support.ts'

const three = group('n0 n1 n2')

function judge(change: Change, membership: Membership, facts: Partial<ChangeFacts> = {}): Judgement {
  const usual = { isCommitted: true, isReachable: () => true, isCaughtUp: () => true, force: false }
  return judgeChange(change, { membership, ...usual, ...facts })
}

function target(judgement: Judgement): string {
  return judgement.kind === 'propose' ? shown(judgement.target) : code(judgement)
}

function code(judgement: Judgement): string {
  return judgement.kind === 'refused' ? judgement.code : judgement.kind
}

/** The change and all that follows from it by itself. */
function steps(change: Change, membership: Membership): readonly Membership[] {
  const begun = judge(change, membership)
  const taken: Membership[] = []
  let now: Membership | null = begun.kind === 'propose' ? begun.target : null
  while (now) {
    taken.push(now)
    now = nextStep(now, { isCaughtUp: () => true, isReachable: () => true })
  }
  return taken
}

const add: Change = { kind: 'add', member: member('n3'), promote: true }
const removeN2: Change = { kind: 'remove', node: 'n2' }
const promoteN3: Change = { kind: 'promote', node: 'n3' }
const replaceN2: Change = { kind: 'replace', member: member('n2', 'new') }

test('a node is added as a learner, promoted through a joint configuration, and then nothing is left to do', () => {
  expect(steps(add, three).map(shown)).toEqual(['n0 n1 n2 +n3', 'n0 n1 n2 n3 / n0 n1 n2', 'n0 n1 n2 n3'])
})

test('a replaced node leaves completely before its new disk comes in, so that no count mixes the two', () => {
  const taken = steps(replaceN2, group('n0 n1 n2', { priorities: [['n2', 5]] }))
  expect(taken.map(shown)).toEqual(['n0 n1 / n0 n1 n2 ~n2', 'n0 n1 ~n2', 'n0 n1 +n2', 'n0 n1 n2 / n0 n1', 'n0 n1 n2'])
  expect(taken.at(-1)?.voters[2]?.disk).toBe('new')
  expect(taken.at(-1)?.priorities).toEqual([['n2', 5]])
})

test('a learner that was to stay one is one again with its new disk, and keeps its priority', () => {
  const before = group('n0 n1', { learners: [learner('n2', false)], priorities: [['n2', 5]] })
  const taken = steps(replaceN2, before)
  expect(taken.map(shown)).toEqual(['n0 n1 ~n2', 'n0 n1 +n2'])
  expect(taken.at(-1)).toMatchObject({ learners: [{ disk: 'new', promote: false }], priorities: [['n2', 5]] })
})

test('a removed voter leaves through a joint configuration, a removed learner at once, priorities with them', () => {
  const ranked = group('n0 n1 n2', {
    learners: [learner('n3', false)],
    priorities: [
      ['n2', 1],
      ['n3', 1],
    ],
  })
  const taken = steps(removeN2, ranked)
  expect(taken.map(shown)).toEqual(['n0 n1 / n0 n1 n2 +n3', 'n0 n1 +n3'])
  expect(taken.at(-1)?.priorities).toEqual([['n3', 1]])
  expect(steps({ kind: 'remove', node: 'n3' }, ranked)).toMatchObject([{ learners: [], priorities: [['n2', 1]] }])
})

test('a learner waits until it is caught up, also when asked to be promoted', () => {
  const waiting = group('n0 n1 n2', { learners: [learner('n3')] })
  expect(nextStep(waiting, { isCaughtUp: () => false, isReachable: () => true })).toBeNull()
  const kept = group('n0 n1 n2', { learners: [learner('n3', false)] })
  expect(nextStep(kept, { isCaughtUp: () => true, isReachable: () => true })).toBeNull()
  expect(code(judge(promoteN3, kept, { isCaughtUp: () => false }))).toBe('NOT_CAUGHT_UP')
  expect(target(judge(promoteN3, kept))).toBe('n0 n1 n2 n3 / n0 n1 n2')
})

test.each([
  ['a member', { kind: 'add', member: member('n1'), promote: true }, 'ALREADY_A_MEMBER'],
  ['a member with another disk', { kind: 'add', member: member('n1', 'new'), promote: true }, 'ALREADY_A_MEMBER'],
  ['a disk under another name', { kind: 'add', member: member('n9', 'disk-n1'), promote: true }, 'ALREADY_A_MEMBER'],
  ['removal of a stranger', { kind: 'remove', node: 'n9' }, 'NOT_A_MEMBER'],
  ['promotion of a stranger', { kind: 'promote', node: 'n9' }, 'NOT_A_MEMBER'],
  ['replacement of a stranger', { kind: 'replace', member: member('n9') }, 'NOT_A_MEMBER'],
  ['priority of a stranger', { kind: 'priority', node: 'n9', priority: 1 }, 'NOT_A_MEMBER'],
  ['promotion of a voter', { kind: 'promote', node: 'n1' }, 'nothing'],
  ['replacement by the same disk', { kind: 'replace', member: member('n1') }, 'nothing'],
  ['the priority it has', { kind: 'priority', node: 'n1', priority: 0 }, 'nothing'],
] as const)('%s is judged', (_what, change, expected) => {
  expect(code(judge(change, three))).toBe(expected)
})

test('one change at a time: what is under way is named, and only a learner that does not catch up can be taken out', () => {
  const catching = group('n0 n1 n2', { learners: [learner('n3')] })
  const joint = group('n0 n1', { outgoing: three.voters })
  const returning = group('n0 n1', { returning: [{ ...member('n2', 'new'), promote: true }] })
  expect(underWay(catching, true)).toBe('n3 is catching up to become a voter')
  expect(underWay(joint, true)).toBe('n2 leaves')
  expect(underWay(returning, true)).toBe('n2 comes back as a learner')
  expect(underWay(three, false)).toBe('the last change is not committed yet')
  expect(underWay(three, true)).toBeNull()
  for (const busy of [catching, joint, returning]) expect(code(judge(removeN2, busy))).toBe('CHANGE_IN_PROGRESS')
  expect(code(judge(removeN2, three, { isCommitted: false }))).toBe('CHANGE_IN_PROGRESS')
  expect(target(judge({ kind: 'remove', node: 'n3' }, catching))).toBe('n0 n1 n2')
  expect(code(judge({ kind: 'remove', node: 'n3' }, catching, { isCommitted: false }))).toBe('CHANGE_IN_PROGRESS')
})

test('a change that leaves no majority of reachable voters is refused unless forced', () => {
  const isReachable = (node: string): boolean => node !== 'n1'
  expect(code(judge(removeN2, three, { isReachable }))).toBe('WOULD_LOSE_QUORUM')
  expect(target(judge(removeN2, three, { isReachable, force: true }))).toBe('n0 n1 / n0 n1 n2')
  expect(target(judge({ kind: 'remove', node: 'n1' }, three, { isReachable }))).toBe('n0 n2 / n0 n1 n2')
  // Learners move no majority.
  expect(code(judge(add, three, { isReachable: () => false }))).toBe('propose')
})

test('the last voter stays, whatever is forced', () => {
  const alone = group('n0', { learners: [learner('n1', false)] })
  for (const change of [
    { kind: 'remove', node: 'n0' },
    { kind: 'replace', member: member('n0', 'new') },
  ] as const) {
    expect(code(judge(change, alone, { force: true }))).toBe('WOULD_LOSE_QUORUM')
  }
})

test('a learner that cannot be reached any more is not promoted into a group that would then lack a majority', () => {
  const waiting = group('n0', { learners: [learner('n1')] })
  expect(nextStep(waiting, { isCaughtUp: () => true, isReachable: (node) => node === 'n0' })).toBeNull()
})
