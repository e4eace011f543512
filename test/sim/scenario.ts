/**
 * A run that failed, as a JSON file: seed, configuration and faults. Those in `regressions/` are run for ever.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import type { RunOptions, RunResult, Story } from './simulation.ts'

export interface Scenario {
  /** What was broken when it was found. */
  readonly found: string
  readonly seed: string
  readonly story: Story
}

export function readScenario(path: string): Scenario {
  return JSON.parse(readFileSync(path, 'utf8')) as Scenario
}

export function writeScenario(path: string, scenario: Scenario): void {
  writeFileSync(path, `${JSON.stringify(scenario, null, 2)}\n`)
}

/** The run as a list of faults instead of draws: replays to the same effects. */
export function storyOf({ configuration, faultList, leaderDiesAtEnd }: RunResult): Story {
  return { configuration, faults: faultList, leaderDiesAtEnd }
}

export function optionsOf({ seed, story }: Scenario): RunOptions {
  return { seed, story }
}

/** What kind of failure it is, without names and numbers: two runs that fail alike have the same bug, most likely. */
export function failureClass(failure: string): string {
  const line = failure.split('\n')[0] ?? ''
  return line
    .replace(/;.*$/, '')
    .replace(/\b(n|m|last)?\d+(\.\d+)?\b/g, '#')
    .slice(0, 60)
}
