/** What lies in a folder, byte for byte, so that a test can say that nothing was touched. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'

/** Path to SHA-256 of every file below `folder`, and `folder` for every folder; empty when it does not exist. */
export function folderHash(folder: string): Readonly<Record<string, string>> {
  if (!existsSync(folder)) return {}
  const found: Record<string, string> = {}
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    const path = join(folder, name)
    found[relative(folder, path)] = statSync(path).isDirectory()
      ? 'folder'
      : createHash('sha256').update(readFileSync(path)).digest('hex')
  }
  return found
}
