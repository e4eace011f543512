import { expect, test } from 'vitest'
import type { ScriptReport } from '../../src/cli/fast-try/demonstration.ts'
import { findBroken, findBrokenCopy, findBrokenMembers } from './limits.ts'
import type { MembersReport } from './members.ts'

const spread = { p50: 100, p99: 150, max: 200 }
const good: ScriptReport = {
  script: 'stop-leader',
  runs: 20,
  acknowledged: 1000,
  lost: 0,
  duplicated: 0,
  offsetGaps: 0,
  sendErrors: 0,
  electionMs: spread,
  gapMs: spread,
}

test('a report within its limits breaks nothing', () => {
  expect(findBroken(good, 20)).toEqual([])
})

test.each([
  [{ lost: 1 }, 'lost is 1, not 0'],
  [{ duplicated: 2 }, 'duplicated is 2, not 0'],
  [{ offsetGaps: 3 }, 'offsetGaps is 3, not 0'],
  [{ sendErrors: 4 }, 'sendErrors is 4, not 0'],
  [{ runs: 19 }, '19 runs instead of 20'],
  [{ acknowledged: 0 }, 'nothing was acknowledged'],
  [{ gapMs: { ...spread, max: 201 } }, 'the longest gap is 201 ms, at most 200 are allowed'],
])('a report with %j is refused', (change, complaint) => {
  expect(findBroken({ ...good, ...change }, 20)).toEqual([complaint])
})

test('a copy may cost less than a third of the goodput, and must be one', () => {
  const report = { logMib: 1, seconds: 1, beforePerSecond: 10, duringPerSecond: 8, ratio: 0.8, copied: true, failed: 0 }
  expect(findBrokenCopy(report)).toEqual([])
  expect(findBrokenCopy({ ...report, ratio: 0.69 })).toHaveLength(1)
  expect(findBrokenCopy({ ...report, copied: false, failed: 2 })).toHaveLength(2)
})

const calm: MembersReport = {
  runs: 8,
  changes: 8,
  acknowledged: 1000,
  lost: 0,
  duplicated: 0,
  offsetGaps: 0,
  corrupted: 0,
  sendErrors: 0,
  logsEqual: true,
  gapMs: spread,
  kinds: [{ kind: 'add', count: 8, gapMs: spread, tookMs: spread }],
  findings: [],
}

test('members may come and go as long as the load goes on and everything is there', () => {
  expect(findBrokenMembers(calm, 8)).toEqual([])
})

test.each<[Partial<MembersReport>, string]>([
  [{ lost: 1 }, 'lost is 1, not 0'],
  [{ corrupted: 1 }, 'corrupted is 1, not 0'],
  [{ sendErrors: 2 }, 'sendErrors is 2, not 0'],
  [{ runs: 7 }, '7 runs instead of 8'],
  [{ changes: 0, kinds: [] }, 'nothing was changed'],
  [{ acknowledged: 0 }, 'nothing was acknowledged'],
  [{ logsEqual: false }, 'the logs of the members differ'],
  [
    { kinds: [{ kind: 'replace', count: 8, gapMs: { ...spread, p99: 1001 }, tookMs: spread }] },
    'replace: the gap is 1001 ms at p99, at most 1000 are allowed',
  ],
])('a report of changes with %j is refused', (change, complaint) => {
  expect(findBrokenMembers({ ...calm, ...change }, 8)).toEqual([complaint])
})
