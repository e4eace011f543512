/**
 * Who of a consumer group gets which queues of this broker group. A pure function, called by the coordinator.
 *
 * Even (RocketMQ: AllocateMessageQueueAveragely over sorted members and queues, the counts differ by at most one)
 * and sticky: what a member has it keeps as far as evenness allows, because a queue that moves is consumed twice
 * around its last commit.
 */
export interface Queue {
  readonly topicId: number
  readonly queue: number
}

/** Queues by member; every member is present. The same input gives the same output, whatever its order. */
export function assignQueues(
  members: readonly string[],
  queues: readonly Queue[],
  current: ReadonlyMap<string, readonly Queue[]>,
): ReadonlyMap<string, readonly Queue[]> {
  const sorted = [...new Set(members)].sort()
  const free = new Map(sortQueues(queues).map((queue) => [keyOf(queue), queue]))
  const held = new Map(sorted.map((member) => [member, takeHeld(free, current.get(member) ?? [])]))
  const quota = quotas(held, queues.length)
  for (const [member, mine] of held)
    for (const queue of mine.splice(quota.get(member) ?? 0)) free.set(keyOf(queue), queue)
  const rest = sortQueues([...free.values()])
  for (const [member, mine] of held) mine.push(...rest.splice(0, (quota.get(member) ?? 0) - mine.length))
  return new Map([...held].map(([member, mine]) => [member, sortQueues(mine)]))
}

/** The queues of a member that still exist and that no member before it holds; they leave `free`. */
function takeHeld(free: Map<string, Queue>, wanted: readonly Queue[]): Queue[] {
  return sortQueues(wanted).filter((queue) => free.delete(keyOf(queue)))
}

/** How many each member gets. The larger shares go to those that hold most, so that fewest queues move. */
function quotas(held: ReadonlyMap<string, readonly Queue[]>, count: number): ReadonlyMap<string, number> {
  const share = Math.floor(count / held.size)
  const larger = count % held.size
  const byHeld = [...held].sort(([a, mine], [b, other]) => other.length - mine.length || (a < b ? -1 : 1))
  return new Map(byHeld.map(([member], rank) => [member, share + (rank < larger ? 1 : 0)]))
}

function sortQueues(queues: readonly Queue[]): Queue[] {
  return [...queues].sort((a, b) => a.topicId - b.topicId || a.queue - b.queue)
}

function keyOf(queue: Queue): string {
  return `${queue.topicId}/${queue.queue}`
}
