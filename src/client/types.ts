/**
 * The words of the SDK's public surface: queues, results, options and status. Re-exported by `mod.ts`; every room of
 * the client uses them. Types only.
 */
import type { LedgerError } from '../common/errors.ts'
import type { Message } from '../message/types.ts'

/** One queue of a topic on one broker group (RocketMQ MessageQueue). */
export interface MessageQueue {
  readonly topic: string
  /** Name of the broker group, for example `RaftNode00`. */
  readonly group: string
  readonly queue: number
}

/** What an acknowledged message got. A majority of the broker group holds it on its disks. */
export interface SendResult {
  readonly status: 'SEND_OK'
  /** Made by the client, unique in the world. */
  readonly messageId: string
  readonly queue: MessageQueue
  /** Offset in the queue, final: no failover changes it. */
  readonly offset: number
  /** Index of the log entry that holds the message's batch. */
  readonly index: number
  /** Term of the leader that acknowledged. */
  readonly term: number
  /** How often the batch was sent, 1 when the first try succeeded. Jumps to a hinted leader are not counted. */
  readonly attempts: number
  /** True: an earlier try had been stored already; it is still there once. */
  readonly duplicate: boolean
}

/** RocketMQ's MessageQueueSelector: picks one of the writable queues. Such a send never fails over to another queue. */
export type QueueSelector = (queues: readonly MessageQueue[], message: Message, argument: unknown) => MessageQueue

export interface SendOptions {
  /** Abort: the promise rejects with ABORTED. A message already on its way may still be stored. */
  readonly signal?: AbortSignal
  /** Total time for this message in milliseconds, instead of the producer's `sendTimeoutMs`. */
  readonly timeoutMs?: number
  readonly selector?: QueueSelector
  /** Handed to the selector, for example the order id. */
  readonly selectorArg?: unknown
}

/** Which latency table the fault strategy uses: RocketMQ 5.x or 4.9. */
export type FaultTableName = '5.x' | '4.9'

export interface ProducerOptions {
  /** Producer group, for logs and, later, transactions. */
  readonly group?: string
  /** Total time for one message over all its attempts, milliseconds. Default 10,000 (RocketMQ: 3,000). */
  readonly sendTimeoutMs?: number
  /**
   * RocketMQ's retryTimesWhenSendFailed: the total time is split into this many attempts plus one. Refusals that come
   * back at once do not count; tries go on until the total time has passed. Default 2.
   */
  readonly retries?: number
  /** Least time of one attempt, milliseconds. Default 500. */
  readonly attemptTimeoutMsMin?: number
  /**
   * Default true: every message is stored once within its broker group. False: no sequences; a message whose outcome
   * is unknown may be sent again to another group, and so may be stored twice.
   */
  readonly idempotent?: boolean
  /** RocketMQ's sendLatencyFaultEnable: set slow and failing broker groups aside. Default true. */
  readonly faultStrategy?: boolean
  /** Default '5.x'. */
  readonly faultTable?: FaultTableName
  /** Create an unknown topic on all broker groups at the first send. Default true. */
  readonly autoCreateTopics?: boolean
  /** Queues per broker group of a topic that is created automatically. Default 8. */
  readonly queuesPerTopic?: number
  /** Most bytes of messages that wait or are in flight; more is refused with BUFFER_FULL. Default 64 MiB. */
  readonly bufferBytesMax?: number
  /** Batches in flight up to which a new one leaves at once instead of filling. Default 4. */
  readonly eagerBatches?: number
}

/** Which replica a consumer reads from. A replica that is gone is replaced by any other until it is back. */
export type ReadFrom = 'leader' | 'follower' | 'suggested' | { readonly node: string }

/** Where a consumer starts in a queue without a committed offset; `time` in milliseconds since the epoch. */
export type StartFrom = 'first' | 'last' | { readonly time: number }

export interface PullConsumerOptions {
  /** Consumer group whose offsets `commit` writes. Needed for `commit` and `committed` only. */
  readonly group?: string
  /** Default 'leader'. */
  readonly readFrom?: ReadFrom
  /** Default 'first'. */
  readonly from?: StartFrom
  /** Bytes asked for by one pull. Default 1 MiB. */
  readonly pullBytes?: number
  /** Bytes read ahead for one queue. Default 4 MiB. */
  readonly prefetchBytesPerQueue?: number
  /** Bytes read ahead for all queues. Default 64 MiB. */
  readonly prefetchBytesMax?: number
  /** How long the broker holds an empty pull. Default 15,000 ms. */
  readonly longPollMs?: number
}

/**
 * A write that a later read must see: a `SendResult` is one. `index` is the log index of the write in its broker group.
 */
export interface WriteToken {
  readonly queue: { readonly group: string }
  readonly index: number
}

export interface PollOptions {
  readonly signal?: AbortSignal
  /**
   * Read-your-writes, from followers too: null is returned only after every assigned queue of these broker groups was
   * read to its end at a replica that had applied the writes. Rejects with DEADLINE_EXCEEDED when no replica got there
   * within the client's `requestTimeoutMs`.
   */
  readonly after?: WriteToken | readonly WriteToken[]
  /** Most messages of one batch. Default: a stored batch as it is (up to 1024). */
  readonly maxMessages?: number
  /** How long `poll` waits for the first message. Default: for ever (`batches`), 0 (`poll`). */
  readonly waitMs?: number
}

export interface PushConsumerOptions {
  /** Consumer group: its members share the queues. */
  readonly group: string
  /** Topics; every member of a group must subscribe to the same ones. */
  readonly subscribe: readonly string[]
  /** Listeners that run at the same time, over all queues. Default 20. */
  readonly concurrency?: number
  /** Start in a queue that the group has never committed. Default 'last'. */
  readonly from?: StartFrom
  /** Default 'leader'. */
  readonly readFrom?: ReadFrom
  /** RocketMQ's pullThresholdForQueue: messages held per queue. Default 1000. */
  readonly messagesPerQueueMax?: number
  /** RocketMQ's pullThresholdSizeForQueue: bytes held per queue. Default 100 MiB. */
  readonly bytesPerQueueMax?: number
  /** RocketMQ's consumeConcurrentlyMaxSpan: furthest distance from the first unfinished to the last held. Default 2000. */
  readonly spanMax?: number
  /** Deliveries of one message in all. Default Infinity: a message is retried until its listener returns. */
  readonly attemptsMax?: number
  /** First delay before a local redelivery, doubled up to `retryDelayMsMax`. Default 1,000. */
  readonly retryDelayMs?: number
  /** Default 60,000. */
  readonly retryDelayMsMax?: number
  /** How often offsets are committed, milliseconds. Default 1,000. */
  readonly commitIntervalMs?: number
  /** How long the group waits for a silent member, milliseconds. Default 15,000. */
  readonly sessionTimeoutMs?: number
  /** How long revocation and `close` wait for running listeners, milliseconds. Default 10,000. */
  readonly drainTimeoutMs?: number
}

export interface ConnectOptions {
  /** Addresses of namesrvs: `['a:9876', 'b:9876']` or `'a:9876,b:9876'`. */
  readonly namesrv: readonly string[] | string
  /** Nothing is logged without one. */
  readonly logger?: import('../common/logger.ts').Logger
  /** Abort: connecting stops; afterwards the client closes. */
  readonly signal?: AbortSignal
  /** Total time of one control call (routes, offsets, administration), milliseconds. Default 10,000. */
  readonly requestTimeoutMs?: number
}

/** What the client tells about itself: it delivers, reports, or throws, and is never silent. */
export type ClientStatus =
  | { readonly kind: 'connected'; readonly address: string; readonly role: 'namesrv' | 'broker' }
  | {
      readonly kind: 'disconnected'
      readonly address: string
      readonly role: 'namesrv' | 'broker'
      readonly reason: string
    }
  | {
      readonly kind: 'leaderChanged'
      readonly group: string
      /** Node ids; null when none was or is known. */
      readonly from: string | null
      readonly to: string | null
      readonly term: number
    }
  | { readonly kind: 'rebalanced'; readonly group: string; readonly queues: readonly MessageQueue[] }
  | {
      /** Nothing moves: what, since when, and why. Told once; `resumed` ends it. */
      readonly kind: 'stalled'
      readonly what: 'producer' | 'consumer'
      readonly where: string
      readonly sinceMs: number
      readonly reason: LedgerError
    }
  | { readonly kind: 'resumed'; readonly what: 'producer' | 'consumer'; readonly where: string }
  | {
      /** A listener failed `attemptsMax` times; the message was given up and will not come again. */
      readonly kind: 'messageGivenUp'
      readonly queue: MessageQueue
      readonly offset: number
      readonly messageId: string
      readonly reason: string
    }
  /** The reader of the status was too slow: this many were dropped in front of the next. */
  | { readonly kind: 'missed'; readonly count: number }
