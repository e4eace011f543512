/**
 * The hot messages of `broker.proto`, read and written by hand: valid protobuf whose last field is the raw batch.
 *
 * Used by the SDK and the broker's handlers. Decoders never trust a length: anything malformed throws a LedgerError
 * INVALID_REQUEST. The batch of a decoded message is a view of the received buffer, not a copy.
 */
import type { WireStatus } from './methods.ts'

export interface ProduceRequest {
  readonly requestId: number
  readonly timeoutMs: number
  readonly batch: Buffer
}

export interface ProduceReply {
  readonly requestId: number
  /** 0 is success, else a number of the error table with `status` set. */
  readonly code: number
  readonly baseOffset: number
  readonly index: number
  readonly term: number
  readonly storeTime: number
  readonly duplicate: boolean
  readonly status: WireStatus | null
}

export interface PullRequest {
  readonly requestId: number
  readonly cancel: boolean
  readonly topic: string
  readonly topicId: number
  readonly queue: number
  readonly offset: number
  readonly bytesMax: number
  readonly waitMs: number
  readonly consumerGroup: string
}

/** One stored batch in a PullReply; on the wire a fixed header of `pullEnvelopeBytes` in front of the batch. */
export interface PulledBatch {
  /** Queue offset of the first record of the batch. */
  readonly baseOffset: number
  readonly index: number
  readonly storeTime: number
  /** First record that was asked for; records before it are to be skipped. */
  readonly startRecord: number
  readonly batch: Buffer
}

export interface PullReply {
  readonly requestId: number
  readonly code: number
  readonly status: WireStatus | null
  readonly nextOffset: number
  readonly minOffset: number
  readonly maxOffset: number
  readonly appliedIndex: number
  readonly commitIndex: number
  readonly appliedTime: number
  readonly topicId: number
  readonly suggestedNode: string
  readonly batches: readonly PulledBatch[]
}

/** base offset 8, index 8, store time 8, start record 4, batch length 4; little-endian. */
export const pullEnvelopeBytes = 32

export declare function encodeProduceRequest(request: ProduceRequest): Buffer
export declare function decodeProduceRequest(bytes: Buffer): ProduceRequest
export declare function encodeProduceReplies(replies: readonly ProduceReply[]): Buffer
export declare function decodeProduceReplies(bytes: Buffer): readonly ProduceReply[]
export declare function encodePullRequest(request: PullRequest): Buffer
export declare function decodePullRequest(bytes: Buffer): PullRequest
export declare function encodePullReply(reply: PullReply): Buffer
export declare function decodePullReply(bytes: Buffer): PullReply
