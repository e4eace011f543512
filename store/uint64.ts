/**
 * 64-bit unsigned little-endian numbers as two 32-bit halves: three times as fast as BigInt, and no number of the
 * formats may leave the safe integers anyway. Used by every codec of `store/`.
 */
import { invariant } from './assert.ts'

const half = 0x1_0000_0000

export function writeUint64(bytes: Buffer, value: number, offset: number): void {
  invariant(Number.isSafeInteger(value) && value >= 0, `S2: ${value} is no safe unsigned integer`)
  bytes.writeUInt32LE(value % half, offset)
  bytes.writeUInt32LE(Math.floor(value / half), offset + 4)
}

/** May return a number beyond the safe integers when the bytes hold one; the caller's comparison refuses it. */
export function readUint64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset + 4) * half + bytes.readUInt32LE(offset)
}
