/**
 * Opens log, hard state and state machine of a member and finds out where it stands. Called by `broker.ts` once the
 * first configuration is known.
 *
 * A node that cannot show what it once promised must not vote or lead (P6): every such finding ends up in `damage`.
 */
import type { Boot } from '../../../raft/index.ts'
import {
  type CommitLogApi,
  type Disk,
  frameBody,
  frameTypes,
  type HardStateApi,
  openCommitLog,
  openHardState,
  type SavedHardState,
  type StateStoreApi,
} from '../../../store/index.ts'
import type { FirstConfiguration } from '../../rpc/methods.ts'
import { openStateMachine } from '../apply/state-machine.ts'
import type { StateMachineApi } from '../contract.ts'
import { decodeMembership } from '../membership/codec.ts'
import { firstMembership, type PlacedMembership, toConfiguration } from '../membership/membership.ts'
import type { BrokerPorts, ReplicaLimits } from '../options.ts'
import { type Generations, logDirectory } from './generations.ts'

/** What is to be recovered: the directories in force, with their state store opened already. */
export interface Generation {
  readonly directory: string
  /** Of this node. */
  readonly identity: { readonly node: string; readonly disk: string }
  readonly generations: Generations
  readonly store: StateStoreApi
}

/** Log read at a time while looking for memberships. */
const readBytesMax = 4 * 1024 * 1024

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
  /** Why this node must neither vote nor lead, null when all is well. */
  readonly damage: string | null
}

export async function recover(
  found: Generation,
  configuration: FirstConfiguration,
  ports: Pick<BrokerPorts, 'disk'>,
  limits: ReplicaLimits,
): Promise<Recovered> {
  const { directory, identity, generations, store } = found
  const log = await openCommitLog(ports.disk, {
    directory: logDirectory(directory, generations.log),
    segmentBytes: configuration.segmentBytes,
    incarnation: configuration.incarnation,
    formerIncarnations: configuration.formerIncarnations ?? [],
    zeroAheadBytes: Math.min(limits.zeroAheadBytes, configuration.segmentBytes),
    flushBytesMax: limits.flushBytesMax,
    tailCacheBytes: limits.tailCacheBytes,
    blockCacheBytes: limits.blockCacheBytes,
  })
  const hardState = await openHardState(ports.disk, hardStatePath(directory))
  const machine = await openStateMachine(store)
  const damage = findDamage(log, hardState.current, store.appliedIndex)
  const first = machine.membership ?? { index: 0, membership: firstMembership(configuration) }
  const memberships = [first, ...(damage === null ? await membershipsIn(log, machine.appliedIndex) : [])]
  const configurations = memberships.map(({ index, membership }) => ({
    index,
    configuration: toConfiguration(membership, identity),
  }))
  const boot = { ...bootOf(log, hardState.current, machine.appliedIndex), configurations }
  const lastStoreTime = damage === null ? await storeTimeOfLast(log) : 0
  return { store, log, hardState, machine, boot, memberships, lastStoreTime, damage }
}

/**
 * Makes the file of term and vote, before the first configuration is stored: a member without one has lost it, and a
 * vote with it.
 */
export async function prepareHardState(disk: Disk, directory: string): Promise<void> {
  const hardState = await openHardState(disk, hardStatePath(directory))
  if (hardState.current === null) await hardState.save({ term: 0, vote: null, commit: 0 })
  await hardState.close()
}

function hardStatePath(directory: string): string {
  return `${directory}/hard-state`
}

/** Compares what the log holds with what hard state and state store prove that it once held. */
export function findDamage(
  log: Pick<CommitLogApi, 'recovery' | 'lastIndex'>,
  saved: SavedHardState | null,
  appliedIndex: number,
): string | null {
  const damage = log.recovery.holes[0] ?? log.recovery.tail
  if (damage) return `LOG_DAMAGED: ${damage.reason} at position ${damage.position}, from entry ${damage.fromIndex} on`
  if (saved === null) return 'HARD_STATE_LOST: this folder belongs to a member, but its term and vote are gone'
  const { firstIndex } = log.recovery
  if (firstIndex > appliedIndex + 1)
    return `LOG_DAMAGED: it begins at ${firstIndex}, but only ${appliedIndex} was applied here`
  const committed = Math.max(saved?.commit ?? 0, appliedIndex)
  if (committed > log.lastIndex) return `LOG_DAMAGED: it ends at ${log.lastIndex}, but ${committed} was committed here`
  return null
}

function bootOf(log: CommitLogApi, saved: SavedHardState | null, applied: number): Omit<Boot, 'configurations'> {
  const { recovery } = log
  const savedTerm = saved?.term ?? 0
  // An entry may be on disk before its term was saved. Nothing was voted in that term then: such a vote is saved
  // before it leaves.
  const term = Math.max(savedTerm, recovery.lastTerm)
  return {
    hardState: {
      term,
      vote: term === savedTerm ? (saved?.vote ?? null) : null,
      commit: Math.max(saved?.commit ?? 0, applied),
    },
    firstIndex: recovery.firstIndex,
    previousTerm: recovery.previousTerm,
    lastIndex: recovery.lastIndex,
    termRuns: recovery.termRuns,
    applied,
    quarantine: null,
  }
}

/** Those that the state machine has not seen yet. */
async function membershipsIn(log: CommitLogApi, applied: number): Promise<readonly PlacedMembership[]> {
  const found: PlacedMembership[] = []
  for (let next = Math.max(applied + 1, log.firstIndex); next <= log.lastIndex; ) {
    const frames = await log.read(next, log.lastIndex, readBytesMax)
    for (const frame of frames) {
      const { index, type } = frame.header
      if (type === frameTypes.configuration) found.push({ index, membership: decodeMembership(frameBody(frame)) })
      next = Math.max(next, index + 1)
    }
  }
  return found
}

async function storeTimeOfLast(log: CommitLogApi): Promise<number> {
  if (log.lastIndex < log.firstIndex) return 0
  const frames = await log.read(log.lastIndex, log.lastIndex, 1)
  return frames.at(-1)?.header.storeTime ?? 0
}
