/**
 * Reads the CommitLog of a stopped node without changing a byte: no tail is cut, no space prepared. Called by
 * `ledgermq debug verify`.
 */
import type { Disk } from './disk.ts'
import { scanLog } from './log-scan.ts'
import { findSegments, type RecoveryOptions } from './recovery.ts'
import type { Segment } from './segment.ts'
import type { Frame, Position } from './types.ts'

export interface LogInspection {
  /** Last entry before the first byte that is not a good frame. */
  readonly lastIndex: number
  /** Where the walk ended, and what is wrong there; null when there are only zeros. */
  readonly end: Position
  readonly defect: string | null
}

/** Calls back for every good entry in order. Rejects with FOREIGN_FOLDER or UNKNOWN_FORMAT. */
export async function inspectLog(
  disk: Disk,
  options: RecoveryOptions,
  onEntry: (frame: Frame) => void,
): Promise<LogInspection> {
  const opened: Segment[] = []
  try {
    const { segments } = await findSegments(disk, options, opened)
    const scan = await scanLog(segments, options.segmentBytes, onEntry)
    return { lastIndex: scan.last.index, end: scan.last.position, defect: scan.defect }
  } finally {
    await Promise.allSettled(opened.map((segment) => segment.close()))
  }
}
