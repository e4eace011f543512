/**
 * Reads the log of a stopped node without changing a byte: for `ledgermq debug verify` and for people.
 *
 * Unlike `openCommitLog` it repairs nothing, so a torn flush is reported and still there afterwards. The node must
 * not run meanwhile.
 */
import type { LogRecovery } from './contract.ts'
import type { Disk } from './disk.ts'
import { findSegments, type RecoveryOptions, rottenTailOf, walkLog } from './recovery.ts'
import type { Segment } from './segment.ts'
import type { Frame } from './types.ts'

/**
 * Calls back for every good entry in order, each checked (S3). `tornBytes` of the result is always 0. Rejects with
 * FOREIGN_FOLDER and UNKNOWN_FORMAT as `openCommitLog` does.
 */
export async function inspectCommitLog(
  disk: Disk,
  options: RecoveryOptions,
  onEntry: (frame: Frame) => void,
): Promise<LogRecovery> {
  const opened: Segment[] = []
  try {
    const found = await findSegments(disk, options, opened)
    const { scan, termRuns, configurations } = await walkLog(found, options, { begins: () => {}, entry: onEntry })
    return {
      firstIndex: found.origin.index + 1,
      previousTerm: found.origin.term,
      lastIndex: scan.last.index,
      lastTerm: scan.last.term,
      configurations,
      termRuns: termRuns.all(),
      tornBytes: 0,
      holes: [],
      tail: rottenTailOf(found, scan),
    }
  } finally {
    await Promise.allSettled(opened.map((segment) => segment.close()))
  }
}
