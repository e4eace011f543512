/**
 * Opens log, hard state and state machine of a member and finds out where it stands. Called by `broker.ts` once the
 * first configuration is known.
 *
 * A node that cannot show what it once promised must not vote or lead (P6): what peers can give back ends up in
 * `quarantine`, what nobody can in `damage`.
 */
import type { Boot } from '../../../raft/index.ts'
import {
  type CommitLogApi,
  type Disk,
  type HardStateApi,
  type LogHole,
  openCommitLog,
  openHardState,
  type SavedHardState,
  type StateStoreApi,
  StoreError,
} from '../../../store/index.ts'
import type { FirstConfiguration } from '../../rpc/methods.ts'
import { openStateMachine } from '../apply/state-machine.ts'
import type { StateMachineApi } from '../contract.ts'
import { decodeMembership } from '../membership/codec.ts'
import { firstMembership, type PlacedMembership, toConfiguration } from '../membership/membership.ts'
import type { BrokerPorts, ReplicaLimits } from '../options.ts'
import { type Generations, logDirectory } from './generations.ts'
import type { FolderRecords, QuarantineRecord } from './identity.ts'
import { areSame, findDamage, findGivenUp, findLostFront, findUnplaced, isLost, stillLost } from './repair/damage.ts'

/** What is to be recovered: the directories in force, with their state store opened already. */
export interface Generation {
  readonly directory: string
  /** Of this node. */
  readonly identity: { readonly node: string; readonly disk: string }
  readonly generations: Generations
  readonly store: StateStoreApi
  readonly records: FolderRecords
  /** What is free is what the reserve gave back: not for the log, until somebody lends it some. */
  readonly isShortOfSpace: boolean
  /** Rot that is found while the log is open. */
  onRot(hole: LogHole): void
}

export interface Recovered {
  readonly store: StateStoreApi
  readonly log: CommitLogApi
  readonly hardState: HardStateApi
  readonly machine: StateMachineApi
  readonly boot: Boot
  /** The membership of the state machine, or the first one, and all in the log behind it. */
  readonly memberships: readonly PlacedMembership[]
  /** Log time of the last entry, 0 in an empty log. */
  readonly lastStoreTime: number
  /** The log begins behind what the state holds: a state has to be copied before anything can be applied. */
  readonly lacksState: boolean
  /** Why entries before the log are lost that the group has not given up, null when none are: it is copied anew. */
  readonly lostFront: string | null
  /**
   * Entries are missing of which nobody here knows the terms, or that may change the membership: when they are back,
   * the log has to be read anew before this node counts.
   */
  readonly isBlind: boolean
  /** Why this node must not vote before that is made good, null when all is well. */
  readonly quarantine: QuarantineRecord | null
  /** Why this node must never again take part with this folder, null when all is well. */
  readonly damage: string | null
}

export async function recover(
  found: Generation,
  configuration: FirstConfiguration,
  ports: Pick<BrokerPorts, 'disk'>,
  limits: ReplicaLimits,
): Promise<Recovered> {
  const { directory, identity, store } = found
  const log = await openLog(found, configuration, ports, limits)
  const hardState = await openHardState(ports.disk, hardStatePath(directory))
  const machine = await openStateMachine(store, { tailRowsMax: limits.tailRowsMax })
  const saved = await savedWithTermOf(log, hardState)
  const damage = saved ? null : 'HARD_STATE_LOST: its term and vote are gone; replace this member with an empty folder'
  const lostFront = findLostFront(log.firstIndex, machine, found.generations)
  const quarantine = saved && (await judge(found, { log, saved, lostFront }))
  const applied = machine.membership ?? { index: 0, membership: firstMembership(configuration) }
  // It stays in force when the log was cut before it: the leader sends its entry again.
  const first = { ...applied, index: Math.min(applied.index, log.lastIndex) }
  const memberships = [first, ...membershipsIn(log, machine.appliedIndex)]
  const configurations = memberships.map(({ index, membership }) => ({
    index,
    configuration: toConfiguration(membership, identity),
  }))
  const lacksState = store.appliedIndex < log.firstIndex - 1
  // Before anyone asks for holes: an entry that rots while it is read for its time is one.
  const lastStoreTime = Math.max(await storeTimeOfLast(log), machine.appliedTime)
  const isBlind = log.holes.some(({ termsKnown, toIndex }) => !termsKnown || toIndex > machine.appliedIndex)
  // Between the state and what can be read of the log there may have been memberships that nobody here knows of.
  const mayLackConfigurations = lacksState || log.holes.some(({ toIndex }) => toIndex > machine.appliedIndex)
  const state = { applied: store.appliedIndex, quarantine }
  const boot = { ...bootOf(log, saved, state), configurations, mayLackConfigurations }
  return {
    store,
    log,
    hardState,
    machine,
    boot,
    memberships,
    lastStoreTime,
    lacksState,
    lostFront,
    isBlind,
    quarantine,
    damage,
  }
}

async function openLog(
  { directory, generations, records, isShortOfSpace, onRot }: Generation,
  configuration: FirstConfiguration,
  ports: Pick<BrokerPorts, 'disk'>,
  limits: ReplicaLimits,
): Promise<CommitLogApi> {
  const mending = (await records.quarantine())?.mending ?? []
  return openCommitLog(ports.disk, {
    directory: logDirectory(directory, generations.log),
    segmentBytes: configuration.segmentBytes,
    incarnation: configuration.incarnation,
    formerIncarnations: configuration.formerIncarnations ?? [],
    zeroAheadBytes: Math.min(limits.zeroAheadBytes, configuration.segmentBytes),
    ...(isShortOfSpace && { growthBytesMax: 0 }),
    flushBytesMax: limits.flushBytesMax,
    tailCacheBytes: limits.tailCacheBytes,
    blockCacheBytes: limits.blockCacheBytes,
    grain: limits.logGrain,
    doubtful: mending,
    onRot,
  })
}

/**
 * The hard state, with the newest term of the log: a first copy brings entries of terms that were never saved here.
 * Durable before the node speaks in that term, and before anything of the log is cut: else it might go back to an older
 * term than it had acknowledged entries of. Nothing was voted in the new term: such a vote is saved before it leaves.
 */
async function savedWithTermOf(log: CommitLogApi, hardState: HardStateApi): Promise<SavedHardState | null> {
  const saved = hardState.current
  if (!saved || saved.term >= log.lastTerm) return saved
  await hardState.save({ ...saved, term: log.lastTerm, vote: null })
  return hardState.current
}

/** What has to be made good before this node may vote, durable before anything is cut. */
async function judge({ records, store }: Generation, facts: LogFacts): Promise<QuarantineRecord | null> {
  const { log, saved, lostFront } = facts
  const before = await records.quarantine()
  const lost = before?.lost ?? []
  const ending = findDamage(log, saved, store.appliedIndex)
  const unplaced = findUnplaced(log.holes, Math.max(saved.commit, store.appliedIndex), lost)
  const isOpen = log.holes.some((hole) => !isLost(hole, lost))
  const givenUp = findGivenUp(log.holes, before?.cutFrom)
  const isCut = ending !== null || unplaced !== null
  if (!before?.pending && !isCut && lostFront === null && !isOpen) return forgetGone(records, log, before)
  const record: QuarantineRecord = {
    pending: true,
    untilLeaderReached: (before?.pending && before.untilLeaderReached) || isCut,
    reason: ending ?? unplaced?.reason ?? lostFront ?? log.holes[0]?.reason ?? before?.reason ?? '',
    lost,
    mending: before?.mending ?? [],
    ...(before?.cutFrom !== undefined && { cutFrom: before.cutFrom }),
  }
  await records.saveQuarantine(record)
  await log.cutRottenTail()
  for (const damage of [unplaced, givenUp]) if (damage) await cutFrom(log, damage.fromIndex)
  if (before?.cutFrom === undefined) return forgetGone(records, log, record)
  // Only now, and before anything is appended: what comes in its place must never be cut with it.
  const settled = { ...withoutCut(record), lost: stillLost(lost, log.holes) }
  await records.saveQuarantine(settled)
  return settled
}

/** Before anything is appended: what comes in the place of lost entries that are gone is not lost. */
async function forgetGone(
  records: FolderRecords,
  log: CommitLogApi,
  record: QuarantineRecord | null,
): Promise<QuarantineRecord | null> {
  if (!record) return null
  const lost = stillLost(record.lost, log.holes)
  if (areSame(lost, record.lost)) return record
  if (record.pending || lost.length > 0) {
    await records.saveQuarantine({ ...record, lost })
    return { ...record, lost }
  }
  await records.removeQuarantine()
  return null
}

function withoutCut({ cutFrom: _, ...record }: QuarantineRecord): QuarantineRecord {
  return record
}

interface LogFacts {
  readonly log: CommitLogApi
  readonly saved: SavedHardState
  readonly lostFront: string | null
}

async function cutFrom(log: CommitLogApi, index: number): Promise<void> {
  if (index > log.lastIndex) return
  log.truncateFrom(index)
  await log.flush()
}

/**
 * Makes the file of term and vote, before the first configuration is stored: a member without one has lost it, and a
 * vote with it.
 */
export async function prepareHardState(disk: Disk, directory: string): Promise<void> {
  const hardState = await openHardState(disk, hardStatePath(directory))
  try {
    if (hardState.current === null) await hardState.save({ term: 0, vote: null, commit: 0 })
  } finally {
    await hardState.close()
  }
}

function hardStatePath(directory: string): string {
  return `${directory}/hard-state`
}

function bootOf(
  log: CommitLogApi,
  saved: SavedHardState | null,
  state: { readonly applied: number; readonly quarantine: QuarantineRecord | null },
): Omit<Boot, 'configurations' | 'mayLackConfigurations'> {
  const { recovery, firstIndex, previousTerm, lastIndex } = log
  // What is trimmed was committed and applied; a state that is lost is copied before anything is applied.
  const applied = Math.max(state.applied, firstIndex - 1)
  const { quarantine } = state
  return {
    hardState: {
      // Without a hard state this node takes no part.
      term: saved?.term ?? log.lastTerm,
      vote: saved?.vote ?? null,
      commit: Math.max(saved?.commit ?? 0, applied),
    },
    firstIndex,
    previousTerm,
    lastIndex,
    // Recovery knew those that were cut since, too.
    termRuns: recovery.termRuns.filter(({ first }) => first <= lastIndex),
    termsGuessedTo: log.holes.findLast(({ termsKnown }) => !termsKnown)?.toIndex ?? 0,
    applied,
    quarantine: quarantine?.pending ? { untilLeaderReached: quarantine.untilLeaderReached } : null,
  }
}

/** Those that the state machine has not seen yet. */
function membershipsIn(log: CommitLogApi, applied: number): readonly PlacedMembership[] {
  return log.recovery.configurations
    .filter(({ index }) => index > applied && index <= log.lastIndex)
    .map(({ index, body }) => ({ index, membership: decodeMembership(body) }))
}

async function storeTimeOfLast(log: CommitLogApi): Promise<number> {
  if (log.lastIndex < log.firstIndex) return 0
  try {
    const frames = await log.read(log.lastIndex, log.lastIndex, 1)
    return frames.at(-1)?.header.storeTime ?? 0
  } catch (error) {
    // It lies in a hole: what was applied last is the next best.
    if (error instanceof StoreError && error.code === 'ROTTEN') return 0
    throw error
  }
}
