/**
 * Queues dealt out in turn (RocketMQ: AllocateMessageQueueAveragelyByCircle): neighbouring queues go to different
 * members. Even, and not sticky: who has what follows from the sorted members and queues alone.
 */
import type { Queue } from './assign.ts'

/** Queues by member; every member is present. */
export function assignByCircle(
  members: readonly string[],
  queues: readonly Queue[],
): ReadonlyMap<string, readonly Queue[]> {
  const sorted = [...new Set(members)].sort()
  const inOrder = [...queues].sort((a, b) => a.topicId - b.topicId || a.queue - b.queue)
  return new Map(sorted.map((member, at) => [member, inOrder.filter((_, number) => number % sorted.length === at)]))
}
