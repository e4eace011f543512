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
    // Whatever else is on: in every run a leader dies under load.
    scheduler.after(configuration.safetyMs * this.#random.between(0.2, 0.8), () => {
      if (!this.#ended) this.#inject('process_kill', this.#leader() ?? this.#random.pick(this.#ports.nodes))
    })
    this.#planNext()
  }

  /** Everything works again from now on. */
  mend(): void {
    this.#ended = true
    const { network, nodes } = this.#ports
    network.healAll()
    for (const node of nodes) {
      node.clearTrap()
      node.slowness = 1
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
    switch (kind) {
      case 'process_kill':
        return this.end(node, 'kill')
      case 'power_loss':
        return this.end(node, this.#random.chance(0.3) ? 'lose_all' : 'crash')
      case 'power_loss_at_operation':
        return this.#setTrap(node)
      case 'kill_all':
        for (const each of this.#ports.nodes) this.end(each, 'kill')
        return
      case 'power_loss_all': {
        const how = this.#random.chance(0.3) ? 'lose_all' : 'crash'
        for (const each of this.#ports.nodes) this.end(each, how)
        return
      }
      case 'graceful_stop':
        return this.#stop(node)
      case 'pause':
        return this.#pause(node)
      case 'partition':
        return this.#isolate(node)
      case 'one_way_cut':
        return this.#cutOneWay(node)
      case 'client_cut':
        return this.#cutFor(
          this.#ports.clientHosts.flatMap((host): Cut[] => [
            { from: host, to: node.name, purpose: null },
            { from: node.name, to: host, purpose: null },
          ]),
        )
      case 'connection_reset':
        return this.#ports.network.reset(node.name, this.#other(node))
      case 'slow_disk':
        return this.#slowDown(node)
      case 'clock_jump':
        node.wallOffsetMs += this.#random.between(-1, 1) * this.#random.spread(100, 3_600_000)
        return
      case 'namesrv_restart':
        return this.#ports.restartNamesrv()
    }
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
    this.#cutFor(
      hosts.flatMap((host): Cut[] => [
        { from: host, to: node.name, purpose: null },
        { from: node.name, to: host, purpose: null },
      ]),
    )
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
