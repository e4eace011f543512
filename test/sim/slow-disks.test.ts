/** Disks that are slow for long: leadership leaves the slow one, and does not travel when that helps nobody. */
import { expect, test } from 'vitest'
import { defaultRaftConfig } from '../../raft/index.ts'
import { drawConfiguration, type SimConfiguration } from './configuration.ts'
import type { FaultEvent } from './fault.ts'
import { SimRandom } from './random.ts'
import { type RunResult, runSeed } from './simulation.ts'

const forMs = 120_000
const nodes = ['n0', 'n1', 'n2'] as const

function configurationOf(seed: string): SimConfiguration {
  return {
    ...drawConfiguration(new SimRandom(seed)),
    nodes: nodes.length,
    brokenForEver: null,
    safetyMs: forMs,
    raft: defaultRaftConfig,
    limits: {},
    disk: { syncMeanMs: 5, writeMeanMs: 0.1, lateShare: 0, lyingSync: false },
    senders: 4,
    thinkMeanMs: 600,
    sendTimeoutMs: 10_000,
    messagesMax: 2000,
    finalPowerLoss: false,
  }
}

/** Of the time in which disks were slow. */
interface Outcome {
  readonly result: RunResult
  readonly elections: number
  readonly transfers: number
}

async function run(seed: string, faults: readonly FaultEvent[]): Promise<Outcome> {
  let elections = 0
  let transfers = 0
  const story = { configuration: configurationOf(seed), faults, leaderDiesAtEnd: false }
  let isOver = false
  const result = await runSeed({
    seed,
    story,
    trace: (_, text) => {
      isOver ||= text.includes('mend')
      if (isOver) return
      if (text.includes(' leader_elected')) elections++
      if (text.includes(' transfer_ended')) transfers++
    },
  })
  return { result, elections, transfers }
}

/** A run without crashes counts as one that proves nothing: for this it does. */
function expectNoFault({ failure }: RunResult): void {
  if (!failure?.startsWith('INVALID')) expect(failure).toBeNull()
}

function slow(node: string, atMs: number, lengthMs: number): FaultEvent {
  return { kind: 'slow_disk', atMs, node, factor: 120, forMs: lengthMs }
}

const seeds = ['slow-1', 'slow-2']

test.each(seeds)('one slow disk costs one handover at most (%s)', async (seed) => {
  const { result, elections, transfers } = await run(seed, [slow('n1', 1000, forMs)])
  expectNoFault(result)
  expect(elections).toBeLessThanOrEqual(2)
  expect(transfers).toBeLessThanOrEqual(1)
})

test.each(seeds)('when all disks are slow leadership rests (%s)', async (seed) => {
  const { result, elections, transfers } = await run(
    seed,
    nodes.map((node) => slow(node, 1000, forMs)),
  )
  expectNoFault(result)
  expect([elections, transfers]).toEqual([1, 0])
})

test.each(seeds)('slowness that wanders from disk to disk moves leadership seldom (%s)', async (seed) => {
  const faults = Array.from({ length: 12 }, (_, at) => slow(nodes[at % 3] as string, 1000 + at * 10_000, 9000))
  const { result, elections, transfers } = await run(seed, faults)
  expectNoFault(result)
  expect(elections).toBeLessThanOrEqual(1 + 2 * nodes.length)
  // Twice in two minutes each may ask both others: their own calm period may not be over.
  expect(transfers).toBeLessThanOrEqual(4 * nodes.length)
  expect(transfers).toBeGreaterThan(0)
})
