/**
 * Breaks things by chance for as long as the safety phase lasts, and mends everything at its end. Every kind of fault
 * draws from a stream of its own.
 */
import type { FaultKind, SimConfiguration } from './configuration.ts'
import type { SimRandom } from './random.ts'
import type { Scheduler } from './scheduler.ts'
import type { Cut, SimNetwork } from './sim-network.ts'
import type { SimNode } from './sim-node.ts'

export interface FaultPorts {
  readonly scheduler: Scheduler
  readonly network: SimNetwork
  readonly random: SimRandom
  readonly configuration: SimConfiguration
  readonly nodes: readonly SimNode[]
  readonly clientHosts: readonly string[]
  /** The process is about to end. */
  ending(node: SimNode): void
  restartNamesrv(): void
  note(text: string): void
}

export class Faults {
  readonly #ports: FaultPorts
  readonly #random: SimRandom
  readonly counts = new Map<FaultKind, number>()
  crashes = 0
  leaderDied = false
  #ended = false

  constructor(ports: FaultPorts) {
    this.#ports = ports
    this.#random = ports.random
  }

  get total(): number {
    let total = 0
    for (const count of this.counts.values()) total += count
    return total
  }

  start(): void {
    const { scheduler, configuration } = this.#ports
    // Whatever else is on: in every run a leader dies.
    scheduler.after(configuration.safetyMs * this.#random.between(0.2, 0.8), () => this.#killLeaderOnce())
    this.#planNext()
  }

  /** Whether a leader died for sure; if none has by the end, `mend` and try again. */
  killLeader(): boolean {
    const leader = this.#leader()
    if (!leader) return false
    this.#inject('process_kill', leader)
    this.leaderDied = true
    return true
  }

  /** Everything works again from now on. */
  mend(): void {
    this.#ended = true
    const { network, nodes } = this.#ports
    network.healAll()
    for (const node of nodes) {
      node.clearTrap()
      node.slowness = 1
      node.mendDisk()
      node.resume()
      node.down = false
      if (!node.running) void node.start()
    }
  }

  /** Ends a node in this way; it comes back by itself. */
  end(node: SimNode, how: 'kill' | 'crash' | 'lose_all'): void {
    if (!node.running && how === 'kill') return
    this.#ports.ending(node)
    this.crashes++
    if (how === 'kill') node.kill()
    else node.crash(how === 'lose_all')
    this.#restartLater(node)
  }

  #killLeaderOnce(): void {
    if (this.#ended || this.killLeader()) return
    this.#ports.scheduler.after(50, () => this.#killLeaderOnce())
  }

  #planNext(): void {
    const { scheduler, configuration } = this.#ports
    scheduler.after(this.#random.around(configuration.faultMeanMs), () => {
      if (this.#ended) return
      const kind = this.#drawKind()
      this.#inject(kind, this.#victim())
      this.#planNext()
    })
  }

  #drawKind(): FaultKind {
    const entries = Object.entries(this.#ports.configuration.faults) as [FaultKind, number][]
    let left = this.#random.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [kind, weight] of entries) {
      left -= weight
      if (left <= 0) return kind
    }
    return (entries[0] as [FaultKind, number])[0]
  }

  #victim(): SimNode {
    const leader = this.#leader()
    return leader && this.#random.chance(0.5) ? leader : this.#random.pick(this.#ports.nodes)
  }

  #leader(): SimNode | undefined {
    return this.#ports.nodes.find((node) => node.broker?.replica?.leading)
  }

  #inject(kind: FaultKind, node: SimNode): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
    this.#ports.note(`${kind} ${node.name}`)
    this.#actions[kind](node)
  }

  readonly #actions: Readonly<Record<FaultKind, (node: SimNode) => void>> = {
    process_kill: (node) => this.end(node, 'kill'),
    power_loss: (node) => this.end(node, this.#random.chance(0.3) ? 'lose_all' : 'crash'),
    power_loss_at_operation: (node) => this.#setTrap(node),
    kill_all: () => {
      for (const node of this.#ports.nodes) this.end(node, 'kill')
    },
    power_loss_all: () => {
      const how = this.#random.chance(0.3) ? 'lose_all' : 'crash'
      for (const node of this.#ports.nodes) this.end(node, how)
    },
    graceful_stop: (node) => this.#stop(node),
    pause: (node) => this.#pause(node),
    partition: (node) => this.#isolate(node),
    one_way_cut: (node) => this.#cutOneWay(node),
    client_cut: (node) => this.#cutFor(this.#ports.clientHosts.flatMap((host) => bothWays(host, node.name))),
    connection_reset: (node) => this.#ports.network.reset(node.name, this.#other(node)),
    slow_disk: (node) => this.#slowDown(node),
    sync_failure: (node) => node.failNextSync(),
    disk_full: (node) => {
      node.setFull(true)
      this.#later(this.#random.spread(50, 1500), () => node.setFull(false))
    },
    clock_jump: (node) => {
      node.wallOffsetMs += this.#random.between(-1, 1) * this.#random.spread(100, 3_600_000)
    },
    namesrv_restart: () => this.#ports.restartNamesrv(),
  }

  #setTrap(node: SimNode): void {
    if (!node.running) return
    node.setTrap(1 + this.#random.below(12), () => {
      if (!this.#ended) this.end(node, this.#random.chance(0.2) ? 'lose_all' : 'crash')
    })
  }

  #stop(node: SimNode): void {
    if (!node.running || node.down) return
    node.down = true
    const { process } = node
    void node.stop().then(() => {
      if (node.running && node.process === process) return
      this.#restartLater(node)
    })
  }

  #pause(node: SimNode): void {
    const { process } = node
    node.pause()
    this.#later(this.#random.spread(20, 3000), () => process?.resume())
  }

  #isolate(node: SimNode): void {
    const others = this.#ports.nodes.filter((other) => other !== node).map((other) => other.name)
    // Sometimes the client can still talk to the one that is cut off.
    const hosts = this.#random.chance(0.5) ? others : [...others, ...this.#ports.clientHosts]
    this.#cutFor(hosts.flatMap((host) => bothWays(host, node.name)))
  }

  #cutOneWay(node: SimNode): void {
    const others = this.#ports.nodes.filter((other) => other !== node).map((other) => other.name)
    const hosts = this.#random.chance(0.5) ? others : [this.#other(node)]
    const purpose = this.#random.pick(['control', 'bulk', null] as const)
    const outgoing = this.#random.chance(0.5)
    this.#cutFor(
      hosts.map((host) => (outgoing ? { from: node.name, to: host, purpose } : { from: host, to: node.name, purpose })),
    )
  }

  #cutFor(cuts: readonly Cut[]): void {
    for (const cut of cuts) this.#ports.network.cut(cut)
    this.#later(this.#random.spread(50, 4000), () => this.#ports.network.heal(cuts))
  }

  #slowDown(node: SimNode): void {
    node.slowness = this.#random.spread(5, 300)
    this.#later(this.#random.spread(100, 2000), () => {
      node.slowness = 1
    })
  }

  #other(node: SimNode): string {
    return this.#random.pick(this.#ports.nodes.filter((other) => other !== node)).name
  }

  #restartLater(node: SimNode): void {
    node.down = true
    this.#ports.scheduler.after(this.#random.around(this.#ports.configuration.downMeanMs), () => {
      node.down = false
      if (!node.running) void node.start()
    })
  }

  #later(ms: number, action: () => void): void {
    this.#ports.scheduler.after(ms, () => {
      if (!this.#ended) action()
    })
  }
}

function bothWays(a: string, b: string): readonly Cut[] {
  return [
    { from: a, to: b, purpose: null },
    { from: b, to: a, purpose: null },
  ]
}
