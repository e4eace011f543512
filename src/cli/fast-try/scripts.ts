/**
 * The scripted faults: kill, pause or stop the leader under load, again and again in one cluster, and count what it
 * cost. Called by `fast-try --script` and by the demonstration, which is one run of `kill-leader`.
 */

import type { NodeEvent } from '../../client/mod.ts'
import { unreachable } from '../../common/assert.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { LocalCluster, NodeView } from './cluster.ts'
import type { Load } from './load.ts'

export const scriptNames = ['kill-leader', 'pause-leader', 'stop-leader'] as const
export type ScriptName = (typeof scriptNames)[number]

export interface RunResult {
  readonly oldLeader: string
  readonly newLeader: string
  readonly oldTerm: number
  readonly newTerm: number
  /** From the signal to the leader_elected event of the new leader. */
  readonly electionMs: number
  /** Longest time between two acknowledgements of this run. */
  readonly gapMs: number
}

export interface RunOptions {
  readonly script: ScriptName
  readonly group: string
  /** How long the load runs undisturbed before the fault and after the recovery. */
  readonly steadyMs: number
  readonly pauseMs: number
}

const healthTimeoutMs = 60_000
const recoveryTimeoutMs = 30_000

/** One fault with everything around it: the cluster is healthy before and after. */
export async function runOnce(
  cluster: LocalCluster,
  load: Load,
  clock: Clock,
  options: RunOptions,
): Promise<RunResult> {
  await cluster.waitHealthy(healthTimeoutMs)
  load.markGapStart()
  await sleep(clock, options.steadyMs)
  const old = await cluster.leader(options.group)
  if (!old?.status) throw new LedgerError('NO_QUORUM', `group ${options.group} has no leader to ${options.script}`)
  const oldTerm = old.status.term
  const elected = watchElection(cluster, options.group, oldTerm)
  try {
    const signalledMs = clock.wallMs()
    strike(cluster, old, options.script)
    const event = await withTimeout(clock, elected.promise, recoveryTimeoutMs)
    const acknowledgedBefore = load.acknowledged
    await cluster.waitFor(
      'sends are acknowledged again',
      recoveryTimeoutMs,
      async () => load.acknowledged > acknowledgedBefore,
    )
    await heal(cluster, old, clock, options)
    await sleep(clock, options.steadyMs)
    const gapMs = load.longestGapMs()
    await cluster.waitHealthy(healthTimeoutMs)
    return {
      oldLeader: old.plan.name,
      newLeader: event.node,
      oldTerm,
      newTerm: event.term,
      electionMs: Math.max(0, event.wallMs - signalledMs),
      gapMs: Math.round(gapMs),
    }
  } finally {
    elected.stop()
  }
}

function strike(cluster: LocalCluster, target: NodeView, script: ScriptName): void {
  switch (script) {
    case 'kill-leader':
      cluster.processes.signal(target.plan.name, 'SIGKILL')
      return
    case 'pause-leader':
      cluster.processes.signal(target.plan.name, 'SIGSTOP')
      return
    case 'stop-leader':
      cluster.processes.signal(target.plan.name, 'SIGTERM')
      return
    default:
      unreachable(script)
  }
}

async function heal(cluster: LocalCluster, target: NodeView, clock: Clock, options: RunOptions): Promise<void> {
  if (options.script === 'pause-leader') {
    await sleep(clock, options.pauseMs)
    cluster.processes.signal(target.plan.name, 'SIGCONT')
    return
  }
  await cluster.processes.waitGone(target.plan.name, recoveryTimeoutMs)
  cluster.processes.start(target.plan.name)
}

/** The first election of a higher term in this group. */
function watchElection(
  cluster: LocalCluster,
  group: string,
  afterTerm: number,
): { readonly promise: Promise<NodeEvent>; readonly stop: () => void } {
  let stop = (): void => {}
  const promise = new Promise<NodeEvent>((resolve) => {
    const remove = cluster.onEvent((event) => {
      if (event.kind === 'leader_elected' && event.group === group && event.term > afterTerm) resolve(event)
    })
    stop = () => {
      remove()
    }
  })
  return { promise, stop }
}

async function withTimeout<T>(clock: Clock, promise: Promise<T>, timeoutMs: number): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const cancel = clock.after(timeoutMs, () =>
      reject(new LedgerError('TIMEOUT', `no new leader within ${timeoutMs} ms`)),
    )
    promise.then(resolve, reject).finally(cancel)
  })
}
