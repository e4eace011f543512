/**
 * The brokers of one group as members come and go: processes started to join with an empty folder, stopped, wiped, and
 * the changes of membership an operator would ask for. Used by `members.ts`; measures nothing.
 */
import { rmSync } from 'node:fs'
import { type ClusterPlan, type NodePlan, nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import { findPorts } from '../../src/cli/fast-try/ports.ts'
import { Processes } from '../../src/cli/fast-try/processes.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import { runChange } from '../../src/cli/raft/change.ts'
import { RaftGroup } from '../../src/cli/raft/group.ts'
import { sleep, systemClock } from '../../src/common/clock.ts'
import { LedgerError } from '../../src/common/errors.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { createGrpcTransport } from '../../src/rpc/grpc-transport.ts'
import { adminMethods, type ChangeMembershipRequest, type MembershipReply } from '../../src/rpc/methods.ts'
import type { Transport } from '../../src/rpc/transport.ts'

/** Longest wait for a start, a stop or a single change, milliseconds. */
const patienceMs = 60_000
const pollMs = 50
/** Entries that a member may lack under load and still count as caught up. */
const lagMax = 500

export class Fleet {
  readonly #session: Session
  readonly #transport: Transport = createGrpcTransport({ clock: systemClock, logger: silentLogger })
  /** All slots, those outside the group included. */
  readonly #nodes: readonly NodePlan[]
  /** Children that were started here end when their handles go. */
  readonly #started: Processes[] = []
  readonly #outside: Set<string>

  private constructor(session: Session, nodes: readonly NodePlan[], outside: readonly string[]) {
    this.#session = session
    this.#nodes = nodes
    this.#outside = new Set(outside)
  }

  /** The members of a session with one group, and one slot more, outside. */
  static async open(session: Session): Promise<Fleet> {
    const { nodes } = session.plan
    const [model] = nodes
    if (!model) throw new LedgerError('INVALID_PARAMETER', 'the cluster has no nodes')
    const wishes = ['client', 'raft'].map((name) => ({ name, port: 0 }))
    const [client, raft] = await findPorts(wishes, { anyPorts: true })
    const name = `n${nodes.length}`
    const spare: NodePlan = { ...model, name, node: name, clientPort: client?.port ?? 0, raftPort: raft?.port ?? 0 }
    return new Fleet(session, [...nodes, spare], [name])
  }

  /** The slot whose process is not part of the group. */
  get spare(): string {
    const [name = ''] = this.#outside
    return name
  }

  get members(): readonly NodePlan[] {
    return this.#nodes.filter(({ name }) => !this.#outside.has(name))
  }

  /** A broker that nobody knows: an empty folder, told where the group is. Resolves when it is ready to be added. */
  async startEmpty(name: string): Promise<void> {
    const node = this.#node(name)
    rmSync(nodeDirectory(this.#session.plan, node), { recursive: true, force: true })
    const others = this.members.filter((member) => member.name !== name).map(({ joins: _, ...member }) => member)
    const processes = this.#processes([...others, { ...node, joins: true }])
    processes.start(name)
    await processes.waitStarted(patienceMs)
  }

  async stop(name: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const processes = this.#processes(this.#nodes)
    processes.signal(name, signal)
    await processes.waitGone(name, patienceMs)
  }

  async stopAll(): Promise<void> {
    await this.#processes(this.#nodes).stopAll()
  }

  /** From the request to the end of the change. */
  async change(
    kind: 'add' | 'remove' | 'promote' | 'replace',
    name: string,
    wish: Partial<ChangeMembershipRequest> = {},
  ): Promise<void> {
    const { node, raftPort } = this.#node(name)
    const raftAddress = kind === 'add' || kind === 'replace' ? `127.0.0.1:${raftPort}` : ''
    const request = { kind, node, raftAddress, learner: false, priority: 0, force: false, ...wish }
    await this.#withGroup((group) =>
      runChange(group, systemClock, request, { timeoutMs: patienceMs, wait: true, say: () => {} }),
    )
    if (kind === 'remove') this.#outside.add(name)
    else this.#outside.delete(name)
  }

  async transfer(to: string): Promise<void> {
    const isSafe = (error: LedgerError): boolean => error.code === 'NO_QUORUM' || error.code === 'UNAVAILABLE'
    await this.#withGroup((group) =>
      group.call(adminMethods.transferLeadership, { to }, { timeoutMs: patienceMs, isSafe }),
    )
  }

  /** Name of the leader, once nothing is under way and every member is connected and close to its log. */
  async settled(): Promise<string> {
    return this.#withGroup(async (group) => {
      const endMs = systemClock.monotonicMs() + patienceMs
      for (;;) {
        const now = await group.membership(patienceMs)
        if (isSettled(now) && now.members.length === this.members.length) return now.leader
        if (systemClock.monotonicMs() > endMs) throw new LedgerError('TIMEOUT', `not settled: ${JSON.stringify(now)}`)
        await sleep(systemClock, pollMs)
      }
    })
  }

  async #withGroup<T>(use: (group: RaftGroup) => Promise<T>): Promise<T> {
    const addresses = this.members.map(({ clientPort }) => `127.0.0.1:${clientPort}`)
    const group = new RaftGroup({ clock: systemClock, transport: this.#transport }, addresses)
    try {
      return await use(group)
    } finally {
      group.close()
    }
  }

  #processes(nodes: readonly NodePlan[]): Processes {
    const plan: ClusterPlan = { ...this.#session.plan, nodes }
    const processes = new Processes(plan, systemClock, { attached: true })
    this.#started.push(processes)
    return processes
  }

  #node(name: string): NodePlan {
    const found = this.#nodes.find((node) => node.name === name)
    if (!found) throw new LedgerError('INVALID_PARAMETER', `no node ${name}`)
    return found
  }
}

function isSettled({ underWay, members, lastIndex }: MembershipReply): boolean {
  return underWay === '' && members.every((member) => member.connected && lastIndex - member.matchIndex <= lagMax)
}
