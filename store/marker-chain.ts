/**
 * The chain of marker rows that shows holes in the state store. Used by `state-store.ts`; pure, no I/O.
 *
 * Every batch of state changes carries one marker (from, to, hash, checksum of the previous marker) in the same
 * atomic write (S4). A batch that a power loss swallowed takes its marker along, so the markers after it no longer
 * continue the ones before it. A lost tail leaves a shorter chain, which is an older but true state.
 * Layout of a marker: `state-store.md`.
 */
import { crc32 } from 'node:zlib'
import { reservedPrefix } from './user-keys.ts'

const markerKind = 0x6d
const markerVersion = 1
const markerBytes = 40
const keyBytes = 10

export interface Marker {
  /** appliedIndex before the batch. */
  readonly from: number
  /** appliedIndex after the batch. */
  readonly to: number
  /** Running hash of the state machine after `to`, 16 hex digits. */
  readonly hash: string
  /** Layout of the rows of the batch; another one means that the state must be built anew. */
  readonly schema: number
  /** Checksum of the marker before this one, 0 in the first. */
  readonly previousChecksum: number
  readonly checksum: number
}

export const zeroHash = '0000000000000000'
const hashPattern = /^[0-9a-f]{16}$/

/** Where a chain begins when nothing was written yet. */
export function firstMarker(schema: number): Marker {
  return { from: 0, to: 0, hash: zeroHash, schema, previousChecksum: 0, checksum: 0 }
}

export function isHash(hash: string): boolean {
  return hashPattern.test(hash)
}

/** Ordered by appliedIndex. */
export function markerKey(appliedIndex: number): Buffer {
  const key = Buffer.alloc(keyBytes)
  key[0] = reservedPrefix
  key[1] = markerKind
  key.writeBigUInt64BE(BigInt(appliedIndex), 2)
  return key
}

/** One behind the last possible marker key. */
export const markerKeyEnd: Buffer = Buffer.from([reservedPrefix, markerKind + 1])

/** The marker that continues `previous`, with its bytes. */
export function nextMarker(previous: Marker, to: number, hash: string): { marker: Marker; bytes: Buffer } {
  const bytes = Buffer.alloc(markerBytes)
  bytes.writeUInt16LE(markerVersion, 0)
  bytes.writeUInt16LE(previous.schema, 2)
  bytes.writeUInt32LE(previous.checksum, 4)
  bytes.writeBigUInt64LE(BigInt(previous.to), 8)
  bytes.writeBigUInt64LE(BigInt(to), 16)
  bytes.write(hash, 24, 'hex')
  const checksum = crc32(bytes.subarray(0, 32))
  bytes.writeUInt32LE(checksum, 32)
  const { schema, checksum: previousChecksum } = previous
  return { marker: { from: previous.to, to, hash, schema, previousChecksum, checksum }, bytes }
}

/** Null when the bytes are no marker of this version or do not pass their checksum. */
export function decodeMarker(bytes: Buffer): Marker | null {
  if (bytes.length !== markerBytes || bytes.readUInt16LE(0) !== markerVersion) return null
  const checksum = bytes.readUInt32LE(32)
  if (crc32(bytes.subarray(0, 32)) !== checksum) return null
  return {
    schema: bytes.readUInt16LE(2),
    previousChecksum: bytes.readUInt32LE(4),
    from: Number(bytes.readBigUInt64LE(8)),
    to: Number(bytes.readBigUInt64LE(16)),
    hash: bytes.toString('hex', 24, 32),
    checksum,
  }
}

/** Follows the chain by the rows behind `last`. Returns the new last marker, or what is wrong. */
export function followChain(
  last: Marker,
  rows: readonly (readonly [key: Buffer, value: Buffer])[],
): { readonly last: Marker } | { readonly problem: string } {
  let previous = last
  for (const [key, value] of rows) {
    const marker = decodeMarker(value)
    if (!marker || !markerKey(marker.to).equals(key)) return { problem: `the marker after ${previous.to} is damaged` }
    if (marker.from !== previous.to) return { problem: `changes of (${previous.to}, ${marker.from}] are missing` }
    if (marker.previousChecksum !== previous.checksum) {
      return { problem: `the marker of ${marker.to} does not continue the one of ${previous.to}` }
    }
    previous = marker
  }
  return { last: previous }
}
