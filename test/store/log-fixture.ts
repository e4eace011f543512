/** What the tests of the CommitLog share: small options, entries, the expected bytes of a log, crashes everywhere. */
import { expect } from 'vitest'
import { openCommitLog } from '../../store/commit-log.ts'
import type { CommitLogApi, CommitLogOptions } from '../../store/contract.ts'
import type { Disk } from '../../store/disk.ts'
import { frameBody } from '../../store/frame.ts'
import { MemoryDisk } from '../../store/memory-disk.ts'
import { segmentName } from '../../store/segment.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import type { Frame, LogEntry } from '../../store/types.ts'

export const testOptions: CommitLogOptions = {
  directory: 'log',
  segmentBytes: 16 * 1024,
  incarnation: '3f0e6c2a-0000-4000-8000-000000000001',
  zeroAheadBytes: 8 * 1024,
  flushBytesMax: 1024 * 1024,
  tailCacheBytes: 1024 * 1024,
  blockCacheBytes: 1024 * 1024,
}

export function openTestLog(disk: Disk, overrides: Partial<CommitLogOptions> = {}): Promise<CommitLogApi> {
  return openCommitLog(disk, { ...testOptions, ...overrides })
}

/** An entry whose bytes follow from its numbers, so that two of the same numbers are equal. */
export function testEntry(index: number, term: number, bodyBytes: number): LogEntry {
  const body = Buffer.alloc(bodyBytes, `${index}/${term};`)
  return { index, term, type: 1, storeTime: 1_700_000_000_000 + index, body: [body] }
}

export function appendTo(log: CommitLogApi, term: number, ...sizes: readonly number[]): readonly Frame[] {
  return sizes.map((size) => log.append(testEntry(log.lastIndex + 1, term, size)))
}

/** Index, term and body length of all entries, read and checked one after the other. */
export async function entriesOf(log: CommitLogApi): Promise<readonly string[]> {
  const entries: string[] = []
  for (let index = log.firstIndex; index <= log.lastIndex; ) {
    const frames = await log.read(index, log.lastIndex, 4096)
    for (const frame of frames) {
      const { header } = frame
      expect(header.index).toBe(index)
      const expected = testEntry(header.index, header.term, header.bodyLength)
      expect(frameBody(frame).equals(expected.body[0]!)).toBe(true)
      entries.push(`${header.index}/${header.term}:${header.bodyLength}`)
      index++
    }
  }
  return entries
}

export function described(frames: readonly Frame[]): readonly string[] {
  return frames.map(({ header }) => `${header.index}/${header.term}:${header.bodyLength}`)
}

/** All log bytes of the disk, without segment headers, up to the end of the last file. */
export function logBytes(disk: MemoryDisk, segmentBytes: number = testOptions.segmentBytes): Buffer {
  const parts: Buffer[] = []
  for (let base = 0; disk.paths().includes(`log/${segmentName(base)}`); base += segmentBytes) {
    const content = disk.contentOf(`log/${segmentName(base)}`).subarray(segmentHeaderBytes)
    parts.push(content, Buffer.alloc(segmentBytes - content.length))
  }
  return Buffer.concat(parts)
}

/** A disk with the log folder made and durable, as the broker leaves it. */
export async function newDisk(): Promise<MemoryDisk> {
  const disk = new MemoryDisk()
  await disk.makeDirectory('log')
  await disk.syncDirectory('.')
  return disk
}

export interface CrashRun {
  /** Where the work stood when the power went, as `work` left it. */
  readonly disk: MemoryDisk
  readonly operation: string
}

/**
 * Runs `work` on copies of `base` again and again: the k-th time the power goes just before its k-th disk operation
 * takes effect. Yields every disk in that moment, un-synced pages and all, until `work` runs to its end.
 */
export async function* crashEverywhere(
  base: MemoryDisk,
  work: (disk: MemoryDisk) => Promise<unknown>,
): AsyncGenerator<CrashRun> {
  for (let stopAt = 1; ; stopAt++) {
    const disk = base.clone()
    let count = 0
    let stoppedBefore = ''
    const stopped = new Promise<void>((resolve) => {
      disk.schedule = (operation, path) => {
        count++
        if (count < stopAt) return Promise.resolve()
        stoppedBefore ||= `${count}: ${operation} ${path}`
        resolve()
        return new Promise(() => undefined)
      }
    })
    await Promise.race([work(disk), stopped])
    disk.schedule = undefined
    if (count < stopAt) return
    yield { disk, operation: stoppedBefore }
  }
}
