/**
 * What operators and tools ask of a cluster: topics, replica status, events. Made by `client.admin()`; the command line
 * and the console are written on it.
 */
import type { Clock, Random } from '../common/clock.ts'
import { LedgerError, toLedgerError } from '../common/errors.ts'
import { queuesPerTopicMax } from '../message/limits.ts'
import { checkTopicName } from '../message/names.ts'
import {
  adminMethods,
  brokerMethods,
  type NodeEvent,
  type QueueRange,
  type ReplicaStatusReply,
  type TopicConfig,
  type TopicInfo,
} from '../rpc/methods.ts'
import type { UnaryMethod } from '../rpc/transport.ts'
import { checkList, checkOptions, checkQueue, checkText } from './arguments.ts'
import type { ConnectionPool } from './connection.ts'
import { watchEvents } from './event-stream.ts'
import { callLeader } from './leader-call.ts'
import { checkArgument } from './options.ts'
import type { RouteCache } from './route-cache.ts'
import { readPermission, writePermission } from './route-table.ts'
import type { MessageQueue } from './types.ts'

export interface AdminPorts {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly requestTimeoutMs: number
}

export interface AdminOptions {
  readonly signal?: AbortSignal
  /** Total time, milliseconds. */
  readonly timeoutMs?: number
}

export interface TopicSettings {
  readonly topic: string
  /** Queues on each broker group. Default 8. */
  readonly queues?: number
  /** RocketMQ's bits: 4 read, 2 write. Default 6. */
  readonly permission?: number
  /** Only on these broker groups. Default: all. */
  readonly groups?: readonly string[]
}

/** What one broker group says. */
export interface GroupTopic {
  readonly group: string
  readonly topic: TopicInfo
}

export interface TopicDescription extends GroupTopic {
  readonly queues: readonly QueueRange[]
}

/** One replica: its status, or why it did not tell. */
export interface ReplicaReport {
  readonly group: string
  readonly node: string
  /** Where clients reach it; empty when no namesrv knows. */
  readonly address: string
  readonly status: ReplicaStatusReply | null
  readonly error: LedgerError | null
}

export class Admin {
  readonly #ports: AdminPorts

  constructor(ports: AdminPorts) {
    this.#ports = ports
  }

  /** Creates the topic on all broker groups; one that has it with these settings is fine. Throws TOPIC_EXISTS. */
  async createTopic(settings: TopicSettings, options: AdminOptions = {}): Promise<readonly GroupTopic[]> {
    checkOptions(options)
    const request = { config: toConfig(settings), automatic: false }
    return await this.#onGroups(settings, adminMethods.createTopic, request, options)
  }

  /** Changes number of queues (never fewer) and permission. Throws TOPIC_NOT_EXIST. */
  async updateTopic(settings: TopicSettings, options: AdminOptions = {}): Promise<readonly GroupTopic[]> {
    checkOptions(options)
    return await this.#onGroups(settings, adminMethods.updateTopic, { config: toConfig(settings) }, options)
  }

  /**
   * Deletes the topic with all its messages and committed offsets, on all broker groups that have it. One that is
   * created again meanwhile stays. Throws TOPIC_NOT_EXIST when no group has it.
   */
  async deleteTopic(topic: string, options: AdminOptions = {}): Promise<void> {
    checkOptions(options)
    checkTopicName(topic)
    const outcomes = await Promise.all(
      this.#groups(undefined).map((group) =>
        this.#deleteOn(group, topic, options).then(
          () => null,
          (cause: unknown) => toLedgerError(cause),
        ),
      ),
    )
    const failed = outcomes.find((error) => error !== null && error.code !== 'TOPIC_NOT_EXIST')
    if (failed) throw failed
    if (outcomes.every((error) => error !== null)) throw noTopic(topic)
    this.#ports.routes.refresh()
  }

  /** Settings and queue ranges per broker group. Throws TOPIC_NOT_EXIST when no group has it. */
  async describeTopic(topic: string, options: AdminOptions = {}): Promise<readonly TopicDescription[]> {
    checkOptions(options)
    checkTopicName(topic)
    const found = await Promise.all(
      this.#groups(undefined).map(async (group) => {
        try {
          return [{ group, ...(await this.#call(group, adminMethods.describeTopic, { topic }, options)) }]
        } catch (cause) {
          if (toLedgerError(cause).code === 'TOPIC_NOT_EXIST') return []
          throw cause
        }
      }),
    )
    if (found.flat().length === 0) throw noTopic(topic)
    return found.flat()
  }

  /** Topics of all broker groups, by name. */
  async listTopics(options: AdminOptions = {}): Promise<readonly GroupTopic[]> {
    checkOptions(options)
    const lists = await Promise.all(
      this.#groups(undefined).map(async (group) => {
        const { topics } = await this.#call(group, adminMethods.listTopics, {}, options)
        return topics.map((topic) => ({ group, topic }))
      }),
    )
    const name = (entry: GroupTopic): string => entry.topic.config.topic
    return lists.flat().sort((a, b) => name(a).localeCompare(name(b)) || a.group.localeCompare(b.group))
  }

  /**
   * Every replica that the namesrv knows, asked directly, and every member that only its peers name. One that does
   * not answer is part of the answer.
   */
  async clusterStatus(options: AdminOptions = {}): Promise<readonly ReplicaReport[]> {
    checkOptions(options)
    const timeoutMs = options.timeoutMs ?? Math.min(2_000, this.#ports.requestTimeoutMs)
    const call = options.signal ? { timeoutMs, signal: options.signal } : { timeoutMs }
    const replicas = this.#ports.routes.table
      .groups()
      .flatMap((route) => route.nodes.map((node) => ({ group: route.group, ...node })))
    const reports = await Promise.all(
      replicas.map(async (replica): Promise<ReplicaReport> => {
        try {
          const status = await this.#ports.pool.get(replica.address).call(adminMethods.getReplicaStatus, {}, call)
          return { ...replica, status, error: null }
        } catch (cause) {
          return { ...replica, status: null, error: toLedgerError(cause) }
        }
      }),
    )
    return [...reports, ...missingMembers(reports)]
  }

  /** Offsets of one queue, confirmed by its leader; with `time` also the first offset stored at or after it. */
  async queryOffsets(
    queue: MessageQueue,
    options: AdminOptions & { readonly time?: number } = {},
  ): Promise<{ readonly minOffset: number; readonly maxOffset: number; readonly offsetByTime?: number }> {
    checkOptions(options)
    checkQueue(queue)
    const { time } = options
    if (time !== undefined) checkArgument('time', time, 0, Number.MAX_SAFE_INTEGER)
    const request = { topic: queue.topic, queue: queue.queue, ...(time === undefined ? {} : { time }) }
    const reply = await this.#call(queue.group, brokerMethods.queryOffsets, request, options)
    const { minOffset, maxOffset, offsetByTime } = reply
    return { minOffset, maxOffset, ...(offsetByTime === undefined ? {} : { offsetByTime }) }
  }

  /** Status of the replica at this address, asked directly. Throws UNAVAILABLE when nobody answers there. */
  async replicaStatus(address: string, options: AdminOptions = {}): Promise<ReplicaStatusReply> {
    checkOptions(options)
    checkText('address', address)
    const timeoutMs = options.timeoutMs ?? this.#ports.requestTimeoutMs
    const call = options.signal ? { timeoutMs, signal: options.signal } : { timeoutMs }
    return await this.#ports.pool.get(address).call(adminMethods.getReplicaStatus, {}, call)
  }

  /**
   * Events of the node at `address`, or of all nodes, also of those that come later; oldest first per node, until the
   * signal aborts or the client closes. A node that goes away is connected again when it is back; nothing is told twice.
   */
  watchEvents(
    options: { readonly address?: string; readonly signal?: AbortSignal } = {},
  ): AsyncIterableIterator<NodeEvent> {
    checkOptions(options)
    const { routes } = this.#ports
    const { address } = options
    if (address !== undefined) checkText('address', address)
    const source = {
      addresses: (): readonly string[] =>
        address === undefined
          ? routes.table.groups().flatMap((route) => route.nodes.map((node) => node.address))
          : [address],
      listen: (onChange: () => void): (() => void) => routes.listen({ onRouteChanged: onChange }),
    }
    return watchEvents(this.#ports, source, options.signal)
  }

  /**
   * Asked by id: an attempt whose answer was lost may have deleted it, and the next one must not take a topic that was
   * created since for it. Gone is what was asked for, whoever did it.
   */
  async #deleteOn(group: string, topic: string, options: AdminOptions): Promise<void> {
    const { clock, requestTimeoutMs } = this.#ports
    const deadlineMs = clock.monotonicMs() + (options.timeoutMs ?? requestTimeoutMs)
    const { topicId } = (await this.#call(group, adminMethods.describeTopic, { topic }, options)).topic
    const timeoutMs = Math.max(1, deadlineMs - clock.monotonicMs())
    try {
      await this.#call(group, adminMethods.deleteTopic, { topic, topicId }, { ...options, timeoutMs })
    } catch (cause) {
      if (toLedgerError(cause).code !== 'TOPIC_NOT_EXIST') throw cause
    }
  }

  async #onGroups<Request>(
    settings: TopicSettings,
    method: UnaryMethod<Request, { readonly topic: TopicInfo }>,
    request: Request,
    options: AdminOptions,
  ): Promise<readonly GroupTopic[]> {
    const groups = this.#groups(settings.groups)
    const done = await Promise.all(
      groups.map(async (group) => ({ group, ...(await this.#call(group, method, request, options)) })),
    )
    for (const { group, topic } of done) this.#ports.routes.learnTopic(group, topic)
    return done
  }

  #groups(wanted: readonly string[] | undefined): readonly string[] {
    const known = this.#ports.routes.table.groups().map((route) => route.group)
    if (known.length === 0) throw new LedgerError('NO_ROUTE', 'no namesrv knows a broker')
    const unknown = wanted?.find((group) => !known.includes(group))
    if (unknown === undefined) return wanted ?? known
    throw new LedgerError('INVALID_PARAMETER', `there is no broker group ${unknown}; known are ${known.join(', ')}`)
  }

  #call<Request, Response>(
    group: string,
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: AdminOptions,
  ): Promise<Response> {
    const timeoutMs = options.timeoutMs ?? this.#ports.requestTimeoutMs
    const call = options.signal ? { timeoutMs, signal: options.signal } : { timeoutMs }
    return callLeader(this.#ports, group, { method, request }, call)
  }
}

/** For producers that meet an unknown topic: on every group; enough when one has it, the others follow or log. */
export async function createTopicEverywhere(
  ports: AdminPorts,
  topic: string,
  queues: number,
  onFailure: (group: string, error: LedgerError) => void,
): Promise<void> {
  const groups = ports.routes.table.groups().map((route) => route.group)
  if (groups.length === 0) throw new LedgerError('NO_ROUTE', `no namesrv knows a broker to create topic ${topic} on`)
  const request = { config: toConfig({ topic, queues }), automatic: true }
  const create = async (group: string): Promise<void> => {
    try {
      const call = { method: adminMethods.createTopic, request }
      const reply = await callLeader(ports, group, call, { timeoutMs: ports.requestTimeoutMs })
      ports.routes.learnTopic(group, reply.topic)
    } catch (cause) {
      const error = toLedgerError(cause)
      if (error.code === 'TOPIC_EXISTS') return ports.routes.refresh()
      onFailure(group, error)
      throw error
    }
  }
  const all = groups.map(create)
  try {
    await Promise.any(all)
  } catch (cause) {
    throw cause instanceof AggregateError ? cause.errors[0] : cause
  }
}

/** Members that registered with no namesrv (down, or strangers to their group), with what their peers say of them. */
function missingMembers(reports: readonly ReplicaReport[]): readonly ReplicaReport[] {
  const seen = new Set(reports.map(({ group, node }) => `${group}/${node}`))
  const missing: ReplicaReport[] = []
  for (const { group, status } of reports) {
    for (const { node, problem } of status?.peers ?? []) {
      if (seen.has(`${group}/${node}`)) continue
      seen.add(`${group}/${node}`)
      const text = `registered with no namesrv; ${status?.node} says: ${problem ?? 'it is connected'}`
      missing.push({ group, node, address: '', status: null, error: new LedgerError('UNAVAILABLE', text) })
    }
  }
  return missing
}

function toConfig(settings: TopicSettings): TopicConfig {
  if (typeof settings !== 'object' || settings === null)
    throw new LedgerError('INVALID_PARAMETER', 'settings must be an object with a topic')
  if (settings.groups !== undefined) checkList('INVALID_PARAMETER', 'groups', settings.groups)
  checkTopicName(settings.topic)
  const queues = checkArgument('queues', settings.queues ?? 8, 1, queuesPerTopicMax)
  const permission = checkArgument('permission', settings.permission ?? readPermission | writePermission, 0, 7)
  return { topic: settings.topic, readQueues: queues, writeQueues: queues, permission }
}

function noTopic(topic: string): LedgerError {
  return new LedgerError('TOPIC_NOT_EXIST', `no broker group has topic ${topic}`)
}
