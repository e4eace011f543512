/**
 * The words of messages: what a producer hands in and a consumer gets. Used by the SDK, the broker and the batch codec.
 */

/** A message to send. Limits: `limits.ts`. */
export interface Message {
  readonly topic: string
  /** At least one byte; a string is sent as UTF-8. */
  readonly body: Uint8Array | string
  /** One label for filtering, without `|` and control characters. */
  readonly tag?: string
  /** For look-ups by key. */
  readonly keys?: readonly string[]
  readonly properties?: Readonly<Record<string, string>>
}

/** Attempt and origin of a redelivered message; absent on a first delivery. */
export interface Origin {
  readonly topic: string
  readonly queue: number
  readonly offset: number
}

/** One record of a batch, complete: everything the stored format can carry. */
export interface RecordFields {
  /** Milliseconds after the batch's base born time, may be negative. */
  readonly bornDelta: number
  readonly messageId: string
  readonly tag: string
  readonly keys: readonly string[]
  readonly messageGroup: string
  /** Milliseconds since the epoch, 0: at once. */
  readonly deliveryTime: number
  /** 0 on the first delivery. */
  readonly attempt: number
  readonly origin: Origin | null
  readonly flags: number
  /** W3C traceparent, empty when not traced. */
  readonly traceParent: string
  readonly properties: Readonly<Record<string, string>>
  readonly body: Buffer
}

export const batchKinds = { normal: 0, ordered: 1, delayed: 2, half: 3, internal: 4 } as const
export type BatchKind = (typeof batchKinds)[keyof typeof batchKinds]

export const codecs = { none: 0, zlib: 1, lz4: 2, zstd: 3 } as const
export type Codec = (typeof codecs)[keyof typeof codecs]

export interface BatchHeader {
  readonly version: number
  readonly codec: Codec
  readonly kind: BatchKind
  /** First batch that this producer sends to this queue; any other of an unknown producer is refused. */
  readonly firstOfProducer: boolean
  readonly totalLength: number
  /** 16 bytes; all zero: not idempotent, never checked for duplicates. */
  readonly producerId: Buffer
  readonly producerEpoch: number
  /** Sequence of the first record; record n has baseSequence + n. */
  readonly baseSequence: number
  readonly recordCount: number
  readonly baseBornTime: number
  readonly topic: string
  readonly queue: number
  /** `host:port` or host of the producer as it knows itself; may be empty. */
  readonly bornHost: string
  /** Header extensions; unknown ones are preserved, unknown critical ones refused. */
  readonly extensions: readonly { readonly id: number; readonly critical: boolean; readonly value: Buffer }[]
}
