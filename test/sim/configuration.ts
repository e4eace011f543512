/**
 * What one run is like: every seed draws its own sizes, times and faults, small limits on purpose, so that the corners
 * that production reaches once a year are reached all the time. Printed when a run fails.
 */
import type { RaftConfig } from '../../raft/index.ts'
import type { ReplicaLimits } from '../../src/broker/options.ts'
import type { RetentionSettings } from '../../src/broker/retention/settings.ts'
import { type FaultKind, faultKinds, memberFaultKinds, silentFaultKinds } from './fault.ts'
import type { SimRandom } from './random.ts'
import type { NetworkOptions } from './sim-network.ts'

/** How a minority is left for ever when the rest is mended. `mute` sends nothing, `deaf` hears nothing. */
export type Broken = 'dead' | 'paused' | 'isolated' | 'mute' | 'deaf'

export interface SimConfiguration {
  /** Replicas of the group. */
  readonly nodes: number
  /** Machines that an operator may add to the group. Absent: none. */
  readonly spares?: number
  /** Share of the joint configurations whose leader dies. Absent: it lives as long as others. */
  readonly jointDeathShare?: number
  /** A minority that stays broken when everything else is mended; the others must go on without it. */
  readonly brokenForEver: { readonly how: Broken; readonly count: number } | null
  /** Length of the phase with faults. */
  readonly safetyMs: number
  readonly faultMeanMs: number
  /** How likely each kind is, relative to the others; kinds that are off are absent. */
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>
  readonly downMeanMs: number
  /** Faults begin before the group has been made. */
  readonly faultsAtBirth: boolean
  readonly network: NetworkOptions
  readonly disk: DiskOptions
  readonly raft: Partial<Omit<RaftConfig, 'id'>>
  readonly limits: Partial<ReplicaLimits>
  /** The log is trimmed, and who was away gets a copy. Absent: everything stays. */
  readonly retention?: Partial<RetentionSettings>
  readonly segmentBytes: number
  readonly queues: number
  readonly senders: number
  readonly groupMembers: number
  readonly thinkMeanMs: number
  /** Between two changes of topics. Absent: none. */
  readonly topicChangeMeanMs?: number
  readonly bodyBytesMax: number
  readonly batchShare: number
  readonly sendTimeoutMs: number
  /** Messages sent at most, so that no seed takes minutes. */
  readonly messagesMax: number
  readonly readFrom: 'leader' | 'follower' | 'suggested'
  /** At the end everything un-synced is lost everywhere and all checks are made once more. */
  readonly finalPowerLoss: boolean
  /** The judge looks at the bytes on the disks. Off, it knows only what users and replicas see. */
  readonly looksAtDisks: boolean
}

export interface DiskOptions {
  readonly syncMeanMs: number
  readonly writeMeanMs: number
  /** Share of writes and state operations that take any time. */
  readonly lateShare: number
  /** Syncs make nothing durable: the negative control. */
  readonly lyingSync: boolean
}

const kibibyte = 1024
const messagesMax = 420

/** Where nothing else bounds it, no leader of a run leaves more entries uncommitted: each sender waits for its answers. */
const uncommittedSeenMax = 64

/** Share of the runs whose log is trimmed. */
const retentionShare = 0.35

/** Share of those that are trimmed at once. */
const eagerTrimShare = 0.3

/** Share of the runs whose disks rot. */
const rotShare = 0.3

/** Share of the runs whose topics change. */
const topicsShare = 0.4

/** Share of the runs whose members change. */
const membersShare = 0.3

export function drawConfiguration(random: SimRandom): SimConfiguration {
  const topics = random.fork('topics')
  const configuration = {
    ...drawUntrimmed(random),
    ...(topics.chance(topicsShare) ? { topicChangeMeanMs: Math.round(topics.spread(30, 300)) } : {}),
  }
  const retention = random.fork('retention')
  const kept = retention.chance(retentionShare) ? withRetention(configuration, retention) : configuration
  const isEager = kept.retention !== undefined && random.fork('eager trim').chance(eagerTrimShare)
  const trimmed = isEager ? eagerTrim(kept) : kept
  const members = random.fork('members')
  const operated = members.chance(membersShare) ? withOperator(trimmed, members) : trimmed
  const rot = random.fork('rot')
  const rotten = rot.chance(rotShare) ? withRot(operated, rot) : operated
  return withGrain(rotten, random.fork('grain'))
}

/**
 * A log of a few hundred entries is as large to its replicas as one of millions: only its end is known by heart, and
 * everything is read and copied in many pieces. No cut reaches further back than what a leader leaves uncommitted.
 */
function withGrain(configuration: SimConfiguration, random: SimRandom): SimConfiguration {
  const exactEntries = Math.min(configuration.raft.uncommittedEntriesMax ?? Infinity, uncommittedSeenMax) + 32
  return {
    ...configuration,
    raft: { ...configuration.raft, recentEntriesMin: random.pick([1, 8, 32_768]) },
    limits: {
      ...configuration.limits,
      logGrain: {
        exactEntries,
        sampleEntries: random.pick([1, 4, 32, 256]),
        sampleBytes: random.pick([1, 4, 64]) * kibibyte,
        blockBytes: random.pick([512, 4 * kibibyte, 256 * kibibyte]),
      },
      tailRowsMax: random.pick([1, 4, 512]),
      copyStretchBytes: random.pick([1, 8 * kibibyte, 32_768 * kibibyte]),
      scrubPieceBytes: random.pick([2, 16, 256]) * kibibyte,
    },
  }
}

/** Bits flip, and a scrub looks for them. Two failures of three nodes are more than a group can bear. */
function withRot(configuration: SimConfiguration, random: SimRandom): SimConfiguration {
  const faults = { ...configuration.faults }
  for (const kind of silentFaultKinds) faults[kind] = random.spread(1, 6)
  return {
    ...configuration,
    brokenForEver: null,
    faults,
    limits: {
      ...configuration.limits,
      scrubPassMs: Math.round(random.spread(50, 1500)),
      scrubBytesPerSecond: 1024 * 1024 * kibibyte,
    },
  }
}

/** Members come and go, disks are lost. All that is broken is mended: a majority is needed for the changes. */
function withOperator(configuration: SimConfiguration, random: SimRandom): SimConfiguration {
  const faults = { ...configuration.faults }
  for (const kind of memberFaultKinds) if (random.chance(0.6)) faults[kind] = random.spread(0.5, 4)
  return {
    ...configuration,
    spares: 1 + random.below(2),
    jointDeathShare: random.fork('joint').pick([0, 0.3, 0.8]),
    brokenForEver: null,
    faults,
    limits: { ...configuration.limits, copyFirstBytes: random.pick([1, 16, 65_536]) * kibibyte },
  }
}

/** Small segments and larger messages, so that the log of a run is many segments long. */
function withRetention(configuration: SimConfiguration, random: SimRandom): SimConfiguration {
  const segmentBytes = random.pick([12, 16, 24]) * kibibyte
  return {
    ...configuration,
    segmentBytes,
    // A batch of eight must fit into a segment.
    bodyBytesMax: Math.round(random.spread(600, segmentBytes / 10)),
    retention: {
      logBytesMax: random.pick([1, 2, 4]) * segmentBytes,
      followerLagBytesMax: random.pick([1, segmentBytes, 3 * segmentBytes]),
      // Log time jumps with the clocks.
      ...(random.chance(0.2) ? { reservedMs: Math.round(random.spread(200, 3_600_000)) } : {}),
    },
    limits: {
      ...configuration.limits,
      retentionRoundMs: Math.round(random.spread(20, 400)),
      copyBytesMax: random.pick([512, 8 * kibibyte, 1024 * kibibyte]),
      catchUpBytesPerSecond: random.pick([64, 1024, 65_536]) * kibibyte,
    },
  }
}

const eagerSegmentBytes = 12 * kibibyte

/**
 * The log is given up as soon as it is applied, whoever is away: each short absence ends with a copy from a peer, while
 * another leader may still have what is missing and send it.
 */
export function eagerTrim(configuration: SimConfiguration): SimConfiguration {
  return {
    ...configuration,
    brokenForEver: null,
    segmentBytes: eagerSegmentBytes,
    bodyBytesMax: Math.min(configuration.bodyBytesMax, eagerSegmentBytes / 12),
    retention: { ...configuration.retention, logBytesMax: eagerSegmentBytes, followerLagBytesMax: 1 },
    limits: {
      ...configuration.limits,
      retentionRoundMs: 20,
      copyBytesMax: 512,
      catchUpBytesPerSecond: 256 * kibibyte,
    },
  }
}

function drawUntrimmed(random: SimRandom): SimConfiguration {
  const heartbeatMs = Math.round(random.spread(15, 90))
  const electionTimeoutMinMs = Math.round(heartbeatMs * random.between(3, 8))
  const safetyMs = Math.round(random.between(1000, 2800))
  const senders = 1 + random.below(8)
  const batchShare = random.pick([0.2, 0.5, 0.9])
  // Enough for the whole phase, so that no fault meets an idle group.
  const pauseMs = (safetyMs * senders * (1 + 3.5 * batchShare)) / messagesMax
  const nodes = random.fork('nodes').pick([3, 3, 3, 3, 4, 5])
  return {
    nodes,
    brokenForEver: drawBroken(random.fork('broken'), nodes),
    safetyMs,
    faultMeanMs: Math.round(random.spread(100, 600)),
    faults: drawFaults(random.fork('faults')),
    downMeanMs: Math.round(random.spread(20, 600)),
    faultsAtBirth: random.chance(0.15),
    network: {
      delayMeanMs: random.spread(0.05, 8),
      slowShare: random.pick([0, 0.01, 0.05]),
      keepaliveMs: Math.round(random.spread(300, 2000)),
      bufferedBytesMax: random.pick([2 * kibibyte, 16 * kibibyte, 256 * kibibyte]),
    },
    disk: {
      syncMeanMs: random.spread(0.1, 20),
      writeMeanMs: random.spread(0.02, 2),
      lateShare: random.pick([0, 0.2, 1]),
      lyingSync: false,
    },
    raft: {
      heartbeatMs,
      electionTimeoutMinMs,
      electionTimeoutMaxMs: Math.round(electionTimeoutMinMs * random.between(1.3, 2.2)),
      connectionLostWaitMaxMs: random.pick([5, 30]),
      transferTimeoutMs: Math.round(electionTimeoutMinMs * 2),
      appendBytesMax: random.pick([1, 2 * kibibyte, 16 * kibibyte, 1024 * kibibyte]),
      appendEntriesMax: random.pick([1, 3, 64, 4096]),
      inflightMessagesMax: random.pick([1, 2, 8, 64]),
      inflightBytesMax: random.pick([4 * kibibyte, 64 * kibibyte, 16_384 * kibibyte]),
      uncommittedBytesMax: random.pick([8 * kibibyte, 64 * kibibyte, 65_536 * kibibyte]),
      uncommittedEntriesMax: random.pick([8, 64, 65_536]),
    },
    limits: drawLimits(random.fork('limits')),
    segmentBytes: random.pick([64, 64, 96, 256]) * kibibyte,
    queues: 1 + random.below(4),
    senders,
    groupMembers: 1 + random.below(2),
    thinkMeanMs: pauseMs * random.between(0.25, 0.8),
    bodyBytesMax: Math.round(random.spread(40, 3000)),
    batchShare,
    sendTimeoutMs: random.pick([1500, 4000, 10_000]),
    messagesMax,
    readFrom: random.pick(['leader', 'follower', 'suggested']),
    finalPowerLoss: random.chance(0.5),
    looksAtDisks: true,
  }
}

function drawBroken(random: SimRandom, nodes: number): SimConfiguration['brokenForEver'] {
  if (random.chance(0.5)) return null
  const minority = Math.floor((nodes - 1) / 2)
  return { how: random.pick(['dead', 'paused', 'isolated', 'mute', 'deaf']), count: 1 + random.below(minority) }
}

function drawLimits(random: SimRandom): Partial<ReplicaLimits> {
  return {
    flushBytesMax: random.pick([1, 2 * kibibyte, 16 * kibibyte, 8192 * kibibyte]),
    zeroAheadBytes: random.pick([4, 8, 32]) * kibibyte,
    tailCacheBytes: random.pick([1, 4 * kibibyte, 64 * kibibyte, 1024 * kibibyte]),
    blockCacheBytes: random.pick([64, 256]) * kibibyte,
    applySliceEntries: random.pick([1, 2, 16, 512]),
    unwrittenMax: random.pick([2, 20, 50_000]),
    stateWriteDelayMs: random.pick([1, 10, 50]),
    checkpointMs: random.pick([50, 500, 5000]),
    checkpointEntries: random.pick([5, 100, 100_000]),
    proposalsMax: random.pick([4, 32, 16_384]),
    peerQueueBytesMax: random.pick([4, 64, 32_768]) * kibibyte,
    transferMsMax: 1000,
    reserveBytes: random.pick([0, 4, 64]) * kibibyte,
  }
}

/** Some kinds are off in every run, so that each is also seen without the others. A leader dies in every run. */
function drawFaults(random: SimRandom): SimConfiguration['faults'] {
  const faults: Partial<Record<FaultKind, number>> = {}
  const share = random.pick([0.2, 0.4, 0.7, 1])
  for (const kind of faultKinds) if (random.chance(share)) faults[kind] = random.spread(0.2, 2)
  if (Object.keys(faults).length === 0) faults[random.pick(faultKinds)] = 1
  return faults
}
