/**
 * A transport whose other side is written by the test: namesrvs that tell a route, brokers that answer, hold, refuse or
 * break. Delivers one turn later, like a network; time is the test's.
 */
import { errorTable, LedgerError } from '../../../src/common/errors.ts'
import { readBatchHeader } from '../../../src/message/batch.ts'
import type { BatchHeader } from '../../../src/message/types.ts'
import {
  decodeProduceRequest,
  decodePullRequest,
  encodeProduceReplies,
  encodePullReply,
  type ProduceReply,
  type PullReply,
  type PullRequest,
} from '../../../src/rpc/envelopes.ts'
import type { RouteReply } from '../../../src/rpc/methods.ts'
import { toWireStatus } from '../../../src/rpc/status.ts'
import type { Channel, StreamHandlers, StreamMethod, Transport } from '../../../src/rpc/transport.ts'

export interface Produced {
  readonly address: string
  readonly requestId: number
  readonly timeoutMs: number
  readonly batch: Buffer
  readonly header: BatchHeader
  /** Answers; may be called later or never. */
  readonly reply: (answer: Partial<ProduceReply> | LedgerError) => void
}

export interface Pulled {
  readonly address: string
  readonly request: PullRequest
  readonly reply: (answer: Partial<PullReply> | LedgerError) => void
}

export interface ScriptedBroker {
  readonly group: string
  readonly node: string
  leads: boolean
  up: boolean
  onProduce: (request: Produced) => void
  onPull: (request: Pulled) => void
  /** Unary calls by method name. */
  readonly calls: Map<string, (request: never) => unknown>
  readonly breakStreams: () => void
}

type Handlers = StreamHandlers<unknown>

export class ScriptedTransport implements Transport {
  route: RouteReply = { version: 1, groups: [], topics: [] }
  namesrvUp = true
  readonly brokers = new Map<string, ScriptedBroker>()
  readonly produced: Produced[] = []
  readonly pulled: Pulled[] = []
  readonly #watchers = new Set<Handlers>()
  readonly #streams = new Map<string, Set<Handlers>>()

  /** A broker that stores everything at growing offsets. */
  addBroker(address: string, group: string, node: string): ScriptedBroker {
    const offsets = new Map<number, number>()
    const broker: ScriptedBroker = {
      group,
      node,
      leads: false,
      up: true,
      onProduce: ({ header, reply }) => {
        const baseOffset = offsets.get(header.queue) ?? 0
        offsets.set(header.queue, baseOffset + header.recordCount)
        reply({ baseOffset })
      },
      onPull: () => {},
      calls: new Map(),
      breakStreams: () => {
        for (const handlers of this.#streams.get(address) ?? [])
          handlers.onClosed(new LedgerError('UNAVAILABLE', 'connection reset'))
        this.#streams.delete(address)
      },
    }
    this.brokers.set(address, broker)
    return broker
  }

  pushRoute(route: RouteReply): void {
    this.route = route
    for (const watcher of this.#watchers) watcher.onMessage(route)
  }

  /** The streams to namesrvs end; they open again where one is up. */
  breakWatches(): void {
    for (const watcher of this.#watchers) {
      this.#watchers.delete(watcher)
      watcher.onClosed(new LedgerError('UNAVAILABLE', 'connection reset'))
    }
  }

  connect(address: string): Channel {
    return {
      address,
      call: (method, request) => this.#call(address, method.name, request) as Promise<never>,
      open: (method, handlers) => this.#open(address, method as StreamMethod<unknown, unknown>, handlers as Handlers),
      close: () => {},
    }
  }

  listen(): never {
    throw new Error('a scripted transport does not listen')
  }

  async #call(address: string, name: string, request: unknown): Promise<unknown> {
    await new Promise((resolve) => setImmediate(resolve))
    if (address.startsWith('ns')) {
      if (!this.namesrvUp) throw new LedgerError('UNAVAILABLE', `connect ECONNREFUSED ${address}`)
      return this.route
    }
    const broker = this.brokers.get(address)
    if (!broker?.up) throw new LedgerError('UNAVAILABLE', `connect ECONNREFUSED ${address}`)
    const scripted = broker.calls.get(name)
    if (scripted) return scripted(request as never)
    if (name === 'Probe') return { group: broker.group, node: broker.node, leader: broker.leads }
    throw new LedgerError('UNIMPLEMENTED', `${name} is not scripted`)
  }

  #open(address: string, method: StreamMethod<unknown, unknown>, handlers: Handlers): ReturnType<Channel['open']> {
    if (method.name === 'WatchRoute') return this.#watch(handlers)
    const streams = this.#streams.get(address) ?? new Set()
    this.#streams.set(address, streams.add(handlers))
    let open = true
    return {
      write: (bytes) => {
        setImmediate(() => open && this.#serve(address, method.name, bytes as Buffer, handlers))
        return true
      },
      end: () => {
        open = false
        streams.delete(handlers)
      },
      cancel: () => {
        open = false
        streams.delete(handlers)
      },
    }
  }

  #watch(handlers: Handlers): ReturnType<Channel['open']> {
    setImmediate(() => {
      if (!this.namesrvUp) handlers.onClosed(new LedgerError('UNAVAILABLE', 'no namesrv'))
    })
    this.#watchers.add(handlers)
    return {
      write: () => {
        setImmediate(() => this.namesrvUp && this.#watchers.has(handlers) && handlers.onMessage(this.route))
        return true
      },
      end: () => this.#watchers.delete(handlers),
      cancel: () => this.#watchers.delete(handlers),
    }
  }

  #serve(address: string, name: string, bytes: Buffer, handlers: Handlers): void {
    const broker = this.brokers.get(address)
    const isOpen = (): boolean => this.#streams.get(address)?.has(handlers) ?? false
    if (!broker?.up || !isOpen()) return
    const send = (answer: Buffer): void => {
      setImmediate(() => isOpen() && handlers.onMessage(answer))
    }
    if (name === 'Produce') {
      const { requestId, timeoutMs, batch } = decodeProduceRequest(bytes)
      const reply: Produced['reply'] = (answer) => send(encodeProduceReplies([produceReply(requestId, answer)]))
      const produced = { address, requestId, timeoutMs, batch, header: readBatchHeader(batch), reply }
      this.produced.push(produced)
      broker.onProduce(produced)
      return
    }
    const request = decodePullRequest(bytes)
    const reply: Pulled['reply'] = (answer) => send(encodePullReply(pullReply(request, answer)))
    const pulled = { address, request, reply }
    this.pulled.push(pulled)
    if (!request.cancel) broker.onPull(pulled)
  }
}

function produceReply(requestId: number, answer: Partial<ProduceReply> | LedgerError): ProduceReply {
  const base = { requestId, code: 0, baseOffset: 0, index: 1, term: 1, storeTime: 1, duplicate: false, status: null }
  if (!(answer instanceof LedgerError)) return { ...base, ...answer }
  return { ...base, code: errorTable[answer.code].number, status: toWireStatus(answer) }
}

function pullReply(request: PullRequest, answer: Partial<PullReply> | LedgerError): PullReply {
  const base = {
    requestId: request.requestId,
    code: 0,
    status: null,
    nextOffset: request.offset,
    minOffset: 0,
    maxOffset: 0,
    appliedIndex: 7,
    commitIndex: 9,
    appliedTime: 1,
    topicId: request.topicId,
    suggestedNode: '',
    batches: [],
  }
  if (!(answer instanceof LedgerError)) return { ...base, ...answer }
  return { ...base, code: errorTable[answer.code].number, status: toWireStatus(answer) }
}

/** A route in which each group has nodes `<group>-n0…` at addresses of the same name with port 1, led by n0. */
export function routeOf(
  groups: Readonly<Record<string, { readonly term?: number; readonly leader?: string; readonly nodes?: number }>>,
  topics: Readonly<Record<string, Readonly<Record<string, number>>>> = {},
  topicId = 5,
): RouteReply {
  return {
    version: 1,
    groups: Object.entries(groups).map(([group, { term = 1, leader = `${group}-n0`, nodes = 3 }]) => ({
      cluster: 'c',
      group,
      incarnation: `i-${group}`,
      term,
      leader,
      nodes: Array.from({ length: nodes }, (_, n) => ({ node: `${group}-n${n}`, address: `${group}-n${n}:1` })),
    })),
    topics: Object.entries(topics).map(([topic, queues]) => ({
      topic,
      queues: Object.entries(queues).map(([group, count]) => ({
        group,
        topicId,
        readQueues: count,
        writeQueues: count,
        permission: 6,
      })),
    })),
  }
}

/** All brokers of a route; those that it calls leaders lead. */
export function addBrokers(transport: ScriptedTransport): void {
  for (const group of transport.route.groups)
    for (const { node, address } of group.nodes)
      transport.addBroker(address, group.group, node).leads = node === group.leader
}
