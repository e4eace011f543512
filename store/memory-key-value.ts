/**
 * The key-value port in memory, with the crash model of LevelDB: for tests and for the simulator. Passes the same
 * conformance suite as `level-key-value.ts`.
 *
 * Crash model: of the batches that were not made durable any subset is lost, holes included, because LevelDB skips
 * damaged blocks of its log; a batch is kept or lost as a whole. As with `MemoryDisk`, `crash` and `kill` end this
 * engine: what its process still waits for never settles, and the successor goes on with the engine they return.
 */
import { StoreError } from './errors.ts'
import type { KeyRange, KeyValue, KeyValueEngine, KeyValueOperation, KeyValueSnapshot } from './key-value.ts'
import { SortedRows } from './sorted-rows.ts'

/** Un-synced batches beyond this count as durable, as when LevelDB writes its memory table into a file. */
const unsyncedBatchesMax = 4096
/** LevelDB begins a new log and a new manifest with every open. */
const openBytes = 4096

/** Whether the un-synced batch `at` (0 is the oldest) of `count` survives a power cut. Every answer is legal. */
export type BatchCrashChoice = (at: number, count: number) => boolean

/** A power cut that loses everything that was not synced. */
export const loseAllUnsyncedBatches: BatchCrashChoice = () => false

/** A power cut that decides by chance: often a lost tail, else holes. `random` is uniform in [0, 1). */
export function randomBatchCrash(random: () => number): BatchCrashChoice {
  const tailOnly = random() < 0.5
  const share = random()
  return (at, count) => (tailOnly ? at < Math.floor(share * (count + 1)) : random() < share)
}

interface LoggedBatch {
  readonly operations: readonly KeyValueOperation[]
  synced: boolean
}

/** What lies on the imagined disk. `rows` is what a running process sees, `durable` + `log` what a crash leaves. */
interface Database {
  readonly rows: SortedRows
  readonly durable: SortedRows
  readonly log: LoggedBatch[]
  openedBy: MemoryKeyValue | null
}

export interface MemoryKeyValueOptions {
  /** Waited for before a call takes effect, in `flush` and synced writes also before it is durable: virtual latency. */
  readonly schedule?: () => Promise<void>
  /** Synced writes fulfil and are not durable, only `flush` is: the negative control of whoever checks for gaps. */
  readonly lyingSync?: boolean
  /** Space that writes find; one that finds too little fails, as LevelDB's do. Nothing is taken from it. */
  readonly spaceLeft?: () => number
}

export class MemoryKeyValueEngine implements KeyValueEngine {
  schedule: MemoryKeyValueOptions['schedule']
  lyingSync: boolean
  spaceLeft: () => number
  readonly #databases = new Map<string, Database>()
  #dead = false

  constructor(options: MemoryKeyValueOptions = {}) {
    this.schedule = options.schedule
    this.lyingSync = options.lyingSync ?? false
    this.spaceLeft = options.spaceLeft ?? (() => Number.POSITIVE_INFINITY)
  }

  async open(directory: string): Promise<KeyValue> {
    await this.begin()
    const database = this.#databases.get(directory) ?? createDatabase(new SortedRows())
    if (this.spaceLeft() < openBytes) throw new StoreError('DISK_FULL', `no space to open ${directory}`)
    if (database.openedBy) throw inUse(directory)
    this.#databases.set(directory, database)
    database.openedBy = new MemoryKeyValue(this, database)
    return database.openedBy
  }

  async destroy(directory: string): Promise<void> {
    await this.begin()
    if (this.#databases.get(directory)?.openedBy) throw inUse(directory)
    this.#databases.delete(directory)
  }

  /** Power cut: returns what is left. */
  crash(choice: BatchCrashChoice): MemoryKeyValueEngine {
    this.#dead = true
    const left = this.#successor()
    for (const [directory, { durable, log }] of this.#databases) {
      const rows = durable.clone()
      let at = 0
      const unsynced = log.filter((batch) => !batch.synced).length
      for (const batch of log) if (batch.synced || choice(at++, unsynced)) apply(rows, batch.operations)
      left.#databases.set(directory, createDatabase(rows))
    }
    return left
  }

  /** The process dies, the machine lives: returns everything, synced or not. */
  kill(): MemoryKeyValueEngine {
    this.#dead = true
    return this.clone()
  }

  /** The row as a power cut would leave it that loses everything that was not synced. For tests. */
  durableRow(directory: string, key: Buffer): Buffer | undefined {
    const database = this.#databases.get(directory)
    if (!database) return undefined
    for (const { synced, operations } of database.log.toReversed()) {
      const last = synced ? operations.findLast((operation) => operation.key.equals(key)) : undefined
      if (last) return last.kind === 'put' ? last.value : undefined
    }
    return database.durable.get(key)
  }

  /** An independent copy of everything, synced or not, open nowhere. This engine lives on. */
  clone(): MemoryKeyValueEngine {
    const copy = this.#successor()
    for (const [directory, { rows, durable, log }] of this.#databases) {
      copy.#databases.set(directory, {
        rows: rows.clone(),
        durable: durable.clone(),
        log: log.map((batch) => ({ ...batch })),
        openedBy: null,
      })
    }
    return copy
  }

  /** Waits for the schedule; never comes back into a dead process. Not for callers of the port. */
  async begin(): Promise<void> {
    if (this.schedule !== undefined) await this.schedule()
    if (this.#dead) await neverSettles
  }

  #successor(): MemoryKeyValueEngine {
    const { schedule, lyingSync, spaceLeft } = this
    const options = { lyingSync, spaceLeft }
    return new MemoryKeyValueEngine(schedule === undefined ? options : { ...options, schedule })
  }
}

const neverSettles: Promise<void> = new Promise(() => {})

class MemoryKeyValue implements KeyValue {
  readonly #engine: MemoryKeyValueEngine
  readonly #database: Database
  /** A write found no space: until it is opened again, no other is taken. */
  #isFull = false

  constructor(engine: MemoryKeyValueEngine, database: Database) {
    this.#engine = engine
    this.#database = database
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    await this.#begin()
    return this.#database.rows.get(key)
  }

  async range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]> {
    await this.#begin()
    return this.#database.rows.range(range)
  }

  async write(operations: readonly KeyValueOperation[], options: { readonly sync: boolean }): Promise<void> {
    const batch: LoggedBatch = { operations: operations.map(copyOperation), synced: false }
    await this.#begin()
    if (this.#isFull || this.#engine.spaceLeft() < bytesOf(operations)) {
      this.#isFull = true
      throw new StoreError('DISK_FULL', 'no space left for the state database')
    }
    apply(this.#database.rows, batch.operations)
    this.#database.log.push(batch)
    this.#writeMemoryTable()
    if (!options.sync) return
    // Only after a second wait: a crash while the sync runs may lose the batch.
    await this.#engine.begin()
    batch.synced = !this.#engine.lyingSync
  }

  async snapshot(): Promise<KeyValueSnapshot> {
    await this.#begin()
    const rows = this.#database.rows.clone()
    let isClosed = false
    return {
      range: async (range) => {
        await this.#begin()
        if (isClosed) throw new StoreError('CLOSED', 'the snapshot is closed')
        return rows.range(range)
      },
      close: async () => {
        isClosed = true
      },
    }
  }

  async flush(): Promise<void> {
    await this.#begin()
    if (this.#isFull) throw new StoreError('DISK_FULL', 'no space left for the state database')
    const written = this.#database.log.length
    await this.#engine.begin()
    for (const batch of this.#database.log.splice(0, written)) apply(this.#database.durable, batch.operations)
  }

  async close(): Promise<void> {
    if (this.#database.openedBy !== this) return
    await this.#engine.begin()
    if (this.#database.openedBy === this) this.#database.openedBy = null
  }

  async #begin(): Promise<void> {
    await this.#engine.begin()
    if (this.#database.openedBy !== this) throw new StoreError('CLOSED', 'the state database is closed')
  }

  #writeMemoryTable(): void {
    const { log, durable } = this.#database
    if (log.length <= unsyncedBatchesMax) return
    for (const batch of log.splice(0, unsyncedBatchesMax / 2)) apply(durable, batch.operations)
  }
}

function createDatabase(rows: SortedRows): Database {
  return { rows, durable: rows.clone(), log: [], openedBy: null }
}

function inUse(directory: string): StoreError {
  return new StoreError('FOLDER_IN_USE', `cannot open the state database in ${directory}: it is open already`, {
    details: { directory },
  })
}

function bytesOf(operations: readonly KeyValueOperation[]): number {
  return operations.reduce((sum, { key, ...rest }) => sum + key.length + ('value' in rest ? rest.value.length : 0), 0)
}

function apply(rows: SortedRows, operations: readonly KeyValueOperation[]): void {
  for (const operation of operations) {
    if (operation.kind === 'put') rows.put(operation.key, operation.value)
    else rows.delete(operation.key)
  }
}

function copyOperation(operation: KeyValueOperation): KeyValueOperation {
  const key = Buffer.from(operation.key)
  return operation.kind === 'put' ? { kind: 'put', key, value: Buffer.from(operation.value) } : { kind: 'delete', key }
}
