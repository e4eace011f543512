/**
 * What the replica loop and the handlers use of the store. `CommitLog`, `HardStateFile`, `StateStore` implement it.
 *
 * Staging is synchronous and in memory; only `flush`, `save` and `write` touch the disk. Nothing that was staged may
 * be acknowledged before the promise of the flush that covers it is fulfilled (S1).
 */
import type { Frame, LogEntry, Position } from './types.ts'

export interface CommitLogOptions {
  readonly directory: string
  /** Size of the frames' part of a segment file; a multiple of 4096. The same on all replicas for ever. */
  readonly segmentBytes: number
  /** Identifies the broker group's history; a folder of another incarnation is refused with FOREIGN_FOLDER. */
  readonly incarnation: string
  /** Incarnations that the history had before; segments of them are ours, too. New segments get `incarnation`. */
  readonly formerIncarnations?: readonly string[]
  /** How far ahead of the tail segments are filled with zeros, at most a segment. */
  readonly zeroAheadBytes: number
  /** As by `limitGrowth`, from before anything is prepared; by default there is no limit. */
  readonly growthBytesMax?: number
  /** Most bytes of one flush. It bounds what a torn flush can take along. */
  readonly flushBytesMax: number
  /** Most bytes of recent frames kept in memory for replication and pulls at the tail. */
  readonly tailCacheBytes: number
  /** Most bytes of blocks read from disk kept for pulls and lagging peers. */
  readonly blockCacheBytes: number
  /** What differs from `defaultLogGrain`. Changes what is fast, never what is read. */
  readonly grain?: Partial<LogGrain>
  /**
   * Where a log that is created empty begins, by default in front of entry 1. `position` is a multiple of
   * segmentBytes. A log that is found begins where its first segment does, whatever is said here.
   */
  readonly origin?: LogOrigin
  /**
   * Ranges that an earlier process was about to repair: what is read there may never have reached the disk, when its
   * sync failed. Written again and synced on opening.
   */
  readonly doubtful?: readonly { readonly position: Position; readonly end: Position }[]
  /**
   * Called once for every hole that a read or a scrub finds while the log is open (not for those in `recovery`).
   * The hole is in `holes` by then; one that grows or meets another is told again as a whole.
   */
  readonly onRot?: (hole: LogHole) => void
}

/** How finely the log is known in memory and read from the disk. */
export interface LogGrain {
  /** At least so many of the last entries are known exactly (20 bytes each). No cut may reach further back. */
  readonly exactEntries: number
  /** Of the others one is known at least every so many entries, and every so many bytes. */
  readonly sampleEntries: number
  readonly sampleBytes: number
  /** Size of the blocks that are read for pulls and lagging peers. */
  readonly blockBytes: number
}

export const defaultLogGrain: LogGrain = {
  exactEntries: 131_072,
  sampleEntries: 256,
  sampleBytes: 64 * 1024,
  blockBytes: 256 * 1024,
}

/** The end of the last entry that the log does not have (any more); zeros in front of entry 1. */
export interface LogOrigin {
  readonly position: Position
  readonly index: number
  readonly term: number
  /** Header checksum of the last frame before, padding included, which the next frame carries. */
  readonly checksum: number
}

/** One segment that has begun. */
export interface SegmentInfo {
  /** Positions [base, end), whether or not they are filled yet. */
  readonly base: Position
  readonly end: Position
  /**
   * Index of the first entry that starts here: of the next entry of the log when there is none yet. That of the hole
   * when this start lies in one and nobody knows better, so that it may be said of several segments.
   */
  readonly firstIndex: number
  /** Term of the entry before that. */
  readonly previousTerm: number
  /** Bytes of the file on disk, header and prepared zeros included. */
  readonly bytes: number
  /** True when the log goes on in another segment. */
  readonly sealed: boolean
}

/**
 * Entries below the durable mark whose bytes are damaged: they keep their indexes, cannot be read, and can be put
 * back by `repair`. Padding in front of a lost entry counts to the hole.
 */
export interface LogHole {
  readonly fromIndex: number
  readonly toIndex: number
  /** End of the last good entry before it. */
  readonly position: Position
  /** Where the log is good again. */
  readonly end: Position
  readonly reason: string
  /** False when the terms of its entries are a guess: not below the term before the hole, not above the one behind. */
  readonly termsKnown: boolean
}

/** The promised end of the log is damaged and nothing intact follows: nobody can say how many entries are lost. */
export interface RottenTail {
  /** First index that may be lost. */
  readonly fromIndex: number
  readonly position: Position
  readonly reason: string
}

export interface LoggedConfiguration {
  readonly index: number
  readonly term: number
  readonly body: Buffer
}

/** What recovery found and did; for the log line at start, status and events. */
export interface LogRecovery {
  readonly firstIndex: number
  /** Term of the entry before `firstIndex`. */
  readonly previousTerm: number
  /** With a rotten tail the last good entry before it. */
  readonly lastIndex: number
  readonly lastTerm: number
  /** All readable configuration entries of the log, ascending. One that lies in a hole is not among them. */
  readonly configurations: readonly LoggedConfiguration[]
  /** Ascending runs of equal term: `first` is the index of the first entry of the run. */
  readonly termRuns: readonly { readonly first: number; readonly term: number }[]
  /** Bytes of a torn last flush that were cut, 0 after a clean stop. */
  readonly tornBytes: number
  /** Damaged ranges below the durable mark, ascending: the node must not vote or lead before they are repaired. */
  readonly holes: readonly LogHole[]
  /** The promised end is damaged: nothing can be written before `cutRottenTail`. Null when all is well. */
  readonly tail: RottenTail | null
}

/** What `CommitLogApi.scrub` came to. */
export interface ScrubbedStretch {
  readonly next: Position
  readonly isEnd: boolean
  readonly hole: LogHole | null
}

export interface CommitLogApi {
  readonly recovery: LogRecovery
  /** Where the log begins now; moves with `trim`. */
  readonly origin: LogOrigin
  /** origin.index + 1. The log may hold no entry at all. */
  readonly firstIndex: number
  /** Term of the entry before `firstIndex`. */
  readonly previousTerm: number
  /** What is damaged now, ascending. */
  readonly holes: readonly LogHole[]
  /** Not null until `cutRottenTail`, when recovery found the promised end damaged. */
  readonly rottenTail: RottenTail | null
  /** Last staged index. */
  readonly lastIndex: number
  readonly lastTerm: number
  /** Last index covered by a finished flush. */
  readonly durableIndex: number
  /** End of the staged log. */
  readonly endPosition: Position
  /** Total bytes staged but not yet flushed. */
  readonly stagedBytes: number

  /** Leader: lays out the entry behind the last one and stages it. Index must be lastIndex + 1. Returns its frame. */
  append(entry: LogEntry): Frame
  /**
   * Follower: checks the frame bytes (checksums, index, term, position, chain, layout) and stages them as they are.
   * Throws StoreError BAD_FRAME and stages nothing when they do not fit. The buffer is kept, not copied.
   */
  appendFrame(bytes: Buffer): Frame
  /**
   * Drops entries from `index` on, in memory at once; the next flush zeroes the cut range on disk and syncs that
   * before anything is written over it. A hole that lies wholly in the cut range is gone with it. Throws ROTTEN and
   * changes nothing when the entry before `index` lies in a hole, unless it is its last one and its term is known:
   * nobody can say where the log would end. Cutting at the beginning of the hole is always possible.
   */
  truncateFrom(index: number): void
  /**
   * Makes everything durable that is staged when the write starts: one write and one sync for all of it (a few when
   * it crosses a segment or flushBytesMax). Only one flush runs at a time; a second call waits and covers the rest.
   * Resolves with the durable index. Rejects with STORAGE_FAILED once and for ever, or with DISK_FULL when zeroed
   * space could not be prepared (staged entries stay staged).
   */
  flush(): Promise<number>

  /** Frames [from, …] that are in memory, at most `bytesMax` (at least one), or undefined when `from` is not. */
  cached(from: number, bytesMax: number): readonly Frame[] | undefined
  /**
   * Frames [from, …] from memory or disk, at most `bytesMax` (at least one), never beyond `to`. Checksums verified.
   * They stop before a hole; with `from` in one it rejects with ROTTEN, and `details` say which (fromIndex, toIndex).
   */
  read(from: number, to: number, bytesMax: number): Promise<readonly Frame[]>
  /** The frame at this position, synchronously when in memory, else undefined. */
  cachedAt(position: Position): Frame | undefined
  /** The frame at this position. Checksums verified (S3). Reads ahead when reads go forward. */
  readAt(position: Position): Promise<Frame>
  /** All segments that have begun, in order. */
  segments(): readonly SegmentInfo[]
  /**
   * Where the first segment begins all of whose entries lie behind this one: a log made from there does not need it.
   * Null while no such segment holds a durable entry.
   */
  originBehind(index: number): LogOrigin | null
  /**
   * Deletes whole segments from the front whose entries all lie before `firstIndex`, as long as a durable entry lies
   * behind them. The log begins later at once, the files go one after the other, each durably, so that a crash leaves
   * no gap. Reads that run on them end with OUT_OF_RANGE. Rejects with STORAGE_FAILED, which is final. Returns the
   * new firstIndex.
   */
  trim(firstIndex: number): Promise<number>
  /**
   * Gives up what recovery called a rotten tail: makes the log end with its last good entry. The caller has made
   * durable before that this node may have promised more than it has now. Does nothing without a rotten tail.
   */
  cutRottenTail(): Promise<void>
  /**
   * Puts lost entries back, all of a hole or the first ones of it. The frames are checked against their place, against
   * the chain before the hole and, with the last one, against the chain behind it; then they are written in place and
   * synced. Rejects with BAD_FRAME and changes nothing when they do not fit; with OUT_OF_RANGE when no hole begins
   * with the first of them (any more); with DISK_FULL when a lost file finds no space. A crash in between leaves the
   * hole or a part of it.
   */
  repair(frames: readonly Frame[]): Promise<void>
  /**
   * Verifies a stretch of the durable log from `fromPosition` on (0 when nothing is known) straight from the disk,
   * past every cache of this process: about `bytesMax` bytes, of one segment at most. `next` is where to go on: the
   * origin again behind the end, which `isEnd` tells from a stretch that changed all the time and has to be verified
   * again. `hole` is the first that was found and not known before; `onRot` was told of all.
   */
  scrub(fromPosition: Position, bytesMax: number): Promise<ScrubbedStretch>
  /** True when preparing space failed for lack of space and has not succeeded since, and while growth is limited. */
  readonly diskFull: boolean
  /**
   * From now on no more than this is prepared beyond what is there, and only for what is staged: for a disk that is
   * kept from being filled to its last byte. What finds no room waits with DISK_FULL. Null lifts the limit.
   */
  limitGrowth(bytesMax: number | null): void
  /**
   * Prepares space for what is staged, and ahead of it, without making anything durable. `diskFull` tells whether there
   * was enough. Rejects like a flush, but never with DISK_FULL. Not while growth is limited.
   */
  grow(): Promise<void>
  /** Flushes, writes the durable mark of the last flush, and closes. Reads from disk reject with CLOSED from then on. */
  close(): Promise<void>
}

export interface SavedHardState {
  readonly term: number
  readonly vote: string | null
  readonly commit: number
}

export interface HardStateApi {
  /** What was last saved, null in a new file. */
  readonly current: SavedHardState | null
  /** Durable when fulfilled. Rejects with STORAGE_FAILED: then no vote and no acknowledgement may leave the node. */
  save(state: SavedHardState): Promise<void>
  close(): Promise<void>
}

export type StateOperation =
  | { readonly kind: 'put'; readonly key: Buffer; readonly value: Buffer }
  | { readonly kind: 'delete'; readonly key: Buffer }

/** State changes of the log range (previous appliedIndex, appliedIndex], written all or nothing (S4). */
export interface StateBatch {
  readonly appliedIndex: number
  /** Running hash of the state machine after `appliedIndex`, 16 hex digits. */
  readonly hash: string
  readonly operations: readonly StateOperation[]
}

export type StateRow = readonly [key: Buffer, value: Buffer]

/** All rows of the state store at one index, whatever is written afterwards. Holds space: close it soon. */
export interface StateImage {
  readonly appliedIndex: number
  readonly hash: string
  /** The next rows in order of their keys, at least one and then at most `bytesMax`; null behind the last. */
  next(bytesMax: number): Promise<readonly StateRow[] | null>
  /** A second call does nothing. `next` rejects with CLOSED from then on. */
  close(): Promise<void>
}

/** A state store that is being filled from an image. Until `finish` the directory counts as empty. */
export interface StateInstall {
  /** Rows of the image in its order, each once; one call at a time. Rejects with BAD_IMAGE for any others. */
  put(rows: readonly StateRow[]): Promise<void>
  /** All rows are there: durable, and what `openStateStore` finds, when fulfilled. */
  finish(): Promise<void>
  /** Releases the lock; without `finish` before it the next opener finds an empty store. */
  close(): Promise<void>
}

export interface StateStoreApi {
  /** 0 and a zero hash in a new or rebuilt store. */
  readonly appliedIndex: number
  readonly hash: string
  /** Why the old content was thrown away, null when it was kept. */
  readonly rebuiltBecause: string | null
  /**
   * Durable against power loss when fulfilled. Batches are written in the order of the calls. A failed one is final:
   * STORAGE_FAILED from then on.
   */
  write(batch: StateBatch): Promise<void>
  /** Records how far the store is durable, as the place to check from. */
  checkpoint(): Promise<void>
  /**
   * Throws everything away: appliedIndex 0, the log is applied from its beginning. For a state that does not belong
   * to the log beside it (S4: appliedIndex beyond the log's end). Nothing may be written meanwhile.
   */
  reset(reason: string): Promise<void>
  /** Keys begin with neither 0x00 nor 0xff: those are the store's own. */
  get(key: Buffer): Promise<Buffer | undefined>
  /** Rows of [from, to) in order of unsigned bytes, at most `limit`. The store's own rows are never among them. */
  range(range: {
    readonly from: Buffer
    readonly to: Buffer
    readonly limit: number
    readonly reverse?: boolean
  }): Promise<readonly StateRow[]>
  /** Everything up to appliedIndex, to be copied to a peer. Rejects with BUSY when `openImagesMax` are open. */
  image(): Promise<StateImage>
  /**
   * Deletes the first `limit` rows of [from, to) and returns the key to go on from, null when none is left. Not part
   * of any batch, and a power loss may bring rows back: only for rows that no reader reaches any more.
   */
  deleteRange(from: Buffer, to: Buffer, limit: number): Promise<Buffer | null>
  /** Closes images, too. */
  close(): Promise<void>
}
