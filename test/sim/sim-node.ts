/**
 * One machine with a broker: its disk and state database outlive its processes. Starts the production broker on
 * simulated ports, and ends it in all the ways in which processes and machines end.
 */

import { metaKey } from '../../src/broker/apply/keys.ts'
import { decodeMeta } from '../../src/broker/apply/meta.ts'
import { type Broker, startBroker } from '../../src/broker/broker.ts'
import type { BrokerOptions } from '../../src/broker/options.ts'
import {
  firstGenerations,
  type Generations,
  logDirectory,
  stateDirectory,
} from '../../src/broker/replica/generations.ts'
import type { QuarantineRecord } from '../../src/broker/replica/identity.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { loseAllUnsynced, MemoryDisk, MemoryKeyValueEngine } from '../../store/index.ts'
import { type DiskOperation, randomCrash } from '../../store/memory-disk.ts'
import { loseAllUnsyncedBatches, randomBatchCrash } from '../../store/memory-key-value.ts'
import type { DiskOptions } from './configuration.ts'
import type { Digest } from './digest.ts'
import type { Machine } from './electorate.ts'
import type { SimRandom } from './random.ts'
import type { Scheduler } from './scheduler.ts'
import type { SimNetwork } from './sim-network.ts'
import { SimProcess } from './sim-process.ts'

export interface NodePorts {
  readonly scheduler: Scheduler
  readonly network: SimNetwork
  readonly random: SimRandom
  readonly digest: Digest
  readonly disk: DiskOptions
  /** The broker is up and, once it is a member, runs its replica. Called before the replica does anything. */
  started(node: SimNode, broker: Broker): void
  /** A process is about to begin on what the disk holds. */
  starting(node: SimNode): void
  /** `fatal` was called, or something was thrown to the top of the process. */
  failed(node: SimNode, error: unknown): void
}

/** Waits for operations that change what a power cut would leave. */
const changing: ReadonlySet<DiskOperation> = new Set([
  'write',
  'sync',
  'syncDirectory',
  'rename',
  'truncate',
  'unlink',
  'removeDirectory',
])

export class SimNode {
  readonly name: string
  disk: MemoryDisk
  broker: Broker | null = null
  /** Multiplies the latency of the disk. */
  slowness = 1
  wallOffsetMs: number
  starts = 0
  /** Its disk has failed or has no space: its processes may give up, and are started again. */
  sick = false
  /** Something keeps it down on purpose. */
  down = false
  /** It was a member of the group once. */
  joined = false
  /** It has to be brought into the group: it came later, or lost its disk. */
  mayBeOutside: boolean
  /** Nothing will ever mend it. */
  brokenForEver = false
  #engine: MemoryKeyValueEngine
  #process: SimProcess | null = null
  #bootId = 1
  #full = false
  #failsRepair = false
  readonly #records = new Map<string, { readonly bytes: Buffer; readonly value: unknown }>()
  /** All that ever ran here: see `remembered` in simulation.ts. */
  readonly #brokers: Broker[] = []
  #trap: { left: number; spring: () => void } | null = null
  readonly #ports: NodePorts
  readonly #options: BrokerOptions
  readonly #random: SimRandom
  /** Streams of their own, so that one more or less of one kind does not shift the others. */
  readonly #crashes: SimRandom
  readonly #latency: SimRandom

  constructor(options: BrokerOptions, ports: NodePorts) {
    this.name = options.node
    this.#options = options
    this.#ports = ports
    this.#random = ports.random.fork(`node.${options.node}`)
    this.#crashes = this.#random.fork('crashes')
    this.#latency = this.#random.fork('disk')
    this.wallOffsetMs = this.#random.between(-2000, 2000)
    this.mayBeOutside = options.join !== undefined
    this.disk = this.#newDisk()
    this.#engine = this.#newEngine()
  }

  get running(): boolean {
    return this.#process !== null
  }

  get process(): SimProcess | null {
    return this.#process
  }

  get paused(): boolean {
    return this.#process?.paused ?? false
  }

  /** Of the log that is in force, as a power cut would leave it: a copy takes the place of the first one. */
  get logDirectory(): string {
    return logDirectory(this.#options.directory, this.#generations.log)
  }

  /** Index of the state that is in force, as a power cut would leave it. */
  get storedIndex(): number {
    const directory = stateDirectory(this.#options.directory, this.#generations.state)
    const row = this.#engine.durableRow(`${directory}/database`, metaKey)
    return row ? decodeMeta(row).appliedIndex : 0
  }

  get #generations(): Generations {
    return this.#record<Generations>('generation') ?? firstGenerations
  }

  /** Which disk this is; empty before anything was put on it. */
  get diskId(): string {
    return this.#record<{ readonly disk: string }>('identity')?.disk ?? ''
  }

  /** What its disk says that it must make good before it may vote. */
  get quarantine(): QuarantineRecord | null {
    return this.#record<QuarantineRecord>('quarantine')
  }

  /** Nobody has started it yet. */
  get dormant(): boolean {
    return this.starts === 0
  }

  async start(): Promise<void> {
    if (this.#process) return
    this.starts++
    this.#ports.starting(this)
    const { scheduler, network } = this.#ports
    const lateness = this.#latency.fork(`late.${this.starts}`)
    const wake = this.#latency.fork(`wake.${this.starts}`)
    const process = new SimProcess(this.name, {
      scheduler,
      wallMs: () => Math.floor(1_700_000_000_000 + scheduler.nowMs + this.wallOffsetMs),
      latenessMs: () => lateness.next() * 0.5,
      wakeOrder: () => wake.next(),
      crashed: (error) => this.#ports.failed(this, error),
    })
    this.#process = process
    try {
      const broker = await startBroker(this.#options, {
        clock: process,
        random: this.#latency.fork(`process.${this.starts}`),
        transport: network.endpoint(process),
        disk: this.disk,
        engine: this.#engine,
        logger: silentLogger,
        bootId: async () => `boot-${this.#bootId}`,
        fatal: (error) => this.#ports.failed(this, error),
      })
      if (this.#process !== process) return
      this.broker = broker
      this.#brokers.push(broker)
      void broker.joined.then(() => {
        if (this.#process !== process) return
        this.joined ||= broker.replica !== null
        this.#ports.started(this, broker)
      })
    } catch (error) {
      if (this.#process === process) this.#ports.failed(this, error)
    }
  }

  /** SIGKILL: the machine with its page cache lives on. */
  kill(): void {
    if (!this.#end(false)) return
    this.disk = this.disk.kill()
    this.#engine = this.#engine.kill()
    // The next process meets a disk that works again, unless it is full.
    this.sick = this.#full
  }

  /** Power cut. `all`: everything un-synced is lost; else chance decides about every page and batch. */
  crash(all: boolean): void {
    this.#end(true)
    const random = (): number => this.#crashes.next()
    this.disk = this.disk.crash(all ? loseAllUnsynced : randomCrash(random))
    this.#engine = this.#engine.crash(all ? loseAllUnsyncedBatches : randomBatchCrash(random))
    this.#bootId++
    this.sick = this.#full
  }

  /** SIGTERM; resolves when the process has ended by itself or was ended. */
  async stop(): Promise<void> {
    const [process, broker] = [this.#process, this.broker]
    if (!process || !broker) return
    try {
      await broker.close()
      if (this.#process === process) this.kill()
    } catch (error) {
      if (this.#process === process) this.#ports.failed(this, error)
    }
  }

  pause(): void {
    this.#process?.pause()
  }

  resume(): void {
    this.#process?.resume()
  }

  /** The kernel drops what the next sync should have written, and says so once. */
  failNextSync(): void {
    this.sick = true
    this.disk.fail('sync', { code: 'EIO' })
  }

  /** As `failNextSync`, of the next file that is opened to put entries back. */
  failNextRepair(): void {
    this.#failsRepair = true
  }

  /** No file grows any more; what has its space can be written. */
  setFull(full: boolean): void {
    this.#full = full
    this.sick ||= full
    this.disk.capacityBytes = full ? 0 : Number.POSITIVE_INFINITY
  }

  mendDisk(): void {
    this.setFull(false)
    this.#failsRepair = false
    this.disk.heal()
  }

  /** Springs before the given number of changing disk operations has finished. */
  setTrap(operations: number, spring: () => void): void {
    this.#trap = { left: operations, spring }
  }

  clearTrap(): void {
    this.#trap = null
  }

  /** The machine comes back with an empty disk. Returns the one that is lost, as it was. */
  wipe(): Machine {
    const { name, logDirectory, diskId } = this
    this.#end(true)
    const lost = { name, logDirectory, diskId, disk: this.disk.crash(loseAllUnsynced) }
    this.#engine.kill()
    this.disk = this.#newDisk()
    this.#engine = this.#newEngine()
    this.#bootId++
    this.#full = false
    this.#failsRepair = false
    this.sick = false
    this.mayBeOutside = true
    return lost
  }

  #newDisk(): MemoryDisk {
    const schedule = (operation: DiskOperation, path: string): Promise<void> => {
      if (this.#failsRepair && operation === 'open') this.#onOpen(path)
      return this.#onDisk(operation)
    }
    return new MemoryDisk({ schedule, lyingSync: this.#ports.disk.lyingSync })
  }

  /** While it runs, a file of the log is opened to repair a hole, or to grow. */
  #onOpen(path: string): void {
    if (!path.startsWith(`${this.logDirectory}/`) || !this.broker?.replica?.log.holes.length) return
    this.#failsRepair = false
    this.sick = true
    this.disk.fail('sync', { code: 'EIO', path })
  }

  #newEngine(): MemoryKeyValueEngine {
    return new MemoryKeyValueEngine({ schedule: () => this.#onState() })
  }

  /** What a power cut would leave of a small record of the folder. */
  #record<Value>(name: string): Value | null {
    const bytes = this.disk.durableRangeOf(`${this.#options.directory}/${name}`, 0, recordBytesMax)
    if (bytes.length === 0) return null
    const known = this.#records.get(name)
    if (known && bytes.equals(known.bytes)) return known.value as Value
    const value: unknown = JSON.parse(bytes.toString('utf8', recordHeaderBytes))
    this.#records.set(name, { bytes, value })
    return value as Value
  }

  #end(silent: boolean): boolean {
    const process = this.#process
    this.#trap = null
    this.#process = null
    this.broker = null
    if (!process) return false
    process.kill()
    this.#ports.network.kill(process, silent)
    return true
  }

  #onDisk(operation: DiskOperation): Promise<void> {
    this.#ports.digest.addText(operation)
    const { syncMeanMs, writeMeanMs, lateShare } = this.#ports.disk
    if (!changing.has(operation)) return settled
    const isSync = operation === 'sync' || operation === 'syncDirectory'
    const latencyMs = isSync
      ? this.#latency.around(syncMeanMs)
      : this.#latency.chance(lateShare)
        ? this.#latency.around(writeMeanMs)
        : 0
    this.#springTrap(latencyMs * this.slowness)
    return this.#wait(latencyMs * this.slowness)
  }

  #onState(): Promise<void> {
    const { writeMeanMs, lateShare } = this.#ports.disk
    return this.#wait(this.#latency.chance(lateShare) ? this.#latency.around(writeMeanMs) * this.slowness : 0)
  }

  #wait(latencyMs: number): Promise<void> {
    const process = this.#process
    if (latencyMs <= 0 || !process) return settled
    return new Promise((resolve) => {
      this.#ports.scheduler.after(latencyMs, () => process.run(resolve))
    })
  }

  #springTrap(withinMs: number): void {
    const trap = this.#trap
    if (!trap || --trap.left > 0) return
    this.#trap = null
    this.#ports.scheduler.after(withinMs * this.#crashes.next() * 1.2, trap.spring)
  }
}

const settled: Promise<void> = Promise.resolve()
const recordBytesMax = 4096
/** Of a record file (`store/folder.ts`). */
const recordHeaderBytes = 16
