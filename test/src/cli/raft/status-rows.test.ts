/** What `raft status` shows of replicas that do not answer. */
import { expect, test } from 'vitest'
import { inTable, statusRows } from '../../../../src/cli/raft/status-rows.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import type { ReplicaPeer, ReplicaStatusReply } from '../../../../src/rpc/methods.ts'

function peer(node: string, problem?: string): ReplicaPeer {
  const fields = { node, raftAddress: `${node}:30912`, matchIndex: 0, state: '', connected: false }
  return problem === undefined ? fields : { ...fields, problem }
}

function answering(
  node: string,
  role: string,
  peers: readonly ReplicaPeer[],
): Parameters<typeof statusRows>[0][number] {
  const status = { node, role, peers, address: `${node}:30911` } as unknown as ReplicaStatusReply
  return { address: `${node}:30911`, status, error: null }
}

test('without a leader the members that do not answer are rows with their error', () => {
  const views = [
    answering('n0', 'candidate', [peer('n1'), peer('n2')]),
    answering('n1', 'follower', [peer('n0'), peer('n2', 'connection refused')]),
  ]
  const rows = statusRows(views, null)
  expect(rows.map(({ node }) => node)).toEqual(['n0', 'n1', 'n2'])
  expect(rows[2]).toMatchObject({ address: '', status: null })
  expect(rows[2]?.error).toMatchObject({ code: 'UNAVAILABLE', message: 'raft n2:30912: connection refused' })
})

test('who is outside the group does not say who belongs to it', () => {
  expect(statusRows([answering('n4', 'removed', [peer('n0')])], null).map(({ node }) => node)).toEqual(['n4'])
})

test('an address that does not answer has the name that the leader gives it', () => {
  const error = new LedgerError('UNAVAILABLE', 'refused')
  const member = { node: 'n2', address: 'n2:30911', raftAddress: 'n2:30912' }
  const membership = { members: [member] } as unknown as Parameters<typeof statusRows>[1]
  expect(statusRows([{ address: 'n2:30911', status: null, error }], membership)).toEqual([
    { node: 'n2', address: 'n2:30911', status: null, error },
  ])
})

test('a long reason is cut to its first sentence in a table', () => {
  expect(inTable(undefined)).toBeUndefined()
  expect(inTable('WIPED: the group knows node n1; what the old disk promised is lost')).toBe(
    'WIPED: the group knows node n1',
  )
  expect(inTable('x'.repeat(200))).toHaveLength(60)
})
