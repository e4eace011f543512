/** Offsets of many queues at once: no request names more of them than a broker takes. */
import { expect, test } from 'vitest'
import { commitOffsets, fetchOffsets, queueKey } from '../../../src/client/consumer/offsets.ts'
import type { LeaderCallPorts } from '../../../src/client/leader-call.ts'
import type { MessageQueue } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { queuesPerRequestMax } from '../../../src/message/limits.ts'
import type { QueueOffset } from '../../../src/rpc/methods.ts'
import { ManualClock } from '../../support/manual-clock.ts'

interface OffsetsRequest {
  readonly queues?: readonly QueueOffset[]
  readonly offsets?: readonly QueueOffset[]
}

/** A leader that answers with what it is asked for, and keeps how many queues each request named. */
function scripted(): { readonly ports: LeaderCallPorts; readonly counts: number[] } {
  const counts: number[] = []
  const call = async (_method: unknown, { queues, offsets }: OffsetsRequest): Promise<unknown> => {
    const named = queues ?? offsets ?? []
    counts.push(named.length)
    return { offsets: named.map(({ topic, queue }) => ({ topic, queue, offset: queue + 1 })) }
  }
  const route = { leader: { node: 'n0', address: 'n0:1' }, nodes: [] }
  const ports = {
    routes: { table: { group: () => route }, refresh: () => {} },
    pool: { get: () => ({ call }) },
    clock: new ManualClock(),
    random: systemRandom,
  }
  return { ports: ports as unknown as LeaderCallPorts, counts }
}

const queues: readonly MessageQueue[] = Array.from({ length: 2 * queuesPerRequestMax + 1 }, (_, at) => ({
  topic: `t${at % 10}`,
  group: 'g',
  queue: Math.floor(at / 10),
}))

test('offsets of more queues than one request may name are fetched in several', async () => {
  const { ports, counts } = scripted()
  const found = await fetchOffsets(ports, 'c', queues, { timeoutMs: 1000 })
  expect(counts.sort()).toEqual([1, queuesPerRequestMax, queuesPerRequestMax])
  expect(found.size).toBe(queues.length)
  for (const queue of queues) expect(found.get(queueKey(queue))).toBe(queue.queue + 1)
})

test('offsets of more queues than one request may name are committed in several', async () => {
  const { ports, counts } = scripted()
  const committer = { group: 'c', member: 'm', generation: 1 }
  const offsets = queues.map((queue) => ({ queue, offset: 1 }))
  await commitOffsets(ports, committer, offsets, { timeoutMs: 1000, seek: false })
  expect(counts).toEqual([queuesPerRequestMax, queuesPerRequestMax, 1])
})
