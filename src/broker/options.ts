/**
 * What a broker is started with, its defaults and the ports it stands on. Read by `broker.ts` and its rooms.
 *
 * Checked once at start; a wrong value stops the start with CONFIG_INVALID that names the key, so that nothing
 * behind this file has to doubt them.
 */
import type { RaftConfig } from '../../raft/index.ts'
import type { Disk, KeyValueEngine, LogGrain } from '../../store/index.ts'
import type { Clock, Random } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import type { Transport } from '../rpc/transport.ts'
import { tailRowsMax } from './apply/queues.ts'
import type { HousekeepingSettings } from './housekeeper.ts'
import { checkRetention, defaultRetention, type RetentionSettings } from './retention/settings.ts'

/** An initial voter: its node id and where its peers reach it. */
export interface MemberAddress {
  readonly node: string
  readonly raftAddress: string
}

export interface BrokerOptions {
  readonly cluster: string
  readonly group: string
  /** Id of this replica within its group. */
  readonly node: string
  /** Data folder of this replica; nothing outside it is written. */
  readonly directory: string
  /** Where to listen for clients, `host:port`; port 0 picks a free one. */
  readonly listen: string
  /** What clients are told to connect to; the bound address when absent. */
  readonly advertised?: string
  /** Where to listen for peers; the own entry in `members` when absent. */
  readonly raftListen?: string
  /** All initial voters, this node included. */
  readonly members: readonly MemberAddress[]
  /** Take part in making the first configuration when the folder has none. */
  readonly bootstrap: boolean
  /**
   * Raft addresses of replicas of a group that runs: with an empty folder this node waits until the group adds it,
   * instead of making a group. `members` may be empty then.
   */
  readonly join?: readonly string[]
  /** Every namesrv of the cluster; the broker registers with all of them. */
  readonly namesrv: readonly string[]
  /**
   * Size of a CommitLog segment; the group's first configuration fixes it. No entry may be longer: below
   * 4 MiB + 64 KiB the largest messages are refused with MESSAGE_ILLEGAL, so processes are not started with less.
   */
  readonly segmentBytes?: number
  /** Registration period without changes, milliseconds. */
  readonly registerIntervalMs?: number
  /** What the leader of the group sees to; give every replica the same. */
  readonly housekeeping?: HousekeepingSettings
  /** How long messages are kept; defaults: `defaultRetention`. */
  readonly retention?: Partial<RetentionSettings>
  /** Numbers of the consensus core that differ from its defaults. */
  readonly raft?: Partial<Omit<RaftConfig, 'id'>>
  readonly limits?: Partial<ReplicaLimits>
}

/** Every bound of the replica loop and its neighbours, in one place. */
export interface ReplicaLimits {
  /** Proposals that wait for their outcome, held ones included. Beyond: FLOW_CONTROL. */
  readonly proposalsMax: number
  readonly proposalBytesMax: number
  /** Bytes held unproposed while no leader is known. */
  readonly heldBytesMax: number
  /** Longest time a proposal is held, milliseconds; also at most half its own timeout. */
  readonly heldMsMax: number
  /** Log bytes waiting for one peer; beyond it they are dropped and the peer is probed again. */
  readonly peerQueueBytesMax: number
  /** Longest uninterrupted turn of applying, milliseconds, and most entries in it. */
  readonly applySliceMs: number
  readonly applySliceEntries: number
  /** Apply pauses when the state machine holds more changes than this that are not in the state store. */
  readonly unwrittenMax: number
  /** Changes are written to the state store at most this late, milliseconds. */
  readonly stateWriteDelayMs: number
  /** The state store is made durable after this time or this many entries. */
  readonly checkpointMs: number
  readonly checkpointEntries: number
  /** Tells the caller of a refused proposal when to come back, milliseconds. */
  readonly flowControlRetryMs: number
  readonly diskFullRetryMs: number
  /** Kept on the disk for the time when it is full; 0 for none. The log gets at most a quarter of it at a time. */
  readonly reserveBytes: number
  /** Time between two looks of the leader at what may be trimmed, milliseconds (`cleanResourceInterval`). */
  readonly retentionRoundMs: number
  /** A flush that takes longer raises an event, milliseconds. */
  readonly slowFsyncMs: number
  /** A timer that fires later counts as a stall of the process, milliseconds. */
  readonly stallMs: number
  /** Longest wait for a successor on a graceful stop, milliseconds. */
  readonly transferMsMax: number
  /**
   * So long a voter with a higher priority must have been able to lead before leadership goes back to it, and so long
   * lies between two such handovers, milliseconds.
   */
  readonly leadershipReturnMs: number
  readonly flushBytesMax: number
  readonly zeroAheadBytes: number
  readonly tailCacheBytes: number
  readonly blockCacheBytes: number
  /** How finely the CommitLog is known in memory and read. */
  readonly logGrain: Partial<LogGrain>
  /** ConsumeQueue rows kept in memory per queue. */
  readonly tailRowsMax: number
  /** Bytes of a copied log between two looks at what the sources have. */
  readonly copyStretchBytes: number
  /** Most bytes of one piece of a copy; a single longer entry comes alone. At most 1 MiB is given. */
  readonly copyBytesMax: number
  /** Bandwidth of a catch-up, log and state together. */
  readonly catchUpBytesPerSecond: number
  /** A node without any log copies it before it begins, when the group has more than this; the leader sends less. */
  readonly copyFirstBytes: number
  /** The background scrub reads all of the log in this time, but never faster than that many bytes a second. */
  readonly scrubPassMs: number
  /** Read at a time by the scrub: short enough to go unnoticed between two flushes. */
  readonly scrubPieceBytes: number
  readonly scrubBytesPerSecond: number
}

const mebibyte = 1024 * 1024

export const defaultReplicaLimits: ReplicaLimits = {
  proposalsMax: 16_384,
  proposalBytesMax: 64 * mebibyte,
  heldBytesMax: 16 * mebibyte,
  heldMsMax: 2000,
  peerQueueBytesMax: 32 * mebibyte,
  applySliceMs: 4,
  applySliceEntries: 512,
  unwrittenMax: 50_000,
  stateWriteDelayMs: 250,
  checkpointMs: 5000,
  checkpointEntries: 100_000,
  flowControlRetryMs: 20,
  diskFullRetryMs: 500,
  reserveBytes: 64 * mebibyte,
  retentionRoundMs: 10_000,
  slowFsyncMs: 200,
  // Half of the shortest election timeout: from there on a follower may miss a leader that is well.
  stallMs: 250,
  transferMsMax: 1500,
  leadershipReturnMs: 30_000,
  flushBytesMax: 8 * mebibyte,
  zeroAheadBytes: 32 * mebibyte,
  tailCacheBytes: 64 * mebibyte,
  blockCacheBytes: 64 * mebibyte,
  logGrain: {},
  tailRowsMax,
  copyStretchBytes: 32 * mebibyte,
  copyBytesMax: mebibyte,
  catchUpBytesPerSecond: 64 * mebibyte,
  copyFirstBytes: 64 * mebibyte,
  scrubPassMs: 24 * 3600 * 1000,
  scrubPieceBytes: 256 * 1024,
  scrubBytesPerSecond: 16 * mebibyte,
}

export const defaultSegmentBytes: number = 1024 * mebibyte
export const defaultRegisterIntervalMs = 30_000

/** The outside world of one broker; a simulated one fits as well. */
export interface BrokerPorts {
  readonly clock: Clock
  readonly random: Random
  readonly transport: Transport
  readonly disk: Disk
  readonly engine: KeyValueEngine
  readonly logger: Logger
  /** Identifies the running kernel: equal before and after means no power loss in between. Null when unknown. */
  bootId(): Promise<string | null>
  /** The node cannot go on (storage failed, invariant broken): stop the process with a non-zero exit code. */
  fatal(error: Error): void
  /** Process id for status replies. */
  readonly pid?: number
}

export function limitsOf(options: BrokerOptions): ReplicaLimits {
  return { ...defaultReplicaLimits, ...options.limits }
}

export function retentionOf(options: BrokerOptions): RetentionSettings {
  return { ...defaultRetention, ...options.retention }
}

/** Throws CONFIG_INVALID with the key and the reason. */
export function checkBrokerOptions(options: BrokerOptions): void {
  for (const key of ['cluster', 'group', 'node', 'directory', 'listen'] as const) {
    if (options[key].length === 0) throw invalid(key, 'must not be empty')
  }
  const nodes = new Set(options.members.map((member) => member.node))
  if (nodes.size !== options.members.length) throw invalid('members', 'names a node twice')
  const isJoining = options.join !== undefined && options.join.length > 0
  if (isJoining && options.bootstrap) throw invalid('join', 'a node either joins a group or makes one (bootstrap)')
  if (isJoining && !nodes.has(options.node)) {
    if (options.raftListen === undefined) throw invalid('raftListen', 'is needed by a node that joins')
  } else if (!nodes.has(options.node)) {
    throw invalid('members', `must contain this node (${options.node}); it has ${[...nodes].join(', ')}`)
  }
  const segmentBytes = options.segmentBytes
  if (
    segmentBytes !== undefined &&
    (!Number.isSafeInteger(segmentBytes) || segmentBytes % 4096 !== 0 || segmentBytes <= 0)
  ) {
    throw invalid('segmentBytes', `must be a positive multiple of 4096, is ${segmentBytes}`)
  }
  checkRetention(options.retention ?? {})
}

function invalid(key: string, reason: string): LedgerError {
  return new LedgerError('CONFIG_INVALID', `${key}: ${reason}`)
}
