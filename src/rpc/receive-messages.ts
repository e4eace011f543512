/** What is said about consumption message by message, see `broker.proto`. Types only; the methods are in `methods.ts`. */

export interface ReceiveRequest {
  readonly group: string
  readonly topic: string
  /** Absent: any queue of the topic on this broker group. */
  readonly queue?: number
  readonly maxMessages: number
  readonly bytesMax: number
  readonly waitMs: number
  readonly invisibleMs: number
  readonly attemptId: string
  readonly expression: string
  readonly from: string
  readonly fromTime: number
}

export interface ReceivedReceipt {
  readonly offset: number
  readonly attempt: number
  readonly handle: string
}

export interface ReceiveReply {
  readonly topicId: number
  readonly queue: number
  readonly messages: readonly ReceivedReceipt[]
  /** How long they are still invisible to others. */
  readonly invisibleMs: number
  readonly appliedIndex: number
  readonly commitIndex: number
  /** See `decodePulledBatches`. */
  readonly batches: Buffer
}

export interface SettleEntry {
  readonly handle: string
  /** `ack`, `change` or `dead_letter`. */
  readonly action: string
  readonly invisibleMs: number
}

export interface SettleRequest {
  readonly group: string
  readonly messages: readonly SettleEntry[]
}

export interface SettleResult {
  readonly code: number
  readonly message: string
  readonly handle: string
}

export interface SettleReply {
  readonly results: readonly SettleResult[]
}
