/**
 * Where a group begins in the queues of a topic that it never consumed. It is put into the log before anything is
 * given out or waited for: `last` means what was last when the group came, not when it looked again.
 */
import { LedgerError } from '../../common/errors.ts'
import type { GroupStart } from '../apply/group-config.ts'
import type { ReplicaApi, TopicInfo } from '../contract.ts'
import { proposeCommand } from './propose.ts'

export interface Start {
  readonly from: GroupStart
  /** With `time`: milliseconds since the epoch. */
  readonly time: number
}

/** Resolves when the group has a place in every queue of the topic. Null: as the group is set. */
export async function beginTopic(
  replica: ReplicaApi,
  group: string,
  topic: TopicInfo,
  options: { readonly start: Start | null; readonly timeoutMs: number },
): Promise<void> {
  const { topicId } = topic
  const queues = Array.from({ length: topic.config.readQueues }, (_, queue) => queue)
  const unknown = queues.filter((queue) => !hasPlace(replica, group, topicId, queue))
  if (unknown.length === 0) return
  const settings = replica.machine.groupSettings.get(group)
  const asSet: Start = { from: settings.start, time: settings.startTime }
  // A queue that came later than the group begins with its first message: nobody of the group saw what is in it.
  const isNewQueue = unknown.length < queues.length
  const start: Start = isNewQueue ? { from: 'first', time: 0 } : (options.start ?? asSet)
  await Promise.all(
    unknown.map(async (queue) => {
      const offset = await offsetOf(replica, topicId, queue, start)
      const result = await proposeCommand(
        replica,
        {
          kind: 'receive',
          group,
          topicId,
          queue,
          attemptId: '',
          invisibleMs: 1,
          first: [],
          again: [],
          waiting: [],
          cursor: offset,
          start: offset,
          ordered: false,
        },
        options.timeoutMs,
      )
      // Somebody else of the group was faster, or it was trimmed meanwhile: whoever looks sees it.
      if (result.kind === 'refused' && result.code !== 'SUPERSEDED') throw new LedgerError(result.code, result.message)
    }),
  )
}

function hasPlace({ machine }: ReplicaApi, group: string, topicId: number, queue: number): boolean {
  return (
    machine.received.find(group, { topicId, queue }) !== undefined ||
    machine.committedOffset(group, topicId, queue) !== undefined
  )
}

async function offsetOf({ machine }: ReplicaApi, topicId: number, queue: number, start: Start): Promise<number> {
  if (start.from === 'time') return machine.offsetByTime(topicId, queue, start.time)
  const range = machine.queueRange(topicId, queue)
  return (start.from === 'first' ? range?.min : range?.max) ?? 0
}
