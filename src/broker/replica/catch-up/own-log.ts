/**
 * Whether the own log may go on from where a copy ends. Asked by `upkeep.ts` for the planner, which lets a shorter
 * copy take the place of a log only when the two differ there, and a state go with a log only when they do not.
 */
import type { EntryId } from '../../../../raft/index.ts'
import type { CommitLogApi } from '../../../../store/index.ts'

/**
 * False only when the entry at the end of the copy is known to be another one here. One that cannot be read, or is
 * not there, proves nothing: what this node acknowledged behind it must be in the copy then.
 */
export async function agreesAt(
  log: Pick<CommitLogApi, 'firstIndex' | 'lastIndex' | 'read'>,
  end: EntryId,
): Promise<boolean> {
  if (end.index < log.firstIndex || end.index >= log.lastIndex) return true
  try {
    const [frame] = await log.read(end.index, end.index, 1)
    return frame === undefined || frame.header.term === end.term
  } catch {
    return true
  }
}

/**
 * True only when this very entry is on the own disk. All before it is then what others have before it, too (R2): when it
 * is committed, all of that is.
 */
export async function holds(
  log: Pick<CommitLogApi, 'firstIndex' | 'durableIndex' | 'read'>,
  { index, term }: EntryId,
): Promise<boolean> {
  if (index < log.firstIndex || index > log.durableIndex) return false
  try {
    const frames = await log.read(index, index, 1)
    return frames.some(({ header }) => header.index === index && header.term === term)
  } catch {
    return false
  }
}
