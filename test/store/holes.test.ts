/** Rot below the durable mark: found to the entry, kept as a hole, repaired to equal bytes. */
import { describe, expect, test } from 'vitest'
import { frameHeaderBytes } from '../../store/frame.ts'
import type { MemoryDisk } from '../../store/memory-disk.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import { described, entriesOf, openTestLog, testOptions } from './log-fixture.ts'
import {
  type Closed,
  closedLog,
  expectReads,
  offsetOf,
  options,
  overwrite,
  patch,
  pathOf,
  ranges,
  repairAll,
  rotBody,
  rotHeader,
} from './rot-fixture.ts'

const { segmentBytes } = testOptions

describe('a hole is found', () => {
  test('S3: for every single bit of a closed log, and repaired to equal bytes', async () => {
    const closed = await closedLog([5, 0, 70, 64, 10], [1, 1, 1, 2, 3])
    const { disk, frames } = closed
    const outcomes = new Map<string, number>()
    const end = frames.at(-1)!.header.position + frames.at(-1)!.header.frameLength
    for (let offset = 0; offset < end; offset++) {
      for (let bit = 0; bit < 8; bit++) {
        const rotten = disk.clone()
        rotten.flipBit(pathOf(0), offsetOf(offset), bit)
        const log = await openTestLog(rotten, options)
        const at = frames.findLastIndex(({ header }) => header.position <= offset)
        const { header } = frames[at]!
        const isHeader = offset - header.position < frameHeaderBytes
        if (isHeader && at === frames.length - 1) {
          expect(log.recovery).toMatchObject({ holes: [], tail: { fromIndex: 5, position: header.position } })
          expect(await entriesOf(log)).toEqual(described(frames.slice(0, 4)))
          await log.close()
          outcomes.set('tail', (outcomes.get('tail') ?? 0) + 1)
          continue
        }
        expect(ranges(log.holes)).toEqual([`${header.index}-${header.index}`])
        expect(log.recovery).toMatchObject({ tail: null, lastIndex: 5, holes: log.holes })
        // Between two entries of one term it can only be the same.
        expect(log.holes[0]!.termsKnown).toBe(!isHeader || at === 1)
        if (bit === offset % 8) await repairAll(log, rotten, closed)
        else await expectReads(log, frames)
        outcomes.set('hole', (outcomes.get('hole') ?? 0) + 1)
      }
    }
    expect(outcomes.get('tail')).toBe(64 * 8)
    expect(outcomes.get('hole')).toBe((end - 64) * 8)
  })

  test('S3: for every bit of a segment header: it heals itself or was not needed', async () => {
    const closed = await closedLog([5, 9000, 9000])
    for (const path of closed.disk.paths().slice(0, 2)) {
      for (let offset = 0; offset < segmentHeaderBytes; offset += offset < 100 || offset % 512 > 480 ? 1 : 7) {
        const rotten = closed.disk.clone()
        rotten.flipBit(path, offset, offset % 8)
        const log = await openTestLog(rotten, options)
        await repairAll(log, rotten, closed)
        const isFixed = offset < 512 || (offset >= 2048 && offset < 2560)
        const slice = (disk: MemoryDisk): Buffer => disk.contentOf(path).subarray(0, 512)
        if (isFixed) expect(slice(rotten).equals(slice(closed.disk))).toBe(true)
      }
    }
  })

  const damages: Record<string, readonly [(closed: Closed, disk: MemoryDisk) => unknown, readonly string[]]> = {
    'two bodies, apart': [(c, d) => [rotBody(d, c.frames[1]!), rotBody(d, c.frames[6]!)], ['2-2', '7-7']],
    'two bodies, side by side': [(c, d) => [rotBody(d, c.frames[4]!), rotBody(d, c.frames[5]!)], ['5-6']],
    'a header and the body behind it': [(c, d) => [rotHeader(d, c.frames[4]!), rotBody(d, c.frames[5]!)], ['5-6']],
    'headers in two segments': [(c, d) => [rotHeader(d, c.frames[1]!), rotHeader(d, c.frames[6]!)], ['2-2', '7-7']],
    'the last header of a segment': [(c, d) => rotHeader(d, c.frames[2]!), ['3-3']],
    'the first header of a segment': [(c, d) => rotHeader(d, c.frames[3]!), ['4-4']],
    'the padding at the end of a segment': [
      (c, d) => d.flipBit(pathOf(0), offsetOf(c.frames[2]!.header.position + c.frames[2]!.header.frameLength), 0),
      ['4-4'],
    ],
    'zeros in the body of padding that are none': [
      (c, d) => d.flipBit(pathOf(0), offsetOf(c.frames[2]!.header.position + c.frames[2]!.header.frameLength + 99), 0),
      ['4-4'],
    ],
    'a page of zeros': [(_c, d) => overwrite(d, 4096, Buffer.alloc(4096)), ['1-2']],
    'a page of zeros at the end of a segment': [(_c, d) => overwrite(d, 3 * 4096, Buffer.alloc(4096)), ['3-4']],
    'a header page of zeros, which heals itself': [
      (_c, d) => patch(d, pathOf(segmentBytes), 0, Buffer.alloc(4096)),
      [],
    ],
    'a missing file': [(_c, d) => d.unlink(pathOf(segmentBytes)), ['4-7']],
    'a file cut short': [
      async (_c, d) => {
        const file = await d.open(pathOf(segmentBytes), { create: false })
        await file.truncate(8192)
        await file.close()
      },
      ['4-7'],
    ],
    'two files swapped': [
      async (_c, d) => {
        const [, one, two] = d.paths()
        await d.rename(one!, 'log/x')
        await d.rename(two!, one!)
        await d.rename('log/x', two!)
      },
      ['4-9'],
    ],
  }

  //   1: 5000   2: 3000   3: 6000 | 4: 9000  5: 100  6: 3000 | 7: 9000  8: 200 | 9: 9000 | 10: 9000, 11: 100
  const sizes = [5000, 3000, 6000, 9000, 100, 3000, 9000, 200, 9000, 9000, 100]

  test.each(Object.keys(damages))('%s', async (name) => {
    const closed = await closedLog(sizes, [1, 1, 1, 2, 2, 2, 2, 3])
    const [damage, expected] = damages[name]!
    const disk = closed.disk.clone()
    await damage(closed, disk)
    const log = await openTestLog(disk, options)
    expect(log.recovery.tail).toBeNull()
    expect(ranges(log.holes)).toEqual(expected)
    await expectReads(log, closed.frames)
    await repairAll(log, disk, closed)
  })
})
