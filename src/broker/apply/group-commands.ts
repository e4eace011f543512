/** Commands about consumer groups beyond offsets and assignment: settings, seeks, locks of orderly consumption. */
import { messages, nested, type Schema, schema, text, uint } from '../../common/protobuf-schema.ts'
import { defaultGroupSettings, type GroupSettings, groupSettingsSchema } from './group-config.ts'

export interface QueueId {
  readonly topicId: number
  readonly queue: number
}

export interface QueuePosition extends QueueId {
  readonly offset: number
}

export interface SetGroup {
  readonly kind: 'set_group'
  readonly group: string
  /** Whole: what is not to change is given as it is. */
  readonly settings: GroupSettings
}

/** A group without members is forgotten, with its offsets, locks, received messages, settings and retry topic. */
export interface DeleteGroup {
  readonly kind: 'delete_group'
  readonly group: string
}

/**
 * Offsets that an operator chose. Members keep their queues under a new generation, so that nothing counts that they
 * consumed before it; what was received one by one and not acknowledged is forgotten in these queues.
 */
export interface SeekGroup {
  readonly kind: 'seek_group'
  readonly group: string
  /** The generation of the preview: refused when the group was rebalanced since. */
  readonly expectedGeneration: number
  readonly offsets: readonly QueuePosition[]
}

export interface LockQueues {
  readonly kind: 'lock_queues'
  readonly group: string
  readonly member: string
  readonly generation: number
  /** Milliseconds of log time from the entry on. */
  readonly leaseMs: number
  /** The order is the order of the answer. */
  readonly queues: readonly QueueId[]
}

export interface UnlockQueues {
  readonly kind: 'unlock_queues'
  readonly group: string
  readonly member: string
  /** In which they were locked: a late command takes no lease of a later one. */
  readonly generation: number
  readonly queues: readonly QueueId[]
}

type Payload<Command> = Omit<Command, 'kind'>

export const queueIdSchema: Schema<QueueId> = schema<QueueId>({ topicId: uint(1), queue: uint(2) })
const positionSchema: Schema<QueuePosition> = schema<QueuePosition>({
  topicId: uint(1),
  queue: uint(2),
  offset: uint(3),
})

export const setGroupSchema: Schema<Payload<SetGroup>> = schema<Payload<SetGroup>>({
  group: text(1),
  settings: nested(2, groupSettingsSchema, defaultGroupSettings),
})

export const deleteGroupSchema: Schema<Payload<DeleteGroup>> = schema<Payload<DeleteGroup>>({ group: text(1) })

export const seekGroupSchema: Schema<Payload<SeekGroup>> = schema<Payload<SeekGroup>>({
  group: text(1),
  expectedGeneration: uint(2),
  offsets: messages(3, positionSchema),
})

export const lockQueuesSchema: Schema<Payload<LockQueues>> = schema<Payload<LockQueues>>({
  group: text(1),
  member: text(2),
  generation: uint(3),
  leaseMs: uint(4),
  queues: messages(5, queueIdSchema),
})

export const unlockQueuesSchema: Schema<Payload<UnlockQueues>> = schema<Payload<UnlockQueues>>({
  group: text(1),
  member: text(2),
  generation: uint(3),
  queues: messages(4, queueIdSchema),
})
