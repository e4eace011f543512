import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import {
  cli,
  expectIntact,
  kill,
  nodeNames,
  patienceMs,
  start,
  startLoad,
  stop,
  until,
  withCluster,
} from './support.ts'

const topic = 'AllKilled'
const rounds = 3
const acknowledgedPerRound = 600
const segmentHeaderBytes = 4096

interface Verdict {
  readonly commitIndex: number
  readonly bytes: number
  readonly sha256: string
  readonly equal: boolean
}

test(`P1, S1: kill -9 of all three under load, ${rounds} times: sends go on by themselves, nothing acknowledged is lost, logs are equal bytes (S2)`, async () => {
  await withCluster(async (session) => {
    const producer = session.client.producer({ sendTimeoutMs: patienceMs })
    const load = await startLoad(session, producer, { topic })
    for (let round = 0; round < rounds; round++) {
      const before = load.acknowledged
      await until(session, 'the load is acknowledged', () => load.acknowledged > before + acknowledgedPerRound)
      await kill(session, nodeNames(session))
      start(session, nodeNames(session))
    }
    const before = load.acknowledged
    await until(session, 'the load is acknowledged', () => load.acknowledged > before + acknowledgedPerRound)
    await load.stop()
    await producer.close()
    await expectIntact(session, load, topic)
    expect(load.errors).toEqual([])
    expect(load.acknowledged).toBe(load.sent)
    await session.cluster.waitHealthy(patienceMs)
    await stop(session, nodeNames(session))
    await expectVerified(session)
  })
})

/** The stopped nodes as `ledgermq debug verify` sees them, and whether it sees one byte that is wrong. */
async function expectVerified({ plan }: Session): Promise<void> {
  const folders = plan.nodes.map((node) => nodeDirectory(plan, node))
  const good = await cli('debug', 'verify', '--data', ...folders, '-o', 'json')
  expect(good).toMatchObject({ code: 0, stderr: '' })
  const { commitIndex, bytes, sha256, equal } = JSON.parse(good.stdout) as Verdict
  expect({ equal, sha256 }).toEqual({ equal: true, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) })
  expect(commitIndex).toBeGreaterThan(0)
  expect(bytes).toBeGreaterThan(acknowledgedPerRound * 10)

  const [first, second, third] = folders as [string, string, string]
  const spoiled = join(plan.dataDirectory, 'spoiled')
  cpSync(third, spoiled, { recursive: true })
  spoilLog(spoiled, Math.floor(bytes / 2))
  const bad = await cli('debug', 'verify', '--data', first, second, spoiled, '-o', 'json')
  expect(bad.code).toBe(1)
  expect(JSON.parse(bad.stdout)).toMatchObject({ equal: false, commitIndex })
}

/** Turns one byte of the log that lies `position` bytes behind its beginning. */
function spoilLog(folder: string, position: number): void {
  const segment = readdirSync(join(folder, 'log')).sort()[0]
  const path = join(folder, 'log', segment ?? '')
  const bytes = readFileSync(path)
  const at = segmentHeaderBytes + position
  bytes[at] = (bytes[at] ?? 0) ^ 0x01
  writeFileSync(path, bytes)
}
