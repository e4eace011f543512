/** Scenarios: a run told again has the same effects, a failing one can be reduced, and old ones stay mended. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { lyingFsync } from './controls.ts'
import { failureClass, optionsOf, readScenario, storyOf, writeScenario } from './scenario.ts'
import { shrink } from './shrink.ts'
import { runSeed } from './simulation.ts'

test('a run that is told again as a list of faults has the same effects', async () => {
  for (const seed of ['told-1', 'told-2', 'told-3', 'told-4']) {
    const drawn = await runSeed({ seed })
    const told = await runSeed({ seed, story: storyOf(drawn) })
    expect(told.faultList).toEqual(drawn.faultList)
    expect(told.digest).toBe(drawn.digest)
  }
})

test('a failing run is reduced to a few faults that fail in the same way', async () => {
  const first = await runSeed({ seed: 'shrink', change: lyingFsync })
  const found = first.failure ?? ''
  expect(found).not.toBe('')
  const smallest = await shrink(
    { found, seed: 'shrink', story: storyOf(first) },
    {
      run: async (candidate) => (await runSeed(optionsOf(candidate))).failure,
      variants: 2,
      isOver: () => false,
      note: () => {},
    },
  )
  expect(smallest.story.faults.length).toBeLessThanOrEqual(2)
  const directory = mkdtempSync(join(tmpdir(), 'ledgermq-scenario-'))
  const path = join(directory, 'smallest.json')
  writeScenario(path, smallest)
  const { failure } = await runSeed(optionsOf(readScenario(path)))
  rmSync(directory, { recursive: true })
  expect(failureClass(failure ?? '')).toBe(failureClass(found))
})

const regressions = fileURLToPath(new URL('regressions/', import.meta.url))

test.each(readdirSync(regressions).filter((name) => name.endsWith('.json')))('mended: %s', async (name) => {
  const { failure } = await runSeed(optionsOf(readScenario(join(regressions, name))))
  // INVALID is no proof of anything: such a scenario needs a fault more, with which it still shows the bug.
  expect(failure).toBeNull()
})
