/** What a leader proposes on its own account: settings of its operator. */
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { MemoryCluster } from '../../support/memory-cluster.ts'

let cluster: MemoryCluster | null = null

afterEach(() => {
  cluster?.end()
  cluster = null
})

test('automatic creation of topics that the operator turned off is off on every replica, also after a failover', async () => {
  const group = new MemoryCluster({ broker: { housekeeping: { autoCreateTopics: false } } })
  cluster = group
  await group.start()
  const first = await group.leader()
  await eventually('every replica has applied the setting', () =>
    group.nodes.every((node) => !group.replica(node).machine.autoCreateTopics),
  )
  const applied = group.replica(first).appliedIndex
  group.kill(first)
  const rest = group.nodes.filter((node) => node !== first)
  const second = await group.leader(rest)
  await eventually('the new leader serves', () => group.replica(second).leading)
  expect(group.replica(second).machine.autoCreateTopics).toBe(false)
  // Nothing differs from the configuration, so nothing but the no-op of the new term was proposed.
  expect(group.replica(second).appliedIndex).toBe(applied + 1)
})
