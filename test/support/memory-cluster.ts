/**
 * A whole broker group in one process, on memory disks and a memory network: the production code of core, store,
 * replica and handlers, with processes that can be killed and machines that can lose power.
 *
 * Real time by default, without the time in which this process is held up (`awake-clock.ts`): nobody is elected because
 * the machine is busy. Every clock, disk and link comes from here, so that it can also run under virtual time.
 */
import { type Broker, startBroker } from '../../src/broker/broker.ts'
import type { BrokerOptions, BrokerPorts } from '../../src/broker/options.ts'
import type { Replica } from '../../src/broker/replica/replica.ts'
import { type Clock, type Random, systemRandom } from '../../src/common/clock.ts'
import { type Logger, silentLogger } from '../../src/common/logger.ts'
import { MemoryDisk, MemoryKeyValueEngine } from '../../store/index.ts'
import { AwakeClock } from './awake-clock.ts'
import { eventually } from './eventually.ts'
import { MemoryNetwork, type MemoryNetworkOptions } from './memory-network.ts'

export interface MemoryClusterOptions {
  readonly nodes?: readonly string[]
  readonly clock?: Clock
  readonly random?: Random
  readonly logger?: Logger
  readonly network?: MemoryNetworkOptions
  /** Merged into the options of every broker. */
  readonly broker?: Partial<BrokerOptions>
}

/** The hardware of one node: what survives its processes. */
export interface Machine {
  disk: MemoryDisk
  engine: MemoryKeyValueEngine
  bootId: number
}

interface Process {
  readonly broker: Broker
  readonly clock: ProcessClock
}

/** Short times, so that tests are quick; the relations are those of production. */
export const quickRaft = {
  heartbeatMs: 30,
  electionTimeoutMinMs: 250,
  electionTimeoutMaxMs: 500,
  connectionLostWaitMaxMs: 20,
  splitRetryMinMs: 30,
  splitRetryMaxMs: 90,
} as const

export const testSegmentBytes = 256 * 1024
export const testReserveBytes = 64 * 1024

export class MemoryCluster {
  /** What a test says about the speed of the group is measured with this. */
  readonly clock: Clock
  readonly network: MemoryNetwork
  nodes: readonly string[]
  readonly machines = new Map<string, Machine>()
  /** What `fatal` was called with, by node. */
  readonly failures = new Map<string, Error>()
  readonly #options: MemoryClusterOptions
  readonly #processes = new Map<string, Process>()
  readonly #initial: readonly string[]

  constructor(options: MemoryClusterOptions = {}) {
    this.#options = options
    this.clock = options.clock ?? new AwakeClock()
    this.#initial = options.nodes ?? ['n0', 'n1', 'n2']
    this.nodes = this.#initial
    this.network = new MemoryNetwork(this.clock, options.network)
    for (const node of this.nodes) {
      this.machines.set(node, { disk: new MemoryDisk(), engine: new MemoryKeyValueEngine(), bootId: 1 })
    }
  }

  /** A machine that is no initial member; `startWith(node, cluster.joining(node))` lets it wait to be added. */
  addMachine(node: string): void {
    this.machines.set(node, { disk: new MemoryDisk(), engine: new MemoryKeyValueEngine(), bootId: 1 })
    this.nodes = [...this.nodes, node]
  }

  /** Options of a node that joins the group of the initial ones. */
  joining(node: string): Partial<BrokerOptions> {
    return { members: [], bootstrap: false, raftListen: `${node}:30912`, join: this.#initial.map(raftAddressOf) }
  }

  /** Starts nodes that are not running, all at once. */
  async start(...nodes: readonly string[]): Promise<void> {
    await Promise.all((nodes.length > 0 ? nodes : this.nodes).map((node) => this.startWith(node, {})))
  }

  startWith(node: string, overrides: Partial<BrokerOptions>): Promise<Broker> {
    return this.startAs(node, { ...this.optionsOf(node), ...overrides })
  }

  /** With exactly these options. */
  async startAs(node: string, options: BrokerOptions): Promise<Broker> {
    const machine = this.machine(node)
    const clock = new ProcessClock(this.clock)
    machine.engine.spaceLeft = () => machine.disk.spaceLeft
    const ports: BrokerPorts = {
      clock,
      random: this.#options.random ?? systemRandom,
      transport: this.network.endpoint(node),
      disk: machine.disk,
      engine: machine.engine,
      logger: this.#options.logger ?? silentLogger,
      bootId: async () => `boot-${machine.bootId}`,
      fatal: (error) => {
        this.failures.set(node, error)
        this.kill(node)
      },
    }
    const broker = await startBroker(options, ports)
    this.#processes.set(node, { broker, clock })
    return broker
  }

  optionsOf(node: string): BrokerOptions {
    return {
      cluster: 'RaftCluster',
      group: 'RaftNode00',
      node,
      directory: `data/${node}`,
      listen: `${node}:30911`,
      members: this.#initial.map((member) => ({ node: member, raftAddress: raftAddressOf(member) })),
      bootstrap: true,
      namesrv: [],
      segmentBytes: testSegmentBytes,
      ...this.#options.broker,
      limits: { reserveBytes: testReserveBytes, ...this.#options.broker?.limits },
      raft: { ...quickRaft, ...this.#options.broker?.raft },
    }
  }

  machine(node: string): Machine {
    const machine = this.machines.get(node)
    if (!machine) throw new Error(`no machine ${node}`)
    return machine
  }

  isRunning(node: string): boolean {
    return this.#processes.has(node)
  }

  broker(node: string): Broker {
    const process = this.#processes.get(node)
    if (!process) throw new Error(`${node} does not run`)
    return process.broker
  }

  replica(node: string): Replica {
    const { replica } = this.broker(node)
    if (!replica) throw new Error(`${node} is no member: ${this.broker(node).status().reason}`)
    return replica
  }

  /** SIGKILL: the process is gone, the machine with its page cache lives on. */
  kill(node: string): void {
    const machine = this.#end(node)
    machine.disk = machine.disk.kill()
    machine.engine = machine.engine.kill()
  }

  /** Power cut: of what was not synced, `choices` decide what is left. */
  crash(
    node: string,
    choices: {
      readonly disk: Parameters<MemoryDisk['crash']>[0]
      readonly engine: Parameters<MemoryKeyValueEngine['crash']>[0]
    },
  ): void {
    const machine = this.#end(node)
    machine.disk = machine.disk.crash(choices.disk)
    machine.engine = machine.engine.crash(choices.engine)
    machine.bootId++
  }

  /** Somebody emptied the data folder. */
  wipe(node: string): void {
    this.#end(node)
    this.machines.set(node, { disk: new MemoryDisk(), engine: new MemoryKeyValueEngine(), bootId: 1 })
  }

  /** Graceful stop. */
  async stop(node: string): Promise<void> {
    await this.broker(node).close()
    this.#end(node)
  }

  /** The node that leads with its no-op applied, once the running ones of `among` agree. */
  leader(among: readonly string[] = this.nodes): Promise<string> {
    return eventually(
      'one leader that all know',
      () => {
        const running = among.filter((node) => this.#processes.get(node)?.broker.replica)
        const leaders = running.filter((node) => this.replica(node).leading)
        const [leader] = leaders
        const agreed = running.every((node) => this.replica(node).leader()?.node === leader)
        return leaders.length === 1 && agreed && leader
      },
      { state: () => this.state() },
    )
  }

  /** All running members have applied everything the most advanced of them has committed. */
  async settled(among: readonly string[] = this.nodes): Promise<number> {
    return eventually(
      'all replicas applied the same',
      () => {
        const running = among.filter((node) => this.isRunning(node))
        // One that begins again has none for a moment.
        const replicas = running.flatMap((node) => this.broker(node).replica ?? [])
        const last = Math.max(...replicas.map((replica) => replica.log.lastIndex))
        const isSettled = replicas.every((replica) => replica.appliedIndex === last)
        return replicas.length === running.length && isSettled && last
      },
      { state: () => this.state() },
    )
  }

  state(): unknown {
    return [...this.#processes].map(([node, { broker }]) => {
      const { role, reason, term, leader, lastIndex, durableIndex, commitIndex, appliedIndex } = broker.status()
      return { node, role, reason, term, leader, lastIndex, durableIndex, commitIndex, appliedIndex }
    })
  }

  /** Ends all processes without ceremony. */
  end(): void {
    for (const node of [...this.#processes.keys()]) this.#end(node)
  }

  #end(node: string): Machine {
    this.#processes.get(node)?.clock.stop()
    this.#processes.delete(node)
    this.network.kill(node)
    return this.machine(node)
  }
}

export function raftAddressOf(node: string): string {
  return `${node}:30912`
}

/** The clock of one process: after its death no timer fires any more. */
class ProcessClock implements Clock {
  readonly #clock: Clock
  #alive = true

  constructor(clock: Clock) {
    this.#clock = clock
  }

  stop(): void {
    this.#alive = false
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs()
  }

  wallMs(): number {
    return this.#clock.wallMs()
  }

  after(ms: number, callback: () => void, options?: { readonly background?: boolean }): () => void {
    return this.#clock.after(ms, () => this.#alive && callback(), options)
  }

  defer(callback: () => void): void {
    this.#clock.defer(() => this.#alive && callback())
  }
}
