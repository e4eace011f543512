/**
 * The small records of a data folder: whose it is, the group's first configuration, and how it was last left.
 *
 * Read by `folder.ts` at start. A voter is node id and disk id together: a wiped folder gets a new disk id and so
 * can never vote in the name of the disk that promised something (KIP-853).
 */
import {
  type Disk,
  diskErrorCode,
  isForLackOfSpace,
  type JsonValue,
  readRecordFile,
  writeRecordFile,
} from '../../../store/index.ts'
import { LedgerError } from '../../common/errors.ts'
import type { FirstConfiguration, LogRange } from '../../rpc/methods.ts'
import type { IncomingRecord } from './catch-up/incoming.ts'
import { firstGenerations, type Generations } from './generations.ts'

export interface Identity {
  readonly cluster: string
  readonly group: string
  readonly node: string
  /** Random, made with the folder. */
  readonly disk: string
}

/** Left behind at every start (`clean` false) and at a clean stop (true). */
export interface StartMarker {
  readonly bootId: string | null
  readonly clean: boolean
}

/** Durable before anything is cut; gone when the core says that the quarantine has ended, unless something is lost. */
export interface QuarantineRecord {
  /** False: all that could be made good is, only `lost` is left to remember. */
  readonly pending: boolean
  /** The log was cut, perhaps below what this node had acknowledged. */
  readonly untilLeaderReached: boolean
  /** What was found, for people. */
  readonly reason: string
  /** Rotten on every member: nobody can ever read these entries, and nothing is gained by waiting for them. */
  readonly lost: readonly LogRange[]
  /**
   * A leader gave up the log from inside damage that begins here, or from right behind it: the first damage that ends
   * here or later is cut at the next start, with all behind it. Gone once that is durable.
   */
  readonly cutFrom?: number
  /** Positions in the log where entries are put back: until the end of the quarantine none of them is surely on disk. */
  readonly mending?: readonly Mending[]
}

export interface Mending {
  readonly position: number
  readonly end: number
}

export class FolderRecords {
  readonly #disk: Disk
  readonly #directory: string
  readonly #makeSpace: (() => Promise<void>) | null

  /** `makeSpace` gives back what is kept for a full disk. */
  constructor(disk: Disk, directory: string, makeSpace: (() => Promise<void>) | null = null) {
    this.#disk = disk
    this.#directory = directory
    this.#makeSpace = makeSpace
  }

  identity(): Promise<Identity | null> {
    return this.#read<Identity>('identity')
  }

  saveIdentity(identity: Identity): Promise<void> {
    return this.#write('identity', identity)
  }

  configuration(): Promise<FirstConfiguration | null> {
    return this.#read<FirstConfiguration>('configuration')
  }

  saveConfiguration(configuration: FirstConfiguration): Promise<void> {
    return this.#write('configuration', configuration)
  }

  startMarker(): Promise<StartMarker | null> {
    return this.#read<StartMarker>('start-marker')
  }

  saveStartMarker(marker: StartMarker): Promise<void> {
    return this.#write('start-marker', marker)
  }

  async generations(): Promise<Generations> {
    return (await this.#read<Generations>('generation')) ?? firstGenerations
  }

  /** The replica has ended for it: what cannot be put in force now ends the process. */
  saveGenerations(generations: Generations): Promise<void> {
    return this.#writeOnReserve('generation', generations)
  }

  /** The copy under way, null when there is none. */
  incoming(): Promise<IncomingRecord | null> {
    return this.#read<IncomingRecord>('incoming')
  }

  saveIncoming(record: IncomingRecord): Promise<void> {
    return this.#write('incoming', record)
  }

  removeIncoming(): Promise<void> {
    return this.#remove('incoming')
  }

  /** What this node must make good before it may vote again, null when nothing. */
  quarantine(): Promise<QuarantineRecord | null> {
    return this.#read<QuarantineRecord>('quarantine')
  }

  /** Rot is found whenever it is found, also when the disk is full and nobody has noticed yet. */
  saveQuarantine(record: QuarantineRecord): Promise<void> {
    return this.#writeOnReserve('quarantine', record)
  }

  removeQuarantine(): Promise<void> {
    return this.#remove('quarantine')
  }

  async #remove(name: string): Promise<void> {
    try {
      await this.#disk.unlink(this.#path(name))
    } catch (error) {
      if (diskErrorCode(error) !== 'ENOENT') throw error
    }
    await this.#disk.syncDirectory(this.#directory)
  }

  async #read<Value>(name: string): Promise<Value | null> {
    // The record's checksum vouches for the bytes, the writers above for their shape.
    return (await readRecordFile(this.#disk, this.#path(name))) as Value | null
  }

  /** What finds no space is written once more, as a whole, when the reserve was given back. */
  async #writeOnReserve(name: string, value: object): Promise<void> {
    try {
      await this.#write(name, value)
    } catch (error) {
      if (this.#makeSpace === null || !isForLackOfSpace(error)) throw error
      await this.#makeSpace()
      await this.#write(name, value)
    }
  }

  #write(name: string, value: object): Promise<void> {
    return writeRecordFile(this.#disk, this.#path(name), toJson(value))
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`
  }
}

/** Interfaces have no index signature, so their fields are laid out as plain JSON. */
function toJson(value: object): JsonValue {
  return Object.fromEntries(Object.entries(value)) as JsonValue
}

/** Throws FOREIGN_FOLDER when the folder is not this node's. */
export function checkIdentity(
  found: Identity,
  own: { readonly cluster: string; readonly group: string; readonly node: string },
  directory: string,
): void {
  for (const key of ['cluster', 'group', 'node'] as const) {
    if (found[key] === own[key]) continue
    throw new LedgerError('FOREIGN_FOLDER', `${directory} belongs to ${key} ${found[key]}, not to ${own[key]}`)
  }
}

/** A random identifier in the usual 8-4-4-4-12 form. */
export function uuid(random: { bytes(length: number): Buffer }): string {
  const hex = random.bytes(16).toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
