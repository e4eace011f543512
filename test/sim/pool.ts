/**
 * Runs seeds in child processes, a slice at a time. A child that dies or hangs costs the seed it was at, which counts
 * as failed, and nothing else: another child goes on behind it, unless enough was seen.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { CheckedResult } from './run-checked.ts'

/** What a child is told. */
export interface Slice {
  readonly seeds: readonly string[]
  readonly repeat: boolean
  readonly control: string | null
}

/** What a child answers, once for every seed, in order, after it has said that it begins. */
export type Answer = CheckedResult
export const begins = 'begins'

export interface PoolOptions {
  readonly jobs: number
  readonly seeds: readonly string[]
  readonly repeat: boolean
  readonly control: string | null
  onResult(answer: Answer): void
  /** The child died or hung at this seed. */
  onLost(seed: string, why: string): void
  stopped(): boolean
  /** No answer for so long means that the seed hangs. Default: five minutes. */
  readonly seedMsMax?: number
  /** Calls back after so long, unless cancelled. Default: by the clock. */
  after?(ms: number, callback: () => void): () => void
  /** What the children run. Default: `child.js`. */
  readonly program?: string
}

const sliceSeeds = 25
/** As many children as cores: what collects garbage beside one only takes its turns from another. A tenth is saved. */
const childFlags = ['--single-threaded-gc', '--max-semi-space-size=16']
/** No seed takes a tenth of that, also where four processes share a core. */
const seedMsMaxDefault = 300_000
/** For a process to start and to load everything. */
const startMsMax = 120_000

function afterByClock(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms)
  return () => clearTimeout(timer)
}

export async function runPool(options: PoolOptions): Promise<void> {
  const left = [...options.seeds]
  const take = (): readonly string[] => (options.stopped() ? [] : left.splice(0, sliceSeeds))
  await Promise.all(Array.from({ length: options.jobs }, () => runJob(options, take)))
}

async function runJob(options: PoolOptions, take: () => readonly string[]): Promise<void> {
  let child: ChildProcess | null = null
  let seeds = take()
  while (seeds.length > 0) {
    child ??= fork(options.program ?? fileURLToPath(new URL('./child.js', import.meta.url)), {
      execArgv: [...process.execArgv, ...childFlags],
    })
    const done = await runSlice(child, seeds, options)
    let rest: readonly string[] = []
    if (done.lost !== null) {
      child = null
      options.onLost(seeds[done.count] ?? '', done.lost)
      // The rest may hang as well, minutes each: nobody waits for that who wanted to stop.
      if (!options.stopped()) rest = seeds.slice(done.count + 1)
    }
    seeds = rest.length > 0 ? rest : take()
  }
  child?.disconnect()
}

/** Resolves with how many seeds were answered, and with what happened to the child if not all were. */
function runSlice(
  child: ChildProcess,
  seeds: readonly string[],
  options: PoolOptions,
): Promise<{ readonly count: number; readonly lost: string | null }> {
  const { seedMsMax = seedMsMaxDefault, after = afterByClock } = options
  return new Promise((resolve) => {
    let count = 0
    let cancel = (): void => {}
    const watch = (ms: number): void => {
      cancel()
      cancel = after(ms, () => end(`it took longer than ${ms} ms`))
    }
    const end = (lost: string | null): void => {
      cancel()
      child.off('message', onMessage)
      child.off('exit', onExit)
      if (lost !== null) child.kill('SIGKILL')
      resolve({ count, lost })
    }
    const onMessage = (answer: unknown): void => {
      if (answer === begins) {
        watch(seedMsMax)
        return
      }
      options.onResult(answer as Answer)
      count++
      if (count === seeds.length || options.stopped()) end(null)
      else watch(seedMsMax)
    }
    const onExit = (code: number | null, signal: string | null): void =>
      end(`its process ended with ${signal ?? `code ${code}`}`)
    child.on('message', onMessage)
    child.on('exit', onExit)
    watch(startMsMax)
    child.send({ seeds, repeat: options.repeat, control: options.control } satisfies Slice)
  })
}
