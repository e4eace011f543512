/** Planted bugs that are found within a few seeds: the simulator must still have its teeth. All: `npm run sim:mutants`. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { mutants } from './mutants.ts'
import { copyTree, removeTree, tryMutant } from './mutation.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const seedsMax = 40
let copy = ''

beforeAll(async () => {
  // The bugs are planted in compiled code, which must be that of these sources.
  const prepared = spawnSync(process.execPath, [`${root}deploy/prepare.mjs`], { encoding: 'utf8' })
  expect(prepared.stderr).toBe('')
  copy = await copyTree(root)
})

afterAll(() => removeTree(copy))

test.each(mutants.filter((mutant) => mutant.quick))('caught: $name', async (mutant) => {
  const result = await tryMutant(copy, mutant, seedsMax)
  expect(result).toMatchObject({ caught: true })
})

test('a bug that cannot be planted is reported, not passed over', async () => {
  const gone = { name: 'gone', file: 'raft/log.js', find: 'no such text', replace: '' }
  await expect(tryMutant(copy, gone, 1)).rejects.toThrow('found 0 times')
})
