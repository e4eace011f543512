import { expect, test } from 'vitest'
import { factsOf, isGone, parseStat } from '../../../../src/cli/fast-try/process-table.ts'

/** As /proc shows it: pid, command, state, then 16 fields, threads, one more, start time. */
function stat(state: string, threads: number): string {
  return `4242 (a (strange) name) ${state} ${'0 '.repeat(16)}${threads} 0 987654 0 0`
}

test('a command with spaces and parentheses does not shift the fields', () => {
  expect(parseStat(stat('S', 11))).toEqual({ state: 'S', threads: 11, started: '987654' })
})

test('a zombie whose other threads still hold its sockets is not gone', () => {
  expect(isGone(parseStat(stat('Z', 7)))).toBe(false)
  expect(isGone(parseStat(stat('Z', 1)))).toBe(true)
  expect(isGone(parseStat(stat('T', 7)))).toBe(false)
})

test('this process runs, and has more than one thread', () => {
  const facts = factsOf(process.pid)
  // No /proc, nothing to tell.
  if (facts === null) return
  expect(facts.threads).toBeGreaterThan(1)
  expect(isGone(facts)).toBe(false)
})
