/** A scripted replica behind the real handlers on the memory transport, with the calls that tests make. */
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { EventRing } from '../../../../src/broker/events.ts'
import {
  defaultHandlerSettings,
  type HandlerContext,
  type HandlerSettings,
} from '../../../../src/broker/handler/context.ts'
import { type BrokerHandlers, registerBrokerHandlers } from '../../../../src/broker/handler/register.ts'
import { systemRandom } from '../../../../src/common/clock.ts'
import { silentLogger } from '../../../../src/common/logger.ts'
import {
  decodeProduceReplies,
  decodePullReply,
  encodeProduceRequest,
  encodePullRequest,
  type ProduceReply,
  type PullReply,
  type PullRequest,
} from '../../../../src/rpc/envelopes.ts'
import { brokerMethods, type ReplicaPeer, type ReplicaStatusReply } from '../../../../src/rpc/methods.ts'
import type { Channel, StreamSink, UnaryMethod } from '../../../../src/rpc/transport.ts'
import { frameTypes } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { MemoryTransport, type TestChannel, type TestSink } from '../../../support/memory-transport.ts'
import { StreamLog } from '../../../support/stream-log.ts'
import { type BatchOptions, makeBatch } from '../apply/support.ts'
import { ScriptedReplica } from '../scripted-replica.ts'

export interface HandlerBench {
  readonly replica: ScriptedReplica
  readonly clock: ManualClock
  readonly events: EventRing
  readonly channel: TestChannel
  readonly handlers: BrokerHandlers
  readonly peers: ReplicaPeer[]
  call<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response>
  /** Creates a topic behind the handlers' back. Returns its id. */
  topic(name: string, queues?: number, permission?: number): number
  send(options: BatchOptions): void
  produce(): ProduceClient
  pull(): PullClient
}

export async function openBench(
  settings: Partial<HandlerSettings> = {},
  transportOptions: { readonly unreadMax?: number } = {},
): Promise<HandlerBench> {
  const replica = await ScriptedReplica.open()
  const clock = new ManualClock()
  const events = new EventRing({ clock, group: 'g', node: 'n0', capacity: 100 })
  const transport = new MemoryTransport(transportOptions)
  const peers: ReplicaPeer[] = []
  const context: HandlerContext = {
    replica,
    events,
    clock,
    random: systemRandom,
    logger: silentLogger,
    settings: { ...defaultHandlerSettings, ...settings },
    status: () => statusOf(replica, peers),
  }
  let handlers: BrokerHandlers = { close: () => {} }
  await transport.listen('broker:1', (routes) => {
    handlers = registerBrokerHandlers(routes, context)
  })
  const channel = transport.connect('broker:1')
  return {
    replica,
    clock,
    events,
    channel,
    handlers,
    peers,
    call: (method, request) => channel.call(method, request, { timeoutMs: 5000 }),
    topic: (name, queues = 2, permission = 6) => {
      const config = { topic: name, readQueues: queues, writeQueues: queues, permission }
      const applied = replica.commit(frameTypes.command, encodeCommand({ kind: 'create_topic', config }))
      return applied?.result.kind === 'topic' ? applied.result.topic.topicId : replica.commitIndex
    },
    send: (options) => void replica.commit(frameTypes.batch, makeBatch(options)),
    produce: () => new ProduceClient(channel),
    pull: () => new PullClient(channel),
  }
}

function statusOf(replica: ScriptedReplica, peers: readonly ReplicaPeer[]): ReplicaStatusReply {
  return {
    cluster: replica.cluster,
    group: replica.group,
    node: replica.node,
    incarnation: replica.incarnation,
    role: replica.leading ? 'leader' : 'follower',
    reason: '',
    term: replica.term,
    vote: '',
    leader: replica.leader()?.node ?? '',
    firstIndex: 1,
    lastIndex: replica.commitIndex,
    durableIndex: replica.commitIndex,
    commitIndex: replica.commitIndex,
    appliedIndex: replica.appliedIndex,
    logBytes: 0,
    stateHash: replica.machine.hash,
    pid: 1,
    uptimeMs: 1,
    peers: [...peers],
    address: 'broker:1',
    diskTotalBytes: 0,
    diskFreeBytes: 0,
    quarantine: '',
    holes: [],
    lost: [],
  }
}

export class ProduceClient {
  readonly log: StreamLog<Buffer> = new StreamLog()
  readonly #replies: ProduceReply[] = []
  #decoded = 0
  readonly sink: StreamSink<Buffer>
  #nextId = 1

  constructor(channel: Channel) {
    this.sink = channel.open(brokerMethods.produce, this.log)
  }

  /** On the memory transport only. */
  pauseReading(paused: boolean): void {
    ;(this.sink as TestSink<Buffer>).pauseReading(paused)
  }

  get replies(): readonly ProduceReply[] {
    for (const message of this.log.messages.slice(this.#decoded)) this.#replies.push(...decodeProduceReplies(message))
    this.#decoded = this.log.messages.length
    return this.#replies
  }

  /** Sends without waiting. Returns the request id. */
  start(batch: Buffer, timeoutMs = 60_000): number {
    const requestId = this.#nextId++
    this.sink.write(encodeProduceRequest({ requestId, timeoutMs, batch }))
    return requestId
  }

  reply(requestId: number): Promise<ProduceReply> {
    return eventually(`the reply to ${requestId}`, () => this.replies.find((reply) => reply.requestId === requestId))
  }

  send(batch: Buffer, timeoutMs?: number): Promise<ProduceReply> {
    return this.reply(this.start(batch, timeoutMs))
  }
}

export class PullClient {
  readonly log: StreamLog<Buffer> = new StreamLog()
  readonly sink: StreamSink<Buffer>
  #nextId = 1

  constructor(channel: Channel) {
    this.sink = channel.open(brokerMethods.pull, this.log)
  }

  /** On the memory transport only. */
  pauseReading(paused: boolean): void {
    ;(this.sink as TestSink<Buffer>).pauseReading(paused)
  }

  get replies(): readonly PullReply[] {
    return this.log.messages.map(decodePullReply)
  }

  start(fields: Partial<PullRequest>): number {
    const requestId = fields.requestId ?? this.#nextId++
    this.sink.write(encodePullRequest({ ...pullDefaults, ...fields, requestId }))
    return requestId
  }

  cancel(requestId: number): void {
    this.sink.write(encodePullRequest({ ...pullDefaults, requestId, cancel: true }))
  }

  answer(requestId: number): PullReply | undefined {
    return this.replies.find((reply) => reply.requestId === requestId)
  }

  reply(requestId: number): Promise<PullReply> {
    return eventually(`the reply to pull ${requestId}`, () => this.answer(requestId))
  }

  pull(fields: Partial<PullRequest>): Promise<PullReply> {
    return this.reply(this.start(fields))
  }
}

const pullDefaults: PullRequest = {
  requestId: 0,
  cancel: false,
  topic: 't',
  topicId: 0,
  queue: 0,
  offset: 0,
  bytesMax: 1024 * 1024,
  waitMs: 0,
  consumerGroup: 'cg',
  afterIndex: 0,
}
