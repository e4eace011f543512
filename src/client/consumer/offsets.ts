/**
 * Committed offsets and queue limits, asked from the leaders. Used by both consumers. Offsets live in the replicated
 * log of each broker group; nothing is kept here.
 */
import { queuesPerRequestMax } from '../../message/limits.ts'
import { brokerMethods, type QueueOffset } from '../../rpc/methods.ts'
import { callLeader, type LeaderCallOptions, type LeaderCallPorts } from '../leader-call.ts'
import type { MessageQueue, StartFrom } from '../types.ts'

export interface OffsetOfQueue {
  readonly queue: MessageQueue
  readonly offset: number
}

/** Who commits: a member of a group with its generation, or a consumer that assigned its queues by itself. */
export interface Committer {
  readonly group: string
  readonly member: string
  readonly generation: number
}

/**
 * `seek`: may move offsets back. All queues must belong to one broker group. More than fit into one request are not
 * committed as a whole: what comes behind one that is refused is not.
 */
export async function commitOffsets(
  ports: LeaderCallPorts,
  committer: Committer,
  offsets: readonly OffsetOfQueue[],
  options: LeaderCallOptions & { readonly seek: boolean },
): Promise<void> {
  const brokerGroup = offsets[0]?.queue.group
  if (brokerGroup === undefined) return
  for (const part of requestsOf(offsets)) {
    const request = { ...committer, seek: options.seek, offsets: part.map(toWire) }
    await callLeader(ports, brokerGroup, { method: brokerMethods.commitOffsets, request }, options)
  }
}

/** Committed offset per queue, by `queueKey`; absent where the group never committed. */
export async function fetchOffsets(
  ports: LeaderCallPorts,
  group: string,
  queues: readonly MessageQueue[],
  options: LeaderCallOptions,
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>()
  const parts = [...byBrokerGroup(queues, (queue) => queue).values()].flatMap(requestsOf)
  await Promise.all(
    parts.map(async (part) => {
      const brokerGroup = part[0]?.group ?? ''
      const request = { group, queues: part.map((queue) => toWire({ queue, offset: 0 })) }
      const reply = await callLeader(ports, brokerGroup, { method: brokerMethods.fetchOffsets, request }, options)
      for (const { topic, queue, offset } of reply.offsets) {
        if (offset !== undefined) found.set(queueKey({ topic, group: brokerGroup, queue }), offset)
      }
    }),
  )
  return found
}

/** Where to start; 'first' needs no answer of a leader, so that reading works while there is none. */
export async function resolveStart(
  ports: LeaderCallPorts,
  queue: MessageQueue,
  from: StartFrom,
  options: LeaderCallOptions,
): Promise<number | 'first'> {
  if (from === 'first') return 'first'
  const request = { topic: queue.topic, queue: queue.queue, ...(from === 'last' ? {} : { time: from.time }) }
  const reply = await callLeader(ports, queue.group, { method: brokerMethods.queryOffsets, request }, options)
  return from === 'last' ? reply.maxOffset : (reply.offsetByTime ?? reply.maxOffset)
}

/** Ids of the topics of these queues of one broker group, by name, as its leader knows them now. */
export async function fetchTopicIds(
  ports: LeaderCallPorts,
  queues: readonly MessageQueue[],
  options: LeaderCallOptions,
): Promise<ReadonlyMap<string, number>> {
  const one = new Map(queues.map((queue) => [queue.topic, queue]))
  const found = await Promise.all(
    [...one.values()].map(async ({ topic, group, queue }): Promise<[string, number]> => {
      const call = { method: brokerMethods.queryOffsets, request: { topic, queue } }
      return [topic, (await callLeader(ports, group, call, options)).topicId]
    }),
  )
  return new Map(found)
}

export function queueKey(queue: MessageQueue): string {
  return `${queue.topic}/${queue.group}/${queue.queue}`
}

export function byBrokerGroup<Item>(
  items: readonly Item[],
  queueOf: (item: Item) => MessageQueue,
): ReadonlyMap<string, readonly Item[]> {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    const { group } = queueOf(item)
    const known = groups.get(group)
    if (known) known.push(item)
    else groups.set(group, [item])
  }
  return groups
}

/** A member that is alone in its group may own more queues than one request may name. */
function requestsOf<Item>(items: readonly Item[]): readonly (readonly Item[])[] {
  const count = Math.ceil(items.length / queuesPerRequestMax)
  return Array.from({ length: count }, (_, at) => items.slice(at * queuesPerRequestMax, (at + 1) * queuesPerRequestMax))
}

function toWire(entry: OffsetOfQueue): QueueOffset {
  return { topic: entry.queue.topic, queue: entry.queue.queue, offset: entry.offset }
}
