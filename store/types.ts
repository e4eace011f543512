/**
 * The words of the store: log positions and frames. Index and term are opaque ascending numbers here; the store
 * knows nothing of elections, topics or the network.
 */
declare const flavor: unique symbol
type Flavored<Name extends string> = number & { readonly [flavor]?: Name }

/** Byte offset in the CommitLog, counted over all segments without their headers. */
export type Position = Flavored<'Position'>

/** What a frame carries. The number is what lies on disk; `padding` is made by the layout alone. */
export const frameTypes = { batch: 1, command: 2, noop: 3, configuration: 4, padding: 5 } as const
export type FrameType = (typeof frameTypes)[keyof typeof frameTypes]

/** An entry that the leader wants in its log. `body` pieces are written one after the other, uncopied. */
export interface LogEntry {
  readonly index: number
  readonly term: number
  readonly type: Exclude<FrameType, 5>
  /** Log time in milliseconds since the epoch, decided by the leader; the same on every replica. */
  readonly storeTime: number
  readonly body: readonly Uint8Array[]
}

/** Decoded header of a frame, with what follows from it. */
export interface FrameHeader {
  readonly type: FrameType
  readonly flags: number
  readonly bodyLength: number
  readonly term: number
  readonly index: number
  readonly position: Position
  readonly storeTime: number
  readonly previousChecksum: number
  readonly bodyChecksum: number
  readonly headerChecksum: number
  /** Header, body and alignment. */
  readonly frameLength: number
}

/** One frame as it lies in the log: `bytes` holds header, body and alignment. Never write to it. */
export interface Frame {
  readonly header: FrameHeader
  readonly bytes: Buffer
}
