/**
 * A cluster in the background as a user has one: `fast-try start`, commands against it, `fast-try stop`. For tests of
 * the command line; nothing of it is left when `end` resolves.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import {
  type ClusterPlan,
  loadPlan,
  type NodePlan,
  namesrvAddresses,
  nodeDirectory,
} from '../../src/cli/fast-try/layout.ts'
import { Processes } from '../../src/cli/fast-try/processes.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { MembershipReply } from '../../src/rpc/methods.ts'
import { accepted, type CliResult, cli, patienceMs, patiently } from './support.ts'

export class BackgroundCluster {
  readonly #parent: string
  readonly #data: string

  private constructor(parent: string) {
    this.#parent = parent
    this.#data = join(parent, 'data')
  }

  /** With that many replicas in its one group. Leaves nothing behind when it does not come up. */
  static async start(nodes: number): Promise<BackgroundCluster> {
    const cluster = new BackgroundCluster(mkdtempSync(join(tmpdir(), 'ledgermq-test-')))
    const started = await cluster.fastTry('start', '--nodes', String(nodes), '--any-ports')
    if (started.code !== 0) {
      await cluster.end()
      throw new Error(`fast-try start --nodes ${nodes}: ${started.stderr}`)
    }
    return cluster
  }

  /** As written down last. */
  get plan(): ClusterPlan {
    const plan = loadPlan(this.#data)
    if (!plan) throw new Error(`no plan in ${this.#data}`)
    return plan
  }

  get namesrvs(): string {
    return namesrvAddresses(this.plan).join(',')
  }

  node(name: string): NodePlan {
    const found = this.plan.nodes.find((node) => node.name === name)
    if (!found) throw new Error(`no node ${name}`)
    return found
  }

  /** Names, in the order of the plan. */
  names(): readonly string[] {
    return this.plan.nodes.map(({ name }) => name)
  }

  raftAddress(name: string): string {
    return `127.0.0.1:${this.node(name).raftPort}`
  }

  fastTry(...args: readonly string[]): Promise<CliResult> {
    return cli('fast-try', ...args, '--data', this.#data)
  }

  /** `ledgermq raft …`, told of all brokers that the plan knows. */
  raft(...args: readonly string[]): Promise<CliResult> {
    return this.raftVia(this.names(), ...args)
  }

  /** The same, told of these brokers only, in this order. */
  raftVia(names: readonly string[], ...args: readonly string[]): Promise<CliResult> {
    const addresses = names.map((name) => `127.0.0.1:${this.node(name).clientPort}`)
    return cli('raft', ...patiently(args), '--address', addresses.join(','))
  }

  /** The same with `-o json`, which must succeed. */
  async raftJson<Reply>(...args: readonly string[]): Promise<Reply> {
    const result = await accepted(() => this.raft(...args, '-o', 'json'))
    expect(result, args.join(' ')).toMatchObject({ code: 0 })
    return JSON.parse(result.stdout) as Reply
  }

  members(): Promise<MembershipReply> {
    return this.raftJson<MembershipReply>('members')
  }

  async leader(): Promise<string> {
    return (await this.members()).leader
  }

  /** Asks again and again until the condition holds; fails with `what`. */
  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const endMs = systemClock.monotonicMs() + patienceMs
    while (!(await condition())) if (systemClock.monotonicMs() > endMs) throw new Error(`not reached in time: ${what}`)
  }

  /** `kill -9`; the folder is thrown away, too. */
  async destroy(name: string): Promise<void> {
    const plan = this.plan
    const node = this.node(name)
    await this.kill(name)
    rmSync(nodeDirectory(plan, node), { recursive: true, force: true })
  }

  async kill(name: string): Promise<void> {
    expect(await this.fastTry('kill', name)).toMatchObject({ code: 0, stdout: `${name} was killed\n` })
  }

  async restart(name: string): Promise<void> {
    expect(await this.fastTry('restart', name)).toMatchObject({ code: 0 })
  }

  async end(): Promise<void> {
    const plan = loadPlan(this.#data)
    if (plan) await new Processes(plan, systemClock, { attached: false }).stopAll()
    rmSync(this.#parent, { recursive: true, force: true })
  }
}
