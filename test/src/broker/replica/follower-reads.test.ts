/** Current reads on followers, through the loop, the wire and the log of a real group. */
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster, type MemoryClusterOptions } from '../../../support/memory-cluster.ts'
import { codeOf, createTopic } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

async function started(options: MemoryClusterOptions = {}): Promise<string> {
  cluster = new MemoryCluster(options)
  await cluster.start()
  return cluster.leader()
}

function others(node: string): readonly [string, string] {
  const [a, b] = cluster.nodes.filter((other) => other !== node)
  return [a as string, b as string]
}

test('a current read on any replica sees what was acknowledged before it began', async () => {
  const leader = await started()
  for (let round = 0; round < 15; round++) {
    await createTopic(cluster.replica(leader), `t${round}`)
    const seen = cluster.nodes.map(async (node) => {
      await cluster.replica(node).readCurrent({ timeoutMs: 2000 })
      return cluster.replica(node).machine.topic(`t${round}`) !== undefined
    })
    expect(await Promise.all(seen)).toEqual([true, true, true])
  }
})

test('many reads of one turn on a follower are all answered', async () => {
  const leader = await started()
  const [follower] = others(leader)
  await cluster.replica(follower).readCurrent({ timeoutMs: 2000 })
  const reads = Array.from({ length: 500 }, () => cluster.replica(follower).readCurrent({ timeoutMs: 2000 }))
  await Promise.all(reads)
})

test('a follower that is cut off refuses current reads within its bounds', async () => {
  const leader = await started({ network: { keepaliveMs: 300 } })
  const [follower] = others(leader)
  await eventually('the follower follows', () => cluster.replica(follower).leader()?.node === leader)
  cluster.network.isolate(follower)
  const startMs = cluster.clock.monotonicMs()
  expect(await codeOf(cluster.replica(follower).readCurrent({ timeoutMs: 1200 }))).toBe('NO_QUORUM')
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(1600)
})

test('a read on a follower outlives its leader: it is asked again of the next one', async () => {
  const leader = await started()
  const [follower, other] = others(leader)
  await createTopic(cluster.replica(leader), 'seen')
  await eventually('the follower follows', () => cluster.replica(follower).leader()?.node === leader)
  // The leader cannot confirm itself any more, but the follower does not know yet.
  cluster.network.isolate(leader)
  const read = cluster.replica(follower).readCurrent({ timeoutMs: 8000 })
  await cluster.leader([follower, other])
  await read
  expect(cluster.replica(follower).machine.topic('seen')).toBeDefined()
})

test('a replica that stops answers its waiting reads', async () => {
  const leader = await started()
  const [follower] = others(leader)
  cluster.network.isolate(follower)
  const read = codeOf(cluster.replica(follower).readCurrent({ timeoutMs: 5000 }))
  await cluster.stop(follower)
  expect(await read).toBe('SERVICE_NOT_AVAILABLE')
})
