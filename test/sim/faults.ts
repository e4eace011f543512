/**
 * Breaks things for as long as the safety phase lasts, and mends them at its end. Faults are drawn, or come from a
 * list; each that is injected is recorded, so that a run can be told again with some of them left out.
 */
import { isJoint, type Membership } from '../../src/broker/membership/membership.ts'
import type { SimConfiguration } from './configuration.ts'
import type { Machine } from './electorate.ts'
import type { FaultEvent, FaultKind, PowerLoss } from './fault.ts'
import { FaultDraw } from './fault-draw.ts'
import type { Task } from './operator.ts'
import type { SimRandom } from './random.ts'
import type { Scheduler } from './scheduler.ts'
import type { Cut, SimNetwork } from './sim-network.ts'
import type { SimNode } from './sim-node.ts'

type EventOf<Kind extends FaultKind> = Extract<FaultEvent, { readonly kind: Kind }>

export interface FaultPorts {
  readonly scheduler: Scheduler
  readonly network: SimNetwork
  readonly random: SimRandom
  readonly configuration: SimConfiguration
  readonly nodes: readonly SimNode[]
  readonly clientHosts: readonly string[]
  /** Faults to inject instead of drawing any. */
  readonly list: readonly FaultEvent[] | null
  /** The process is about to end. */
  ending(node: SimNode): void
  restartNamesrv(): void
  /** The group can do without the disk of this node. */
  maySpare(node: SimNode): boolean
  /** This one is no voter, and nobody is about to make it one. */
  isOutside(node: SimNode): boolean
  lost(machine: Machine): void
  /** Flips bits of this node's log, as far as the group can bear it. */
  rot(node: SimNode, event: EventOf<'bit_rot'>): void
  /** An operator sees to it. */
  ask(task: Task): void
  note(text: string): void
}

type Actions = { readonly [Kind in FaultKind]: (node: SimNode, event: EventOf<Kind>) => void }

/** After the joint configuration its leader lives for so long at most, milliseconds: until about when it is left. */
const jointLifeMs = 150

/** Retries of the death of a leader while nobody leads, milliseconds. */
const leaderlessMs = 50
/** How soon the death of a successor follows its first commit, at the latest. */
const deposedLookMs = 2

export class Faults {
  readonly #ports: FaultPorts
  readonly #draw: FaultDraw
  readonly #restarts: SimRandom
  readonly #death: SimRandom
  readonly #jointDeath: SimRandom
  /** What is planned, but will not come after the end: no event may be left that a told run would not have. */
  #planned: (() => void)[] = []
  /** Of the phase with faults. */
  readonly recorded: FaultEvent[] = []
  readonly counts: Partial<Record<FaultKind, number>> = {}
  total = 0
  crashes = 0
  leaderDied = false
  #ended = false

  constructor(ports: FaultPorts) {
    this.#ports = ports
    const { nodes, clientHosts, configuration } = ports
    const { downMeanMs } = configuration
    const names = nodes.map((node) => node.name)
    this.#draw = new FaultDraw(ports.random, configuration, { nodes: names, clientHosts, downMeanMs })
    this.#restarts = ports.random.fork('restarts')
    this.#death = ports.random.fork('death of a leader')
    this.#jointDeath = ports.random.fork('death in a joint configuration')
  }

  start(): void {
    const { scheduler, list } = this.#ports
    if (list) {
      this.#planned = list.map((event) => scheduler.at(event.atMs, () => this.#inject(event)))
      return
    }
    // Whatever else is on: in every run a leader dies.
    this.#planned.push(scheduler.after(this.#draw.leaderDeathMs(), () => this.#killLeaderOnce()))
    this.#planNext()
  }

  /** Whether a leader died for sure; if none has by the end, try again. */
  killLeader(): boolean {
    const leader = this.#leader()
    if (!leader) return false
    const downMs = this.#death.around(this.#ports.configuration.downMeanMs)
    this.#inject({ kind: 'process_kill', atMs: this.#ports.scheduler.nowMs, node: leader.name, downMs })
    this.leaderDied = true
    return true
  }

  /** A leader has begun this configuration. In some runs it rarely comes to finish what it began. */
  reconfigures(leader: SimNode, membership: Membership): void {
    const { scheduler, list, configuration } = this.#ports
    const random = this.#jointDeath
    if (list || this.#ended || !isJoint(membership) || !random.chance(configuration.jointDeathShare ?? 0)) return
    const [afterMs, downMs] = [random.spread(1, jointLifeMs), random.around(configuration.downMeanMs)]
    const kill = (): void => {
      if (!this.#ended && leader.running)
        this.#inject({ kind: 'process_kill', atMs: scheduler.nowMs, node: leader.name, downMs })
    }
    this.#planned.push(scheduler.after(afterMs, kill))
  }

  /** Everything works again from now on, but for the nodes that stay broken. */
  mend(broken: ReadonlySet<SimNode> = new Set()): void {
    this.#ended = true
    for (const cancel of this.#planned) cancel()
    const { network, nodes } = this.#ports
    network.healAll()
    for (const node of nodes) {
      node.clearTrap()
      node.slowness = 1
      node.mendDisk()
      if (broken.has(node)) continue
      node.resume()
      node.down = false
      if (!node.running && !node.dormant) void node.start()
    }
  }

  /** Ends a node in this way; it comes back by itself. */
  end(node: SimNode, how: 'kill' | PowerLoss, downMs?: number): void {
    if (!node.running && how === 'kill') return
    this.#ports.ending(node)
    this.crashes++
    if (how === 'kill') node.kill()
    else node.crash(how === 'lose_all')
    this.#restartLater(node, downMs ?? this.#restarts.around(this.#ports.configuration.downMeanMs))
  }

  #killLeaderOnce(): void {
    if (this.#ended || this.killLeader()) return
    this.#planned.push(this.#ports.scheduler.after(leaderlessMs, () => this.#killLeaderOnce()))
  }

  #planNext(): void {
    const { scheduler } = this.#ports
    const cancel = scheduler.after(this.#draw.pauseMs(), () => {
      this.#inject(this.#draw.next(scheduler.nowMs, this.#leader()?.name))
      this.#planNext()
    })
    this.#planned.push(cancel)
  }

  #leader(): SimNode | undefined {
    return this.#ports.nodes.find((node) => node.broker?.replica?.leading)
  }

  #inject(event: FaultEvent): void {
    const node = this.#ports.nodes.find((candidate) => candidate.name === event.node)
    if (!node || (node.dormant && event.kind !== 'add_node')) return
    if (!this.#ended) this.recorded.push(event)
    this.total++
    this.counts[event.kind] = (this.counts[event.kind] ?? 0) + 1
    this.#ports.note(`${event.kind} ${event.node}`)
    this.#actions[event.kind](node, event as never)
  }

  readonly #actions: Actions = {
    process_kill: (node, event) => this.end(node, 'kill', event.downMs),
    power_loss: (node, event) => this.end(node, event.how, event.downMs),
    power_loss_at_operation: (node, event) => this.#setTrap(node, event),
    kill_all: (_, { downMs }) => this.#each((node, at) => this.end(node, 'kill', downMs[at])),
    power_loss_all: (_, { how, downMs }) => this.#each((node, at) => this.end(node, how, downMs[at])),
    graceful_stop: (node, event) => this.#stop(node, event.downMs),
    pause: (node, event) => this.#pause(node, event.forMs),
    cut_off_pause: (node, event) => {
      this.#cutFor(both(event.hosts, node), event.cutMs)
      this.#pause(node, event.forMs)
    },
    partition: (node, event) => this.#cutFor(both(event.hosts, node), event.forMs),
    one_way_cut: (node, event) => this.#cutFor(oneWay(event, node), event.forMs),
    client_cut: (node, event) => this.#cutFor(both(this.#ports.clientHosts, node), event.forMs),
    connection_reset: (node, event) => this.#ports.network.reset(node.name, event.other),
    cut_off_slow_disk: (node, event) => {
      this.#cutFor(both(event.hosts, node), event.forMs)
      this.#slow(node, event)
    },
    cut_off_until_deposed: (node, event) => this.#depose(node, event),
    slow_disk: (node, event) => this.#slow(node, event),
    sync_failure: (node) => node.failNextSync(),
    disk_full: (node, event) => {
      node.setFull(true)
      this.#later(event.forMs, () => node.setFull(false))
    },
    clock_jump: (node, event) => {
      node.wallOffsetMs += event.shiftMs
    },
    namesrv_restart: () => this.#ports.restartNamesrv(),
    bit_rot: (node, event) => this.#rot(node, event),
    wipe: (node, event) => this.#wipe(node, event.downMs),
    add_node: (node) => this.#add(node),
    remove_node: (node) => this.#ports.ask({ kind: 'remove', node: node.name }),
    transfer: (node) => this.#ports.ask({ kind: 'transfer', node: node.name }),
  }

  #each(action: (node: SimNode, at: number) => void): void {
    for (const [at, node] of this.#ports.nodes.entries()) if (!node.dormant) action(node, at)
  }

  #rot(node: SimNode, event: EventOf<'bit_rot'>): void {
    if (event.downMs !== null && node.running) this.end(node, 'crash', event.downMs)
    this.#ports.rot(node, event)
  }

  #wipe(node: SimNode, downMs: number): void {
    if (!this.#ports.maySpare(node)) return
    this.crashes++
    this.#ports.note(`${node.name} loses its disk`)
    this.#ports.lost(node.wipe())
    this.#restartLater(node, downMs)
    this.#ports.ask({ kind: 'replace', node: node.name })
  }

  /** This one, or another one that is outside. */
  #add(wanted: SimNode): void {
    const { nodes, isOutside, ask } = this.#ports
    const node = [wanted, ...nodes].find((candidate) => isOutside(candidate))
    if (!node) return
    if (node.dormant) void node.start()
    ask({ kind: 'add', node: node.name })
  }

  #setTrap(node: SimNode, event: EventOf<'power_loss_at_operation'>): void {
    if (!node.running) return
    node.setTrap(event.operations, () => {
      if (!this.#ended) this.end(node, event.how, event.downMs)
    })
  }

  #stop(node: SimNode, downMs: number): void {
    if (!node.running || node.down) return
    node.down = true
    const { process } = node
    void node.stop().then(() => {
      if (node.running && node.process === process) return
      this.#restartLater(node, downMs)
    })
  }

  #pause(node: SimNode, forMs: number): void {
    const { process } = node
    node.pause()
    this.#later(forMs, () => process?.resume())
  }

  #slow(node: SimNode, { factor, forMs }: { readonly factor: number; readonly forMs: number }): void {
    node.slowness = factor
    this.#later(forMs, () => {
      node.slowness = 1
    })
  }

  /** What the old leader still took from clients makes its log the longer one, of the older term. */
  #depose(node: SimNode, { hosts, downMs, forMs }: EventOf<'cut_off_until_deposed'>): void {
    const { network, nodes, scheduler } = this.#ports
    const cuts = both(hosts, node)
    const untilMs = scheduler.nowMs + forMs
    for (const cut of cuts) network.cut(cut)
    const look = (): void => {
      const successor = nodes.find((other) => other !== node && other.broker?.replica?.raftStatus().termStarted)
      if (!successor && scheduler.nowMs < untilMs) {
        this.#later(deposedLookMs, look)
        return
      }
      if (successor) this.end(successor, 'kill', downMs)
      network.heal(cuts)
    }
    // Whoever leads at this instant is the one that is cut off.
    this.#later(deposedLookMs, look)
  }

  #cutFor(cuts: readonly Cut[], forMs: number): void {
    for (const cut of cuts) this.#ports.network.cut(cut)
    this.#later(forMs, () => this.#ports.network.heal(cuts))
  }

  #restartLater(node: SimNode, downMs: number): void {
    node.down = true
    this.#ports.scheduler.after(downMs, () => {
      // What stays broken for ever is down on purpose and was not mended.
      if (node.brokenForEver) return
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

/** Both directions between a node and these hosts. */
export function both(hosts: readonly string[], node: SimNode): readonly Cut[] {
  return hosts.flatMap((host) => [
    { from: host, to: node.name, purpose: null },
    { from: node.name, to: host, purpose: null },
  ])
}

/** One direction between a node and these hosts. */
export function oneWay(
  way: { readonly hosts: readonly string[]; readonly purpose: Cut['purpose']; readonly outgoing: boolean },
  node: SimNode,
): readonly Cut[] {
  const { hosts, purpose, outgoing } = way
  return hosts.map((host) =>
    outgoing ? { from: node.name, to: host, purpose } : { from: host, to: node.name, purpose },
  )
}
