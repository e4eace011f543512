/** Who comes after a leader: what its core and its connections say, put together. */
import { expect, test } from 'vitest'
import { successors } from '../../../../src/broker/replica/reachable-peers.ts'

test('voters that can lead come after a leader, those with most of the log first', () => {
  const member = (node: string) => ({ node, disk: `disk-${node}`, raftAddress: `${node}:1` })
  const voters = ['n0', 'n1', 'n2', 'n3'].map(member)
  const membership = {
    voters,
    outgoing: [],
    learners: [{ ...member('n4'), promote: false }],
    priorities: [],
    returning: [],
  }
  const peers = [
    { node: 'n1', matchIndex: 5, canLead: true },
    { node: 'n2', matchIndex: 9, canLead: false },
    { node: 'n3', matchIndex: 7, canLead: true },
    { node: 'n4', matchIndex: 9, canLead: true },
  ]
  expect(successors(peers, membership)).toEqual(['n3', 'n1'])
})
