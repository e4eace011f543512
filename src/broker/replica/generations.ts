/**
 * Which directories of a data folder are in force, and the removal of all others.
 *
 * A copy of log or state is made beside the old one, in a directory of a higher generation, and put in force by one
 * record; only then is the old one removed. Called at start by `folder.ts` and by the catch-up. Nothing in here may
 * remove a directory that a record names.
 */
import { type Disk, diskErrorCode, type KeyValueEngine } from '../../../store/index.ts'

/** Generation 0 is what a folder begins with. */
export interface Generations {
  readonly log: number
  readonly state: number
  /** Where the log began when it was put in force; absent for entry 1. Trims may have moved it since. */
  readonly logFirstIndex?: number
}

/** Where a log ends. */
export interface LogEnd {
  readonly lastIndex: number
  readonly lastTerm: number
}

export const firstGenerations: Generations = { log: 0, state: 0 }

export function logDirectory(folder: string, generation: number): string {
  return directoryOf(folder, 'log', generation)
}

export function stateDirectory(folder: string, generation: number): string {
  return directoryOf(folder, 'state', generation)
}

function directoryOf(folder: string, name: 'log' | 'state', generation: number): string {
  return generation === 0 ? `${folder}/${name}` : `${folder}/${name}.${generation}`
}

/**
 * Removes every log and state directory that none of `kept` names. Stopped half-way it goes on at the next call; a
 * directory that is half gone is never named again, because generations only grow.
 */
export async function removeOthers(
  ports: { readonly disk: Disk; readonly engine: KeyValueEngine },
  folder: string,
  kept: readonly Generations[],
): Promise<void> {
  const names = new Set(kept.flatMap(({ log, state }) => [logDirectory(folder, log), stateDirectory(folder, state)]))
  let removed = false
  for (const name of await ports.disk.list(folder)) {
    const path = `${folder}/${name}`
    const [, kind] = /^(log|state)(?:\.[1-9]\d*)?$/.exec(name) ?? []
    if (kind === undefined || names.has(path)) continue
    if (kind === 'state') await removeDatabase(ports, `${path}/database`)
    await removeDirectory(ports.disk, path)
    removed = true
  }
  if (removed) await ports.disk.syncDirectory(folder)
}

async function removeDatabase({ disk, engine }: Parameters<typeof removeOthers>[0], path: string): Promise<void> {
  await engine.destroy(path)
  // Some engines leave the empty directory, some have none.
  await disk.removeDirectory(path).catch(ignoreMissing)
}

async function removeDirectory(disk: Disk, path: string): Promise<void> {
  for (const name of await disk.list(path)) await disk.unlink(`${path}/${name}`)
  await disk.removeDirectory(path).catch(ignoreMissing)
}

function ignoreMissing(error: unknown): void {
  if (diskErrorCode(error) !== 'ENOENT') throw error
}
