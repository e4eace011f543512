/**
 * The demonstration: start, load, kill -9 of the leader, re-election, drain, check, verdict. Also the frame around
 * `--script`, which repeats the fault and counts. The input is a real file, line by line, compared byte for byte.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { type CheckResult, check } from './check.ts'
import { drain } from './drain.ts'
import { Load } from './load.ts'
import { type RunResult, runOnce, type ScriptName } from './scripts.ts'
import type { Session } from './session.ts'
import { type Spread, spreadOf } from './statistics.ts'

export interface DemonstrationOptions {
  readonly script: ScriptName
  readonly runs: number
  readonly messagesPerSecond: number
  readonly steadyMs: number
  readonly pauseMs: number
  /** File with the bodies; the lock file of this project, or failing that its package.json, by default. */
  readonly input: string | undefined
  readonly say: (line: string) => void
}

export interface ScriptReport {
  readonly script: ScriptName
  readonly runs: number
  readonly acknowledged: number
  readonly lost: number
  readonly duplicated: number
  readonly offsetGaps: number
  readonly sendErrors: number
  readonly electionMs: Spread
  readonly gapMs: Spread
}

export interface DemonstrationResult {
  readonly report: ScriptReport
  readonly results: readonly RunResult[]
  readonly check: CheckResult
  readonly errors: readonly string[]
  /** Nothing lost, doubled, corrupted, out of place or refused. */
  readonly good: boolean
}

const topic = 'FastTry'
const queues = 8
const sendTimeoutMs = 10_000

export async function demonstrate(
  session: Session,
  clock: Clock,
  options: DemonstrationOptions,
): Promise<DemonstrationResult> {
  const { client, cluster, plan } = session
  const lines = readLines(options.input)
  await client.admin().createTopic({ topic, queues })
  const producer = client.producer({ sendTimeoutMs })
  const load = new Load(producer, clock, { topic, lines, messagesPerSecond: options.messagesPerSecond })
  const results: RunResult[] = []
  const group = plan.nodes[0]?.group ?? ''
  load.start()
  for (let run = 1; run <= options.runs; run++) {
    const { script, steadyMs, pauseMs } = options
    const result = await runOnce(cluster, load, clock, { script, group, steadyMs, pauseMs })
    results.push(result)
    options.say(
      `run ${run}/${options.runs}: ${script} ${result.oldLeader} -> ${result.newLeader}, term ${result.oldTerm} -> ${result.newTerm}, ` +
        `election ${result.electionMs} ms, longest gap ${result.gapMs} ms, acknowledged ${load.acknowledged}`,
    )
  }
  await load.stop()
  await producer.close()
  options.say(`reading back ${load.acknowledged} messages …`)
  const messages = await drain(client, topic)
  const checked = check({
    acknowledgements: load.acknowledgements,
    messages,
    sent: load.sent,
    body: (sequence) => load.body(sequence),
  })
  const report: ScriptReport = {
    script: options.script,
    runs: results.length,
    acknowledged: checked.acknowledged,
    lost: checked.lost,
    duplicated: checked.duplicated,
    offsetGaps: checked.offsetGaps,
    sendErrors: load.errors.length,
    electionMs: spreadOf(results.map((result) => result.electionMs)),
    gapMs: spreadOf(results.map((result) => result.gapMs)),
  }
  const wrong = checked.lost + checked.duplicated + checked.offsetGaps + checked.corrupted + load.errors.length
  return {
    report,
    results,
    check: checked,
    errors: load.errors.slice(0, 5),
    good: wrong === 0 && checked.acknowledged > 0,
  }
}

/** The lines that a person reads at the end. */
export function verdict(result: DemonstrationResult): string {
  const last = result.results.at(-1)
  const { report } = result
  return [
    `new leader       ${last?.newLeader ?? '-'} (was ${last?.oldLeader ?? '-'})`,
    `term             ${last?.oldTerm ?? '-'} -> ${last?.newTerm ?? '-'}`,
    `election         ${report.electionMs.max} ms`,
    `longest gap      ${report.gapMs.max} ms between two acknowledgements`,
    `acknowledged     ${report.acknowledged}`,
    `lost             ${report.lost}`,
    `duplicated       ${report.duplicated}`,
    `offset gaps      ${report.offsetGaps}`,
    `send errors      ${report.sendErrors}`,
    ...result.check.findings.map((finding) => `  ${finding}`),
    ...result.errors.map((error) => `  ${error}`),
    `verdict          ${result.good ? 'nothing lost, nothing doubled, every message where the producer was told' : 'FAILED'}`,
  ].join('\n')
}

function readLines(input: string | undefined): readonly Buffer[] {
  const path = input ?? defaultInput()
  if (!existsSync(path)) throw new LedgerError('CONFIG_INVALID', `--input ${path}: no such file`)
  const lines = readFileSync(path)
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Buffer.from(line, 'latin1'))
  if (lines.length === 0) throw new LedgerError('CONFIG_INVALID', `--input ${path}: holds no lines`)
  return lines
}

function defaultInput(): string {
  const root = new URL('../../../../', import.meta.url)
  const candidates = ['package-lock.json', 'package.json'].map((name) => fileURLToPath(new URL(name, root)))
  return candidates.find((path) => existsSync(path)) ?? 'package.json'
}
