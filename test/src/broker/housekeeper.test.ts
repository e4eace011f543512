/** What a leader proposes on its own account: settings of its operator. */
import { afterEach, expect, test } from 'vitest'
import { frameTypes } from '../../../store/index.ts'
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
  // Nothing differs from the configuration, so nothing but no-ops of new terms was proposed.
  const { log } = group.replica(second)
  const since = await log.read(applied + 1, log.lastIndex, 1_000_000)
  expect(new Set(since.map(({ header }) => header.type))).toEqual(new Set([frameTypes.noop]))
})
