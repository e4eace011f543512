/**
 * What is said about consumer groups on the wire: their offsets, members, locks, settings. Part of the shapes of
 * `methods.ts`, which mirror `proto/ledgermq/v1/*.proto`.
 */
export interface QueueOffset {
  readonly topic: string
  readonly queue: number
  readonly offset: number
}

export interface CommitOffsetsRequest {
  readonly group: string
  readonly member: string
  readonly generation: number
  readonly offsets: readonly QueueOffset[]
  readonly seek: boolean
  /** True: refused with LEASE_LOST unless the member holds the lock of every queue. */
  readonly leased?: boolean
}

export interface CommitOffsetsReply {
  readonly offsets: readonly QueueOffset[]
}

export interface FetchOffsetsRequest {
  readonly group: string
  readonly queues: readonly QueueOffset[]
}

export interface FetchedOffset {
  readonly topic: string
  readonly queue: number
  /** Absent where the group never committed. */
  readonly offset?: number
}

export interface FetchOffsetsReply {
  readonly offsets: readonly FetchedOffset[]
}

export interface QueryOffsetsRequest {
  readonly topic: string
  readonly queue: number
  readonly time?: number
}

export interface QueryOffsetsReply {
  readonly minOffset: number
  readonly maxOffset: number
  readonly offsetByTime?: number
  readonly topicId: number
}

export interface GroupHeartbeatRequest {
  readonly group: string
  readonly member: string
  readonly topics: readonly string[]
  readonly generation: number
  readonly sessionTimeoutMs: number
}

export interface AssignedQueue {
  readonly topic: string
  readonly queue: number
}

export interface GroupHeartbeatReply {
  readonly generation: number
  readonly queues: readonly AssignedQueue[]
  readonly intervalMs: number
  /** Of the group's settings: deliveries after the first. */
  readonly retriesMax?: number
}

export interface LeaveGroupRequest {
  readonly group: string
  readonly member: string
}

export interface GivenBackMessage {
  readonly offset: number
  /** 0: by the back-off of the group; else a delay level from 1 to 18. */
  readonly delayLevel: number
  /** True: given up, however often it was delivered. */
  readonly deadLetter: boolean
}

export interface GiveBackRequest {
  readonly group: string
  readonly member: string
  readonly generation: number
  readonly topic: string
  readonly queue: number
  readonly entries: readonly GivenBackMessage[]
}

export interface GiveBackReply {
  /** `retry`, `dead_letter` or `done`, in the order asked. */
  readonly outcomes: readonly string[]
}

export interface QueueLease {
  /** Log time at which it ends; 0: another member still has the queue. */
  readonly until: number
}

export interface LockQueuesRequest {
  readonly group: string
  readonly member: string
  readonly generation: number
  readonly leaseMs: number
  readonly queues: readonly AssignedQueue[]
}

export interface LockQueuesReply {
  /** In the order asked. */
  readonly leases: readonly QueueLease[]
}

export interface UnlockQueuesRequest {
  readonly group: string
  readonly member: string
  readonly generation: number
  readonly queues: readonly AssignedQueue[]
}

/** Of a consumer group. `src/broker/apply/group-config.ts` has their meaning. */
export interface GroupSettings {
  readonly retriesMax: number
  readonly retryDelays: readonly { readonly delayMs: number }[]
  readonly ordered: boolean
  readonly strategy: string
  readonly start: string
  readonly startTime: number
  readonly paused: boolean
}

/** What is absent stays as it is. */
export interface GroupSettingsChange {
  readonly retriesMax?: number
  /** Empty: unchanged. */
  readonly retryDelays: readonly { readonly delayMs: number }[]
  readonly ordered?: boolean
  readonly strategy?: string
  readonly start?: string
  readonly startTime?: number
  readonly paused?: boolean
}

export interface SetGroupRequest {
  readonly group: string
  readonly change: GroupSettingsChange
}

export interface SetGroupReply {
  /** As they are now. */
  readonly settings: GroupSettings
}

export interface GroupName {
  readonly group: string
}

export interface ConsumerMember {
  readonly member: string
  readonly topics: readonly string[]
}

export interface GroupQueue {
  readonly topic: string
  readonly queue: number
  readonly minOffset: number
  readonly maxOffset: number
  /** Absent where the group never committed. */
  readonly committedOffset?: number
  readonly lag: number
  /** Empty: nobody owns it. */
  readonly member: string
}

export interface DescribeGroupReply {
  readonly group: string
  readonly settings: GroupSettings
  readonly settingsStored: boolean
  readonly generation: number
  readonly members: readonly ConsumerMember[]
  readonly queues: readonly GroupQueue[]
}

export interface GroupSummary {
  readonly group: string
  readonly generation: number
  readonly members: number
  readonly paused: boolean
}

export interface ListGroupsReply {
  readonly groups: readonly GroupSummary[]
}

export interface SeekGroupRequest {
  readonly group: string
  readonly topic: string
  /** Absent: all queues of the topic. */
  readonly queue?: number
  /** `first`, `last`, `time`, `offset` or `group`. */
  readonly to: string
  readonly time: number
  readonly offset: number
  readonly otherGroup: string
  /** Set: carried out, unless the group is at another generation. Absent: a preview. */
  readonly expectedGeneration?: number
}

export interface SeekPosition {
  readonly topic: string
  readonly queue: number
  readonly currentOffset?: number
  readonly newOffset: number
}

export interface SeekGroupReply {
  readonly generation: number
  readonly queues: readonly SeekPosition[]
}
