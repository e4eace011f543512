/**
 * The key-value port in memory, with the crash model of LevelDB. Used by the simulator and by tests, never by a broker.
 *
 * The engine is the "disk": databases stay in it when they are closed or their process dies. A crash of the process
 * loses nothing; a power loss keeps any subset of the batches that were not synced, holes included, because LevelDB
 * skips damaged blocks of its log. A batch is kept or lost as a whole.
 */
import { StoreError } from './errors.ts'
import type { KeyRange, KeyValue, KeyValueEngine, KeyValueOperation } from './key-value.ts'
import { SortedRows } from './sorted-rows.ts'

/** Un-synced batches beyond this count as durable, as when LevelDB writes its memory table into a file. */
const unsyncedBatchesMax = 4096

interface LoggedBatch {
  readonly operations: readonly KeyValueOperation[]
  synced: boolean
}

/** What lies on the imagined disk. `rows` is what a running process sees, `durable` + `log` what a crash leaves. */
interface Database {
  rows: SortedRows
  durable: SortedRows
  log: LoggedBatch[]
  openedBy: MemoryKeyValue | null
}

export interface MemoryKeyValueOptions {
  /** Awaited before each call is answered: the simulator's latency. */
  readonly schedule?: () => Promise<void>
}

export class MemoryKeyValueEngine implements KeyValueEngine {
  readonly #databases = new Map<string, Database>()
  readonly #schedule: (() => Promise<void>) | undefined

  constructor(options: MemoryKeyValueOptions = {}) {
    this.#schedule = options.schedule
  }

  async open(directory: string): Promise<KeyValue> {
    await this.#schedule?.()
    const database = this.#databases.get(directory) ?? createDatabase()
    if (database.openedBy) throw inUse(directory)
    this.#databases.set(directory, database)
    database.openedBy = new MemoryKeyValue(database, this.#schedule)
    return database.openedBy
  }

  async destroy(directory: string): Promise<void> {
    await this.#schedule?.()
    if (this.#databases.get(directory)?.openedBy) throw inUse(directory)
    this.#databases.delete(directory)
  }

  /** The process dies: handles stop working, locks are gone, everything written stays. */
  crashProcess(): void {
    for (const database of this.#databases.values()) database.openedBy = null
  }

  /**
   * Power loss: as `crashProcess`, and any subset of the batches that were not synced is lost.
   * `random` is uniform in [0, 1); the same numbers give the same loss.
   */
  crash(random: () => number): void {
    this.crashProcess()
    for (const database of this.#databases.values()) {
      const keep = chooseSurvivors(database.log, random)
      for (const batch of keep) apply(database.durable, batch.operations)
      database.rows = database.durable.clone()
      database.log = []
    }
  }
}

class MemoryKeyValue implements KeyValue {
  readonly #database: Database
  readonly #schedule: (() => Promise<void>) | undefined

  constructor(database: Database, schedule: (() => Promise<void>) | undefined) {
    this.#database = database
    this.#schedule = schedule
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    this.#assertOpen()
    const value = this.#database.rows.get(key)
    await this.#wait()
    return value
  }

  async range(range: KeyRange): Promise<readonly (readonly [key: Buffer, value: Buffer])[]> {
    this.#assertOpen()
    const rows = this.#database.rows.range(range)
    await this.#wait()
    return rows
  }

  async write(operations: readonly KeyValueOperation[], options: { readonly sync: boolean }): Promise<void> {
    this.#assertOpen()
    const batch: LoggedBatch = { operations: operations.map(copyOperation), synced: false }
    apply(this.#database.rows, batch.operations)
    this.#database.log.push(batch)
    this.#writeMemoryTable()
    await this.#wait()
    // Only now: a crash while the sync runs may lose the batch.
    if (options.sync) batch.synced = true
  }

  async flush(): Promise<void> {
    this.#assertOpen()
    const written = this.#database.log.length
    await this.#wait()
    for (const batch of this.#database.log.splice(0, written)) apply(this.#database.durable, batch.operations)
  }

  async close(): Promise<void> {
    if (this.#database.openedBy !== this) return
    await this.#wait()
    this.#database.openedBy = null
  }

  /** Latency, after which the process may be dead. */
  async #wait(): Promise<void> {
    if (!this.#schedule) return
    await this.#schedule()
    this.#assertOpen()
  }

  #writeMemoryTable(): void {
    if (this.#database.log.length <= unsyncedBatchesMax) return
    const oldest = this.#database.log.splice(0, unsyncedBatchesMax / 2)
    for (const batch of oldest) apply(this.#database.durable, batch.operations)
  }

  #assertOpen(): void {
    if (this.#database.openedBy !== this) throw new StoreError('CLOSED', 'the state database is closed')
  }
}

function createDatabase(): Database {
  return { rows: new SortedRows(), durable: new SortedRows(), log: [], openedBy: null }
}

function inUse(directory: string): StoreError {
  return new StoreError('FOLDER_IN_USE', `cannot open the state database in ${directory}: it is open already`, {
    details: { directory },
  })
}

/** Half of the crashes lose a tail only, as most real ones do; the others lose holes of any density. */
function chooseSurvivors(log: readonly LoggedBatch[], random: () => number): readonly LoggedBatch[] {
  const tailOnly = random() < 0.5
  const share = random()
  const cut = Math.floor(share * (log.length + 1))
  return log.filter((batch, at) => batch.synced || (tailOnly ? at < cut : random() < share))
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
