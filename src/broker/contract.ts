/**
 * What the rooms of the broker know of each other: the state machine (`apply/`), the replica (`replica/`) and the
 * handlers (`handler/`). Types only; the wiring in `broker.ts` brings the implementations together.
 */
import type { CommitLogApi, FrameType, Position, StateBatch } from '../../store/index.ts'
import type { ErrorCode } from '../common/errors.ts'
import type { TopicConfig, TopicInfo } from '../rpc/methods.ts'
import type { Membership, PlacedMembership } from './membership/membership.ts'

/** A committed entry that is also on this node's own disk, as `apply` gets it. Nothing else may decide anything. */
export interface CommittedEntry {
  readonly index: number
  readonly term: number
  readonly type: FrameType
  /** Log time, milliseconds since the epoch; never goes back from entry to entry. */
  readonly storeTime: number
  /** The body exactly as it lies in the log. Views of it may be kept only if copied. */
  readonly body: Buffer
  /** Where the frame lies. */
  readonly position: Position
}

/** What applying an entry said to whoever proposed it. The same on every replica. */
export type ApplyResult =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'stored'
      readonly topicId: number
      readonly queue: number
      readonly baseOffset: number
      readonly recordCount: number
      /** Index under which the batch is stored: the original one when `duplicate`. */
      readonly index: number
      readonly storeTime: number
      /** True: the same batch was stored before; baseOffset, index and storeTime are the original ones. */
      readonly duplicate: boolean
    }
  | { readonly kind: 'topic'; readonly topic: TopicInfo }
  | { readonly kind: 'topic_deleted'; readonly topicId: number }
  /** Committed offsets after the command, in the order asked. */
  | { readonly kind: 'offsets'; readonly offsets: readonly number[] }
  | { readonly kind: 'generation'; readonly generation: number }
  | { readonly kind: 'membership'; readonly membership: Membership }
  /** `firstIndex`: the log may be deleted before it. `moved`: how many queues begin later now. */
  | { readonly kind: 'trimmed'; readonly firstIndex: number; readonly moved: number }
  /** Judged against the state and refused: nothing was changed. */
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string }

/** Where one stored batch lies: one row per batch in the ConsumeQueue. */
export interface QueueRow {
  readonly baseOffset: number
  readonly recordCount: number
  readonly index: number
  readonly position: Position
  readonly storeTime: number
  /** Length of the batch in bytes. */
  readonly bytes: number
}

export interface GroupAssignment {
  /** 0: the group has never had members. */
  readonly generation: number
  readonly members: readonly {
    readonly member: string
    readonly topics: readonly string[]
    readonly queues: readonly { readonly topicId: number; readonly queue: number }[]
  }[]
}

/** The deterministic state machine with its read side. Reads see everything applied so far. */
export interface StateMachineApi {
  readonly appliedIndex: number
  /** Log time of the last applied entry, 0 before any. */
  readonly appliedTime: number
  /** Running hash over all applied entries and their results, 16 hex digits. Equal logs give equal hashes (B1). */
  readonly hash: string
  /** Index of the last entry that changed a topic. */
  readonly topicsVersion: number
  /** Applies the next entry (index must be appliedIndex + 1). Synchronous, no clock, no randomness. */
  apply(entry: CommittedEntry): ApplyResult
  /** Changes since the last call, null when there are none. The replica writes them to the state store in order. */
  takeChanges(): StateBatch | null
  /** The replica tells which appliedIndex the state store holds now, so that memory can be let go. */
  changesWritten(appliedIndex: number): void
  /** Rows and other changes that are not in the state store yet; the replica pauses apply beyond its limit. */
  readonly unwrittenCount: number

  topic(name: string): TopicInfo | undefined
  topicById(topicId: number): TopicInfo | undefined
  topics(): readonly TopicInfo[]
  /** Of the last configuration entry applied; null while the first configuration of the group is in force. */
  readonly membership: PlacedMembership | null
  /** Whether clients may have topics created automatically. */
  readonly autoCreateTopics: boolean
  /** Largest body of one message that producers may send. */
  readonly bodyBytesMax: number
  /** Log time without a stored batch after which a producer may be expired, milliseconds. */
  readonly producerIdleMs: number
  /** Whether producers should be expired as of this log time. Looks at all of them: ask seldom. */
  producerExpiryDue(logTime: number): boolean
  /** Undefined for a queue that does not exist. max is one behind the last message. */
  queueRange(topicId: number, queue: number): { readonly min: number; readonly max: number } | undefined
  /** Row that holds `offset` and those after it, at most `limit`; empty when offset is at or beyond max. */
  findRows(
    topicId: number,
    queue: number,
    offset: number,
    limit: number,
  ): Promise<readonly QueueRow[]> | readonly QueueRow[]
  /** Offset of the first batch stored at or after this log time; max when there is none. */
  offsetByTime(topicId: number, queue: number, time: number): Promise<number>
  /** Offset of the first batch whose entry is at or behind `index`; max when there is none. */
  offsetByIndex(topicId: number, queue: number, index: number): Promise<number>
  /** What the log may lose: entries before `firstIndex`, by the decision of entry `index`. Zeros before any. */
  readonly trimmed: { readonly firstIndex: number; readonly index: number }
  /** Rows of the state store that no reader reaches any more, and that it can lose by now; each range once. */
  takeGarbage(): { readonly from: Buffer; readonly to: Buffer } | undefined
  committedOffset(group: string, topicId: number, queue: number): number | undefined
  assignment(group: string): GroupAssignment
  /** Groups that have an assignment with members. */
  groupsWithMembers(): readonly string[]
}

export interface Applied {
  readonly index: number
  readonly term: number
  readonly result: ApplyResult
}

export interface ProposeOptions {
  /** Total time the caller is willing to wait, milliseconds. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  /** Taken on a full disk, too: a small entry by which space is made. */
  readonly makesSpace?: boolean
}

export interface LeaderView {
  readonly node: string
  /** Address for clients. */
  readonly address: string
  readonly term: number
}

/** What the replica offers to handlers and to the registrar. */
export interface ReplicaApi {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly incarnation: string
  readonly log: CommitLogApi
  readonly machine: StateMachineApi
  readonly commitIndex: number
  readonly appliedIndex: number
  readonly term: number
  /** False once the replica has ended, until the next one begins: nothing new comes to log and machine. */
  readonly running: boolean
  /** True only after the no-op of the own term was applied: current reads and new work are possible. */
  readonly leading: boolean
  leader(): LeaderView | null
  /** Node to suggest to a reader that should not burden the leader, null for none. */
  readonly nodes: readonly { readonly node: string; readonly address: string }[]
  /**
   * Proposes one entry and resolves once this replica applied it. Rejects with NOT_LEADER (with hint), NO_QUORUM,
   * FLOW_CONTROL, DISK_FULL, ROLLED_BACK, OUTCOME_UNKNOWN, DEADLINE_EXCEEDED before proposing, MESSAGE_ILLEGAL when
   * the entry is longer than a segment of the log, SERVICE_NOT_AVAILABLE when stopping. While no leader is known it waits unproposed, bounded in bytes and by min(timeout / 2, 2 s).
   */
  propose(type: FrameType, body: readonly Uint8Array[], options: ProposeOptions): Promise<Applied>
  /**
   * Resolves when the state machine has applied everything that was committed when this was called, confirmed by a
   * quorum round (ReadIndex, thesis 6.4). On the leader and on followers, which ask it for its read index. Rejects with
   * NO_QUORUM (no leader, or none that confirms), FLOW_CONTROL, DEADLINE_EXCEEDED, ABORTED, SERVICE_NOT_AVAILABLE. Held
   * while no leader is known, as `propose` is.
   */
  readCurrent(options: ProposeOptions): Promise<void>
  /** Called after each applied entry; and after role, leader or topics changed. Returns the removal. */
  onApplied(listener: (entry: CommittedEntry, result: ApplyResult) => void): () => void
  onRoleChanged(listener: () => void): () => void
}

export type { TopicConfig, TopicInfo }
