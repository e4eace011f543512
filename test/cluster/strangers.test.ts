import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type NodePlan, namesrvAddresses, nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import type { NodeEvent, ReplicaStatus } from '../../src/client/mod.ts'
import { errorTable, toLedgerError } from '../../src/common/errors.ts'
import type { Hello } from '../../src/rpc/methods.ts'
import { type BootstrapRequest, type FirstConfiguration, raftMethods } from '../../src/rpc/methods.ts'
import { decodeHelloReply, encodePeerFrame, type HelloReply } from '../../src/rpc/peer-codec.ts'
import type { Channel } from '../../src/rpc/transport.ts'
import { folderHash } from './folder-hash.ts'
import { freePort, startBroker } from './lone-broker.ts'
import { channelTo, cli, kill, leaderName, patienceMs, settles, start, stop, until, withCluster } from './support.ts'

const topic = 'Strangers'
const refusedExitCode = 4
/** Several election timeouts: time enough for a vote that must not come. */
const quorumPatienceMs = 4_000
/** Whoever is down refuses at once. */
const statusTimeoutMs = 10_000

test('P6: a replica whose folder was wiped does not vote and says why in status, log and cluster list; the other two work, and with one of them down there is no quorum', async () => {
  await withCluster(async (session) => {
    const { cluster, client, plan } = session
    const producer = session.client.producer({ sendTimeoutMs: patienceMs })
    await client.admin().createTopic({ topic, queues: 1 })
    const before = await producer.send({ topic, body: 'before' })
    const leader = await leaderName(session)
    const [wiped, other] = plan.nodes.filter((node) => node.name !== leader) as [NodePlan, NodePlan]
    await kill(session, [wiped.name])
    rmSync(nodeDirectory(plan, wiped), { recursive: true })
    start(session, [wiped.name])

    await until(session, 'the wiped replica says what it is', async () => {
      const status = await statusOf(session, wiped)
      return status?.role === 'stranger' && status.reason.startsWith('WIPED')
    })
    expect(cluster.processes.logTail(wiped.name, 20)).toContain('this replica is a stranger to its group')
    // Nobody has told a namesrv of it: its peers do the talking, as soon as they have dialled it again.
    await until(session, 'cluster list shows why', async () => {
      const list = await cli('cluster', 'list', '--namesrv', namesrvAddresses(plan).join(','))
      expect(list.code).toBe(10)
      return rowOf(list.stdout, wiped.node).includes('WIPED: the group knows node')
    })
    const after = await producer.send({ topic, body: 'with two of three' })
    expect(after.offset).toBe(before.offset + 1)

    // The one that is left asks the stranger for its vote, again and again.
    await kill(session, [leader])
    let left: ReplicaStatus | null = null
    await until(session, 'the one that is left knows that it is alone', async () => {
      left = await statusOf(session, other)
      return left?.leader === ''
    })
    await expect(producer.send({ topic, body: 'nobody' }, { timeoutMs: quorumPatienceMs })).rejects.toMatchObject({
      code: expect.stringMatching(/^(NO_QUORUM|OUTCOME_UNKNOWN)$/),
    })
    const now = await statusOf(session, other)
    expect(now?.role).not.toBe('leader')
    expect(now?.leader).toBe('')
    // A pre-vote raises no term: had the stranger said yes once, there would be a vote in a new one.
    expect(now).toMatchObject({ term: (left as ReplicaStatus | null)?.term })
    expect(await statusOf(session, wiped)).toMatchObject({ role: 'stranger', term: 0, vote: '', lastIndex: 0 })
    expect(Object.keys(folderHash(nodeDirectory(plan, wiped)))).not.toContain('hard-state')

    start(session, [leader])
    const again = await producer.send({ topic, body: 'again' })
    expect(again.offset).toBeGreaterThan(after.offset)
    expect((await statusOf(session, wiped))?.role).toBe('stranger')
    await producer.close()
  })
})

test('a replica started with the folder of another node refuses with FOREIGN_FOLDER and leaves every byte of it as it was', async () => {
  await withCluster(async (session) => {
    const { plan } = session
    const [owner, thief] = plan.nodes.slice(1) as [NodePlan, NodePlan]
    await stop(session, [owner.name, thief.name])
    const folder = nodeDirectory(plan, owner)
    const before = folderHash(folder)
    const peers = plan.nodes.map((node) => `${node.node}=127.0.0.1:${node.raftPort}`).join(',')
    const asThief = { node: thief.node, group: plan.nodes[0]?.group ?? '', peers, data: folder }
    for (const changes of [{}, { cluster: 'OtherCluster' }, { group: 'RaftNode77' }]) {
      const identity = { cluster: plan.cluster, ...asThief, ...changes }
      const result = await startBroker({ ...identity, listenPort: thief.clientPort })
      expect(result.stderr).toMatch(/^FOREIGN_FOLDER: .* belongs to (node|cluster|group) \S+, not to \S+$/m)
      expect(result.stderr).toContain(errorTable.FOREIGN_FOLDER.hint)
      expect(result).toMatchObject({ code: refusedExitCode, stdout: '' })
      expect(folderHash(folder)).toEqual(before)
    }
    start(session, [owner.name, thief.name])
    await session.cluster.waitHealthy(patienceMs)
  })
})

test('a Hello of another cluster, group, incarnation, node or disk is refused with WRONG_CLUSTER or NOT_A_MEMBER and an event; term, log and leader stay', async () => {
  await withCluster(async (session) => {
    const { cluster, plan, client } = session
    await client.admin().createTopic({ topic, queues: 1 })
    const events: NodeEvent[] = []
    cluster.onEvent((event) => events.push(event))
    const [first] = plan.nodes as [NodePlan]
    const channel = channelTo(first.raftPort, 'control')
    try {
      const { hello, configuration } = await goodHello(session, channel)
      const forged: readonly (readonly [what: string, changes: Partial<Hello>])[] = [
        ['cluster', { cluster: 'OtherCluster' }],
        ['group', { group: 'RaftNode77' }],
        ['incarnation', { incarnation: '00000000-0000-4000-8000-000000000000' }],
        ['addressed node', { toNode: 'n77' }],
        ['addressed disk', { toDisk: '00000000-0000-4000-8000-000000000000' }],
        ['is no member', { fromNode: 'n77' }],
        ['is this replica itself', { fromNode: first.node, fromDisk: hello.toDisk }],
        ['has disk', { fromDisk: '00000000-0000-4000-8000-000000000000' }],
      ]
      // Once more when an election came in between, as it may on a busy machine: no lie may ever be needed for one.
      await settles(async () => {
        const before = await settled(session, first)
        for (const [what, changes] of forged) {
          for (const method of [raftMethods.control, raftMethods.bulk]) {
            const reply = await greet(channel, method, { ...hello, ...changes })
            const code = what === 'is no member' || what === 'has disk' ? 'NOT_A_MEMBER' : 'WRONG_CLUSTER'
            expect(reply?.status, what).toMatchObject({ code: errorTable[code].number })
            expect(reply?.status?.message).toContain(what)
          }
          await until(session, `the refusal of ${what} is an event`, () =>
            events.some((event) => event.node === first.node && isRefusal(event, what)),
          )
        }
        expect(await settled(session, first)).toEqual(before)
      })
      // The same Hello without a lie is let in: it was the lie that was refused.
      expect((await greet(channel, raftMethods.control, hello))?.status).toBeNull()
      expect(configuration.members).toHaveLength(plan.nodes.length)
    } finally {
      channel.close()
    }
  })
})

test('a replica of another group that was given the raft addresses of this one never gets a group, says WRONG_CLUSTER, and changes nothing here', async () => {
  await withCluster(async (session) => {
    const { plan, client } = session
    const [first, second] = plan.nodes as [NodePlan, NodePlan]
    await client.admin().createTopic({ topic, queues: 1 })
    // With a new stranger when an election came in between, as it may on a busy machine.
    await settles(async () => {
      const before = await settled(session, first)
      const raftPort = await freePort()
      const clientPort = await freePort()
      const running = startBroker({
        cluster: plan.cluster,
        group: 'RaftNode77',
        node: 'n0',
        peers: `n0=127.0.0.1:${raftPort},n1=127.0.0.1:${first.raftPort},n2=127.0.0.1:${second.raftPort}`,
        data: join(plan.dataDirectory, `other-${clientPort}`),
        listenPort: clientPort,
        bootstrap: true,
      })
      try {
        await until(session, 'the wrong group is told to it', async () => {
          const status = await client
            .admin()
            .replicaStatus(`127.0.0.1:${clientPort}`, { timeoutMs: statusTimeoutMs })
            .catch(() => null)
          return status?.role === 'stranger' && status.reason.startsWith('WRONG_CLUSTER')
        })
        expect(await settled(session, first)).toEqual(before)
      } finally {
        running.kill()
        await running
      }
    })
    const producer = client.producer({ sendTimeoutMs: patienceMs })
    await producer.send({ topic, body: 'all is well' })
    await producer.close()
  })
})

function isRefusal({ kind, details }: NodeEvent, what: string): boolean {
  return kind === 'peer_refused' && details['reason']?.includes(what) === true && details['direction'] === 'incoming'
}

async function statusOf({ client }: Session, node: NodePlan): Promise<ReplicaStatus | null> {
  const address = `127.0.0.1:${node.clientPort}`
  return client
    .admin()
    .replicaStatus(address, { timeoutMs: statusTimeoutMs })
    .catch(() => null)
}

/** What forged messages must not change. */
async function settled(
  session: Session,
  node: NodePlan,
): Promise<Pick<ReplicaStatus, 'term' | 'vote' | 'leader' | 'role' | 'lastIndex' | 'commitIndex' | 'stateHash'>> {
  await until(session, 'everything is applied everywhere', async () => {
    const statuses = await Promise.all(session.plan.nodes.map((one) => statusOf(session, one)))
    const places = statuses.map((status) => (status ? `${status.lastIndex} ${status.appliedIndex}` : 'silent'))
    return new Set(places).size === 1 && statuses[0]?.lastIndex === statuses[0]?.appliedIndex
  })
  const status = await statusOf(session, node)
  if (!status) throw new Error(`${node.name} does not answer`)
  const { term, vote, leader, role, lastIndex, commitIndex, stateHash } = status
  return { term, vote, leader, role, lastIndex, commitIndex, stateHash }
}

/** What the second replica says to the first one, made from the group's own configuration. */
async function goodHello(
  { plan }: Session,
  channel: Channel,
): Promise<{ readonly hello: Hello; readonly configuration: FirstConfiguration }> {
  const [first, second] = plan.nodes as [NodePlan, NodePlan]
  const request: BootstrapRequest = {
    cluster: plan.cluster,
    group: first.group,
    fromNode: second.node,
    fromDisk: '',
    nodeAddresses: plan.nodes.map((node) => `${node.node}=127.0.0.1:${node.raftPort}`),
    segmentBytes: plan.segmentBytes,
  }
  const { configuration } = await channel.call(raftMethods.bootstrap, request, { timeoutMs: patienceMs })
  if (!configuration) throw new Error('the group has no configuration')
  const diskOf = (node: string): string => configuration.members.find((member) => member.node === node)?.disk ?? ''
  const hello: Hello = {
    cluster: plan.cluster,
    group: first.group,
    incarnation: configuration.incarnation,
    fromNode: second.node,
    fromDisk: diskOf(second.node),
    toNode: first.node,
    toDisk: diskOf(first.node),
    fromAddress: `127.0.0.1:${second.clientPort}`,
    protocolMin: 1,
    protocolMax: 1,
    build: 'test',
    featureLevel: 1,
    membershipIndex: 0,
    fromRaftAddress: `127.0.0.1:${second.raftPort}`,
  }
  return { hello, configuration }
}

/** Sends this Hello on a stream of its own; a refused stream must end by itself. */
function greet(channel: Channel, method: typeof raftMethods.control, hello: Hello): Promise<HelloReply | undefined> {
  return new Promise((resolve, reject) => {
    let reply: HelloReply | undefined
    const sink = channel.open(method, {
      onMessage: (bytes) => {
        reply = decodeHelloReply(bytes)
        if (reply.status === null) sink.end()
      },
      onClosed: (error) => {
        const code = error && toLedgerError(error).code
        if (code === undefined || code === 'WRONG_CLUSTER' || code === 'NOT_A_MEMBER') resolve(reply)
        else reject(error)
      },
    })
    sink.write(encodePeerFrame({ kind: 'hello', hello }))
  })
}

function rowOf(table: string, node: string): string {
  return table.split('\n').find((line) => line.split(/\s+/)[1] === node) ?? ''
}
