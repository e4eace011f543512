/**
 * `npm run sim`: runs seeds of the simulator and counts.
 *
 *   --seeds N      how many (default 200)      --from K     number of the first (default 0)
 *   --seed X       only this one               --json       one object as the last line
 *   --verbose      what happens in the run     --repeat     every seed twice, effects must be equal
 *   --stop         end at the first failure    --lying-fsync  the negative control: must fail
 *
 * A failing seed prints its configuration and the command that replays it exactly. Exits 1 when a seed failed.
 */
import { parseArgs } from 'node:util'
import { lyingFsync } from './controls.ts'
import { type RunOptions, type RunResult, runSeed } from './simulation.ts'

const { values: given } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '0' },
    seed: { type: 'string' },
    json: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    repeat: { type: 'boolean', default: false },
    stop: { type: 'boolean', default: false },
    'lying-fsync': { type: 'boolean', default: false },
  },
})

const out = (text: string): void => void process.stdout.write(`${text}\n`)

function optionsOf(seed: string): RunOptions {
  const trace = (atMs: number, text: string): void => out(`${atMs.toFixed(3).padStart(12)}  ${text}`)
  return {
    seed,
    ...(given.verbose ? { trace } : {}),
    ...(given['lying-fsync'] ? { change: lyingFsync } : {}),
  }
}

function report(result: RunResult): void {
  const { configuration, failure, seed, ...counts } = result
  if (failure === null && !given.verbose) return
  out(`${failure === null ? 'ok  ' : 'FAIL'} seed ${seed}: ${failure ?? ''}`)
  out(`  configuration ${JSON.stringify(configuration)}`)
  out(`  ${JSON.stringify(counts)}`)
  const control = given['lying-fsync'] ? ' --lying-fsync' : ''
  if (failure !== null) out(`  replay: npm run sim -- --seed ${seed} --verbose${control}`)
}

async function runOne(seed: string): Promise<RunResult> {
  const result = await runSeed(optionsOf(seed))
  if (!given.repeat || result.failure !== null) return result
  const again = await runSeed({ ...optionsOf(seed), trace: () => {} })
  if (again.digest === result.digest) return result
  return { ...result, failure: `not deterministic: ${result.digest} and ${again.digest}` }
}

const startedMs = performance.now()
const from = Number(given.from)
const seeds =
  given.seed === undefined ? Array.from({ length: Number(given.seeds) }, (_, at) => String(from + at)) : [given.seed]
const total = { seeds: 0, failed: 0, elections: 0, crashes: 0, acknowledged: 0, faults: 0, events: 0, consumed: 0 }
const faultsByKind: Record<string, number> = {}
for (const seed of seeds) {
  const result = await runOne(seed)
  report(result)
  total.seeds++
  if (result.failure !== null) total.failed++
  total.elections += result.elections
  total.crashes += result.crashes
  total.acknowledged += result.acknowledged
  total.faults += result.faults
  total.events += result.events
  total.consumed += result.consumed
  for (const [kind, count] of Object.entries(result.faultsByKind))
    faultsByKind[kind] = (faultsByKind[kind] ?? 0) + count
  if (given.stop && result.failure !== null) break
  if (total.seeds % 100 === 0 && !given.json) out(`${total.seeds} seeds, ${total.failed} failed`)
}
const seconds = Math.round((performance.now() - startedMs) / 10) / 100
if (given.json) out(JSON.stringify({ ...total, seconds, faultsByKind }))
else out(`${JSON.stringify(faultsByKind)}\n${JSON.stringify({ ...total, seconds })}`)
process.exitCode = total.failed > 0 ? 1 : 0
