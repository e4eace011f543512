/**
 * Strings in stored bytes: strict UTF-8 in both directions. Used by the batch format only.
 *
 * Bytes that are not UTF-8 and strings with half a surrogate pair are refused, never replaced by U+FFFD: what is
 * stored is what the producer said. Most strings are ASCII, so that is tried first and without allocating.
 */
import { isUtf8 } from 'node:buffer'
import { illegal } from './layout.ts'

const loneSurrogate = /\p{Surrogate}/u
/** Up to this length a loop beats the call into native code. */
const shortLength = 48

/** Length as UTF-8. Throws MESSAGE_ILLEGAL when the string cannot be encoded. */
export function textBytes(text: string, field: string): number {
  const length = Buffer.byteLength(text, 'utf8')
  if (length !== text.length && loneSurrogate.test(text)) throw illegal(`${field} holds half of a surrogate pair`)
  return length
}

/** Writes the string, which is `length` bytes long, and returns where it ends. */
export function writeText(target: Buffer, at: number, text: string, length: number): number {
  if (length === text.length && length <= shortLength) {
    for (let i = 0; i < length; i++) target[at + i] = text.charCodeAt(i)
  } else target.write(text, at, length, 'utf8')
  return at + length
}

/** Whether all bytes of [from, to) are below 0x80. The caller has checked the bounds. */
export function isAscii(view: DataView, from: number, to: number): boolean {
  let at = from
  for (; at + 4 <= to; at += 4) if ((view.getUint32(at) & 0x80808080) !== 0) return false
  for (; at < to; at++) if (view.getUint8(at) >= 0x80) return false
  return true
}

/** Throws MESSAGE_ILLEGAL unless [from, to) is UTF-8. */
export function checkText(bytes: Buffer, from: number, to: number, field: string): void {
  if (!isUtf8(bytes.subarray(from, to))) throw illegal(`${field} is not UTF-8`)
}

/** The string of bytes that were checked before. */
export function readText(bytes: Buffer, from: number, to: number): string {
  if (from === to) return ''
  // Decoding ASCII as latin1 takes half the time.
  for (let at = from; at < to; at++) if (bytes[at]! >= 0x80) return bytes.toString('utf8', from, to)
  return bytes.toString('latin1', from, to)
}
