/** Draws faults: which kind, which victim, how bad. Every kind draws from a stream of its own. */
import type { SimConfiguration } from './configuration.ts'
import type { FaultEvent, FaultKind, PowerLoss } from './fault.ts'
import type { SimRandom } from './random.ts'

/** By chance a sync hardly ever fails in the few milliseconds of a repair. */
const failedRepairShare = 0.15

export interface Surroundings {
  readonly nodes: readonly string[]
  readonly clientHosts: readonly string[]
  readonly downMeanMs: number
}

export class FaultDraw {
  readonly #random: SimRandom
  readonly #configuration: SimConfiguration
  readonly #surroundings: Surroundings
  readonly #streams = new Map<FaultKind, SimRandom>()
  readonly #repairs: SimRandom

  constructor(random: SimRandom, configuration: SimConfiguration, surroundings: Surroundings) {
    this.#random = random
    this.#repairs = random.fork('repairs')
    this.#configuration = configuration
    this.#surroundings = surroundings
  }

  /** Milliseconds to the next fault. */
  pauseMs(): number {
    return this.#random.around(this.#configuration.faultMeanMs)
  }

  /** When the leader dies that dies in every run. */
  leaderDeathMs(): number {
    return this.#configuration.safetyMs * this.#random.between(0.2, 0.8)
  }

  next(atMs: number, leader: string | undefined): FaultEvent {
    const kind = this.#drawKind()
    const isOfLeader = this.#random.chance(0.5) || kind === 'cut_off_until_deposed'
    const node = leader !== undefined && isOfLeader ? leader : this.#random.pick(this.#surroundings.nodes)
    return this.draw(kind, atMs, node)
  }

  draw(kind: FaultKind, atMs: number, node: string): FaultEvent {
    const random = this.#stream(kind)
    const others = this.#surroundings.nodes.filter((other) => other !== node)
    const at = { atMs, node }
    switch (kind) {
      case 'process_kill':
      case 'wipe':
      case 'graceful_stop':
        return { ...at, kind, downMs: this.#downMs(random) }
      case 'power_loss':
        return { ...at, kind, how: howMuch(random, 0.3), downMs: this.#downMs(random) }
      case 'power_loss_at_operation': {
        const operations = 1 + random.below(12)
        return { ...at, kind, operations, how: howMuch(random, 0.2), downMs: this.#downMs(random) }
      }
      case 'kill_all':
        return { ...at, kind, downMs: this.#downsMs(random) }
      case 'power_loss_all':
        return { ...at, kind, how: howMuch(random, 0.3), downMs: this.#downsMs(random) }
      case 'pause':
        return { ...at, kind, forMs: random.spread(20, 3000) }
      case 'cut_off_pause': {
        const forMs = random.spread(100, 3000)
        return { ...at, kind, hosts: others, forMs, cutMs: forMs + random.spread(20, 500) }
      }
      case 'cut_off_slow_disk': {
        const forMs = random.spread(100, 2000)
        // What is under way when all is mended takes as long as it was begun with: that must end soon.
        const { syncMeanMs, writeMeanMs } = this.#configuration.disk
        const factor = Math.max(5, (forMs * random.between(0.5, 2)) / Math.max(syncMeanMs, writeMeanMs))
        return { ...at, kind, hosts: others, factor, forMs }
      }
      case 'cut_off_until_deposed':
        return { ...at, kind, hosts: others, downMs: this.#downMs(random), forMs: random.spread(500, 4000) }
      case 'partition': {
        // Sometimes a client can still talk to the one that is cut off.
        const hosts = [...others, ...this.#surroundings.clientHosts.filter(() => random.chance(0.5))]
        return { ...at, kind, hosts, forMs: cutMs(random) }
      }
      case 'one_way_cut': {
        const hosts = random.chance(0.5) ? others : [random.pick(others)]
        const purpose = random.pick(['control', 'bulk', null] as const)
        return { ...at, kind, hosts, purpose, outgoing: random.chance(0.5), forMs: cutMs(random) }
      }
      case 'client_cut':
        return { ...at, kind, forMs: cutMs(random) }
      case 'connection_reset':
        return { ...at, kind, other: random.pick(others) }
      case 'slow_disk':
        return { ...at, kind, factor: random.spread(5, 300), forMs: random.spread(100, 2000) }
      case 'disk_full':
        return { ...at, kind, forMs: random.spread(50, 1500) }
      case 'clock_jump':
        return { ...at, kind, shiftMs: random.between(-1, 1) * random.spread(100, 3_600_000) }
      case 'bit_rot': {
        // At the very end it costs most.
        const downMs = random.chance(0.4) ? this.#downMs(random) : null
        const depth = random.pick(downMs === null ? [1, 0.1, 0] : [0.1, 0, 0]) * random.next()
        const entries = random.pick([1, 1, 2, 5])
        const failsRepair = this.#repairs.chance(failedRepairShare)
        return { ...at, kind, depth, entries, places: placesIn(random), downMs, ...(failsRepair && { failsRepair }) }
      }
      case 'sync_failure':
      case 'namesrv_restart':
      case 'add_node':
      case 'remove_node':
      case 'transfer':
        return { ...at, kind }
    }
  }

  #drawKind(): FaultKind {
    const entries = Object.entries(this.#configuration.faults) as [FaultKind, number][]
    let left = this.#random.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [kind, weight] of entries) {
      left -= weight
      if (left <= 0) return kind
    }
    return (entries[0] as [FaultKind, number])[0]
  }

  #stream(kind: FaultKind): SimRandom {
    let stream = this.#streams.get(kind)
    if (!stream) {
      stream = this.#random.fork(kind)
      this.#streams.set(kind, stream)
    }
    return stream
  }

  #downMs(random: SimRandom): number {
    return random.around(this.#surroundings.downMeanMs)
  }

  #downsMs(random: SimRandom): readonly number[] {
    return this.#surroundings.nodes.map(() => this.#downMs(random))
  }
}

function howMuch(random: SimRandom, allShare: number): PowerLoss {
  return random.chance(allShare) ? 'lose_all' : 'crash'
}

/** Half of the time in the header of a frame, which is where a log is hard to follow. */
function placesIn(random: SimRandom): readonly number[] {
  const inHeader = random.chance(0.5) ? 0.1 : 1
  return Array.from({ length: 1 + random.below(3) }, () => random.next() * inHeader)
}

function cutMs(random: SimRandom): number {
  return random.spread(50, 4000)
}
