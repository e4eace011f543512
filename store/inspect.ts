/**
 * Reads the log of a stopped node without changing a byte: for `ledgermq debug verify` and for people.
 *
 * Unlike `openCommitLog` it repairs nothing, so a torn flush is reported and still there afterwards. The node must
 * not run meanwhile.
 */
import type { LogRecovery } from './contract.ts'
import type { Disk } from './disk.ts'
import { scanLog } from './log-scan.ts'
import { findSegments, holeOf, type RecoveryOptions } from './recovery.ts'
import type { Segment } from './segment.ts'
import { TermRuns } from './term-runs.ts'
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
    const termRuns = new TermRuns()
    const scan = await scanLog(found.segments, options.segmentBytes, (frame) => {
      termRuns.add(frame.header.index, frame.header.term)
      onEntry(frame)
    })
    return {
      firstIndex: 1,
      lastIndex: scan.last.index,
      lastTerm: scan.last.term,
      termRuns: termRuns.all(),
      tornBytes: 0,
      hole: holeOf(found, scan),
    }
  } finally {
    await Promise.allSettled(opened.map((segment) => segment.close()))
  }
}
