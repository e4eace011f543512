/**
 * Bad input against real processes over real sockets. Every row of it and where else it is tested:
 *
 * | row | here | at length |
 * | --- | --- | --- |
 * | illegal topic and group names | SDK, raw calls, raw streams, namesrv | test/src/message/names, test/src/broker/handler/calls, produce; test/src/namesrv/namesrv |
 * | oversized bodies and properties | SDK, raw stream | test/src/message/batch, build-record; test/src/broker/handler/produce; test/src/rpc/grpc-transport |
 * | broken CRC in a batch (13) | raw stream | test/src/message/batch, batch-fuzz; test/src/broker/handler/produce |
 * | negative and far offsets | SDK, raw calls, raw stream | test/src/broker/handler/calls, pull; test/src/rpc/wire, codecs |
 * | unknown topic, creation off | SDK, raw stream; off as an option of the broker: command-line.test.ts | test/src/broker/handler/produce, pull, calls; test/src/broker/housekeeper; test/src/client/producer |
 * | a follower asked to write | raw calls, raw stream | test/src/broker/handler/produce, calls; test/src/broker/broker-calls |
 * | a client that stops reading | raw HTTP/2 | test/src/broker/handler/pull, produce, calls; test/src/rpc/grpc-server; test/src/namesrv/namesrv |
 * | garbage on the port | client, raft and namesrv port | test/src/rpc/grpc-server, grpc-transport; test/src/broker/wire-calls |
 * | wrong cluster, incarnation, node on the peer connection | strangers.test.ts | test/src/broker/replica/peer-server, bootstrap |
 * | unknown or wrong configuration key | command-line.test.ts | test/src/common/config; test/src/broker/broker |
 * | port in use, folder in use | command-line.test.ts | test/src/rpc/grpc-server; test/src/broker/replica/bootstrap |
 * | folder of another node | strangers.test.ts | test/src/broker/replica/bootstrap |
 */
import { readdirSync, readFileSync } from 'node:fs'
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2'
import { type Socket, connect as tcpConnect } from 'node:net'
import { dirname, join, relative } from 'node:path'
import { credentials, Client as GrpcClient } from '@grpc/grpc-js'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type NodePlan, nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import type { MessageQueue, Producer } from '../../src/client/mod.ts'
import { systemClock, systemRandom } from '../../src/common/clock.ts'
import { errorTable, type LedgerError } from '../../src/common/errors.ts'
import { encodePullRequest, type ProduceReply, type PullReply, type PullRequest } from '../../src/rpc/envelopes.ts'
import { adminMethods, brokerMethods, namesrvMethods } from '../../src/rpc/methods.ts'
import type { Channel, UnaryMethod } from '../../src/rpc/transport.ts'
import { encodeMessage } from '../../src/rpc/wire.ts'
import { makeBatch } from '../src/broker/apply/support.ts'
import { ProduceClient, PullClient } from '../src/broker/handler/support.ts'
import { withPlan } from './planned.ts'
import { channelTo, leaderName, patienceMs, settles, until } from './support.ts'

const topic = 'Orders'
const mebibyte = 1024 * 1024
const illegalNames = [
  '../x',
  '..\\x',
  '/etc/x',
  '',
  'x'.repeat(128),
  '__proto__',
  'constructor',
  'rmq_sys_x',
  '%RETRY%x',
]
const callTimeoutMs = 30_000

let session: Session
let producer: Producer
let leader: NodePlan
let follower: NodePlan
let toLeader: Channel
let toFollower: Channel
let toNamesrv: Channel
let pids: readonly (number | null)[]
let outside: readonly string[]
let finish: () => void
let cluster: Promise<void>
let stuck: StuckReader
let stuckNode: NodePlan
let stored = 0

beforeAll(async () => {
  await new Promise<void>((resolve, reject) => {
    cluster = withPlan(
      {},
      (plan) => plan,
      async (started) => {
        session = started
        resolve()
        await new Promise<void>((done) => {
          finish = done
        })
      },
    )
    cluster.catch(reject)
  })
  const { client, plan } = session
  await client.admin().createTopic({ topic, queues: 1 })
  producer = client.producer({ sendTimeoutMs: patienceMs })
  await follow()
  stuckNode = leader
  toNamesrv = channelTo(plan.namesrvs[0]?.port ?? 0)
  pids = processIds()
  // Enough to read for a client that reads nothing of it.
  for (let count = 0; count < 8; count++) await send(Buffer.alloc(mebibyte, count))
  outside = filesOutside()
  stuck = await StuckReader.open(stuckNode.clientPort)
})

afterAll(async () => {
  stuck?.close()
  for (const channel of [toLeader, toFollower, toNamesrv]) channel?.close()
  await producer?.close()
  finish?.()
  await cluster
})

/** Finds out who leads, which on a busy machine may change, and talks to that one from now on. */
async function follow(): Promise<void> {
  const { plan } = session
  const name = await leaderName(session)
  if (leader?.name === name) return
  leader = plan.nodes.find((node) => node.name === name) as NodePlan
  follower = plan.nodes.find((node) => node.name !== name) as NodePlan
  for (const channel of [toLeader, toFollower]) channel?.close()
  toLeader = channelTo(leader.clientPort)
  toFollower = channelTo(follower.clientPort)
}

/** What raw calls and streams to the leader come to, which nobody repeats for them: once more under the next one. */
async function underOneLeader(look: () => Promise<void>): Promise<void> {
  let isFirst = true
  await settles(async () => {
    await follow()
    // What the look before this one may have stored is there.
    if (!isFirst) stored = await messagesStored()
    isFirst = false
    await look()
  })
}

async function messagesStored(): Promise<number> {
  const groups = await session.client.admin().describeTopic(topic)
  return groups.flatMap(({ queues }) => queues).reduce((sum, { maxOffset }) => sum + maxOffset, 0)
}

/** Whatever came in: the same processes live, a normal send works, nothing lies beside the data folders. */
afterEach(async () => {
  await send('as ever')
  expect(processIds()).toEqual(pids)
  stuck.measure()
  expect(filesOutside()).toEqual(outside)
})

describe('illegal names', () => {
  test.each(illegalNames)('%j as topic or group is refused with 29 by the SDK', async (name) => {
    const { client } = session
    const admin = client.admin()
    const refused = { code: 'INVALID_PARAMETER' }
    await expect(producer.send({ topic: name, body: 'x' })).rejects.toMatchObject(refused)
    await expect(admin.createTopic({ topic: name })).rejects.toMatchObject(refused)
    await expect(admin.describeTopic(name)).rejects.toMatchObject(refused)
    await expect(admin.deleteTopic(name)).rejects.toMatchObject(refused)
    const consumer = client.pullConsumer()
    await expect(consumer.assign(name)).rejects.toMatchObject(refused)
    await consumer.close()
    expect(() => client.pushConsumer({ group: name, subscribe: [topic] })).toThrowError(/name/)
  })

  test.each(illegalNames)(
    '%j as topic or group is refused with 29 by the broker, for clients without our SDK',
    async (name) => {
      await underOneLeader(async () => {
        const config = { topic: name, readQueues: 1, writeQueues: 1, permission: 6 }
        const refused = { code: 'INVALID_PARAMETER' }
        for (const automatic of [true, false])
          await expect(call(adminMethods.createTopic, { config, automatic })).rejects.toMatchObject(refused)
        await expect(call(adminMethods.deleteTopic, { topic: name })).rejects.toMatchObject(refused)
        await expect(call(brokerMethods.queryOffsets, { topic: name, queue: 0 })).rejects.toMatchObject(refused)
        const queues = [{ topic, queue: 0, offset: 0 }]
        const commit = { group: name, member: '', generation: 0, seek: false, offsets: queues }
        await expect(call(brokerMethods.commitOffsets, commit)).rejects.toMatchObject(refused)
        await expect(call(brokerMethods.fetchOffsets, { group: name, queues })).rejects.toMatchObject(refused)
        const heartbeat = { group: name, member: 'm', topics: [topic], generation: 0, sessionTimeoutMs: 10_000 }
        await expect(call(brokerMethods.groupHeartbeat, heartbeat)).rejects.toMatchObject(refused)
        const pull = new PullClient(toLeader)
        expect(await pullOf(pull, { topic: name })).toMatchObject({ code: errorTable.INVALID_PARAMETER.number })
        pull.sink.end()
        // The format itself has no room for an empty name or one of 128 bytes.
        if (name === '' || name.length > 127) return
        const produce = new ProduceClient(toLeader)
        const reply = await produceOf(produce, makeBatch({ topic: name }))
        expect(reply).toMatchObject({ code: errorTable.INVALID_PARAMETER.number })
        produce.sink.end()
      })
    },
  )

  test('a namesrv answers impossible names with 29', async () => {
    const ask = toNamesrv.call(namesrvMethods.getRoute, { topics: ['../x'] }, { timeoutMs: callTimeoutMs })
    await expect(ask).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  })

  test('no illegal name became a topic', async () => {
    await underOneLeader(async () => {
      const { topics } = await call(adminMethods.listTopics, {})
      expect(topics.map(({ config }) => config.topic)).toEqual([topic])
    })
  })
})

describe('oversized', () => {
  test('bodies, properties, tags, keys and batches over their limits are MESSAGE_ILLEGAL in the SDK, at once', async () => {
    const refused = { code: 'MESSAGE_ILLEGAL' }
    const many = Object.fromEntries(Array.from({ length: 129 }, (_, number) => [`p${number}`, 'x']))
    const wrong = [
      { body: Buffer.alloc(4 * mebibyte + 1) },
      { body: 'x', properties: { large: 'x'.repeat(32_768) } },
      { body: 'x', properties: many },
      { body: 'x', tag: 'x'.repeat(256) },
      { body: 'x', keys: Array.from({ length: 65 }, (_, number) => `k${number}`) },
    ]
    for (const message of wrong) await expect(producer.send({ topic, ...message })).rejects.toMatchObject(refused)
    const tooMany = Array.from({ length: 1025 }, () => ({ topic, body: 'x' }))
    await expect(producer.sendBatch(tooMany)).rejects.toMatchObject(refused)
  })

  test('the largest body passes', async () => {
    await send(Buffer.alloc(4 * mebibyte, 7))
  })

  test('a batch over its limit is answered with 13 and its stream goes on; an envelope over the limit of the transport ends its stream only', async () => {
    await underOneLeader(async () => {
      const produce = new ProduceClient(toLeader)
      const tooLarge = Buffer.alloc(4 * mebibyte + 64 * 1024 - 32)
      expect(await produceOf(produce, tooLarge)).toMatchObject({ code: errorTable.MESSAGE_ILLEGAL.number })
      expect(await produceOf(produce, raw('behind it'))).toMatchObject({ code: 0, baseOffset: stored++ })
      produce.start(Buffer.alloc(5 * mebibyte))
      expect(await endOf(produce)).toMatchObject({ code: 'OVERLOADED' })
    })
  })
})

test('a broken CRC in a batch is answered with 13; the batches before and behind it on the stream are stored without a gap', async () => {
  await underOneLeader(async () => {
    const produce = new ProduceClient(toLeader)
    for (const at of [0, 20, 40, -1]) {
      const broken = Buffer.from(raw('to be broken'))
      const position = at < 0 ? broken.length - 1 : at
      broken[position] = (broken[position] ?? 0) ^ 0x10
      const ids = [raw('before'), broken, raw('behind')].map((batch) => produce.start(batch, callTimeoutMs))
      const [before, wrong, behind] = await Promise.all(ids.map((id) => replyTo(produce, id)))
      expect(before).toMatchObject({ code: 0, baseOffset: stored++ })
      expect(wrong).toMatchObject({ code: errorTable.MESSAGE_ILLEGAL.number })
      expect(behind).toMatchObject({ code: 0, baseOffset: stored++ })
    }
    produce.sink.end()
  })
})

describe('offsets', () => {
  test('negative ones are refused: 29 on a stream that goes on, INVALID_REQUEST for a call, and by the SDK', async () => {
    await underOneLeader(async () => {
      const pull = new PullClient(toLeader)
      pull.sink.write(negativeOffsetPull(4_711))
      await until(session, 'the answer to a negative offset', () => pull.answer(4_711) !== undefined)
      expect(pull.answer(4_711)).toMatchObject({ code: errorTable.INVALID_PARAMETER.number })
      expect(await pullOf(pull, { topic, bytesMax: 1 })).toMatchObject({ code: 0 })
      pull.sink.end()
      // CommitOffsets with a queue with offset -1, which our own codec would not write.
      const queue = Buffer.concat([
        Buffer.from([0x0a, topic.length]),
        Buffer.from(topic),
        Buffer.from([0x18]),
        minusOne,
      ])
      const request = Buffer.concat([
        Buffer.from([0x0a, 2]),
        Buffer.from('cg'),
        Buffer.from([0x22, queue.length]),
        queue,
      ])
      expect(await rawCall('/ledgermq.v1.Broker/CommitOffsets', request)).toBe(3)
      for (const offset of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
        await withConsumer(async (consumer, one) => {
          await expect(consumer.seek(one, offset)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
        })
    })
  })

  test('far ones are answered with PULL_OFFSET_MOVED and the range; a consumer that seeks there is told', async () => {
    await underOneLeader(async () => {
      const pull = new PullClient(toLeader)
      for (const offset of [stored + 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
        const reply = await pullOf(pull, { topic, offset })
        expect(reply).toMatchObject({ code: errorTable.PULL_OFFSET_MOVED.number, minOffset: 0, maxOffset: stored })
      }
      pull.sink.end()
      await withConsumer(async (consumer, queue) => {
        await consumer.seek(queue, Number.MAX_SAFE_INTEGER)
        const poll = consumer.poll({ waitMs: callTimeoutMs })
        await expect(poll).rejects.toMatchObject({
          code: 'PULL_OFFSET_MOVED',
          facts: { minOffset: 0, maxOffset: stored },
        })
      })
    })
  })
})

test('an unknown topic is TOPIC_NOT_EXIST (17) where creation is off, and is not created', async () => {
  await underOneLeader(async () => {
    const strict = session.client.producer({ autoCreateTopics: false, sendTimeoutMs: patienceMs })
    await expect(strict.send({ topic: 'Nowhere', body: 'x' })).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    await strict.close()
    const produce = new ProduceClient(toLeader)
    expect(await produceOf(produce, makeBatch({ topic: 'Nowhere' }))).toMatchObject({ code: 17 })
    produce.sink.end()
    const pull = new PullClient(toLeader)
    expect(await pullOf(pull, { topic: 'Nowhere' })).toMatchObject({ code: 17 })
    pull.sink.end()
    await expect(call(adminMethods.describeTopic, { topic: 'Nowhere' })).rejects.toMatchObject({
      code: 'TOPIC_NOT_EXIST',
    })
  })
})

test('a follower that is asked to write answers NOT_LEADER with the leader and its term, and stores nothing', async () => {
  await underOneLeader(async () => {
    const address = `127.0.0.1:${leader.clientPort}`
    const status = await call(adminMethods.getReplicaStatus, {})
    const produce = new ProduceClient(toFollower)
    const reply = await produceOf(produce, raw('not here'))
    expect(reply).toMatchObject({
      code: errorTable.NOT_LEADER.number,
      status: { leaderNode: leader.node, leaderAddress: address, term: status.term },
    })
    produce.sink.end()
    const config = { topic: 'FromFollower', readQueues: 1, writeQueues: 1, permission: 6 }
    const calls = [
      toFollower.call(adminMethods.createTopic, { config, automatic: false }, { timeoutMs: callTimeoutMs }),
      toFollower.call(adminMethods.deleteTopic, { topic }, { timeoutMs: callTimeoutMs }),
      toFollower.call(
        brokerMethods.commitOffsets,
        { group: 'cg', member: '', generation: 0, seek: false, offsets: [{ topic, queue: 0, offset: 0 }] },
        { timeoutMs: callTimeoutMs },
      ),
    ]
    for (const one of calls)
      await expect(one).rejects.toMatchObject({ code: 'NOT_LEADER', facts: { leader: { node: leader.node, address } } })
  })
})

describe('garbage', () => {
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  const random = systemRandom.bytes(64 * 1024)
  const kinds: readonly (readonly [what: string, bytes: Buffer])[] = [
    ['HTTP/1', Buffer.from('GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['random bytes', random],
    ['a preface and random bytes behind it', Buffer.concat([Buffer.from(preface), random])],
    ['a frame of 16 MiB', Buffer.concat([Buffer.from(preface), Buffer.from('ffffff000000000001', 'hex'), random])],
    ['a TLS handshake', Buffer.from('16030100c8010000c40303', 'hex')],
    ['zeros', Buffer.alloc(64 * 1024)],
    ['nothing at all', Buffer.alloc(0)],
  ]

  test.each(kinds)('%s on the client, raft and namesrv port ends that connection at most', async (what, bytes) => {
    const { plan, client } = session
    const ports = [leader.clientPort, leader.raftPort, follower.raftPort, plan.namesrvs[0]?.port ?? 0]
    for (const port of ports) await throwAt(port, bytes)
    expect(plan.nodes.length, what).toBe(3)
    // Peers and clients of the same ports are still served.
    await settles(async () => expect(await client.admin().clusterStatus()).toHaveLength(3))
    await session.cluster.waitHealthy(patienceMs)
  })
})

test('a client that stops reading is held in bounded memory and cut off after 30 s, while all others are served', async () => {
  await until(session, 'the client is cut off', () => stuck.closed)
  expect(systemClock.monotonicMs() - stuck.openedMs).toBeGreaterThan(25_000)
  // It asked for gigabytes. What it was sent lies in its own buffers, not in the broker's.
  expect(stuck.grownBytes).toBeLessThan(200 * mebibyte)
})

async function send(body: string | Buffer): Promise<void> {
  expect(await producer.send({ topic, body })).toMatchObject({ status: 'SEND_OK', offset: stored++ })
}

function produceOf(client: ProduceClient, batch: Buffer): Promise<ProduceReply> {
  return replyTo(client, client.start(batch, callTimeoutMs))
}

async function replyTo(client: ProduceClient, requestId: number): Promise<ProduceReply> {
  await until(session, `reply ${requestId}`, () => client.replies.some((reply) => reply.requestId === requestId))
  return client.reply(requestId)
}

async function pullOf(client: PullClient, fields: Partial<PullRequest>): Promise<PullReply> {
  const requestId = client.start(fields)
  await until(session, `the reply to pull ${requestId}`, () => client.answer(requestId) !== undefined)
  return client.reply(requestId)
}

async function endOf(client: ProduceClient | PullClient): Promise<LedgerError | undefined> {
  await until(session, 'the stream ends', () => client.log.closed)
  return client.log.error
}

/** A legal batch of one message for the only queue. */
function raw(body: string): Buffer {
  return makeBatch({ topic, body })
}

function call<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response> {
  return toLeader.call(method, request, { timeoutMs: callTimeoutMs })
}

/** -1 as protobuf writes a negative 64 bit number. */
const minusOne = Buffer.from('ffffffffffffffffff01', 'hex')

function negativeOffsetPull(requestId: number): Buffer {
  const fields = {
    requestId,
    cancel: false,
    topicId: 0,
    queue: 0,
    bytesMax: 1,
    waitMs: 0,
    consumerGroup: '',
    afterIndex: 0,
  }
  const legal = encodePullRequest({ ...fields, topic, offset: 1 })
  const offset = legal.indexOf(encodeMessage((to) => to.uint(6, 1)))
  if (offset < 0) throw new Error('the offset is not field 6 any more')
  return Buffer.concat([legal.subarray(0, offset + 1), minusOne, legal.subarray(offset + 2)])
}

/** A unary call with these bytes as its request; resolves with the gRPC status. */
async function rawCall(path: string, bytes: Buffer): Promise<number> {
  const client = new GrpcClient(`127.0.0.1:${leader.clientPort}`, credentials.createInsecure())
  const pass = (buffer: Buffer): Buffer => buffer
  try {
    return await new Promise((resolve) => {
      client.makeUnaryRequest(path, pass, pass, bytes, (error) => resolve(error?.code ?? 0))
    })
  } finally {
    client.close()
  }
}

async function withConsumer(
  use: (consumer: ReturnType<Session['client']['pullConsumer']>, queue: MessageQueue) => Promise<void>,
): Promise<void> {
  const consumer = session.client.pullConsumer()
  try {
    await consumer.assign(topic, { from: 'last' })
    await use(consumer, { topic, group: leader.group, queue: 0 })
  } finally {
    await consumer.close()
  }
}

/** Sends the bytes and waits until the server answers or ends the connection; says nothing longer than that. */
function throwAt(port: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket: Socket = tcpConnect(port, '127.0.0.1')
    const done = (): void => {
      socket.destroy()
      resolve()
    }
    socket.on('error', done)
    socket.on('close', done)
    socket.on('data', done)
    socket.on('connect', () => socket.end(bytes))
  })
}

/** Asks for everything again and again on the Pull stream, and reads nothing of it. */
class StuckReader {
  readonly openedMs = systemClock.monotonicMs()
  readonly #session: ClientHttp2Session
  readonly #bytesBefore = brokerBytes()
  #bytesMost = this.#bytesBefore
  closed = false

  static async open(port: number): Promise<StuckReader> {
    const reader = new StuckReader(port)
    // The broker has taken the requests when it has answered as much as the window lets through.
    await until(session, 'the client has answers that it does not read', () => reader.buffered > 0)
    return reader
  }

  readonly #stream: ClientHttp2Stream

  private constructor(port: number) {
    this.#session = connectHttp2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 8 * mebibyte } })
    this.#session.on('error', () => {})
    this.#stream = this.#session.request({
      ':method': 'POST',
      ':path': '/ledgermq.v1.Broker/Pull',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    this.#stream.on('error', () => {})
    this.#stream.on('close', () => {
      this.closed = true
    })
    this.#stream.pause()
    for (let requestId = 1; requestId <= 2_000; requestId++) this.#stream.write(framed(requestId))
  }

  get buffered(): number {
    return this.#stream.readableLength
  }

  measure(): void {
    this.#bytesMost = Math.max(this.#bytesMost, brokerBytes())
  }

  /** Of the broker, at its largest. */
  get grownBytes(): number {
    return this.#bytesMost - this.#bytesBefore
  }

  close(): void {
    this.#session.destroy()
  }
}

/** A pull of everything from the beginning, as a gRPC message. */
function framed(requestId: number): Buffer {
  const fields = { cancel: false, topicId: 0, queue: 0, offset: 0, waitMs: 0, consumerGroup: '', afterIndex: 0 }
  const bytes = encodePullRequest({ ...fields, requestId, topic, bytesMax: 8 * mebibyte })
  const head = Buffer.alloc(5)
  head.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

/** Resident memory of the broker that holds what is not read. */
function brokerBytes(): number {
  const pid = session.cluster.processes.pid(stuckNode.name)
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) * 1024
}

function processIds(): readonly (number | null)[] {
  return session.cluster.processes.names.map((name) => session.cluster.processes.pid(name))
}

/** Every path beside the data folders of the nodes, from the folder above the cluster's, and the top of each of them. */
function filesOutside(): readonly string[] {
  const { plan } = session
  const root = dirname(plan.dataDirectory)
  const folders = plan.nodes.map((node) => relative(root, nodeDirectory(plan, node)))
  const all = readdirSync(root, { recursive: true }) as string[]
  const beside = all.filter((path) => !folders.some((folder) => path.startsWith(`${folder}/`)))
  const tops = plan.nodes.flatMap((node) =>
    readdirSync(nodeDirectory(plan, node))
      // About to be renamed to what it replaces.
      .filter((name) => !name.endsWith('.tmp'))
      .map((name) => join(nodeDirectory(plan, node), name)),
  )
  return [...beside, ...tops].sort()
}
