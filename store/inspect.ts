/**
 * Reads the log of a stopped node without changing a byte: for `ledgermq debug verify` and for people.
 *
 * Unlike `openCommitLog` it repairs nothing, so a torn flush is reported and still there afterwards. The node must
 * not run meanwhile.
 */
import type { LogRecovery } from './contract.ts'
import type { Disk } from './disk.ts'
import { findSegments, type RecoveryOptions } from './find-segments.ts'
import { recoveryOf, walkLog } from './recovery.ts'
import type { Segment } from './segment.ts'
import type { Frame } from './types.ts'

/**
 * Calls back for every good entry in order, each checked (S3). A log whose parts contradict each other may have gone on
 * differently from the first hole on than it was called back for. `tornBytes` of the result is always 0. Rejects with
 * FOREIGN_FOLDER and UNKNOWN_FORMAT as `openCommitLog` does.
 */
export async function inspectCommitLog(
  disk: Disk,
  options: RecoveryOptions,
  onEntry: (frame: Frame) => void,
): Promise<LogRecovery> {
  const opened: Segment[] = []
  const unreadable = { count: 0 }
  try {
    const found = await findSegments(disk, options, { opened, unreadable })
    const visitor = { begins: () => {}, entry: onEntry, hole: () => {}, rewind: () => {} }
    const walked = await walkLog(found, { segmentBytes: options.segmentBytes, unreadable }, visitor)
    return recoveryOf(found, walked, 0)
  } finally {
    await Promise.allSettled(opened.map((segment) => segment.close()))
  }
}
