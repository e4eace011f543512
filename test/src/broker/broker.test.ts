/** A whole broker: start, status, graceful stop; and a group of three on real sockets, real files, real level. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type Broker, startBroker } from '../../../src/broker/broker.ts'
import type { BrokerOptions } from '../../../src/broker/options.ts'
import { FolderRecords } from '../../../src/broker/replica/identity.ts'
import { findPorts } from '../../../src/cli/fast-try/ports.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { createGrpcTransport } from '../../../src/rpc/grpc-transport.ts'
import { adminMethods } from '../../../src/rpc/methods.ts'
import { LevelKeyValueEngine, NodeDisk } from '../../../store/index.ts'
import { AwakeClock } from '../../support/awake-clock.ts'
import { eventually } from '../../support/eventually.ts'
import { MemoryCluster } from '../../support/memory-cluster.ts'
import { codeOf, createTopic } from './replica/support.ts'

const cleanUps: (() => void | Promise<void>)[] = []

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function memoryCluster(...parameters: ConstructorParameters<typeof MemoryCluster>): MemoryCluster {
  const cluster = new MemoryCluster(...parameters)
  cleanUps.push(() => cluster.end())
  return cluster
}

test('a graceful stop hands leadership over first: the others go on at once, nothing acknowledged is lost', async () => {
  const slow = { electionTimeoutMinMs: 2000, electionTimeoutMaxMs: 2500 }
  const cluster = memoryCluster({ broker: { raft: { ...slow } } })
  await cluster.start()
  const first = await cluster.leader()
  const { index } = await createTopic(cluster.replica(first), 'kept')
  const rest = cluster.nodes.filter((node) => node !== first)
  const startMs = cluster.clock.monotonicMs()
  const stopped = cluster.stop(first)
  const second = await cluster.leader(rest)
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(1000)
  await stopped
  expect(cluster.replica(second).machine.topic('kept')?.topicId).toBe(index)
  await createTopic(cluster.replica(second), 'next')
  const kinds = cluster
    .broker(second)
    .events.since(0)
    .map((event) => event.details['reason'])
  expect(kinds).toContain('ordered')
})

test('a stopped broker refuses new work, and a second close does not wait', async () => {
  const cluster = memoryCluster()
  await cluster.start()
  const leader = await cluster.leader()
  const broker = cluster.broker(leader)
  const replica = cluster.replica(leader)
  const [, startMs] = [broker.close(), cluster.clock.monotonicMs()]
  await broker.close()
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(500)
  expect(await codeOf(createTopic(replica, 'late'))).toBe('SERVICE_NOT_AVAILABLE')
})

test('a clean stop leaves a mark: the state store is trusted although the machine was started anew', async () => {
  const cluster = memoryCluster({ nodes: ['n0'] })
  await cluster.start()
  await cluster.leader()
  await createTopic(cluster.replica('n0'), 'kept')
  const marker = (): Promise<unknown> => new FolderRecords(cluster.machine('n0').disk, 'data/n0').startMarker()
  expect(await marker()).toEqual({ bootId: 'boot-1', clean: false })
  await cluster.stop('n0')
  expect(await marker()).toEqual({ bootId: 'boot-1', clean: true })
  cluster.machine('n0').bootId++
  await cluster.start()
  await cluster.leader()
  const events = cluster.broker('n0').events.since(0)
  expect(events.map((event) => event.kind)).not.toContain('state_rebuilt')
  expect(events.find((event) => event.kind === 'log_recovered')?.details).toMatchObject({ tornBytes: '0', damage: '' })
})

test('a graceful stop that cannot leave its mark on a full disk ends all the same; the next start checks', async () => {
  const cluster = memoryCluster({ nodes: ['n0'] })
  await cluster.start()
  await cluster.leader()
  await createTopic(cluster.replica('n0'), 'kept')
  cluster.machine('n0').disk.fail('write', { code: 'ENOSPC', times: 1, path: 'start-marker.tmp' })
  await cluster.stop('n0')
  expect(await new FolderRecords(cluster.machine('n0').disk, 'data/n0').startMarker()).toMatchObject({ clean: false })
  await cluster.start()
  await cluster.leader()
  await cluster.settled()
  expect(cluster.replica('n0').machine.topic('kept')).toBeDefined()
})

test('status and events are served from the first moment, everything else says why not yet', async () => {
  const cluster = memoryCluster()
  await cluster.start('n0')
  const channel = cluster.network.endpoint('client').connect('n0:30911', 'client')
  const status = await channel.call(adminMethods.getReplicaStatus, {}, { timeoutMs: 1000 })
  expect(status).toMatchObject({ node: 'n0', role: 'stranger', reason: expect.stringMatching(/^NOT_BOOTSTRAPPED/) })
  const refused = channel.call(adminMethods.listTopics, {}, { timeoutMs: 1000 })
  expect(await codeOf(refused)).toBe('SERVICE_NOT_AVAILABLE')
  const kinds: string[] = []
  channel
    .open(adminMethods.watchEvents, { onMessage: (event) => kinds.push(event.kind), onClosed: () => {} })
    .write({ fromSequence: 0 })
  await cluster.start('n1', 'n2')
  const leader = await cluster.leader()
  await eventually('events flow', () => kinds.includes('node_started') && kinds.includes('leader_changed'))
  const toLeader = cluster.network.endpoint('client').connect(`${leader}:30911`, 'client')
  expect(await toLeader.call(adminMethods.listTopics, {}, { timeoutMs: 5000 })).toEqual({ topics: [] })
})

test('wrong options stop the start with the key', async () => {
  const cluster = memoryCluster({ nodes: ['n0'] })
  for (const [overrides, key] of [
    [{ segmentBytes: 1000 }, 'segmentBytes'],
    [{ members: [{ node: 'n7', raftAddress: 'x:1' }] }, 'members'],
    [{ group: '' }, 'group'],
  ] as const) {
    await expect(cluster.startWith('n0', overrides)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(key),
    })
  }
})

test('three brokers on gRPC, real files and level: failover, restart, same state', async () => {
  const root = await mkdtemp(join(tmpdir(), 'ledgermq-broker-'))
  cleanUps.push(() => rm(root, { recursive: true, force: true }))
  // None that the kernel gives away: it could do so between this look and the start.
  const raftPorts = await findPorts(
    ['n0', 'n1', 'n2'].map((name) => ({ name, port: 0 })),
    { anyPorts: true },
  )
  const members = raftPorts.map(({ name, port }) => ({ node: name, raftAddress: `127.0.0.1:${port}` }))
  const clock = new AwakeClock()
  const start = async (node: string): Promise<Broker> => {
    const options: BrokerOptions = {
      cluster: 'RaftCluster',
      group: 'RaftNode00',
      node,
      directory: join(root, node, 'groups/RaftNode00'),
      listen: '127.0.0.1:0',
      members,
      bootstrap: true,
      namesrv: [],
      segmentBytes: 1024 * 1024,
    }
    const broker = await startBroker(options, {
      clock,
      random: systemRandom,
      transport: createGrpcTransport({ clock: systemClock, logger: silentLogger }),
      disk: new NodeDisk(),
      engine: new LevelKeyValueEngine(),
      logger: silentLogger,
      bootId: async () => 'this-boot',
      fatal: (error) => {
        throw error
      },
    })
    cleanUps.push(() => broker.close())
    return broker
  }
  const brokers = await Promise.all(members.map(({ node }) => start(node)))
  const first = await leaderOf(brokers)
  await Promise.all(Array.from({ length: 50 }, (_, n) => createTopic(first.replica!, `t${n}`)))
  await first.close()
  const rest = brokers.filter((broker) => broker !== first)
  const second = await leaderOf(rest)
  await createTopic(second.replica!, 'after')
  const again = await start(first.status().node)
  const all = [...rest, again]
  await eventually('all have applied all', () => {
    const last = second.replica!.log.lastIndex
    return all.every((broker) => broker.replica?.appliedIndex === last)
  })
  expect(new Set(all.map((broker) => broker.status().stateHash)).size).toBe(1)
  expect(again.replica?.machine.topics()).toHaveLength(51)
})

function leaderOf(brokers: readonly Broker[]): Promise<Broker> {
  return eventually('a leader', () => brokers.find((broker) => broker.replica?.leading), {
    state: () => brokers.map((broker) => broker.status()),
  })
}
