/** Positions of the log and the rules about conflicts, without any role. */
import { describe, expect, test } from 'vitest'
import { RaftLog } from '../../raft/log.ts'
import { type BootOptions, entriesOf, makeBoot } from './support.ts'

const config = { id: 'n0', recentEntriesMin: 64 }
const logOf = (options: BootOptions) => new RaftLog(makeBoot(options), config)

describe('the ends of the log', () => {
  test('an empty log ends at index 0 with term 0', () => {
    const log = logOf({})
    expect([log.firstIndex, log.lastIndex, log.lastTerm, log.termAt(0), log.termAt(1)]).toEqual([1, 0, 0, 0, null])
  })

  test('a compacted log knows the term right before its start and none before that', () => {
    const log = logOf({ firstIndex: 10, previousTerm: 2, terms: [2, 3] })
    expect([8, 9, 10, 11, 12].map((index) => log.termAt(index))).toEqual([null, 2, 2, 3, null])
    const empty = logOf({ firstIndex: 10, previousTerm: 2 })
    expect([empty.lastIndex, empty.lastTerm]).toEqual([9, 2])
    empty.propose(2, { kind: 'normal', bytes: 1 })
    expect([empty.termAt(9), empty.termAt(10)]).toEqual([2, 2])
  })

  test('what was applied had been committed, even if the stored commit is older', () => {
    expect(logOf({ terms: [1, 1, 1], commit: 1, applied: 3 }).commit).toBe(3)
  })

  test('R4 R6: a boot that contradicts itself stops the node', () => {
    expect(() => logOf({ terms: [1], commit: 2 })).toThrow(/^R4/)
    expect(() => logOf({ terms: [1], applied: 2 })).toThrow(/^R4/)
    expect(() => logOf({ firstIndex: 5, previousTerm: 1, commit: 4, applied: 2 })).toThrow(/^R6/)
    expect(() => new RaftLog({ ...makeBoot({ terms: [1, 1] }), termRuns: [] }, config)).toThrow(/^R2/)
  })
})

describe('conflicts', () => {
  test('merge skips what is there, cuts from the first difference, appends the rest', () => {
    const log = logOf({ terms: [1, 1, 2, 2] })
    log.merge(entriesOf(2, [1, 3, 3, 3]))
    expect([1, 2, 3, 4, 5].map((index) => log.termAt(index))).toEqual([1, 1, 3, 3, 3])
    expect(log.takeUnwritten()).toMatchObject({ truncateFrom: 3, append: [{ index: 3 }, { index: 4 }, { index: 5 }] })
    expect(log.takeUnwritten()).toEqual({ truncateFrom: null, append: [] })
  })

  test('a cut of entries that were never handed out is no duty of the driver', () => {
    const log = logOf({ terms: [1] })
    log.merge(entriesOf(2, [2, 2]))
    log.merge(entriesOf(3, [3]))
    expect(log.takeUnwritten()).toMatchObject({
      truncateFrom: null,
      append: [
        { index: 2, term: 2 },
        { index: 3, term: 3 },
      ],
    })
  })

  test('of two cuts before one Ready the deeper one counts', () => {
    const log = logOf({ terms: [1, 1, 1, 1] })
    log.merge(entriesOf(4, [2]))
    log.merge(entriesOf(2, [3]))
    log.merge(entriesOf(3, [4]))
    expect(log.takeUnwritten()).toMatchObject({ truncateFrom: 2, append: [{ term: 3 }, { term: 4 }] })
  })

  test('R6: merge never cuts at or below commit', () => {
    const log = logOf({ terms: [1, 1, 1], commit: 2 })
    expect(() => log.merge(entriesOf(2, [2]))).toThrow(/^R6/)
    log.merge(entriesOf(3, [2]))
    expect(log.lastTerm).toBe(2)
  })

  test('lastAtMost finds where two logs may still agree (5.3)', () => {
    const log = logOf({ terms: [1, 1, 4, 4, 5], firstIndex: 11, previousTerm: 1 })
    expect(log.lastAtMost(15, 4)).toEqual({ index: 14, term: 4 })
    expect(log.lastAtMost(99, 9)).toEqual({ index: 15, term: 5 })
    expect(log.lastAtMost(14, 3)).toEqual({ index: 12, term: 1 })
    expect(log.lastAtMost(13, 0)).toEqual({ index: 10, term: 0 })
    expect(log.lastAtMost(4, 9)).toEqual({ index: 4, term: 1 })
  })

  test('R2: gaps and falling terms stop the node', () => {
    const log = logOf({ terms: [1, 2] })
    expect(() => log.merge(entriesOf(4, [2]))).toThrow(/^R2/)
    expect(() => log.propose(1, { kind: 'normal', bytes: 1 })).toThrow(/^R2/)
  })
})

describe('marks', () => {
  test('R4: commit only rises and never passes the last entry', () => {
    const log = logOf({ terms: [1, 1] })
    expect([log.commitTo(1), log.commitTo(1), log.commitTo(0), log.commit]).toEqual([true, false, false, 1])
    expect(() => log.commitTo(3)).toThrow(/^R4/)
  })

  test('S4: what may be applied is min(commit, durable)', () => {
    const log = logOf({ terms: [1] })
    log.merge(entriesOf(2, [1, 1]))
    log.takeUnwritten()
    log.commitTo(3)
    expect(log.takeDeliverable()).toEqual({ from: 1, to: 1 })
    expect(log.hasDeliverable()).toBe(false)
    log.stableTo(2)
    expect(log.takeDeliverable()).toEqual({ from: 2, to: 2 })
    log.appliedTo(2)
    expect(() => log.appliedTo(3)).toThrow(/^R4/)
  })

  test('R5: nothing is durable that was not handed out', () => {
    const log = logOf({})
    log.propose(1, { kind: 'noop', bytes: 0 })
    expect(() => log.stableTo(1)).toThrow(/^R5/)
  })

  test('a cut takes the durable mark back at once', () => {
    const log = logOf({ terms: [1, 1, 1] })
    log.merge(entriesOf(2, [2]))
    expect(log.stable).toBe(1)
    log.stableTo(3)
    expect(log.stable).toBe(1)
  })

  test('sizes of old entries are forgotten, of uncommitted ones never', () => {
    const log = logOf({})
    const count = 2 * config.recentEntriesMin + 10
    for (let i = 0; i < count; i++) log.propose(1, { kind: 'normal', bytes: 7 })
    log.takeUnwritten()
    expect(log.knows(1)).toBe(true)
    log.commitTo(count - 5)
    log.propose(1, { kind: 'normal', bytes: 7 })
    log.takeUnwritten()
    expect([log.knows(1), log.knows(count - 4), log.entryAt(1).bytes]).toEqual([false, true, 0])
    expect(log.entryAt(count)).toMatchObject({ index: count, bytes: 7 })
  })
})
