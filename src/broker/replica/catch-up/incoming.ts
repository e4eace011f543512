/**
 * The copy that a catch-up makes, on disk: a log and a state of generations that are not in force yet, named by the
 * record file `incoming`. Owned by `catch-up.ts`.
 *
 * The record is durable before a directory of it is made, so that a restart finds what is there and goes on behind
 * its durable end. What it does not name any more is removed and never used again.
 */
import {
  type CommitLogApi,
  type Disk,
  type KeyValueEngine,
  type LogOrigin,
  openCommitLog,
} from '../../../../store/index.ts'
import type { FirstConfiguration } from '../../../rpc/methods.ts'
import type { ReplicaLimits } from '../../options.ts'
import { type Generations, logDirectory, removeOthers } from '../generations.ts'
import type { FolderRecords } from '../identity.ts'

export interface IncomingRecord extends Generations {
  /** Where the copied log begins; null when only the state is copied. */
  readonly origin: LogOrigin | null
  /** Set when the state was copied whole. */
  readonly stateIndex: number | null
}

export interface IncomingPorts {
  readonly disk: Disk
  readonly engine: KeyValueEngine
  readonly directory: string
  readonly records: FolderRecords
  readonly configuration: FirstConfiguration
  readonly limits: ReplicaLimits
  /** In force now. */
  generations(): Generations
}

/** Copied frames are written once and read by nobody: they need no cache. */
const cacheBytes = 1024 * 1024

export class Incoming {
  readonly #ports: IncomingPorts
  #record: IncomingRecord | null = null
  #log: CommitLogApi | null = null

  constructor(ports: IncomingPorts) {
    this.#ports = ports
  }

  get record(): IncomingRecord | null {
    return this.#record
  }

  /** The copied log, null when none was begun. */
  get log(): CommitLogApi | null {
    return this.#log
  }

  /** Takes up what an earlier run left behind; null when there is nothing to go on with. */
  async resume(): Promise<IncomingRecord | null> {
    const record = await this.#ports.records.incoming()
    if (!record || !isPending(record, this.#ports.generations())) return null
    this.#record = record
    if (record.origin) this.#log = await this.#openLog(record, record.origin)
    return record
  }

  /** A new copy; with no origin of the state alone. */
  async begin(origin: LogOrigin | null): Promise<void> {
    const { generations, records } = this.#ports
    const inForce = generations()
    const last = (await records.incoming()) ?? inForce
    const log = origin ? Math.max(inForce.log, last.log) + 1 : inForce.log
    const state = Math.max(inForce.state, last.state) + 1
    // What is half removed from an earlier run must not be taken for a beginning, nor for a state that is whole.
    await records.removeIncoming()
    await this.#clean(inForce)
    const logFirstIndex = origin ? origin.index + 1 : (inForce.logFirstIndex ?? 1)
    const record: IncomingRecord = { log, state, logFirstIndex, origin, stateIndex: null }
    await records.saveIncoming(record)
    this.#record = record
    if (origin) this.#log = await this.#openLog(record, origin)
  }

  /** The state directory holds a whole image. */
  async stateCopied(stateIndex: number): Promise<void> {
    if (!this.#record) return
    const record = { ...this.#record, stateIndex }
    await this.#ports.records.saveIncoming(record)
    this.#record = record
  }

  /** Lets go of the files; the record stays on disk, so that `resume` goes on. */
  async close(): Promise<void> {
    const log = this.#log
    this.#log = null
    this.#record = null
    await log?.close()
  }

  /** Throws the copy away: first the record, because a directory that is half removed must never be gone on with. */
  async discard(): Promise<void> {
    await this.close().catch(() => {})
    await this.#ports.records.removeIncoming()
    await this.#clean(this.#ports.generations())
  }

  /** The copy is in force. */
  async installed(): Promise<void> {
    await this.#ports.records.removeIncoming()
  }

  #clean(kept: Generations): Promise<void> {
    const { disk, engine, directory } = this.#ports
    return removeOthers({ disk, engine }, directory, [kept])
  }

  #openLog(record: IncomingRecord, origin: LogOrigin): Promise<CommitLogApi> {
    const { disk, directory, configuration, limits } = this.#ports
    return openCommitLog(disk, {
      directory: logDirectory(directory, record.log),
      segmentBytes: configuration.segmentBytes,
      incarnation: configuration.incarnation,
      zeroAheadBytes: Math.min(limits.zeroAheadBytes, configuration.segmentBytes),
      flushBytesMax: limits.flushBytesMax,
      tailCacheBytes: cacheBytes,
      blockCacheBytes: cacheBytes,
      grain: limits.logGrain,
      origin,
    })
  }
}

/** False for a record that was not removed when its copy was put in force. */
export function isPending(record: IncomingRecord, inForce: Generations): boolean {
  return record.state > inForce.state && record.log >= inForce.log
}
