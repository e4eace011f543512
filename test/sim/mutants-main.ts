/**
 * `npm run sim:mutants`: plants every bug of `mutants.ts` in turn and prints how many seeds the simulator needed.
 * `--seeds N` bounds the search (default 1000), `--only text` picks by name. Exits 1 when one was not caught.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { mutants } from './mutants.ts'
import { copyTree, removeTree, tryMutant } from './mutation.ts'

const { values: given } = parseArgs({
  options: { seeds: { type: 'string', default: '1000' }, only: { type: 'string', default: '' } },
})

const root = fileURLToPath(new URL('../../..', import.meta.url))
const chosen = mutants.filter((mutant) => mutant.name.includes(given.only))
const copy = await copyTree(root)
let caught = 0
try {
  for (const mutant of chosen) {
    const result = await tryMutant(copy, mutant, Number(given.seeds))
    if (result.caught) caught++
    const outcome = result.caught ? `${String(result.seeds).padStart(5)} seeds` : ` MISSED after ${result.seeds} seeds`
    process.stdout.write(`${outcome}  ${result.name}\n             ${result.how.slice(0, 160)}\n`)
  }
} finally {
  await removeTree(copy)
}
process.stdout.write(`${caught} of ${chosen.length} planted bugs caught\n`)
process.exitCode = caught === chosen.length ? 0 : 1
