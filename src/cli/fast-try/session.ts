/**
 * One attached local cluster from start to end: lays it out, starts it, waits until it serves, and leaves no process,
 * port or (unless asked to keep it) folder behind, whatever happens in between.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Client } from '../../client/mod.ts'
import type { Clock } from '../../common/clock.ts'
import { LocalCluster } from './cluster.ts'
import { connectWhenUp } from './connect.ts'
import { enterFolder } from './footprint.ts'
import { type ClusterPlan, loadPlan, planCluster, savePlan } from './layout.ts'
import { Processes } from './processes.ts'

export interface SessionOptions {
  /** Kept when given; a temporary folder that is thrown away otherwise. */
  readonly dataDirectory: string | undefined
  readonly nodesPerGroup: number
  readonly groups: number
  readonly namesrvs: number
  /** No documented ports, so that many clusters can start side by side. */
  readonly anyPorts?: boolean
}

export interface Session {
  readonly plan: ClusterPlan
  readonly cluster: LocalCluster
  readonly client: Client
  readonly kept: boolean
  readonly readyMs: number
}

/** The person at the terminal, or whoever signals, wants an end: cleaned up, but not a failure of the cluster. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
}

/** A process that dies is noticed at once: this one is for what hangs, on a machine that may be slow. */
const startTimeoutMs = 90_000
const startAttemptsMax = 3
/** Registrations take milliseconds, on a busy machine seconds; longer means that others answer. */
const routeTimeoutMs = 20_000

/** Runs `use` with a healthy cluster and cleans up afterwards, also on Ctrl-C. */
export async function withSession<T>(
  options: SessionOptions,
  clock: Clock,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  const kept = options.dataDirectory !== undefined
  const dataDirectory = resolve(options.dataDirectory ?? mkdtempSync(join(tmpdir(), 'ledgermq-fast-try-')))
  const startedMs = clock.monotonicMs()
  const known = loadPlan(dataDirectory)
  let plan = known ?? (await planCluster({ ...options, dataDirectory }))
  const footprint = enterFolder(dataDirectory)
  let isReady = false
  savePlan(plan)
  let processes = new Processes(plan, clock, { attached: true })
  const interrupted = new AbortController()
  const onSignal = (): void => interrupted.abort(new Interrupted())
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        processes.startAll()
        await processes.waitStarted(startTimeoutMs)
        break
      } catch (error) {
        // A port that was free when it was chosen may be taken by now. A kept folder has its addresses for good.
        if (kept || attempt === startAttemptsMax) throw error
        await processes.stopAll()
        rmSync(dataDirectory, { recursive: true, force: true })
        plan = await planCluster({ ...options, dataDirectory, anyPorts: true })
        savePlan(plan)
        processes = new Processes(plan, clock, { attached: true })
      }
    }
    const client = await connectWhenUp(plan, clock, startTimeoutMs)
    const cluster = new LocalCluster(plan, processes, client, clock)
    try {
      await cluster.waitHealthy(startTimeoutMs)
      await cluster.waitRouted(routeTimeoutMs)
      interrupted.signal.throwIfAborted()
      isReady = true
      const session: Session = { plan, cluster, client, kept, readyMs: Math.round(clock.monotonicMs() - startedMs) }
      return await Promise.race([use(session), rejectOnAbort(interrupted.signal)])
    } finally {
      cluster.close()
      await client.close()
    }
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
    await processes.stopAll()
    if (!kept) rmSync(dataDirectory, { recursive: true, force: true })
    // Nothing was sent to it yet.
    else if (!isReady && known === null) footprint.remove()
  }
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    // It may have come while the cluster was starting.
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
