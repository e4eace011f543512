/** What the tests of damage share: small logs, ways to rot, and the check that a repair brings back every byte. */
import { expect } from 'vitest'
import type { CommitLogApi, CommitLogOptions, LogHole } from '../../store/contract.ts'
import { frameHeaderBytes } from '../../store/frame.ts'
import type { MemoryDisk } from '../../store/memory-disk.ts'
import { segmentName } from '../../store/segment.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import type { Frame } from '../../store/types.ts'
import { appendTo, described, entriesOf, logBytes, newDisk, openTestLog, testOptions } from './log-fixture.ts'

export const options: Partial<CommitLogOptions> = { zeroAheadBytes: 4096, tailCacheBytes: 0, blockCacheBytes: 1 }
const { segmentBytes } = testOptions

export interface Closed {
  readonly disk: MemoryDisk
  readonly frames: readonly Frame[]
  readonly bytes: Buffer
}

/** A log with one entry of each size, flushed one by one, the terms ascending as given. */
export async function closedLog(sizes: readonly number[], terms: readonly number[] = []): Promise<Closed> {
  const disk = await newDisk()
  const log = await openTestLog(disk, options)
  const frames: Frame[] = []
  for (const [at, size] of sizes.entries()) {
    frames.push(...appendTo(log, terms[at] ?? terms.at(-1) ?? 1, size))
    await log.flush()
  }
  await log.close()
  return { disk, frames, bytes: logBytes(disk) }
}

export function pathOf(position: number): string {
  return `log/${segmentName(position - (position % segmentBytes))}`
}

/** Where a position of the log lies in its file. */
export function offsetOf(position: number): number {
  return segmentHeaderBytes + (position % segmentBytes)
}

export async function overwrite(disk: MemoryDisk, position: number, bytes: Buffer): Promise<void> {
  await patch(disk, pathOf(position), offsetOf(position), bytes)
}

export async function patch(disk: MemoryDisk, path: string, offset: number, bytes: Buffer): Promise<void> {
  const file = await disk.open(path, { create: false })
  await file.write([bytes], offset)
  await file.sync()
  await file.close()
}

export function rotHeader(disk: MemoryDisk, frame: Frame): void {
  disk.flipBit(pathOf(frame.header.position), offsetOf(frame.header.position) + 33, 2)
}

export function rotBody(disk: MemoryDisk, frame: Frame): void {
  disk.flipBit(pathOf(frame.header.position), offsetOf(frame.header.position) + frameHeaderBytes, 2)
}

export function ranges(holes: readonly LogHole[]): readonly string[] {
  return holes.map(({ fromIndex, toIndex }) => `${fromIndex}-${toIndex}`)
}

export async function expectReads(log: CommitLogApi, frames: readonly Frame[]): Promise<void> {
  for (const frame of frames) {
    const { index, position } = frame.header
    const hole = log.holes.find(({ fromIndex, toIndex }) => fromIndex <= index && index <= toIndex)
    if (hole === undefined) {
      expect((await log.read(index, index, 1))[0]!.bytes.equals(frame.bytes)).toBe(true)
      expect((await log.readAt(position)).bytes.equals(frame.bytes)).toBe(true)
    } else {
      const error = { code: 'ROTTEN', details: { fromIndex: hole.fromIndex, toIndex: hole.toIndex } }
      await expect(log.read(index, index, 1)).rejects.toMatchObject(error)
      await expect(log.readAt(position)).rejects.toMatchObject({ code: 'ROTTEN' })
    }
  }
}

/** Fills all holes with the true frames; then the log is byte for byte what it was. */
export async function repairAll(log: CommitLogApi, disk: MemoryDisk, { frames, bytes }: Closed): Promise<void> {
  for (const hole of [...log.holes]) await log.repair(frames.slice(hole.fromIndex - 1, hole.toIndex))
  expect(log.holes).toEqual([])
  await expectReads(log, frames)
  await log.close()
  expect(logBytes(disk).equals(bytes)).toBe(true)
  const again = await openTestLog(disk, options)
  expect(again.recovery).toMatchObject({ holes: [], tail: null, lastIndex: frames.length, tornBytes: 0 })
  expect(await entriesOf(again)).toEqual(described(frames))
  await again.close()
}
