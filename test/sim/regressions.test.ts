/** What the simulator has found once, as small stories of their own. */
import { expect, test } from 'vitest'
import { frameTypes } from '../../store/index.ts'
import { Digest } from './digest.ts'
import { SimRandom } from './random.ts'
import { Scheduler } from './scheduler.ts'
import { SimNetwork } from './sim-network.ts'
import { SimNode } from './sim-node.ts'

const names = ['n0', 'n1', 'n2'] as const

function makeGroup(): { readonly scheduler: Scheduler; readonly nodes: readonly SimNode[] } {
  const [scheduler, random, digest] = [new Scheduler(), new SimRandom('regression'), new Digest()]
  const quiet = { delayMeanMs: 0.2, slowShare: 0, keepaliveMs: 500, bufferedBytesMax: 1024 * 1024 }
  const network = new SimNetwork(scheduler, random.fork('network'), digest, quiet)
  const members = names.map((node) => ({ node, raftAddress: `${node}:30912` }))
  const nodes = names.map(
    (node) =>
      new SimNode(
        {
          cluster: 'RaftCluster',
          group: 'RaftNode00',
          node,
          directory: `data/${node}`,
          listen: `${node}:30911`,
          members,
          bootstrap: true,
          namesrv: [],
          segmentBytes: 64 * 1024,
          limits: { zeroAheadBytes: 8192 },
        },
        {
          scheduler,
          network,
          random,
          digest,
          disk: { syncMeanMs: 0.5, writeMeanMs: 0.1, lateShare: 0, lyingSync: false },
          started: () => {},
          starting: () => {},
          failed: (node, error) => {
            throw new Error(`${node.name} failed`, { cause: error })
          },
        },
      ),
  )
  return { scheduler, nodes }
}

test('a request that is held because nobody leads costs no turns of the loop', async () => {
  const { scheduler, nodes } = makeGroup()
  for (const node of nodes) void node.start()
  const leading = (): SimNode | undefined => nodes.find((node) => node.broker?.replica?.leading)
  expect(await scheduler.run(10_000, () => leading() !== undefined)).toBe(true)
  const leader = leading()
  const left = nodes.find((node) => node !== leader) as SimNode
  for (const node of nodes) if (node !== left) node.kill()
  const replica = left.broker?.replica
  await scheduler.run(scheduler.nowMs + 3000, () => replica?.leader() === null)
  const before = scheduler.executed
  let code = ''
  replica?.propose(frameTypes.command, [Buffer.from('x')], { timeoutMs: 2000 }).catch((error: { code: string }) => {
    code = error.code
  })
  const turnsMax = 5000
  await scheduler.run(scheduler.nowMs + 2000, () => code !== '' || scheduler.executed > before + turnsMax)
  expect(code).toBe('NO_QUORUM')
  expect(scheduler.executed - before).toBeLessThan(turnsMax)
  left.kill()
})
