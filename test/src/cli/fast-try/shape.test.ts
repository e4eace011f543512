/** The size of a local cluster as the operator asks for it. */
import { expect, test } from 'vitest'
import type { ClusterPlan, NodePlan } from '../../../../src/cli/fast-try/layout.ts'
import { checkSameShape, shapeOf } from '../../../../src/cli/fast-try/shape.ts'
import { LedgerError } from '../../../../src/common/errors.ts'

function problemWith(act: () => unknown): LedgerError {
  try {
    act()
  } catch (error) {
    if (error instanceof LedgerError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

test('a cluster has one group of three replicas and one namesrv unless something else is asked for', () => {
  expect(shapeOf({})).toEqual({ nodesPerGroup: 3, groups: 1, namesrvs: 1 })
  expect(shapeOf({ nodes: 15, groups: 4, namesrvs: 2 })).toEqual({ nodesPerGroup: 15, groups: 4, namesrvs: 2 })
})

test.each([
  [{ nodes: 100 }, '--nodes is 100, but at most 15'],
  [{ nodes: 15, groups: 5 }, '--groups is 5, but at most 4'],
  [{ groups: 1000 }, '--groups is 1000, but at most 20'],
  [{ namesrvs: 33 }, '--namesrvs is 33, but at most 32'],
])('%o is refused with the limit', (wish, text) => {
  expect(problemWith(() => shapeOf(wish))).toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining(text),
  })
})

test('a cluster that is there is not started in another size, and joined nodes do not count', () => {
  const node = (name: string, more: Partial<NodePlan> = {}): NodePlan => {
    return { name, group: 'RaftNode00', node: name, clientPort: 1, raftPort: 2, ...more }
  }
  const nodes = [node('n0'), node('n1'), node('n2'), node('n3', { joins: true })]
  const plan: ClusterPlan = {
    ...{ version: 1, cluster: 'c', dataDirectory: '/tmp/x', segmentBytes: 1, replacedPorts: [] },
    ...{ nodes, namesrvs: [{ name: 'namesrv', port: 1 }] },
  }
  checkSameShape(plan, {})
  checkSameShape(plan, { nodes: 3, groups: 1, namesrvs: 1 })
  const { message } = problemWith(() => checkSameShape(plan, { nodes: 5 }))
  expect(message).toBe(
    '--nodes is 5, but /tmp/x holds a cluster that was made with 3: leave it out, or choose another --data',
  )
})
