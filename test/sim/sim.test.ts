/** The smoke run of the simulator, and the proof that it would notice. */
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import { lyingFsync } from './controls.ts'
import { runSeed } from './simulation.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const seeds = 500

beforeAll(() => {
  // Seeds run in processes of their own, which need compiled code: that of these sources.
  const prepared = spawnSync(process.execPath, [`${root}deploy/prepare.mjs`], { encoding: 'utf8' })
  expect(prepared.stderr).toBe('')
})

test(`R1 R2 R3 R4 R5 S1 S2 S4 B1 B2 B3 B4 B5: ${seeds} seeds of faults break nothing`, {
  // A minute or two, on a quiet machine; a seed that hangs is given up by the pool.
  timeout: 3_600_000,
}, async ({ signal }) => {
  const output = await runMain(signal, '--seeds', String(seeds), '--json')
  const lines = output.trim().split('\n')
  const total = JSON.parse(lines.pop() ?? '') as Record<string, number>
  expect(lines).toEqual([])
  expect(Object.keys(total).slice(0, 7)).toEqual(firstKeys)
  expect(total).toMatchObject({ seeds, failed: 0, repeated: seeds / 100 })
  expect(total['elections']).toBeGreaterThan(seeds * 3)
  expect(total['crashes']).toBeGreaterThan(seeds * 3)
  expect(total['acknowledged']).toBeGreaterThan(seeds * 200)
})

const firstKeys = ['seeds', 'failed', 'elections', 'crashes', 'acknowledged', 'faults', 'seconds']

test('the same seed has the same effects, to the last byte sent', async () => {
  for (const seed of ['twice-1', 'twice-2']) {
    const { digest, ...first } = await runSeed({ seed })
    expect(await runSeed({ seed })).toEqual({ digest, ...first })
  }
})

test('P1: with an fsync that lies and a power loss the run is red', async () => {
  for (const seed of ['lie-1', 'lie-2', 'lie-3']) {
    const result = await runSeed({ seed, change: lyingFsync })
    expect(result.failure).not.toBeNull()
    expect(result.failure).not.toMatch(/^INVALID/)
  }
})

test('a failing seed prints the command that replays it, and the run ends red', async ({ signal }) => {
  const output = await runMain(signal, '--seeds', '3', '--json', '--lying-fsync')
  expect(output).toMatch(/^FAIL seed \d+: /m)
  expect(output).toMatch(/replay: npm run sim -- --seed \d+ --verbose --commit \S+ --lying-fsync$/m)
  expect(JSON.parse(output.trim().split('\n').at(-1) ?? '')).toMatchObject({ seeds: 3, failed: 3 })
})

/** Its process ends with the test, also when that takes too long. */
function runMain(signal: AbortSignal, ...words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [`${root}dist/test/sim/main.js`, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
      signal,
    })
    let output = ''
    child.stdout.on('data', (part: Buffer) => {
      output += part.toString()
    })
    child.on('error', reject)
    child.on('close', () => resolve(output))
  })
}
