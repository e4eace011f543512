import { describe, expect, test } from 'vitest'
import { createMessageIds } from '../../../src/message/message-id.ts'

/** 2021-01-01T00:00:00Z. */
const epochMs = 1_609_459_200_000

function source(wallMs: () => number, fill = 0xab) {
  return createMessageIds({ wallMs }, { bytes: (length) => Buffer.alloc(length, fill) })
}

describe('a message id', () => {
  test('has 34 upper-case hex digits: version, node, process, seconds, counter', () => {
    const ids = source(() => epochMs + 0x01020304 * 1000 + 999)
    expect(ids.next()).toBe('01ABABABABABABABAB01020304ABABABAC')
    expect(ids.next()).toBe('01ABABABABABABABAB01020304ABABABAD')
  })

  test('carries the second in which it was made', () => {
    let now = epochMs
    const ids = source(() => now)
    expect(ids.next().slice(18, 26)).toBe('00000000')
    now += 1500
    expect(ids.next().slice(18, 26)).toBe('00000001')
  })

  test('stays unique when the clock jumps back and when the counter wraps', () => {
    let now = epochMs + 5000
    const ids = source(() => now, 0xff)
    const made = new Set<string>()
    for (let count = 0; count < 1000; count++) {
      made.add(ids.next())
      if (count === 500) now -= 3000
    }
    expect(made.size).toBe(1000)
    for (const id of made) expect(id).toMatch(/^01[0-9A-F]{32}$/)
  })

  test('is well-formed even with a clock before 2021 or after 2157', () => {
    expect(source(() => 0).next()).toMatch(/^01[0-9A-F]{32}$/)
    expect(source(() => epochMs + 2 ** 33 * 1000).next()).toMatch(/^01[0-9A-F]{32}$/)
  })
})
