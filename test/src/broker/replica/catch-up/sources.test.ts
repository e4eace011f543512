/** Members that are there and answer nothing, as with a disk that hangs: they must not hold up a copy from the others. */
import { expect, test } from 'vitest'
import { Sources } from '../../../../../src/broker/replica/catch-up/sources.ts'
import { type DescribeLogReply, type Hello, raftMethods } from '../../../../../src/rpc/methods.ts'
import type { ServerRoutes } from '../../../../../src/rpc/transport.ts'
import { ManualClock, settle } from '../../../../support/manual-clock.ts'
import { MemoryNetwork } from '../../../../support/memory-network.ts'

const hello: Hello = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  fromNode: 'n0',
  fromDisk: 'disk-0',
  toNode: '',
  toDisk: '',
  fromAddress: '',
  protocolMin: 1,
  protocolMax: 1,
  build: '',
  featureLevel: 1,
  membershipIndex: 0,
  fromRaftAddress: '',
}

const view: DescribeLogReply = { firstIndex: 1, lastIndex: 9, endPosition: 640, appliedIndex: 9, leads: false }

type Script = (routes: ServerRoutes) => void

const answering: Script = (routes) => routes.unary(raftMethods.describeLog, async () => view)
const silent: Script = (routes) => routes.unary(raftMethods.describeLog, () => new Promise(() => {}))

async function sourcesOf(clock: ManualClock, members: Readonly<Record<string, Script>>): Promise<Sources> {
  const network = new MemoryNetwork(clock)
  for (const [node, script] of Object.entries(members)) await network.endpoint(node).listen(`${node}:1`, script)
  return new Sources({
    clock,
    transport: network.endpoint('n0'),
    bytesMax: 1024,
    members: () => Object.keys(members).map((node) => ({ node, disk: `disk of ${node}`, raftAddress: `${node}:1` })),
    hello: () => hello,
  })
}

test('P8: a source that does not answer takes up a fourth of the time of a copy at most', async () => {
  const clock = new ManualClock()
  const sources = await sourcesOf(clock, { n1: silent, n2: answering })
  const { signal } = new AbortController()
  const startMs = clock.monotonicMs()
  let waitedMs = 0
  while (clock.monotonicMs() - startMs < 60_000) {
    const askedMs = clock.monotonicMs()
    let views: readonly string[] | null = null
    void sources.describe(signal).then((found) => {
      views = found.map(({ node }) => node)
    })
    await settle()
    while (views === null) await clock.advance(10)
    expect(views).toEqual(['n2'])
    waitedMs += clock.monotonicMs() - askedMs
    await clock.advance(10)
  }
  expect(waitedMs).toBeGreaterThan(0)
  expect(waitedMs).toBeLessThan((clock.monotonicMs() - startMs) / 4)
  expect(sources.silent).toEqual([{ node: 'n1', problem: expect.stringContaining('no answer') }])
})
