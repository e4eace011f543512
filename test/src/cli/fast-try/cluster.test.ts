/** When a local cluster counts as healthy, judged from what its processes and replicas say. */
import { expect, test } from 'vitest'
import { isHealthy, type NodeView } from '../../../../src/cli/fast-try/cluster.ts'

const names = ['n0', 'n1', 'n2', 'n3']

/** n0 leads the members; everyone named has applied everything. */
function clusterOf(members: readonly string[]): NodeView[] {
  return names.map((node, at): NodeView => {
    const leads = node === 'n0'
    const status = {
      ...{
        cluster: 'c',
        group: 'g',
        node,
        incarnation: 'i',
        reason: '',
        term: 1,
        vote: '',
        leader: 'n0',
        address: 'a',
      },
      ...{ firstIndex: 1, lastIndex: 9, durableIndex: 9, commitIndex: 9, appliedIndex: 9, logBytes: 0, stateHash: '' },
      ...{ pid: at, uptimeMs: 0, diskTotalBytes: 0, diskFreeBytes: 0, quarantine: '', holes: [], lost: [] },
      role: leads ? 'leader' : members.includes(node) ? 'follower' : 'removed',
      peers: members
        .filter((member) => member !== node)
        .map((member) => ({ node: member, raftAddress: '', matchIndex: 9, state: '', connected: true })),
    }
    const plan = { name: node, group: 'g', node, clientPort: at, raftPort: at }
    return { plan, process: 'running', pid: at, status }
  })
}

function down(view: readonly NodeView[], name: string): NodeView[] {
  return view.map((node) => (node.plan.name === name ? { ...node, process: 'down', pid: null, status: null } : node))
}

test('a cluster is healthy while every member follows the leader, and not when one is down', () => {
  expect(isHealthy(clusterOf(names))).toBe(true)
  expect(isHealthy(down(clusterOf(names), 'n3'))).toBe(false)
  expect(isHealthy(down(clusterOf(names), 'n0'))).toBe(false)
})

test('a node that was taken out does not count, whether it runs, follows nobody, or is down', () => {
  const rest = clusterOf(['n0', 'n1', 'n2'])
  const alone = rest.map((node) => {
    if (node.plan.name !== 'n3' || !node.status) return node
    return { ...node, status: { ...node.status, leader: '', appliedIndex: 0 } }
  })
  expect(isHealthy(rest)).toBe(true)
  expect(isHealthy(alone)).toBe(true)
  expect(isHealthy(down(rest, 'n3'))).toBe(true)
  expect(isHealthy(down(rest, 'n1'))).toBe(false)
})
