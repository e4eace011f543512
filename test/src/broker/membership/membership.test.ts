/** Who is who: node and disk together, what the core is told, and which membership counts as the log moves. */
import { expect, test } from 'vitest'
import { MembershipHistory } from '../../../../src/broker/membership/history.ts'
import { memberRole, membersOf, toConfiguration } from '../../../../src/broker/membership/membership.ts'
import { group, learner, member } from './support.ts'

test('a node that came back with another disk is nobody in the configuration of its old self', () => {
  const membership = group('n0 n1 n2')
  expect(toConfiguration(membership, { node: 'n2', disk: 'disk-n2' }).voters).toEqual(['n0', 'n1', 'n2'])
  expect(toConfiguration(membership, { node: 'n2', disk: 'new' }).voters).toEqual(['n0', 'n1', 'n2@disk-n2'])
})

test('inside a joint configuration members are joining, leaving or neither', () => {
  const joint = group('n0 n3', { outgoing: [member('n0'), member('n1')], learners: [learner('n4')] })
  const roles = membersOf(joint).map(({ node }) => `${node} ${memberRole(joint, node)}`)
  expect(roles).toEqual(['n0 voter', 'n1 leaving_voter', 'n3 joining_voter', 'n4 learner'])
  expect(memberRole(joint, 'n9')).toBeNull()
})

test('a membership counts as soon as it is in the log, and the one before is back when it is cut', () => {
  const history = new MembershipHistory([{ index: 0, membership: group('n0 n1 n2') }], 0)
  let changes = 0
  history.onChanged(() => changes++)
  history.appended(5, group('n0 n1'))
  expect(history.newest.index).toBe(5)
  expect(history.isCommitted).toBe(false)
  history.truncatedFrom(6)
  expect(history.newest.index).toBe(5)
  history.truncatedFrom(4)
  expect(history.newest.index).toBe(0)
  history.appended(4, group('n0 n2'))
  history.commitTo(3)
  expect(history.isCommitted).toBe(false)
  history.commitTo(4)
  expect(history.committed.index).toBe(4)
  expect(changes).toBe(4)
})

test('R6: a cut of the committed membership is a broken promise', () => {
  const placed = [0, 3].map((index) => ({ index, membership: group('n0') }))
  const history = new MembershipHistory(placed, 3)
  expect(() => history.truncatedFrom(2)).toThrow(/R6/)
})

test('a node named by any membership that may turn out to be in force is known', () => {
  const history = new MembershipHistory([{ index: 0, membership: group('n0 n1 n2') }], 0)
  history.appended(5, group('n0 n1'))
  expect(history.names({ node: 'n2', disk: 'disk-n2' })).toBe(true)
  history.commitTo(5)
  expect(history.names({ node: 'n2', disk: 'disk-n2' })).toBe(false)
  expect(history.names({ node: 'n1', disk: 'other' })).toBe(false)
})
