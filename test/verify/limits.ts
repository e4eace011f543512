/**
 * What a fault script may cost: the promises as numbers. Pure; the series in `main.ts` and nothing else calls it.
 */
import type { ScriptReport } from '../../src/cli/fast-try/demonstration.ts'
import type { ScriptName } from '../../src/cli/fast-try/scripts.ts'
import type { MembersReport } from './members.ts'
import type { WipedReport } from './wiped-replica.ts'

/** Longest time between two acknowledgements, milliseconds (P2; a graceful stop hands over first). */
export const gapMsMax: Readonly<Record<ScriptName, number>> = {
  'kill-leader': 1500,
  'pause-leader': 2500,
  'stop-leader': 200,
}

/** What is wrong with this report, one line each; empty when every promise was kept. */
export function findBroken(report: ScriptReport, runs: number): readonly string[] {
  const zeros = (['lost', 'duplicated', 'offsetGaps', 'sendErrors'] as const)
    .filter((name) => report[name] !== 0)
    .map((name) => `${name} is ${report[name]}, not 0`)
  const limitMs = gapMsMax[report.script]
  return [
    ...zeros,
    ...(report.runs === runs ? [] : [`${report.runs} runs instead of ${runs}`]),
    ...(report.acknowledged > 0 ? [] : ['nothing was acknowledged']),
    ...(report.gapMs.max <= limitMs
      ? []
      : [`the longest gap is ${report.gapMs.max} ms, at most ${limitMs} are allowed`]),
  ]
}

/** Least share of the goodput before that is left while a replica copies the log. */
export const copyGoodputMin = 0.7

export function findBrokenCopy({ ratio, copied, failed }: WipedReport): readonly string[] {
  return [
    ...(ratio >= copyGoodputMin
      ? []
      : [`the goodput fell to ${ratio} of before, at least ${copyGoodputMin} is wanted`]),
    ...(copied ? [] : ['the leader sent the log, it was not copied']),
    ...(failed === 0 ? [] : [`${failed} sends were not acknowledged`]),
  ]
}

/** Longest time between two acknowledgements around a change of membership, 99th percentile, milliseconds. */
export const memberGapMsMax = 1000

export function findBrokenMembers(report: MembersReport, runs: number): readonly string[] {
  const zeros = (['lost', 'duplicated', 'offsetGaps', 'corrupted', 'sendErrors'] as const)
    .filter((name) => report[name] !== 0)
    .map((name) => `${name} is ${report[name]}, not 0`)
  const gaps = [{ kind: 'all changes', gapMs: report.gapMs }, ...report.kinds]
    .filter(({ gapMs }) => gapMs.p99 > memberGapMsMax)
    .map(({ kind, gapMs }) => `${kind}: the gap is ${gapMs.p99} ms at p99, at most ${memberGapMsMax} are allowed`)
  return [
    ...zeros,
    ...(report.runs === runs ? [] : [`${report.runs} runs instead of ${runs}`]),
    ...(report.acknowledged > 0 ? [] : ['nothing was acknowledged']),
    ...(report.changes > 0 ? [] : ['nothing was changed']),
    ...(report.logsEqual ? [] : ['the logs of the members differ']),
    ...gaps,
    ...report.findings,
  ]
}
