/** The smoke run of the simulator, and the proof that it would notice. */
import { expect, test } from 'vitest'
import { lyingFsync } from './controls.ts'
import { type RunResult, runSeed } from './simulation.ts'

const seeds = 200

test('R1 R2 R3 R4 R5 S1 S2 S4 B1 B2 B3 B4 B5: 200 seeds of faults break nothing', { timeout: 300_000 }, async () => {
  const failures: string[] = []
  const total = { elections: 0, crashes: 0, acknowledged: 0 }
  for (let seed = 0; seed < seeds; seed++) {
    const result = await runSeed({ seed: String(seed) })
    if (result.failure !== null) failures.push(describe(result))
    total.elections += result.elections
    total.crashes += result.crashes
    total.acknowledged += result.acknowledged
  }
  expect(failures).toEqual([])
  expect(total.elections).toBeGreaterThan(seeds * 3)
  expect(total.crashes).toBeGreaterThan(seeds * 3)
  expect(total.acknowledged).toBeGreaterThan(seeds * 150)
})

test('the same seed has the same effects, to the last byte sent', { timeout: 60_000 }, async () => {
  for (const seed of ['twice-1', 'twice-2']) {
    const { digest, ...first } = await runSeed({ seed })
    expect(await runSeed({ seed })).toEqual({ digest, ...first })
  }
})

test('P1: with an fsync that lies and a power loss the run is red', { timeout: 60_000 }, async () => {
  for (const seed of ['lie-1', 'lie-2', 'lie-3']) {
    const result = await runSeed({ seed, change: lyingFsync })
    expect(result.failure).not.toBeNull()
    expect(result.failure).not.toMatch(/^INVALID/)
  }
})

function describe({ seed, failure }: RunResult): string {
  return `${failure} (replay: npm run sim -- --seed ${seed} --verbose)`
}
