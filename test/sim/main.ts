/**
 * `npm run sim`: runs seeds of the simulator and counts.
 *
 *   --seeds N      how many (default 200)      --from K     number of the first (default 0)
 *   --seed X       only this one               --jobs N     processes (default: cores)
 *   --verbose      what happens in the run     --repeat     every seed twice, not only one in a hundred
 *   --stop         end at the first failure    --json       one object as the last line, and nothing else if all is well
 *   --shrink X     the smallest scenario in which seed X still fails, written to --out (default: a name of its own)
 *   --scenario F   runs a scenario             --minutes M  for --shrink (default 5)
 *   --commit C     says so if the sources are of another commit    --lying-fsync  the negative control: must fail
 *   --eager-trim   every seed trims at once: many copies
 *
 * A failing seed prints its configuration and the command that replays it exactly. Exits 1 when a seed failed.
 */
import { execFileSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { changeOf } from './controls.ts'
import { runPool } from './pool.ts'
import { runChecked } from './run-checked.ts'
import { optionsOf, readScenario, storyOf, writeScenario } from './scenario.ts'
import { shrink } from './shrink.ts'
import { type RunOptions, type RunResult, runSeed } from './simulation.ts'
import { Totals } from './totals.ts'

const { values: given } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '0' },
    seed: { type: 'string' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    json: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    repeat: { type: 'boolean', default: false },
    stop: { type: 'boolean', default: false },
    commit: { type: 'string' },
    shrink: { type: 'string' },
    scenario: { type: 'string' },
    out: { type: 'string' },
    minutes: { type: 'string', default: '5' },
    'lying-fsync': { type: 'boolean', default: false },
    'eager-trim': { type: 'boolean', default: false },
  },
})
const control = given['lying-fsync'] ? 'lying-fsync' : given['eager-trim'] ? 'eager-trim' : null

const out = (text: string): void => void process.stdout.write(`${text}\n`)

function report(result: RunResult): void {
  const { configuration, failure, seed, faultList, ...counts } = result
  if (failure === null && !given.verbose) return
  out(`${failure === null ? 'ok  ' : 'FAIL'} seed ${seed}: ${failure ?? ''}`)
  out(`  configuration ${JSON.stringify(configuration)}`)
  out(`  ${JSON.stringify(counts)}`)
  if (failure !== null) out(`  replay: ${replayCommand(seed)}`)
}

function replayCommand(seed: string): string {
  const options = control === null ? '' : ` --${control}`
  return `npm run sim -- --seed ${seed} --verbose --commit ${commitOf()}${options}`
}

/** The commit of the sources, with a mark when they were changed since; `unknown` outside a repository. */
function commitOf(): string {
  const git = (...words: string[]): string => execFileSync('git', words, { encoding: 'utf8' }).trim()
  try {
    const isChanged = git('status', '--porcelain', '--untracked-files=no') !== ''
    return `${git('rev-parse', '--short=12', 'HEAD')}${isChanged ? '-changed' : ''}`
  } catch {
    return 'unknown'
  }
}

async function runOne(options: RunOptions): Promise<void> {
  const trace = (atMs: number, text: string): void => out(`${atMs.toFixed(3).padStart(12)}  ${text}`)
  const { result, repeated } = await runChecked({ ...options, ...(given.verbose ? { trace } : {}) }, given.repeat)
  report(result)
  totals.add(result, repeated)
}

async function shrinkSeed(seed: string): Promise<void> {
  const first = await runSeed({ seed, ...changeOf(control) })
  if (first.failure === null) throw new Error(`seed ${seed} does not fail`)
  out(`${first.faultList.length} faults: ${first.failure}`)
  const untilMs = performance.now() + Number(given.minutes) * 60_000
  const scenario = await shrink(
    { found: first.failure, seed, story: storyOf(first) },
    {
      run: async (candidate) => (await runSeed(optionsOf(candidate))).failure,
      variants: 4,
      isOver: () => performance.now() > untilMs,
      note: out,
    },
  )
  const path = given.out ?? `sim-${seed}.json`
  writeScenario(path, scenario)
  for (const fault of scenario.story.faults) out(`  ${JSON.stringify(fault)}`)
  out(`written to ${path}; replay: npm run sim -- --scenario ${path} --verbose`)
}

async function runMany(): Promise<void> {
  const from = Number(given.from)
  await runPool({
    jobs: Math.max(1, Number(given.jobs)),
    seeds: Array.from({ length: Number(given.seeds) }, (_, at) => String(from + at)),
    repeat: given.repeat,
    control,
    onResult: ({ result, repeated }) => {
      report(result)
      totals.add(result, repeated)
      if (totals.seeds % 1000 === 0 && !given.json) out(`${totals.seeds} seeds, ${totals.failed} failed`)
    },
    onLost: (seed, why) => {
      totals.seeds++
      totals.failed++
      out(`FAIL seed ${seed}: ${why}\n  replay: ${replayCommand(seed)}`)
    },
    stopped: () => given.stop && totals.failed > 0,
  })
}

const startedMs = performance.now()
const totals = new Totals()
if (given.commit !== undefined && given.commit !== commitOf()) {
  out(`these sources are of commit ${commitOf()}, not ${given.commit}: the run may differ`)
}
if (given.shrink !== undefined) await shrinkSeed(given.shrink)
else if (given.scenario !== undefined) await runOne(optionsOf(readScenario(given.scenario)))
else if (given.seed !== undefined) await runOne({ seed: given.seed, ...changeOf(control) })
else await runMany()
out(JSON.stringify(totals.summary(Math.round((performance.now() - startedMs) / 10) / 100)))
process.exitCode = totals.failed > 0 ? 1 : 0
