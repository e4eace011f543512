/**
 * `npm run verify`: the full series on real processes, one after the other: the leader killed, paused and stopped
 * again and again, members added and removed, then every test of `test/cluster`. One line a step, a summary, and an exit code that is not 0 when
 * any promise was broken. `--full` repeats the pauses as often as the kills.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { ScriptReport } from '../../src/cli/fast-try/demonstration.ts'
import type { ScriptName } from '../../src/cli/fast-try/scripts.ts'
import { findBroken, findBrokenCopy, findBrokenMembers } from './limits.ts'
import type { MembersReport } from './members.ts'
import type { WipedReport } from './wiped-replica.ts'

interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Step {
  readonly name: string
  /** What was found, and what of it is wrong. */
  readonly run: () => Promise<{ readonly facts: string; readonly broken: readonly string[] }>
}

const root = fileURLToPath(new URL('../../../', import.meta.url))
const stepTimeoutMs = 15 * 60_000
const tailLines = 40

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { full: { type: 'boolean', default: false } } })
  const steps = [
    script('kill-leader', 20),
    script('pause-leader', values.full ? 20 : 5),
    script('stop-leader', 20),
    members(8),
    wipedReplica(2048),
    clusterTests(),
  ]
  const failed: string[] = []
  for (const step of steps) {
    process.stderr.write(`${step.name} …\n`)
    const startedMs = performance.now()
    const { facts, broken } = await step.run()
    const seconds = Math.round((performance.now() - startedMs) / 1000)
    process.stdout.write(`${broken.length === 0 ? 'ok    ' : 'FAILED'}  ${step.name}, ${seconds} s: ${facts}\n`)
    for (const line of broken) process.stdout.write(`        ${line}\n`)
    if (broken.length > 0) failed.push(step.name)
  }
  const verdict = failed.length === 0 ? `all ${steps.length} steps passed` : `FAILED: ${failed.join('; ')}`
  process.stdout.write(`verify: ${verdict}\n`)
  if (failed.length > 0) process.exitCode = 1
}

function script(name: ScriptName, runs: number): Step {
  return {
    name: `${name} --runs ${runs}`,
    run: async () => {
      const args = ['fast-try', '--script', name, '--runs', String(runs), '-o', 'json']
      const finished = await runNode(['dist/src/cli/main.js', ...args])
      const report = parseLine<ScriptReport>(finished.stdout)
      if (!report) return { facts: 'no report', broken: endOf(finished) }
      const broken = findBroken(report, runs)
      const { acknowledged, electionMs, gapMs } = report
      const facts = `acknowledged ${acknowledged}, election ${show(electionMs)} ms, gap ${show(gapMs)} ms`
      return { facts, broken: broken.length === 0 && finished.code === 0 ? [] : [...broken, ...endOf(finished)] }
    },
  }
}

function members(runs: number): Step {
  return {
    name: `members come and go --runs ${runs}`,
    run: async () => {
      const finished = await runNode(['dist/test/verify/members.js', '--runs', String(runs), '--json'])
      const report = parseLine<MembersReport>(finished.stdout)
      if (!report) return { facts: 'no report', broken: endOf(finished) }
      const kinds = report.kinds.map(({ kind, gapMs }) => `${kind} ${gapMs.max}`).join(', ')
      const { changes, acknowledged, gapMs } = report
      const facts = `${changes} changes, acknowledged ${acknowledged}, gap ${show(gapMs)} ms (max: ${kinds})`
      const broken = findBrokenMembers(report, runs)
      return { facts, broken: broken.length === 0 && finished.code === 0 ? [] : [...broken, ...endOf(finished)] }
    },
  }
}

function wipedReplica(logMib: number): Step {
  return {
    name: `a replica of ${logMib} MiB is wiped`,
    run: async () => {
      const finished = await runNode(['dist/test/verify/wiped-replica.js', '--mib', String(logMib)])
      const report = parseLine<WipedReport>(finished.stdout)
      if (!report || finished.code !== 0) return { facts: 'no report', broken: endOf(finished) }
      const { seconds, beforePerSecond, duringPerSecond, ratio } = report
      const facts = `a voter again in ${seconds} s, ${duringPerSecond} messages a second instead of ${beforePerSecond} (${ratio})`
      return { facts, broken: findBrokenCopy(report) }
    },
  }
}

function clusterTests(): Step {
  return {
    name: 'tests on real processes',
    run: async () => {
      const args = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.ts', 'test/cluster']
      const finished = await runNode([...args, '--maxWorkers', '1'])
      const count = /Tests\s+(.*)/.exec(finished.stdout)?.[1] ?? 'nothing ran'
      return { facts: count, broken: finished.code === 0 ? [] : endOf(finished) }
    },
  }
}

function show(spread: ScriptReport['gapMs']): string {
  return `p50 ${spread.p50} max ${spread.max}`
}

/** The report is the last line on stdout. */
function parseLine<Report>(stdout: string): Report | null {
  try {
    return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Report
  } catch {
    return null
  }
}

function endOf({ code, stdout, stderr }: Finished): readonly string[] {
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '')
  return [`exit code ${code}; the end of its output:`, ...lines.slice(-tailLines)]
}

/** SIGTERM after the time limit: both kinds of child clean up after themselves. */
function runNode(args: readonly string[]): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, NO_COLOR: '1' }
    const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe']
    const child = spawn(process.execPath, args, { cwd: root, env, stdio, timeout: stepTimeoutMs })
    const output = { stdout: '', stderr: '' }
    child.stdout.on('data', (bytes: Buffer) => {
      output.stdout += bytes.toString()
    })
    child.stderr.on('data', (bytes: Buffer) => {
      output.stderr += bytes.toString()
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...output }))
  })
}

await main()
