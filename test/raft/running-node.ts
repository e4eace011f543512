/** One node of a `Cluster`: its process, and its disk, written Ready by Ready. Used by `support.ts`. */
import type { EntryMeta, HardState, Input, LogIndex, NodeId, RaftCore, Ready } from '../../raft/index.ts'

/** What one node has on its disk: the part that survives. */
export interface Disk {
  hardState: HardState
  entries: EntryMeta[]
}

export interface RunningNode {
  readonly id: NodeId
  core: RaftCore | null
  readonly disk: Disk
  /** The log as handed out to the driver, ahead of the disk. */
  log: EntryMeta[]
  unsynced: Ready[]
  isSyncing: boolean
  isPaused: boolean
  /** Inputs that wait in the sockets of a paused node. */
  backlog: Input[]
  incarnation: number
  applied: LogIndex
  commitSeen: LogIndex
  /** The logs as they were before the disk lost their ends; the node is quarantined while there are any. */
  lost: (readonly EntryMeta[])[]
}

export function writeLog(log: EntryMeta[], ready: Ready): void {
  if (ready.truncateFrom !== undefined) log.length = ready.truncateFrom - 1
  for (const entry of ready.append) {
    if (entry.index !== log.length + 1) throw new Error(`test driver: entry ${entry.index} after ${log.length}`)
    log.push(entry)
  }
}

export function writeReady(disk: Disk, ready: Ready): void {
  writeLog(disk.entries, ready)
  if (ready.hardState !== undefined) disk.hardState = ready.hardState
}
