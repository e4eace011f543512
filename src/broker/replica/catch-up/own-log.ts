/**
 * Whether the own log may go on from where a copy ends. Asked by `upkeep.ts` for the planner, which lets a shorter
 * copy take the place of a log only when the two differ there.
 */
import type { CommitLogApi } from '../../../../store/index.ts'

/**
 * False only when the entry at the end of the copy is known to be another one here. One that cannot be read, or is
 * not there, proves nothing: what this node acknowledged behind it must be in the copy then.
 */
export async function agreesAt(
  log: Pick<CommitLogApi, 'firstIndex' | 'lastIndex' | 'read'>,
  end: { readonly index: number; readonly term: number },
): Promise<boolean> {
  if (end.index < log.firstIndex || end.index >= log.lastIndex) return true
  try {
    const [frame] = await log.read(end.index, end.index, 1)
    return frame === undefined || frame.header.term === end.term
  } catch {
    return true
  }
}
