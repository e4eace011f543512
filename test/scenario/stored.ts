/**
 * What one node of a scenario has on its disk: the part that survives a crash, and the Boot that it makes.
 *
 * Used by `world.ts`. `entries` always begins at index 1; what was compacted stays there for the judge to see.
 */
import type {
  Boot,
  Configuration,
  EntryMeta,
  HardState,
  LoggedConfiguration,
  LogIndex,
  Ready,
} from '../../raft/index.ts'
import { runsOf } from '../raft/support.ts'

export interface Stored {
  hardState: HardState
  entries: EntryMeta[]
  firstIndex: LogIndex
  /** What the driver knows to be wrong with this log; null: nothing. */
  quarantine: Boot['quarantine']
}

export function bootOf(stored: Stored, first: Configuration, applied: LogIndex): Boot {
  const { hardState, entries, firstIndex, quarantine } = stored
  const terms = entries.slice(firstIndex - 1).map((entry) => entry.term)
  return {
    hardState,
    configurations: configurationsOf(stored, first),
    firstIndex,
    previousTerm: entries[firstIndex - 2]?.term ?? 0,
    lastIndex: entries.length,
    termRuns: runsOf(terms, firstIndex),
    applied,
    quarantine,
  }
}

/** The one in force before the log begins, then all that it holds. */
function configurationsOf({ entries, firstIndex }: Stored, first: Configuration): LoggedConfiguration[] {
  const logged: LoggedConfiguration[] = [{ index: 0, configuration: first }]
  for (const { index, configuration } of entries) {
    if (configuration === undefined) continue
    if (index < firstIndex) logged.pop()
    logged.push({ index, configuration })
  }
  return logged
}

export function writeReady(stored: Stored, ready: Ready): void {
  writeLog(stored.entries, ready)
  if (ready.hardState !== undefined) stored.hardState = ready.hardState
}

export function writeLog(log: EntryMeta[], ready: Ready): void {
  if (ready.truncateFrom !== undefined) log.length = ready.truncateFrom - 1
  log.push(...ready.append)
}

/** The driver adds the frames, and with them sizes and bodies that the core no longer knows. */
export function filledFrom(log: readonly EntryMeta[], entries: readonly EntryMeta[]): EntryMeta[] {
  return entries.map((entry) => log[entry.index - 1] ?? entry)
}
