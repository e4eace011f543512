/**
 * One node of a scenario: its process, clock, disk, and what it said so far.
 *
 * Used by `world.ts`, which changes it, and by the commands. Holds no behaviour.
 */
import type {
  EntryMeta,
  HardState,
  LogIndex,
  Millis,
  NodeId,
  RaftCore,
  Random,
  ReadState,
  Ready,
} from '../../raft/index.ts'
import type { Stored } from './stored.ts'

export interface NodeSetup {
  readonly id: NodeId
  readonly entries: readonly EntryMeta[]
  readonly hardState: HardState
  readonly firstIndex: LogIndex
  readonly applied: LogIndex
  /** What the random generator of this node always says. */
  readonly random: number
  /** It has holes in its log: it starts in quarantine. */
  readonly isRotten: boolean
}

export interface WorldNode {
  readonly id: NodeId
  /** Null while the process is down. */
  core: RaftCore | null
  /** Why the process stopped itself. */
  stopped: string | null
  now: Millis
  isPaused: boolean
  /** Nothing is durable before a `persist` command. */
  isDiskSlow: boolean
  readonly disk: Stored
  /** Its logs as they were before they lost their ends. */
  readonly lost: EntryMeta[][]
  log: EntryMeta[]
  unsynced: Ready[]
  applied: LogIndex
  commitSeen: LogIndex
  /** Term and vote as last handed out, to write only what changed. */
  spoken: HardState
  readonly random: number
  /** How often it was started. */
  starts: number
  readonly reads: ReadState[]
  /** All lines about this node so far. */
  readonly said: string[]
}

/** The first number of a start makes its session, which no other start may have; all others are as the case says. */
export function randomOf(node: WorldNode): Random {
  let isSession = true
  const session = ++node.starts / 1024
  return () => {
    if (!isSession) return node.random
    isSession = false
    return session
  }
}

export function makeNode({ id, entries, hardState, firstIndex, applied, random, isRotten }: NodeSetup): WorldNode {
  return {
    id,
    core: null,
    stopped: null,
    now: 0,
    isPaused: false,
    isDiskSlow: false,
    disk: { hardState, entries: [...entries], firstIndex, quarantine: isRotten ? { untilLeaderReached: false } : null },
    lost: [],
    log: [],
    unsynced: [],
    applied,
    commitSeen: hardState.commit,
    spoken: hardState,
    random,
    starts: 0,
    reads: [],
    said: [],
  }
}
