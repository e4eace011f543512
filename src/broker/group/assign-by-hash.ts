/**
 * Queues by consistent hashing (RocketMQ: AllocateMessageQueueConsistentHash): when a member comes or goes, only queues
 * that it gets or had move. Not even: for groups whose members come and go more often than that matters.
 */
import type { Queue } from './assign.ts'

/** Places of one member on the ring: more are more even (RocketMQ: 10). */
const placesPerMember = 64

interface Place {
  readonly at: number
  readonly member: string
}

/** Queues by member; every member is present. */
export function assignByHash(
  members: readonly string[],
  queues: readonly Queue[],
): ReadonlyMap<string, readonly Queue[]> {
  const sorted = [...new Set(members)].sort()
  const ring = sorted.flatMap(placesOf).sort((a, b) => a.at - b.at || (a.member < b.member ? -1 : 1))
  const assigned = new Map<string, Queue[]>(sorted.map((member) => [member, []]))
  const inOrder = [...queues].sort((a, b) => a.topicId - b.topicId || a.queue - b.queue)
  for (const queue of inOrder) assigned.get(ownerOf(ring, hashOf(`${queue.topicId}/${queue.queue}`)))?.push(queue)
  return assigned
}

function placesOf(member: string): Place[] {
  return Array.from({ length: placesPerMember }, (_, place) => ({ at: hashOf(`${member}#${place}`), member }))
}

/** Of the first place at or behind the hash; the ring is closed. */
function ownerOf(ring: readonly Place[], hash: number): string {
  let low = 0
  let high = ring.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ring[middle]?.at ?? 0) < hash) low = middle + 1
    else high = middle
  }
  return (ring[low] ?? ring[0])?.member ?? ''
}

/** FNV-1a, mixed once more: names that differ in one digit land far apart. All leaders must agree on it. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
