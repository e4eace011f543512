/** Members come, go and come back in clusters of real processes, by the commands that an operator uses, under load. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { check } from '../../src/cli/fast-try/check.ts'
import { connectWhenUp } from '../../src/cli/fast-try/connect.ts'
import { drain } from '../../src/cli/fast-try/drain.ts'
import { type ClusterPlan, loadPlan, namesrvAddresses, nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import { Load } from '../../src/cli/fast-try/load.ts'
import type { Client } from '../../src/client/mod.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { MembershipReply, ReplicaStatusReply } from '../../src/rpc/methods.ts'
import { accepted, type CliResult, cli, patienceMs, patiently, settles } from './support.ts'

const topic = 'Members'

interface Background {
  readonly data: string
  plan(): ClusterPlan
  /** `ledgermq fast-try <verb> …` on this cluster. */
  fastTry(...words: readonly string[]): Promise<string>
  /** `ledgermq raft …` on this cluster, found by its namesrv. */
  raft(...words: readonly string[]): Promise<CliResult>
  members(): Promise<MembershipReply>
}

async function withBackground(nodes: number, use: (cluster: Background) => Promise<void>): Promise<void> {
  const own = mkdtempSync(join(tmpdir(), 'ledgermq-test-'))
  const data = join(own, 'cluster')
  const fastTry = async (...words: readonly string[]): Promise<string> => {
    const result = await cli('fast-try', ...words, '--data', data)
    expect(result.code, result.stderr + result.stdout).toBe(0)
    return result.stdout
  }
  const plan = (): ClusterPlan => loadPlan(data) as ClusterPlan
  const raft = (...words: readonly string[]): Promise<CliResult> =>
    cli('raft', ...patiently(words), '--namesrv', namesrvAddresses(plan()).join(','))
  const members = async (): Promise<MembershipReply> =>
    JSON.parse((await good(() => raft('members', '-o', 'json'))).stdout)
  try {
    await fastTry('start', '--nodes', String(nodes), '--any-ports')
    await use({ data, plan, fastTry, raft, members })
  } finally {
    await cli('fast-try', 'stop', '--data', data)
    rmSync(own, { recursive: true, force: true })
  }
}

async function good(run: () => Promise<CliResult>): Promise<CliResult> {
  const done = await accepted(run)
  expect(done.code, done.stderr + done.stdout).toBe(0)
  return done
}

function voters(reply: MembershipReply): string {
  expect(reply.underWay).toBe('')
  return reply.members
    .filter((member) => member.role === 'voter')
    .map((member) => member.node)
    .join(' ')
}

async function underLoad(cluster: Background, use: (load: Load) => Promise<void>): Promise<void> {
  const client: Client = await connectWhenUp(cluster.plan(), systemClock, patienceMs)
  try {
    await client.admin().createTopic({ topic, queues: 8 })
    const producer = client.producer({ sendTimeoutMs: patienceMs })
    const lines = Array.from({ length: 100 }, (_, index) => Buffer.from(`line ${index} ${'x'.repeat(index)}`))
    const load = new Load(producer, systemClock, { topic, lines, messagesPerSecond: 300 })
    load.start()
    await use(load)
    await load.stop()
    await producer.close()
    expect(load.errors).toEqual([])
    const messages = await drain(client, topic)
    const { acknowledgements, sent } = load
    const result = check({ acknowledgements, messages, sent, body: (sequence) => load.body(sequence) })
    expect(result.findings).toEqual([])
    expect(result).toMatchObject({ lost: 0, duplicated: 0, offsetGaps: 0, corrupted: 0 })
  } finally {
    await client.close()
  }
}

test('P7: replicas are added, replaced and removed under load, the leader too: nothing is lost, and the load goes on', async () => {
  await withBackground(3, async (cluster) => {
    await underLoad(cluster, async (load) => {
      /** What a change may cost the load is measured on a quiet machine, see `test/verify/limits.ts`. */
      const goesOn = async (what: string, work: () => Promise<unknown>): Promise<void> => {
        await work()
        const { acknowledged } = load
        await settles(async () => expect(load.acknowledged, what).toBeGreaterThan(acknowledged))
      }
      await goesOn('add', () => cluster.fastTry('add-node'))
      expect(voters(await cluster.members())).toBe('n0 n1 n2 n3')

      const before = await cluster.members()
      const wiped = ['n1', 'n2'].find((node) => node !== before.leader) as string
      await cluster.fastTry('kill', wiped)
      const plan = cluster.plan()
      rmSync(nodeDirectory(plan, plan.nodes.find((node) => node.name === wiped) as ClusterPlan['nodes'][number]), {
        recursive: true,
      })
      await cluster.fastTry('restart', wiped)
      await goesOn('replace', () => good(() => cluster.raft('replace', wiped)))
      const replaced = await cluster.members()
      expect(voters(replaced)).toBe('n0 n1 n2 n3')
      const diskOf = (reply: MembershipReply): string | undefined =>
        reply.members.find((member) => member.node === wiped)?.disk
      expect(diskOf(replaced)).not.toBe(diskOf(before))

      const { leader } = replaced
      await goesOn('remove leader', () => good(() => cluster.raft('remove', leader)))
      const rest = ['n0', 'n1', 'n2', 'n3'].filter((node) => node !== leader)
      expect(voters(await cluster.members())).toBe(rest.join(' '))
    })
  })
})

test.each([3, 4, 5])('the raft commands work against a fast-try cluster of %i', async (nodes) => {
  await withBackground(nodes, async (cluster) => {
    const initial = Array.from({ length: nodes }, (_, number) => `n${number}`)
    const added = `n${nodes}`
    expect(voters(await cluster.members())).toBe(initial.join(' '))
    await settles(async () => {
      const { stdout } = await good(() => cluster.raft('status', '-o', 'json'))
      const rows = JSON.parse(stdout) as readonly { readonly node: string; readonly status: ReplicaStatusReply }[]
      expect(rows.map((row) => row.node).sort()).toEqual(initial)
      expect(rows.filter((row) => row.status.role === 'leader')).toHaveLength(1)
    })

    const { leader } = await cluster.members()
    const to = initial.find((node) => node !== leader) as string
    await settles(async () => {
      const moved = await good(() => cluster.raft('transfer-leader', to))
      expect(moved.stdout).toMatch(new RegExp(`^${to} leads in term \\d+`))
    })

    expect(await cluster.fastTry('add-node', '--learner')).toContain(`${added} is a learner of RaftNode00 now`)
    await good(() => cluster.raft('promote', added))
    expect(voters(await cluster.members())).toBe([...initial, added].join(' '))
    const removed = await good(() => cluster.raft('remove', added))
    expect(removed.stderr).toContain(`done: remove ${added}`)
    expect(voters(await cluster.members())).toBe(initial.join(' '))

    // Any broker of the group leads to the leader, also the one that does not lead; a stranger is refused with a reason.
    const follower = cluster.plan().nodes.find((node) => node.name !== to)
    const asked = await good(() =>
      cli('raft', ...patiently(['members']), '--address', `127.0.0.1:${follower?.clientPort}`),
    )
    expect(asked.stdout).toContain('nothing under way')
    const refused = await accepted(() => cluster.raft('remove', 'n99'))
    expect(refused).toMatchObject({ code: 3, stderr: expect.stringMatching(/^NOT_A_MEMBER: n99 /) })
  })
})
