/**
 * `npm run sim:mutants`: plants every bug of `mutants.ts` in turn and prints how many seeds the simulator needed.
 * `--seeds N` bounds the search (default 1000), `--only text` picks by name, `--jobs N` tries so many at a time (default:
 * cores). The last line is an object with the seeds that each needed, null for none. Exits 1 when one was not caught.
 */
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { mutants } from './mutants.ts'
import { copyTree, type MutantResult, removeTree, tryMutant } from './mutation.ts'

const { values: given } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: String(availableParallelism()) },
  },
})

const root = fileURLToPath(new URL('../../..', import.meta.url))
const chosen = mutants.filter((mutant) => mutant.name.includes(given.only))
const left = [...chosen]
const results: MutantResult[] = []
const startedMs = performance.now()

async function runJob(): Promise<void> {
  const copy = await copyTree(root)
  try {
    for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift()) {
      const result = await tryMutant(copy, mutant, Number(given.seeds))
      results.push(result)
      const { caught, seeds, name, how } = result
      const outcome = caught ? `${String(seeds).padStart(5)} seeds` : ` MISSED after ${seeds} seeds`
      process.stdout.write(`${outcome}  ${name}\n             ${how.slice(0, 160)}\n`)
    }
  } finally {
    await removeTree(copy)
  }
}

await Promise.all(Array.from({ length: Math.max(1, Number(given.jobs)) }, runJob))
const caught = results.filter((result) => result.caught).length
const seconds = Math.round((performance.now() - startedMs) / 10) / 100
const seedsNeeded = Object.fromEntries(results.map(({ name, caught, seeds }) => [name, caught ? seeds : null]))
process.stdout.write(`${JSON.stringify({ mutants: chosen.length, caught, seconds, seedsNeeded })}\n`)
process.exitCode = caught === chosen.length ? 0 : 1
