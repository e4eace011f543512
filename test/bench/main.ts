/**
 * `npm run bench`: measures, prints a table or, with `--json`, one object as the last line of stdout.
 *
 * Options: `--only a,b` picks workloads, `--repeat n` takes the median of n runs, `--seconds n` shortens the
 * measurement. Figures of one run on one machine compare with each other, not with those of another day.
 */
import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { type BenchSettings, type WorkloadResult, workloads } from './workloads.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    repeat: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '10' },
    'warm-up': { type: 'string', default: '3' },
    messages: { type: 'string', default: '1000000' },
    kills: { type: 'string', default: '20' },
  },
})

const say = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

const settings: BenchSettings = {
  warmUpMs: Number(values['warm-up']) * 1000,
  measureMs: Number(values.seconds) * 1000,
  consumeMessages: Number(values.messages),
  kills: Number(values.kills),
  say,
}

const names = values.only?.split(',') ?? Object.keys(workloads)
const unknown = names.filter((name) => !(name in workloads))
if (unknown.length > 0) {
  say(`unknown workload ${unknown.join(', ')}; there are ${Object.keys(workloads).join(', ')}`)
  process.exit(2)
}

const results: Record<string, WorkloadResult> = {}
for (const name of names) {
  const runs: WorkloadResult[] = []
  for (let run = 1; run <= Number(values.repeat); run++) {
    say(`${name} (${run}/${values.repeat})`)
    const result = await workloads[name]?.(settings)
    if (result) runs.push(result)
    say(`  ${JSON.stringify(result)}`)
  }
  results[name] = median(runs)
}

const report = {
  machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, memoryBytes: totalmem(), kernel: release() },
  versions: { node: process.version, ledgermq: process.env['npm_package_version'] ?? 'unknown' },
  workloads: results,
}
if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`)
else process.stdout.write(`${table(results)}\n`)

/** Field by field, so that one slow percentile does not pick the whole run. */
function median(runs: readonly WorkloadResult[]): WorkloadResult {
  return medianOf(runs as unknown as readonly Numbers[]) as unknown as WorkloadResult
}

type Numbers = { readonly [name: string]: number | Numbers }

function medianOf(runs: readonly Numbers[]): Numbers {
  return Object.fromEntries(
    Object.keys(runs[0] ?? {}).map((key) => {
      const all = runs.map((run) => run[key])
      if (typeof all[0] === 'object') return [key, medianOf(all as readonly Numbers[])]
      const sorted = (all as number[]).sort((a, b) => a - b)
      return [key, sorted[Math.floor((sorted.length - 1) / 2)] ?? 0]
    }),
  )
}

function table(all: Readonly<Record<string, WorkloadResult>>): string {
  return Object.entries(all)
    .map(([name, result]) => {
      if ('gapMs' in result)
        return `${name.padEnd(16)} gap p50 ${result.gapMs.p50} ms, p99 ${result.gapMs.p99} ms, max ${result.gapMs.max} ms`
      const latency = 'p50Ms' in result ? `  p50 ${result.p50Ms} ms, p99 ${result.p99Ms} ms` : ''
      return `${name.padEnd(16)} ${String(result.msgPerSec).padStart(9)} msg/s${latency}`
    })
    .join('\n')
}
