/** Plants one bug in a copy of the compiled tree and lets the simulator look for it. Used by mutants-main and tests. */
import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Edit, Mutant } from './mutants.ts'

export interface MutantResult {
  readonly name: string
  readonly caught: boolean
  /** Seeds that were run, the one that caught it included. */
  readonly seeds: number
  /** What was broken when it was caught. */
  readonly how: string
}

/** A copy of `dist` that can run. Remove it when done. */
export async function copyTree(root: string): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'ledgermq-mutants-'))
  for (const part of ['dist', 'proto', 'package.json'])
    await cp(join(root, part), join(copy, part), { recursive: true })
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  return copy
}

export async function removeTree(copy: string): Promise<void> {
  await rm(copy, { recursive: true, force: true })
}

/** Throws when the place of the bug is not found exactly once. The copy is whole again afterwards. */
export async function tryMutant(copy: string, mutant: Mutant, seedsMax: number): Promise<MutantResult> {
  const whole: (readonly [path: string, text: string])[] = []
  try {
    for (const edit of [mutant, ...(mutant.also ?? [])]) whole.push(await plant(copy, mutant.name, edit))
    const output = await runSimulator(copy, seedsMax, mutant.under)
    const total = JSON.parse(output.trim().split('\n').at(-1) ?? '{}') as { seeds?: number; failed?: number }
    const how = /^FAIL seed \S+: (.*)$/m.exec(output)?.[1] ?? ''
    return { name: mutant.name, caught: (total.failed ?? 0) > 0, seeds: total.seeds ?? 0, how }
  } finally {
    for (const [path, text] of whole.reverse()) await writeFile(path, text)
  }
}

/** Resolves to what was there. */
async function plant(
  copy: string,
  name: string,
  { file, find, replace }: Edit,
): Promise<readonly [path: string, text: string]> {
  const path = join(copy, 'dist', file)
  const text = await readFile(path, 'utf8')
  const found = text.split(find).length - 1
  if (found !== 1) throw new Error(`"${name}": its place is found ${found} times in ${file}: ${find}`)
  await writeFile(
    path,
    text.replace(find, () => replace),
  )
  return [path, text]
}

function runSimulator(copy: string, seedsMax: number, under: Mutant['under']): Promise<string> {
  return new Promise((resolve, reject) => {
    const main = join(copy, 'dist/test/sim/main.js')
    const leaning = under === undefined ? [] : [`--${under}`]
    const options = ['--seeds', String(seedsMax), '--stop', '--jobs', '1', '--json', ...leaning]
    const child = spawn(process.execPath, [main, ...options], { stdio: ['ignore', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.on('data', (part: Buffer) => {
      output += part.toString()
    })
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0 || code === 1) resolve(output)
      else reject(new Error(`the simulator ended with ${code}: ${output.slice(-2000)}`))
    })
  })
}
