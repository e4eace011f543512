/** A follower that lies behind the beginning of its leader's log is told to fetch a copy (Raft section 7). */
import { describe, expect, test } from 'vitest'
import type { PeerMessage } from '../../raft/index.ts'
import { acknowledge, electByHand, ManualNode } from './support.ts'

const rejection: PeerMessage = {
  kind: 'append_response',
  from: 'n1',
  to: 'n0',
  term: 2,
  matchIndex: 0,
  rejected: { rejectedIndex: 30, hintIndex: 3, hintTerm: 1, hasLost: false },
}

/** Leads term 2 with a log that begins at 21 and ends with the no-op 31. */
function leader(): ManualNode {
  const terms = Array.from({ length: 10 }, () => 1)
  const node = new ManualNode({ firstIndex: 21, previousTerm: 1, terms, commit: 30 })
  electByHand(node, ['n1', 'n2'], false)
  node.persist()
  acknowledge(node, 'n2')
  node.take()
  return node
}

const stateOf = (node: ManualNode) => node.status.peers.find(({ id }) => id === 'n1')?.state
const answer: PeerMessage = {
  kind: 'heartbeat_response',
  from: 'n1',
  to: 'n0',
  term: 2,
  round: 0,
  session: 1,
  canLead: true,
}

describe('the leader', () => {
  test('tells a follower behind its log with every heartbeat where the log begins', () => {
    const node = leader()
    node.receive(rejection)
    expect(stateOf(node)).toBe('snapshot')
    for (let beat = 0; beat < 3; beat++) {
      node.take()
      node.wait(75)
      expect(node.take('catch_up')).toEqual([{ kind: 'catch_up', from: 'n0', to: 'n1', term: 2, firstIndex: 21 }])
    }
  })

  test('tells the others nothing', () => {
    const node = leader()
    node.wait(75)
    expect(node.take('catch_up')).toEqual([])
  })

  test('goes on with appends once the follower has its copy', () => {
    const node = leader()
    node.receive(rejection)
    node.take()
    node.wait(75)
    node.receive(answer)
    expect(node.take('append')).toMatchObject([{ to: 'n1', prevIndex: 20, entries: [] }])
    acknowledge(node, 'n1', 20)
    expect(stateOf(node)).toBe('replicate')
    expect(node.take('append')).toMatchObject([{ prevIndex: 20 }])
    node.wait(75)
    expect(node.take('catch_up')).toEqual([])
  })

  test('names the new beginning when its log is trimmed meanwhile', () => {
    const node = leader()
    node.receive(rejection)
    node.step({ kind: 'applied', index: 30 })
    node.step({ kind: 'compacted', first: 25, previousTerm: 1 })
    node.take()
    node.wait(75)
    expect(node.take('catch_up')).toMatchObject([{ firstIndex: 25 }])
  })
})

describe('the follower', () => {
  const catchUp = (firstIndex: number, term = 1): PeerMessage => ({
    kind: 'catch_up',
    from: 'n1',
    to: 'n0',
    term,
    firstIndex,
  })
  const requests = (node: ManualNode) => node.readies.flatMap(({ catchUp: request }) => (request ? [request] : []))

  test('asks its driver for a copy, each time it is told', () => {
    const node = new ManualNode({ terms: [1, 1, 1], commit: 3 })
    node.receive(catchUp(21))
    node.receive(catchUp(21))
    expect(requests(node)).toEqual([
      { from: 'n1', firstIndex: 21 },
      { from: 'n1', firstIndex: 21 },
    ])
  })

  test('asks also when its log is longer but contradicts that of the leader', () => {
    const node = new ManualNode({ terms: Array.from({ length: 30 }, () => 1), commit: 3 })
    node.receive(catchUp(21))
    expect(requests(node)).toHaveLength(1)
  })

  test('does not ask when what it knows to be committed reaches the beginning', () => {
    const node = new ManualNode({ terms: Array.from({ length: 30 }, () => 1), commit: 20 })
    node.receive(catchUp(21))
    expect(requests(node)).toEqual([])
  })

  test('does not ask on the word of an old leader, and follows a new one', () => {
    const node = new ManualNode({ term: 4 })
    node.receive(catchUp(21, 3))
    expect([requests(node), node.status.leader]).toEqual([[], null])
    node.receive(catchUp(21, 5))
    expect([requests(node).length, node.status.leader, node.status.term]).toEqual([1, 'n1', 5])
  })

  test('refuses a beginning that no log has', () => {
    const node = new ManualNode()
    node.receive(catchUp(0))
    node.receive(catchUp(1.5))
    expect([requests(node), node.status.leader]).toEqual([[], null])
  })
})
