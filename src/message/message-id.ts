/**
 * Message ids as official RocketMQ 5 clients make them: 17 bytes in upper-case hex, made by the sender. Used by the
 * SDK, one generator per client, and by the broker for messages of its own.
 *
 * Layout: 01 | node 6 | process 2 | seconds since 2021-01-01 UTC 4 | counter 4, big-endian. Node and process are
 * random here: an id must be unique, it must not tell where it was made.
 */
import type { Clock, Random } from '../common/clock.ts'

const idVersion = '01'
/** 2021-01-01T00:00:00Z. */
const epochMs = 1_609_459_200_000

export interface MessageIdSource {
  /** The next id, 34 characters. Ids of one source differ within 2^32 of them a second, also when the clock jumps back. */
  next(): string
}

export function createMessageIds(clock: Pick<Clock, 'wallMs'>, random: Pick<Random, 'bytes'>): MessageIdSource {
  const prefix = idVersion + random.bytes(8).toString('hex').toUpperCase()
  let counter = random.bytes(4).readUInt32BE(0)
  let second = -1
  let secondHex = ''
  return {
    next() {
      const now = Math.max(0, Math.floor((clock.wallMs() - epochMs) / 1000))
      if (now !== second) {
        second = now
        secondHex = hex8(now)
      }
      counter = (counter + 1) >>> 0
      return prefix + secondHex + hex8(counter)
    },
  }
}

function hex8(value: number): string {
  return (value >>> 0).toString(16).toUpperCase().padStart(8, '0')
}
