/**
 * Owner of the replica of one data folder: recovers it, runs it, ends it, and begins again with other directories,
 * all in one process. Used by `broker.ts`; handlers see only its `api`.
 *
 * One change at a time, in the order of the calls. Directories are put in force only while no replica runs on them,
 * by one durable record (`generations.ts`); whatever is stopped half-way is what the next start finds.
 */
import type { LogHole, StateStoreApi } from '../../../store/index.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration } from '../../rpc/methods.ts'
import type { EventSink } from '../events.ts'
import { type BrokerOptions, type BrokerPorts, limitsOf } from '../options.ts'
import { type Folder, openState } from './folder.ts'
import { type Generations, type LogEnd, removeOthers } from './generations.ts'
import { type Generation, type Recovered, recover } from './recovery.ts'
import { Replica } from './replica.ts'
import { SpacePatience } from './space-patience.ts'
import { SteadyReplica } from './steady-replica.ts'
import { Upkeep } from './upkeep.ts'
import type { UpkeepStatus } from './upkeep-status.ts'

export interface LifecycleParts {
  readonly options: BrokerOptions
  readonly ports: BrokerPorts
  readonly events: EventSink
  readonly logger: Logger
  readonly folder: Folder
  readonly configuration: FirstConfiguration
  /** Where clients reach this node. */
  readonly address: string
  /** Where peers reach this node, unless its membership says otherwise. */
  readonly raftAddress: string
  /** This member refused us. */
  refused(node: string, reason: string): void
  /** A replica begins, the first one or a later one; called before it says anything. */
  begins(): void
  /** The replica has stopped for good and answers nobody. */
  failed(error: unknown): void
}

export class ReplicaLifecycle {
  readonly api: SteadyReplica
  readonly #parts: LifecycleParts
  readonly #upkeep: Upkeep
  readonly #patience = new SpacePatience()
  #store: StateStoreApi
  #generations: Generations
  #recovered: Recovered | null = null
  #replica: Replica | null = null
  #damage: string | null = null
  #began = false
  #stopping = false
  #closed = false
  #failed = false
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: LifecycleParts) {
    this.#parts = parts
    this.#store = parts.folder.store
    this.#generations = parts.folder.generations
    this.api = new SteadyReplica(parts.options)
    this.#upkeep = new Upkeep({
      ...parts,
      replica: () => this.#replica,
      generations: () => this.#generations,
      install: (generations, mayReplace) => this.install(generations, mayReplace),
      beginAgain: () => this.beginAgain(),
      failed: (error) => this.#fail(error),
    })
  }

  /** The one that runs; null in between, and for good when the node must not take part. */
  get replica(): Replica | null {
    return this.#replica
  }

  /** Why this node takes no part although it is a member. */
  get damage(): string | null {
    return this.#damage
  }

  /** Why no replica runs; null while one does and before the first. */
  get reason(): string | null {
    if (this.#damage !== null) return this.#damage
    if (this.#replica) return null
    if (this.#began) return 'RESTARTING: this replica begins again with what is in force on its disk'
    const { catchUp } = this.#upkeep.status
    if (!catchUp) return null
    const problem = catchUp.problem === '' ? '' : `, but cannot now: ${catchUp.problem}`
    return `CATCHING_UP: this node copies the log of its group before it begins${problem}`
  }

  /** Of copies, holes and the scrub. */
  get upkeep(): UpkeepStatus {
    return this.#upkeep.status
  }

  /** Recovers what is in force and runs it, unless it must not take part: `damage` then says why. */
  start(): Promise<void> {
    return this.#inOrder(() => this.#begin())
  }

  /**
   * Ends the replica, puts these directories in force, and begins again with what they hold. Nothing has them open
   * any more. `mayReplace` judges the log as the replica left it: it may have grown, and promised more, since the copy
   * was found complete. False: it begins again with what it had. When it rejects, the node cannot go on.
   */
  install(generations: Generations, mayReplace: (own: LogEnd) => boolean): Promise<boolean> {
    return this.#inOrder(async () => {
      if (this.#closed || this.#failed) throw new LedgerError('CLOSED', 'this replica has stopped')
      const own = this.#replica?.log
      await this.#end()
      await this.#letGo()
      const isRight = own === undefined || mayReplace(own)
      if (isRight) {
        await this.#enforce(generations)
        this.#upkeep.copyInForce()
      }
      await this.#begin()
      return isRight
    })
  }

  /**
   * Ends the replica and begins again with the same directories: what it was told when it began is no longer true.
   * When it rejects, the node cannot go on.
   */
  beginAgain(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#closed || this.#failed) return
      await this.#restart()
    })
  }

  /** `close` is about to come: no replica begins any more, and a start that asks the group what there is to copy ends. */
  stop(): void {
    this.#stopping = true
    this.#upkeep.stop()
  }

  /** Ends the replica for good. True when everything on disk is complete, so that the next start may trust it. */
  async close(): Promise<boolean> {
    this.#closed = true
    await this.#upkeep.close()
    return this.#inOrder(async () => {
      let clean = this.#damage === null && !this.#failed
      try {
        if (clean) await this.#end()
      } catch (error) {
        clean = false
        this.#parts.logger.error('the storage could not be closed cleanly', { error })
      }
      // After a failure these refuse or fail again; the files are let go all the same.
      await this.#upkeep.end()
      await this.#letGo()
      await this.#store.close()
      return clean
    })
  }

  /**
   * The log of this replica is to be cut inside a hole, so it has stopped. First it is on record that this node may have
   * promised more than it will hold; the cut itself is part of the recovery, as that of a rotten end.
   */
  #cutInHole(replica: Replica, hole: LogHole): void {
    const cut = this.#inOrder(async () => {
      // A copy may have replaced it meanwhile. If it did not, the leader says the same again.
      if (this.#closed || this.#failed || this.#replica !== replica) return
      await this.#upkeep.cutInHole(hole)
      await this.#restart()
    })
    cut.catch((error: unknown) => this.#fail(error))
  }

  /**
   * The log of this replica waits for space in vain, so it has stopped. What is staged was promised to nobody; without
   * it there is room for what makes space, and for the own vote.
   */
  #forgetStaged(replica: Replica): void {
    this.#patience.ended()
    const begun = this.#inOrder(async () => {
      if (this.#closed || this.#failed || this.#replica !== replica) return
      await this.#restart()
    })
    begun.catch((error: unknown) => this.#fail(error))
  }

  async #restart(): Promise<void> {
    await this.#end()
    await this.#letGo()
    await this.#begin()
  }

  async #begin(): Promise<void> {
    if (this.#closed) return
    const { folder, configuration, ports, options } = this.#parts
    const { directory, identity } = folder
    const found: Generation = {
      directory,
      identity,
      generations: this.#generations,
      store: this.#store,
      records: folder.records,
      isShortOfSpace: await folder.reserve.isShort(),
      onRot: (hole) => this.#upkeep.onRot(hole),
    }
    const recovered = await recover(found, configuration, ports, limitsOf(options))
    this.#recovered = recovered
    this.#report(recovered)
    if (recovered.damage !== null) {
      this.#damage = recovered.damage
      this.#parts.logger.error('this replica must not take part', { reason: recovered.damage })
      return
    }
    if (await this.#upkeep.copiesFirst(recovered)) {
      await this.#letGo()
      return
    }
    if (!this.#closed && !this.#stopping) this.#run(recovered)
  }

  #run(recovered: Recovered): void {
    const upkeep = this.#upkeep
    const replica: Replica = new Replica({
      ...this.#parts,
      recovered,
      leftBehind: (firstIndex) => upkeep.leftBehind(firstIndex),
      unreadable: (range) => upkeep.unreadable(range),
      patience: this.#patience,
      cutInHole: (hole) => this.#cutInHole(replica, hole),
      staysFull: () => this.#forgetStaged(replica),
      shortened: () => upkeep.shortened(recovered.log.holes),
      quarantineEnded: () => upkeep.quarantineEnded(),
      failed: (error) => this.#fail(error),
    })
    this.#replica = replica
    this.#began = true
    // Otherwise it takes part in its group only.
    if (replica.isPresentable) {
      this.api.attach(replica)
      this.#parts.begins()
    }
    replica.start()
    upkeep.begin(replica, recovered)
  }

  /** The new store is opened before the old one is let go: each holds the lock of the folder. */
  async #enforce(generations: Generations): Promise<void> {
    const { folder, ports } = this.#parts
    const { directory } = folder
    const isNew = generations.state !== this.#generations.state
    const store = isNew
      ? await openState({ directory, generation: generations.state, trusted: true, reserve: folder.reserve }, ports)
      : null
    await folder.records.saveGenerations(generations)
    this.#generations = generations
    if (store) {
      await this.#store.close()
      this.#store = store
    }
    await this.#removeOld()
  }

  async #end(): Promise<void> {
    const replica = this.#replica
    if (!replica) return
    await this.#upkeep.end()
    await replica.close()
    await this.#upkeep.settled()
    this.#replica = null
    this.api.detach()
  }

  async #letGo(): Promise<void> {
    await this.#recovered?.log.close().catch(() => {})
    await this.#recovered?.hardState.close().catch(() => {})
    this.#recovered = null
  }

  /** What stays behind now is removed at the next start. */
  async #removeOld(): Promise<void> {
    const { folder, ports, logger } = this.#parts
    try {
      await removeOthers(ports, folder.directory, [this.#generations])
    } catch (error) {
      logger.warn('old directories could not be removed', { error: String(error) })
    }
  }

  #report(recovered: Recovered): void {
    const { log, boot, store } = recovered
    const { events } = this.#parts
    const { tornBytes, firstIndex, lastIndex } = log.recovery
    const { term } = boot.hardState
    events.emit('log_recovered', term, { firstIndex, lastIndex, tornBytes, damage: recovered.damage })
    const { rebuiltBecause } = store
    if (rebuiltBecause !== null) events.emit('state_rebuilt', term, { because: rebuiltBecause })
  }

  #fail(error: unknown): void {
    this.#failed = true
    this.#parts.failed(error)
  }

  #inOrder<Result>(work: () => Promise<Result>): Promise<Result> {
    const run = this.#last.then(work)
    this.#last = run.catch(() => {})
    return run
  }
}
