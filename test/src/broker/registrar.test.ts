/** Registration of real brokers with real namesrvs. */
import { afterEach, expect, test } from 'vitest'
import { silentLogger } from '../../../src/common/logger.ts'
import { type Namesrv, startNamesrv } from '../../../src/namesrv/namesrv.ts'
import { eventually } from '../../support/eventually.ts'
import { MemoryCluster } from '../../support/memory-cluster.ts'
import { createTopic } from './replica/support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

function namesrv(name: string): Promise<Namesrv> {
  const transport = cluster.network.endpoint(name)
  return startNamesrv({ listen: `${name}:9876` }, { clock: cluster.clock, transport, logger: silentLogger })
}

function leaderAt(server: Namesrv): string | undefined {
  return server.route([]).groups[0]?.leader
}

test('every namesrv learns members, leader and topics, and a new leader at once', async () => {
  cluster = new MemoryCluster({ broker: { namesrv: ['ns0:9876', 'ns1:9876'] } })
  const servers = await Promise.all([namesrv('ns0'), namesrv('ns1')])
  await cluster.start()
  const first = await cluster.leader()
  const created = await createTopic(cluster.replica(first), 'orders')
  for (const server of servers) {
    await eventually('the leader is known', () => leaderAt(server) === first)
    const route = await eventually('the topic is known', () => {
      const reply = server.route(['orders'])
      return reply.topics.length > 0 && reply.groups[0]?.nodes.length === 3 && reply
    })
    expect(route.topics[0]?.queues[0]?.topicId).toBe(created.index)
    expect(route.groups[0]).toMatchObject({ group: 'RaftNode00', term: cluster.replica(first).term })
  }
  // The namesrv knows before the broker hears that it does.
  const published = await eventually('the broker knows that both know', () => {
    const events = cluster.broker(first).events.since(0)
    const told = events.filter((event) => event.kind === 'route_published')
    return told.length > 1 && told
  })
  expect(published.map((event) => event.details['namesrv']).sort()).toEqual(['ns0:9876', 'ns1:9876'])
  cluster.kill(first)
  const second = await cluster.leader(cluster.nodes.filter((node) => node !== first))
  for (const server of servers) await eventually('the new leader is known', () => leaderAt(server) === second)
})

test('a namesrv that comes back empty is complete again without waiting for the next period', async () => {
  cluster = new MemoryCluster({ broker: { namesrv: ['ns0:9876'] } })
  await namesrv('ns0')
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 'orders')
  cluster.network.kill('ns0')
  const again = await namesrv('ns0')
  await eventually(
    'all is known again',
    () => leaderAt(again) === leader && again.route(['orders']).topics.length === 1,
  )
})

test('a broker that stops is dropped by the namesrv at once', async () => {
  cluster = new MemoryCluster({ broker: { namesrv: ['ns0:9876'] } })
  const server = await namesrv('ns0')
  await cluster.start()
  await cluster.leader()
  await eventually('all three are known', () => server.route([]).groups[0]?.nodes.length === 3)
  await cluster.stop('n1')
  await eventually('two are left', () => server.route([]).groups[0]?.nodes.length === 2)
})
