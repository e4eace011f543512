/**
 * Runs one seed and, for one in a hundred, runs it again: equal seeds must have equal effects, to the last byte sent,
 * or a failing seed could not be replayed.
 */
import { type RunOptions, type RunResult, runSeed } from './simulation.ts'

export interface CheckedResult {
  readonly result: RunResult
  readonly repeated: boolean
}

const repeatEvery = 100

export async function runChecked(options: RunOptions, always: boolean): Promise<CheckedResult> {
  const result = await runSeed(options)
  if (result.failure !== null || !(always || isRepeated(options.seed))) return { result, repeated: false }
  const again = await runSeed({ ...options, trace: () => {} })
  if (again.digest === result.digest && again.failure === null) return { result, repeated: true }
  const failure = `not deterministic: effects ${result.digest}, then ${again.digest}${again.failure ?? ''}`
  return { result: { ...result, failure }, repeated: true }
}

/** Numbers of seeds that end with 37; others are never chosen. */
function isRepeated(seed: string): boolean {
  return Number(seed) % repeatEvery === 37
}
