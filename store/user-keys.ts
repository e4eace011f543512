/**
 * Which keys of the state database are the callers' and which its own. Used by everything of the state store; pure.
 *
 * The first byte decides: 0x00 is the store's (markers), 0xff stays free, so that there is an end behind all rows.
 */
import { invariant } from './assert.ts'

/** Keys that begin with this byte are the state store's own. */
export const reservedPrefix = 0x00
const endPrefix = 0xff

export const firstUserKey: Buffer = Buffer.from([reservedPrefix + 1])
/** Exclusive end of all keys that callers may use. */
export const userKeyEnd: Buffer = Buffer.from([endPrefix])

/** The smallest key that is above this one. */
export function keyBehind(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.alloc(1)])
}

export function isUserKey(key: Buffer): boolean {
  return key.length > 0 && key[0] !== reservedPrefix && key[0] !== endPrefix
}

export function assertUserKey(key: Buffer): void {
  invariant(isUserKey(key), 'S4: keys that begin with 0x00 or 0xff are the state store’s own')
}
