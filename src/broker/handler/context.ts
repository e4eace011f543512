/**
 * What every client-facing handler works with, and the limits it keeps. Made by `broker.ts`, or by a test.
 */
import type { Clock, Random } from '../../common/clock.ts'
import type { Logger } from '../../common/logger.ts'
import type { ReplicaStatusReply } from '../../rpc/methods.ts'
import type { ReplicaApi } from '../contract.ts'
import type { EventRing } from '../events.ts'

/** Limits of one broker. None of them changes what is stored; those that do are state (`apply/limits.ts`). */
export interface HandlerSettings {
  /** Produce requests of one stream that are not answered yet. */
  readonly produceRequestsMax: number
  /** Bytes of their batches. */
  readonly produceBytesMax: number
  /** What a refused producer is told to wait, milliseconds. */
  readonly retryAfterMs: number
  /** Pulls of one stream that are not answered yet, parked ones included. */
  readonly pullsPerStreamMax: number
  /** Parked pulls of all streams. */
  readonly parkedPullsMax: number
  /** How long a client may leave its answers unread before its stream is broken, milliseconds. */
  readonly unreadMsMax: number
  /** Streams that watch events. */
  readonly eventWatchersMax: number
  /** As the CommitLog was opened with: readers farther behind than 40 % of it are sent to a follower. */
  readonly tailCacheBytes: number
}

export const defaultHandlerSettings: HandlerSettings = {
  produceRequestsMax: 4096,
  produceBytesMax: 64 * 1024 * 1024,
  retryAfterMs: 50,
  pullsPerStreamMax: 4096,
  parkedPullsMax: 100_000,
  unreadMsMax: 30_000,
  eventWatchersMax: 256,
  tailCacheBytes: 64 * 1024 * 1024,
}

export interface HandlerContext {
  readonly replica: ReplicaApi
  readonly events: EventRing
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly settings: HandlerSettings
  status(): ReplicaStatusReply
}
