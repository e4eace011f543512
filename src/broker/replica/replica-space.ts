/**
 * The disk space of a replica: noticing its end, living without, and giving up what is old. Owned by the replica.
 * Joins the watch, which works on every replica, with the keeper, which proposes on the leader.
 */
import type { DiskSpace } from '../../../store/index.ts'
import { limitsOf, retentionOf } from '../options.ts'
import type { ReachablePeer } from './reachable-peers.ts'
import type { ReplicaParts } from './replica-parts.ts'
import { SpaceKeeper, type SpaceKeeperPorts } from './space-keeper.ts'
import { SpaceWatch } from './space-watch.ts'

export interface ReplicaSpacePorts {
  term(): number
  leading(): boolean
  /** Log time as it would be stamped now. */
  logTime(): number
  reachablePeers(): readonly ReachablePeer[]
  readonly propose: SpaceKeeperPorts['propose']
  /** The disk became full, or has space again. */
  changed(isFull: boolean): void
  /** The log begins here now. */
  trimmed(firstIndex: number): void
  failed(error: unknown): void
}

export class ReplicaSpace {
  readonly #parts: ReplicaParts
  readonly #ports: ReplicaSpacePorts
  readonly #watch: SpaceWatch
  readonly #keeper: SpaceKeeper

  constructor(parts: ReplicaParts, ports: ReplicaSpacePorts) {
    this.#parts = parts
    this.#ports = ports
    this.#watch = this.#makeWatch()
    this.#keeper = this.#makeKeeper()
  }

  /** Of the disk, as last measured; null before. */
  get measured(): DiskSpace | null {
    return this.#keeper.space
  }

  start(): void {
    this.#keeper.start()
    this.#watch.start()
  }

  /** Somebody found the disk full. */
  notice(): void {
    this.#watch.notice()
  }

  /** The state store holds more than before. */
  stateWritten(): void {
    this.#keeper.stateWritten()
  }

  /** Resolves when nothing of it touches log or state store any more. */
  async stop(): Promise<void> {
    await Promise.all([this.#keeper.stop(), this.#watch.stop()])
  }

  #makeWatch(): SpaceWatch {
    const { options, ports, folder, recovered, patience } = this.#parts
    return new SpaceWatch({
      clock: ports.clock,
      log: recovered.log,
      reserve: folder.reserve,
      freeBytes: async () => (await ports.disk.space(folder.directory)).freeBytes,
      retryMs: limitsOf(options).diskFullRetryMs,
      hasSpace: () => patience.renew(),
      changed: (isFull) => this.#onChanged(isFull),
      failed: this.#ports.failed,
    })
  }

  #makeKeeper(): SpaceKeeper {
    const { ports, recovered, folder, events, options, logger } = this.#parts
    const { log, machine, store } = recovered
    return new SpaceKeeper({
      ...this.#ports,
      clock: ports.clock,
      disk: ports.disk,
      wantedFreeBytes: () => folder.reserve.wantedFreeBytes,
      logger,
      log,
      machine,
      store,
      directory: folder.directory,
      settings: retentionOf(options),
      roundMs: limitsOf(options).retentionRoundMs,
      followers: this.#ports.reachablePeers,
      chosen: ({ firstIndex, reason, leftBehind }) =>
        events.emit('trim_proposed', this.#ports.term(), { firstIndex, reason, leftBehind: leftBehind.join(' ') }),
      leftBehind: (nodes) => events.emit('follower_left_behind', this.#ports.term(), { nodes: nodes.join(' ') }),
      storedIndex: () => store.appliedIndex,
      trimmed: (firstIndex) => this.#onTrimmed(firstIndex),
    })
  }

  #onChanged(isFull: boolean): void {
    this.#parts.events.emit(isFull ? 'disk_full' : 'disk_space_back', this.#ports.term(), {})
    this.#ports.changed(isFull)
    if (isFull) this.#keeper.spaceEnded()
  }

  #onTrimmed(firstIndex: number): void {
    this.#ports.trimmed(firstIndex)
    this.#parts.shortened()?.catch(this.#ports.failed)
    this.#parts.events.emit('log_trimmed', this.#ports.term(), { firstIndex })
  }
}
