/** The settings of a consumer group: their meaning, their defaults, their bytes. Used by commands, state and handlers. */
import { bool, choice, type Schema, schema, uint, uints } from '../../common/protobuf-schema.ts'

/** How queues are divided among members (RocketMQ: AllocateMessageQueueStrategy). Numbers are never reused. */
export const strategyIds = {
  averagely: 0,
  by_circle: 1,
  consistent_hash: 2,
  machine_room: 3,
  by_configuration: 4,
} as const
export type Strategy = keyof typeof strategyIds

/** Where a group begins in a queue that it never consumed (RocketMQ: ConsumeFromWhere). */
export const startIds = { last: 0, first: 1, time: 2 } as const
export type GroupStart = keyof typeof startIds

export interface GroupSettings {
  /** Deliveries after the first before a message becomes a dead letter (retryMaxTimes). */
  readonly retriesMax: number
  /** Before the first, second, ... of them, milliseconds; the last one counts for all that follow. */
  readonly retryDelaysMs: readonly number[]
  /** Messages of one message group one after the other (consumeMessageOrderly). */
  readonly ordered: boolean
  readonly strategy: Strategy
  readonly start: GroupStart
  /** For `time`: milliseconds since the epoch. */
  readonly startTime: number
  /** Nobody of the group is given messages (not consumeEnable). */
  readonly paused: boolean
}

const second = 1000
const minute = 60 * second

/** RocketMQ's: levels 3 to 18 of messageDelayLevel. */
export const defaultRetryDelaysMs: readonly number[] = [
  10 * second,
  30 * second,
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map((minutes) => minutes * minute),
]

export const defaultGroupSettings: GroupSettings = {
  retriesMax: 16,
  retryDelaysMs: defaultRetryDelaysMs,
  ordered: false,
  strategy: 'averagely',
  start: 'last',
  startTime: 0,
  paused: false,
}

export const groupSettingsSchema: Schema<GroupSettings> = schema<GroupSettings>({
  retriesMax: uint(1),
  retryDelaysMs: uints(2),
  ordered: bool(3),
  strategy: choice(4, strategyIds),
  start: choice(5, startIds),
  startTime: uint(6),
  paused: bool(7),
})
