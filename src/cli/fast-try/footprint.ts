/**
 * What a start brings into a data folder, so that a start that fails can take exactly that away again. Used by
 * `fast-try start`; never touches what was there before.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

export interface Footprint {
  /** Only when every process that writes there has ended. */
  remove(): void
}

/** Makes the folder where it is missing, its parents too. */
export function enterFolder(directory: string): Footprint {
  const made = mkdirSync(directory, { recursive: true })
  if (made !== undefined) return { remove: () => rmSync(made, { recursive: true, force: true }) }
  const before = new Set(readdirSync(directory))
  return {
    remove: () => {
      const ours = readdirSync(directory).filter((name) => !before.has(name))
      for (const name of ours) rmSync(join(directory, name), { recursive: true, force: true })
    },
  }
}
