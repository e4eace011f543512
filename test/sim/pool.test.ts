/** Seeds that never end or end their process: reported with their number, in bounded time, and the others still run. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runPool } from './pool.ts'

/** A seed that hangs leaves this behind: only then it takes longer than it may, however slow the machine is. */
const hanging = 'hanging'

const child = `
import { writeFileSync } from 'node:fs'
const tell = (message) => new Promise((resolve) => process.send(message, undefined, undefined, resolve))
process.on('message', async ({ seeds }) => {
  await tell('begins')
  for (const seed of seeds) {
    if (seed.startsWith('hangs')) {
      writeFileSync(new URL('${hanging}', import.meta.url), '')
      for (;;) await null
    }
    if (seed.startsWith('dies')) process.exit(3)
    await tell({ result: { seed }, repeated: false })
  }
})
`
let directory = ''

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'ledgermq-pool-'))
  writeFileSync(join(directory, 'child.mjs'), child)
})

afterAll(() => rmSync(directory, { recursive: true }))

function onceItHangs(_ms: number, callback: () => void): () => void {
  const path = join(directory, hanging)
  const look = setInterval(() => {
    if (!existsSync(path)) return
    clearInterval(look)
    rmSync(path)
    callback()
  }, 5)
  return () => clearInterval(look)
}

async function run(
  seeds: readonly string[],
  stopsAtFirst: boolean,
): Promise<{ readonly answered: readonly string[]; readonly lost: readonly string[] }> {
  const [answered, lost]: [string[], string[]] = [[], []]
  await runPool({
    jobs: 1,
    seeds,
    repeat: false,
    control: null,
    seedMsMax: 1500,
    after: onceItHangs,
    program: join(directory, 'child.mjs'),
    onResult: ({ result }) => answered.push(result.seed),
    onLost: (seed, why) => lost.push(`${seed}: ${why}`),
    stopped: () => stopsAtFirst && lost.length > 0,
  })
  return { answered, lost }
}

test('a seed that hangs in promises is given up with its number, and the others run', async () => {
  const { answered, lost } = await run(['1', '2', 'hangs', '3', 'dies', '4'], false)
  expect(answered).toEqual(['1', '2', '3', '4'])
  expect(lost).toEqual(['hangs: it took longer than 1500 ms', 'dies: its process ended with code 3'])
})

test('who wants to stop at the first failure does not wait for the seeds behind one that hangs', async () => {
  const { answered, lost } = await run(['1', 'hangs', 'hangs too', '2'], true)
  expect(answered).toEqual(['1'])
  expect(lost).toEqual(['hangs: it took longer than 1500 ms'])
})
