/** Handles of delayed messages: what they name, and that nothing else is ever taken for one. */
import { expect, test } from 'vitest'
import { LedgerError } from '../../../src/common/errors.ts'
import { delayLevelsMs } from '../../../src/message/delay-levels.ts'
import { makeRecallHandle, readRecallHandle, timerOf } from '../../../src/message/recall-handle.ts'

const target = { topic: 'orders', queue: 3 }
const timer = { time: 1_700_000_000_123, index: 2 ** 53 - 1, record: 1023 }
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

function problemOf(handle: string, of = target): string {
  try {
    return JSON.stringify(readRecallHandle(handle, of))
  } catch (error) {
    return error instanceof LedgerError ? error.code : String(error)
  }
}

test('a handle names its message again, and never changes', () => {
  const handle = makeRecallHandle(target, timer)
  expect(readRecallHandle(handle, target)).toEqual(timer)
  expect(handle).toBe('AQAAAYvP5Wh7AB________8AAAP_p6ivYA')
})

test('with one character mistyped, added, missing or swapped it is refused', () => {
  const handle = makeRecallHandle(target, timer)
  const others: string[] = []
  for (let at = 0; at < handle.length; at++) {
    const [before, after] = [handle.slice(0, at), handle.slice(at + 1)]
    others.push(before + after)
    for (const letter of alphabet) if (letter !== handle[at]) others.push(before + letter + after)
    for (const letter of 'A=+/ ') others.push(before + letter + handle.slice(at))
    const swapped = `${before}${after[0] ?? ''}${handle[at]}${after.slice(1)}`
    if (swapped !== handle) others.push(swapped)
  }
  expect(others.length).toBeGreaterThan(2000)
  expect(new Set(others.map((other) => problemOf(other)))).toEqual(new Set(['INVALID_PARAMETER']))
})

test.each(['', 'x', '__proto__', '💥'.repeat(9), 'A'.repeat(34), 'A'.repeat(1_000_000)])('%.20j is none', (handle) => {
  expect(problemOf(handle)).toBe('INVALID_PARAMETER')
})

test('it is good for its own topic and queue alone', () => {
  const handle = makeRecallHandle(target, timer)
  expect(problemOf(handle, { topic: 'orders', queue: 4 })).toBe('INVALID_PARAMETER')
  expect(problemOf(handle, { topic: 'order', queue: 3 })).toBe('INVALID_PARAMETER')
})

test('the timer of a message follows from the reply: a time, a level, the past', () => {
  const reply = { storeTime: 1_000_000, index: 7, record: 2 }
  const timeOf = (deliveryTime: number): number => timerOf({ ...reply, deliveryTime }).time
  expect(timerOf({ ...reply, deliveryTime: 2_000_000 })).toEqual({ time: 2_000_000, index: 7, record: 2 })
  expect([timeOf(3), timeOf(19)]).toEqual([1_000_000 + (delayLevelsMs[2] ?? 0), 1_000_000])
})
