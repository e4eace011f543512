/**
 * Database and checkpoint file of one state store, opened and closed together. Used by `state-store.ts` and
 * `state-install.ts`.
 *
 * The database comes first: its lock guards everything else, and until it is held no other file is looked at. Rows
 * are thrown away only after the checkpoint file says so.
 */
import { invariant } from './assert.ts'
import { CheckpointFile } from './checkpoint-file.ts'
import type { StateRow } from './contract.ts'
import type { Disk } from './disk.ts'
import { StoreError, type StoreErrorCode } from './errors.ts'
import type { KeyRange, KeyValue, KeyValueEngine, KeyValueOperation, KeyValueSnapshot } from './key-value.ts'
import { firstMarker } from './marker-chain.ts'

export interface StateDirectory {
  readonly engine: KeyValueEngine
  readonly disk: Disk
  /** Holds the database (`database/`) and the checkpoint file. The same place for engine and disk: use absolute paths. */
  readonly directory: string
  /** Layout of the caller's rows, 0 to 65535. Content of another layout is thrown away and built anew. */
  readonly schema?: number
  /**
   * Called when a write finds no space: gives back what is kept for that. The write is then tried once more; a store
   * without this, or that finds none again, is done for.
   */
  makeSpace?(): Promise<void>
}

export class StateFiles {
  readonly checkpoint: CheckpointFile
  readonly schema: number
  readonly #place: StateDirectory
  #keyValue: KeyValue
  #reopening: Promise<void> | null = null

  private constructor(place: StateDirectory, keyValue: KeyValue, checkpoint: CheckpointFile) {
    this.#place = place
    this.schema = place.schema ?? 0
    this.#keyValue = keyValue
    this.checkpoint = checkpoint
  }

  /**
   * Rejects with FOLDER_IN_USE, or with STORAGE_FAILED when the disk does not let it. `problem`: why the database is a
   * new one although there was another, which could not be read.
   */
  static async open(place: StateDirectory): Promise<{ readonly files: StateFiles; readonly problem: string | null }> {
    const { disk, directory, schema = 0 } = place
    invariant(Number.isInteger(schema) && schema >= 0 && schema <= 0xffff, `schema ${schema} does not fit 16 bits`)
    await makeDirectory(disk, directory)
    const { keyValue, problem } = await openDatabase(place)
    try {
      return { files: new StateFiles(place, keyValue, await CheckpointFile.open(disk, directory)), problem }
    } catch (error) {
      await keyValue.close()
      throw error
    }
  }

  get(key: Buffer): Promise<Buffer | undefined> {
    return this.#run((keyValue) => keyValue.get(key))
  }

  range(range: KeyRange): Promise<readonly StateRow[]> {
    return this.#run((keyValue) => keyValue.range(range))
  }

  /** May happen twice, the second time on a reopened database: nothing else may be written in between. */
  write(operations: readonly KeyValueOperation[], options: { readonly sync: boolean }): Promise<void> {
    return this.#run((keyValue) => keyValue.write(operations, options))
  }

  flush(): Promise<void> {
    return this.#run((keyValue) => keyValue.flush())
  }

  snapshot(): Promise<KeyValueSnapshot> {
    return this.#run((keyValue) => keyValue.snapshot())
  }

  /**
   * Throws all rows away. Until a later `checkpoint.save` whoever opens the store starts empty: recorded before
   * anything is removed, so that a crash on the way cannot leave half of the old content.
   */
  async discard(): Promise<void> {
    const { engine, disk, directory } = this.#place
    await this.checkpoint.save({ state: 'rebuilding', marker: firstMarker(this.schema) })
    await this.#keyValue.close()
    await engine.destroy(databaseDirectory(directory))
    this.#keyValue = await engine.open(databaseDirectory(directory))
    // The database syncs what is in its directory, not the name of it.
    await disk.syncDirectory(directory)
  }

  async close(): Promise<void> {
    await this.#reopening?.catch(() => {})
    await this.#keyValue.close()
    await this.checkpoint.close()
  }

  /** All work is such that it may be done again. What fails for lack of space is, once, after space was made. */
  async #run<Result>(work: (keyValue: KeyValue) => Promise<Result>): Promise<Result> {
    if (this.#reopening) await this.#reopening
    const keyValue = this.#keyValue
    try {
      return await work(keyValue)
    } catch (error) {
      const isUnderway = this.#reopening !== null || keyValue !== this.#keyValue
      if (!isUnderway && !isCode(error, 'DISK_FULL')) throw error
      if (isUnderway && !isCode(error, 'DISK_FULL') && !isCode(error, 'CLOSED')) throw error
      if (!isUnderway) {
        this.#reopening = this.#reopen(error).finally(() => {
          this.#reopening = null
        })
      }
      await this.#reopening
      return work(this.#keyValue)
    }
  }

  /**
   * After a write without space LevelDB takes no other until it is opened anew; then it also writes what its log holds
   * into a synced table, so that no sync which failed is ever relied on.
   */
  async #reopen(cause: unknown): Promise<void> {
    const { engine, directory, makeSpace } = this.#place
    if (!makeSpace) throw new StoreError('STORAGE_FAILED', 'there is no space for the state store', { cause })
    await makeSpace()
    await this.#keyValue.close()
    try {
      this.#keyValue = await engine.open(databaseDirectory(directory))
    } catch (error) {
      throw new StoreError('STORAGE_FAILED', 'there is no space for the state store', { cause: error })
    }
  }
}

export function isRotten(error: unknown): error is StoreError {
  return isCode(error, 'ROTTEN')
}

function isCode(error: unknown, code: StoreErrorCode): error is StoreError {
  return error instanceof StoreError && error.code === code
}

async function makeDirectory(disk: Disk, directory: string): Promise<void> {
  await disk.makeDirectory(directory)
  const parentEnd = directory.lastIndexOf('/')
  if (parentEnd >= 0) await disk.syncDirectory(directory.slice(0, parentEnd) || '/')
}

async function openDatabase(
  place: StateDirectory,
): Promise<{ readonly keyValue: KeyValue; readonly problem: string | null }> {
  const { engine } = place
  const directory = databaseDirectory(place.directory)
  try {
    return { keyValue: await engine.open(directory), problem: null }
  } catch (error) {
    if (!isRotten(error)) throw error
    await engine.destroy(directory)
    return { keyValue: await engine.open(directory), problem: error.message }
  }
}

function databaseDirectory(directory: string): string {
  return `${directory}/database`
}
