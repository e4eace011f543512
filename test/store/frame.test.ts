import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { encodeRecord } from '../../store/folder.ts'
import {
  bodyMatches,
  encodeFrame,
  encodePadding,
  frameBody,
  frameLengthOf,
  isZero,
  readHeader,
} from '../../store/frame.ts'
import { encodeHardState } from '../../store/hard-state.ts'
import {
  decodeSegmentHeader,
  encodeMark,
  encodeSegmentHeader,
  markOffset,
  newestMark,
} from '../../store/segment-header.ts'
import type { LogEntry } from '../../store/types.ts'
import { testOptions } from './log-fixture.ts'

const entry: LogEntry = {
  index: 4_294_967_299,
  term: 7,
  type: 1,
  storeTime: 1_763_683_200_123,
  body: [Buffer.from('twelve bytes'), Buffer.from(' and some more')],
}
const place = { position: 8_589_934_656, previousChecksum: 0xdeadbeef }
const segmentHeader = {
  incarnation: testOptions.incarnation,
  segmentBytes: 1_073_741_824,
  base: 8_589_934_592,
  previous: { index: 4_294_967_298, term: 6, checksum: 0xdeadbeef },
}
const mark = { sequence: 42, position: 8_589_934_592, index: 4_294_967_298, term: 6 }

/** Bytes of the first release. A difference means that old folders cannot be read: then there is a new version. */
function golden(name: string): Buffer {
  const hex = readFileSync(new URL(`golden/${name}.hex`, import.meta.url), 'utf8')
  return Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
}

describe('formats on disk are the bytes of the golden files', () => {
  test.each<readonly [string, () => Buffer]>([
    ['frame', () => encodeFrame(entry, place).bytes],
    ['frame-empty', () => encodeFrame({ ...entry, type: 3, body: [] }, place).bytes],
    ['frame-padding', () => encodePadding(entry, place, 128).bytes],
    ['segment-header', () => encodeSegmentHeader(segmentHeader, mark).subarray(0, 1024 + 64)],
    ['durable-mark', () => encodeMark(mark)],
    ['hard-state', () => encodeHardState(3, { term: 9, vote: 'n1', commit: 4_294_967_298 })],
    ['hard-state-no-vote', () => encodeHardState(4, { term: 9, vote: null, commit: 0 })],
    ['record', () => encodeRecord({ node: 'n0', disk: '3f0e6c2a', members: [1, 'zwei', null] })],
  ])('%s', (name, encode) => {
    expect(encode().toString('hex')).toBe(golden(name).toString('hex'))
  })
})

describe('the frame codec', () => {
  test('what is encoded is decoded', () => {
    const frame = encodeFrame(entry, place)
    expect(readHeader(frame.bytes, 0)).toEqual(frame.header)
    expect(frame.header).toMatchObject({ ...place, index: entry.index, term: 7, type: 1, frameLength: 128 })
    expect(frameBody(frame).toString()).toBe('twelve bytes and some more')
    expect(bodyMatches(frame.header, frame.bytes)).toBe(true)
  })

  test('S2: frames are aligned to 64 bytes with zeros', () => {
    expect([0, 1, 64, 65, 128].map(frameLengthOf)).toEqual([64, 128, 128, 192, 192])
    const { bytes } = encodeFrame(entry, place)
    expect(isZero(bytes.subarray(64 + 26))).toBe(true)
  })

  test('S3: every flipped bit of a frame is found', () => {
    const { bytes } = encodeFrame(entry, place)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const rotten = Buffer.from(bytes)
      rotten[bit >> 3]! ^= 1 << (bit & 7)
      const header = readHeader(rotten, 0)
      expect(typeof header === 'string' || !bodyMatches(header, rotten)).toBe(true)
    }
  })

  test('zeros are told apart from damage, damage from a newer format', () => {
    const { bytes } = encodeFrame(entry, place)
    expect(readHeader(Buffer.alloc(64), 0)).toBe('zero')
    expect(readHeader(Buffer.alloc(64, 1), 0)).toBe('magic')
    expect(readHeader(Buffer.concat([bytes.subarray(0, 60), Buffer.alloc(4)]), 0)).toBe('header checksum')
  })

  test('S2: numbers beyond the safe integers are bugs', () => {
    expect(() => encodeFrame({ ...entry, term: 2 ** 53 }, place)).toThrow('S2')
    expect(() => encodeFrame({ ...entry, index: -1 }, place)).toThrow('S2')
  })
})

describe('the segment header', () => {
  test('what is encoded is decoded, with the mark in the slot of its sequence number', () => {
    const bytes = encodeSegmentHeader(segmentHeader, mark)
    expect(decodeSegmentHeader(bytes)).toEqual(segmentHeader)
    expect(newestMark(bytes)).toEqual(mark)
    encodeMark({ ...mark, sequence: 43 }).copy(bytes, markOffset(43))
    expect(newestMark(bytes)).toEqual({ ...mark, sequence: 43 })
    bytes[markOffset(43) + 9]! ^= 1
    expect(newestMark(bytes)).toEqual(mark)
  })

  test('zeros are blank, one copy is enough, half a header is damaged', () => {
    expect(decodeSegmentHeader(Buffer.alloc(4096))).toBe('blank')
    expect(decodeSegmentHeader(Buffer.alloc(0))).toBe('blank')
    for (const at of [0, 2048]) {
      const bytes = encodeSegmentHeader(segmentHeader, mark)
      expect(decodeSegmentHeader(bytes.fill(0, at, at + 512))).toEqual(segmentHeader)
      expect(decodeSegmentHeader(bytes.fill(9, at, at + 512))).toEqual(segmentHeader)
      expect(decodeSegmentHeader(bytes.fill(0, 2048 - at + 100, 2048 - at + 512))).toBe('damaged')
    }
  })
})
