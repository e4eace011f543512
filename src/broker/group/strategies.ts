/** The assignment strategies by their names (RocketMQ: AllocateMessageQueueStrategy). Pure; called by `desired.ts`. */
import type { Strategy } from '../apply/group-config.ts'
import { assignQueues, type Queue } from './assign.ts'
import { assignByCircle } from './assign-by-circle.ts'
import { assignByHash } from './assign-by-hash.ts'

export type Assigned = ReadonlyMap<string, readonly Queue[]>

/** Those of a name that this build cannot assign by are assigned evenly: nobody may be left without an owner. */
export function assignBy(
  strategy: Strategy,
  members: readonly string[],
  queues: readonly Queue[],
  current: Assigned,
): Assigned {
  switch (strategy) {
    case 'by_circle':
      return assignByCircle(members, queues)
    case 'consistent_hash':
      return assignByHash(members, queues)
    default:
      return assignQueues(members, queues, current)
  }
}
