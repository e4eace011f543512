import { expect, test } from 'vitest'
import { RoleView } from '../../../../src/broker/replica/role-view.ts'

test('an elected leader leads only when the no-op of its term is applied, and no longer than its role lasts', () => {
  const view = new RoleView()
  const change = { kind: 'role_changed', leader: 'n0', term: 3, reason: 'vote_won' } as const
  view.take({ ...change, from: 'candidate', to: 'leader' })
  expect(view.leading(100)).toBe(false)
  view.take({ kind: 'term_started', term: 3, index: 101 })
  expect(view.leading(100)).toBe(false)
  expect(view.leading(101)).toBe(true)
  view.take({ ...change, from: 'leader', to: 'follower', leader: null, reason: 'quorum_lost' })
  expect(view.leading(101)).toBe(false)
  expect([view.role, view.reason, view.leader]).toEqual(['follower', 'quorum_lost', null])
  view.take({ ...change, from: 'candidate', to: 'leader', term: 5 })
  expect(view.leading(101)).toBe(false)
})
