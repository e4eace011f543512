/** The bytes of a membership: one encoding, refused when not understood. */
import { expect, test } from 'vitest'
import { ProtobufError } from '../../../../src/broker/apply/protobuf.ts'
import {
  decodeMembership,
  decodePlacedMembership,
  encodeMembership,
  encodePlacedMembership,
} from '../../../../src/broker/membership/codec.ts'
import type { Membership } from '../../../../src/broker/membership/membership.ts'
import { group, learner, member } from './support.ts'

const full: Membership = group('n0 n1 n4', {
  outgoing: [member('n0'), member('n1'), member('n2')],
  learners: [learner('n3'), learner('n5', false)],
  returning: [{ ...member('n2', 'new'), promote: true }],
  priorities: [
    ['n0', 3],
    ['n1', 2],
  ],
})

test('a membership comes back as it was, with and without everything', () => {
  for (const membership of [full, group('n0')]) {
    expect(decodeMembership(encodeMembership(membership))).toEqual(membership)
    expect(decodePlacedMembership(encodePlacedMembership({ index: 7, membership }))).toEqual({ index: 7, membership })
  }
})

test('the same membership is the same bytes, in whatever order it is held', () => {
  const shuffled: Membership = {
    voters: [...full.voters].reverse(),
    outgoing: [...full.outgoing].reverse(),
    learners: [...full.learners].reverse(),
    returning: full.returning,
    priorities: [...full.priorities].reverse(),
  }
  expect(encodeMembership(shuffled).equals(encodeMembership(full))).toBe(true)
})

test('the bytes are for ever', () => {
  const hex = encodeMembership(group('n0', { learners: [learner('n1')], priorities: [['n0', 3]] })).toString('hex')
  const version = '0801'
  const voter = '12130a026e3012076469736b2d6e301a046e303a32'
  const learning = '22150a026e3112076469736b2d6e311a046e313a322001'
  const priority = '32060a026e301003'
  expect(hex).toBe(version + voter + learning + priority)
})

test.each([
  ['nothing', Buffer.alloc(0)],
  ['a newer version', Buffer.from([8, 2])],
  ['no voters', Buffer.from([8, 1])],
  ['an unknown field', Buffer.concat([encodeMembership(group('n0')), Buffer.from([0x40, 1])])],
  ['a cut', encodeMembership(full).subarray(0, -1)],
  ['a node twice', encodeMembership(group('n0 n0'))],
  ['a voter that is a learner', encodeMembership(group('n0', { learners: [learner('n0')] }))],
  ['a member without a disk', encodeMembership({ ...group('n0'), voters: [member('n0', '')] })],
])('%s is refused', (_what, bytes) => {
  expect(() => decodeMembership(bytes)).toThrow(ProtobufError)
})

test('a membership made by force says so, and only then', () => {
  expect(decodeMembership(encodeMembership({ ...group('n0'), isForced: true }))).toEqual({
    ...group('n0'),
    isForced: true,
  })
  expect(decodeMembership(encodeMembership(group('n0')))).not.toHaveProperty('isForced')
})
