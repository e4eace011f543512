/**
 * A local cluster seen from outside: its processes, its status as the replicas tell it, its events as they happen.
 * Used by the demonstration, the scripts and the live table. Kills and pauses real processes, nothing else.
 */
import type { Client, NodeEvent, ReplicaStatus } from '../../client/mod.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { ClusterPlan, NodePlan } from './layout.ts'
import type { Processes } from './processes.ts'

export interface NodeView {
  readonly plan: NodePlan
  readonly process: 'running' | 'paused' | 'down'
  readonly pid: number | null
  /** Null when the node did not answer. */
  readonly status: ReplicaStatus | null
}

/** Who is down refuses at once; a busy machine answers late. */
const statusTimeoutMs = 3000
const pollMs = 20

export class LocalCluster {
  readonly plan: ClusterPlan
  readonly processes: Processes
  readonly client: Client
  readonly #clock: Clock
  readonly #listeners = new Set<(event: NodeEvent) => void>()
  readonly #stop = new AbortController()
  #watching = false

  constructor(plan: ClusterPlan, processes: Processes, client: Client, clock: Clock) {
    this.plan = plan
    this.processes = processes
    this.client = client
    this.#clock = clock
  }

  /** A process that has not answered within `timeoutMs` is shown without a status. */
  async view(timeoutMs: number = statusTimeoutMs): Promise<readonly NodeView[]> {
    return Promise.all(
      this.plan.nodes.map(async (node) => {
        const process = this.processes.state(node.name)
        const status =
          process === 'running'
            ? await this.client
                .admin()
                .replicaStatus(`127.0.0.1:${node.clientPort}`, { timeoutMs })
                .catch(() => null)
            : null
        const pid = this.processes.pid(node.name)
        // Somebody else's broker may sit on our port.
        return { plan: node, process, pid, status: status?.pid === pid ? status : null }
      }),
    )
  }

  /** The node that leads this group according to the highest term seen, null when nobody claims to. */
  async leader(group: string): Promise<NodeView | null> {
    const claims = (await this.view()).filter((node) => node.plan.group === group && node.status?.role === 'leader')
    return claims.sort((a, b) => (b.status?.term ?? 0) - (a.status?.term ?? 0))[0] ?? null
  }

  /** Resolves when every group has a leader and every replica has applied what its leader has committed. */
  async waitHealthy(timeoutMs: number): Promise<void> {
    await this.waitFor('all replicas are up and caught up', timeoutMs, async () => isHealthy(await this.view()))
  }

  /**
   * Resolves when the namesrvs route to the processes of this cluster. They may not: brokers of another cluster of the
   * same name, whose own namesrv is gone, register with whoever takes its port. Rejects with WRONG_CLUSTER.
   */
  async waitRouted(timeoutMs: number): Promise<void> {
    const view = await this.view()
    const members = view.filter((node) => isMember(node, view)).map((node) => node.plan)
    const expected = members.map((node) => `127.0.0.1:${node.advertisedPort ?? node.clientPort}`)
    const routed = async (): Promise<ReadonlySet<string>> =>
      new Set((await this.client.admin().clusterStatus()).map((replica) => replica.address))
    const end = this.#clock.monotonicMs() + timeoutMs
    for (;;) {
      const found = await routed()
      if (expected.every((address) => found.has(address))) return
      if (this.#clock.monotonicMs() > end)
        throw new LedgerError(
          'WRONG_CLUSTER',
          `the namesrv routes to ${[...found].join(', ') || 'nobody'} instead of ${expected.join(', ')}`,
        )
      await sleep(this.#clock, pollMs)
    }
  }

  /** Polls until the condition holds; rejects with TIMEOUT, naming what was waited for and what died. */
  async waitFor(what: string, timeoutMs: number, condition: () => Promise<boolean>): Promise<void> {
    const end = this.#clock.monotonicMs() + timeoutMs
    while (!(await condition())) {
      if (this.#clock.monotonicMs() > end)
        throw new LedgerError('TIMEOUT', `waited ${timeoutMs} ms in vain until ${what}\n${this.#describeDown()}`)
      await sleep(this.#clock, pollMs)
    }
  }

  /** Calls back for every event of every node from now on, across restarts. Returns the removal. */
  onEvent(listener: (event: NodeEvent) => void): () => void {
    this.#watch()
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.#stop.abort()
  }

  #watch(): void {
    if (this.#watching) return
    this.#watching = true
    for (const node of this.plan.nodes) void this.#watchNode(node)
  }

  /** A node that is down is asked again until it is back: restarts begin a new ring. */
  async #watchNode(node: NodePlan): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        const events = this.client.admin().watchEvents({ address: `127.0.0.1:${node.clientPort}`, signal })
        for await (const event of events) for (const listener of this.#listeners) listener(event)
      } catch {
        // The node died or is not up yet.
      }
      await sleep(this.#clock, pollMs, signal).catch(() => {})
    }
  }

  #describeDown(): string {
    return this.processes.names
      .filter((name) => this.processes.state(name) === 'down')
      .map((name) => `${name} is down; the end of its log:\n${this.processes.logTail(name, 15)}`)
      .join('\n')
  }
}

/** Every member of every group follows its leader. Who is outside, taken out or not yet in, does not count. */
export function isHealthy(view: readonly NodeView[]): boolean {
  return view.every((node) => {
    const leader = leaderOf(node, view)
    if (!leader?.status) return false
    if (!isMember(node, view)) return true
    if (!node.status) return false
    return node.status.leader === leader.plan.node && node.status.appliedIndex >= leader.status.commitIndex - lagAllowed
  })
}

/** As the leader of its group sees it; everyone belongs to a group that has none. */
function isMember(node: NodeView, view: readonly NodeView[]): boolean {
  const leader = leaderOf(node, view)
  if (!leader?.status || leader === node) return true
  return leader.status.peers.some((peer) => peer.node === node.plan.node)
}

function leaderOf({ plan }: NodeView, view: readonly NodeView[]): NodeView | undefined {
  return view.find((other) => other.plan.group === plan.group && other.status?.role === 'leader')
}

/** Entries a replica may be behind while a load runs and still count as caught up. */
const lagAllowed = 200
