/** Comparing the logs of stopped replicas changes nothing in their folders. */
import { afterEach, expect, test } from 'vitest'
import { stateFormatVersion } from '../../../src/broker/apply/meta.ts'
import { verifyReplicas } from '../../../src/broker/verify.ts'
import { openStateStore } from '../../../store/index.ts'
import { MemoryCluster } from '../../support/memory-cluster.ts'
import { codeOf, createTopic } from './replica/support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

test('S2: stopped replicas have the same bytes, and keep their state', async () => {
  cluster = new MemoryCluster()
  await cluster.start()
  const leader = cluster.replica(await cluster.leader())
  for (const topic of ['a', 'b', 'c']) await createTopic(leader, topic)
  const last = await cluster.settled()
  expect(await codeOf(verifyReplicas(['data/n0'], cluster.machine('n0')))).toBe('FOLDER_IN_USE')
  for (const node of cluster.nodes) await cluster.stop(node)

  const results = await Promise.all(
    cluster.nodes.map((node) => verifyReplicas([`data/${node}`], cluster.machine(node))),
  )

  const [first] = results
  for (const result of results) {
    expect(result).toMatchObject({ equal: true, firstIndex: 1, bytes: first?.bytes })
    expect(result.commitIndex).toBeGreaterThanOrEqual(last)
    expect(result.replicas).toMatchObject([{ firstIndex: 1, defect: null }])
  }
  const { disk, engine } = cluster.machine('n0')
  const place = { disk, engine, directory: 'data/n0/state', schema: stateFormatVersion, trusted: true }
  const store = await openStateStore(place)
  expect(store.rebuiltBecause).toBeNull()
  expect(store.appliedIndex).toBeGreaterThanOrEqual(last)
  await store.close()
})
