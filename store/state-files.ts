/**
 * Database and checkpoint file of one state store, opened and closed together. Used by `state-store.ts` and
 * `state-install.ts`.
 *
 * The database comes first: its lock guards everything else, and until it is held no other file is looked at. Rows
 * are thrown away only after the checkpoint file says so.
 */
import { invariant } from './assert.ts'
import { CheckpointFile } from './checkpoint-file.ts'
import type { Disk } from './disk.ts'
import { StoreError } from './errors.ts'
import type { KeyValue, KeyValueEngine } from './key-value.ts'
import { firstMarker } from './marker-chain.ts'

export interface StateDirectory {
  readonly engine: KeyValueEngine
  readonly disk: Disk
  /** Holds the database (`database/`) and the checkpoint file. The same place for engine and disk: use absolute paths. */
  readonly directory: string
  /** Layout of the caller's rows, 0 to 65535. Content of another layout is thrown away and built anew. */
  readonly schema?: number
}

export class StateFiles {
  readonly checkpoint: CheckpointFile
  readonly schema: number
  readonly #place: StateDirectory
  #keyValue: KeyValue

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

  get keyValue(): KeyValue {
    return this.#keyValue
  }

  /**
   * Throws all rows away. Until a later `checkpoint.save` whoever opens the store starts empty: recorded before
   * anything is removed, so that a crash on the way cannot leave half of the old content.
   */
  async discard(): Promise<void> {
    const { engine, directory } = this.#place
    await this.checkpoint.save({ state: 'rebuilding', marker: firstMarker(this.schema) })
    await this.#keyValue.close()
    await engine.destroy(databaseDirectory(directory))
    this.#keyValue = await engine.open(databaseDirectory(directory))
  }

  async close(): Promise<void> {
    await this.#keyValue.close()
    await this.checkpoint.close()
  }
}

export function isRotten(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === 'ROTTEN'
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
