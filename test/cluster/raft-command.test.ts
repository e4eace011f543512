/** `ledgermq raft …` as an operator uses it, against clusters that `fast-try start --nodes N` has put into the background. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { createGrpcTransport } from '../../src/rpc/grpc-transport.ts'
import {
  type DescribeReply,
  type MembershipReply,
  type ReplicaStatusReply,
  raftMethods,
  type TransferLeadershipReply,
} from '../../src/rpc/methods.ts'
import type { Server } from '../../src/rpc/transport.ts'
import { BackgroundCluster } from './background-cluster.ts'
import { freePort } from './lone-broker.ts'
import { accepted, cli, patiently, settles } from './support.ts'

/** As `output.ts` gives them out. */
const usage = 2
const notFound = 3
const refused = 4
const noLeader = 6
const unhealthy = 10

const documentedPortMin = 30_900

interface StatusRow {
  readonly node: string
  readonly address: string
  readonly status: ReplicaStatusReply | null
  readonly error: string | null
}

let cluster: BackgroundCluster

describe('--nodes 3', () => {
  beforeAll(async () => {
    cluster = await BackgroundCluster.start(3)
  })

  afterAll(() => cluster.end())

  test('status and members, for people and as JSON, through brokers or a namesrv', async () => {
    await settles(async () => {
      const [status, rows, members, reply, routed] = await Promise.all([
        cluster.raft('status'),
        cluster.raftJson<readonly StatusRow[]>('status'),
        cluster.raft('members'),
        cluster.members(),
        cli('raft', ...patiently(['members']), '--namesrv', cluster.namesrvs),
      ])
      expect(status.code).toBe(0)
      expect(headOf(status.stdout)).toBe('NODE ADDRESS ROLE TERM LEADER FIRST LAST COMMIT APPLIED LAG REASON')
      expect(rows.map((row) => [row.node, row.error])).toEqual(cluster.names().map((name) => [name, null]))
      expect(rows.map((row) => row.status?.role).sort()).toEqual(['follower', 'follower', 'leader'])
      for (const { stdout, code } of [members, routed]) {
        expect(code).toBe(0)
        expect(headOf(stdout)).toBe('NODE ROLE ADDRESS RAFT MATCH LAG PRIORITY CONNECTED DISK')
        expect(stdout).toMatch(new RegExp(`^${reply.leader} +voter, leader `, 'm'))
        expect(stdout).toMatch(/^group RaftNode00, term \d+, configuration 0, nothing under way$/m)
      }
      expect(reply).toMatchObject({ group: 'RaftNode00', committed: true, underWay: '', returning: [] })
      expect(rolesOf(reply)).toEqual({ n0: 'voter', n1: 'voter', n2: 'voter' })
    })
  })

  test('transfer-leader to a named voter, to whoever is best, and to the leader itself', async () => {
    // Once more when an election came in between.
    await settles(async () => {
      const { leader: old, term } = await cluster.members()
      const [to = ''] = cluster.names().filter((name) => name !== old)
      const named = await cluster.raft('transfer-leader', to)
      expect(named).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(new RegExp(`^${to} leads in term \\d+\\n$`)),
      })
      const any = await cluster.raftJson<TransferLeadershipReply>('transfer-leader')
      expect(any.leader).not.toBe(to)
      expect(any.term).toBeGreaterThan(term + 1)
      const same = await cluster.raftJson<TransferLeadershipReply>('transfer-leader', any.leader)
      expect(same).toEqual(any)
    })
  })

  test('priority is kept and shown; promoting a voter changes nothing', async () => {
    const set = await accepted(() => cluster.raft('priority', 'n1', '5'))
    expect(set).toMatchObject({ code: 0, stderr: 'done: priority n1\n' })
    const before = await cluster.members()
    expect(before.members.map(({ priority }) => priority)).toEqual([0, 5, 0])
    const promoted = await cluster.raftJson<MembershipReply>('promote', 'n2')
    expect(promoted.index).toBe(before.index)
    const back = await cluster.raftJson<MembershipReply>('priority', 'n1', '0')
    expect(back.members.map(({ priority }) => priority)).toEqual([0, 0, 0])
  })

  test('what cannot be done is refused with a code, a reason and an exit code, and changes nothing', async () => {
    const { index } = await cluster.members()
    const nobody = `127.0.0.1:${await freePort()}`
    const rows: readonly (readonly [args: readonly string[], code: number, text: RegExp])[] = [
      [['transfer-leader', 'n9'], notFound, /^NOT_A_MEMBER: .*n9/],
      [['remove', 'n9'], notFound, /^NOT_A_MEMBER: n9 is no member; the members are n0, n1, n2$/m],
      [['promote', 'n9'], notFound, /^NOT_A_MEMBER: n9 is no member/],
      [['priority', 'n9', '1'], notFound, /^NOT_A_MEMBER: n9 is no member/],
      [['replace', 'n9'], notFound, /^NOT_A_MEMBER: n9 is no member/],
      [['add', 'n0', cluster.raftAddress('n0')], refused, /^ALREADY_A_MEMBER: n0 is a member already$/m],
      [['add', 'n9', cluster.raftAddress('n0')], refused, /^FOREIGN_GROUP: .* is node n0, not n9$/m],
      [['add', 'n9', nobody], 1, new RegExp(`^NODE_UNREACHABLE: n9 does not answer at ${nobody}: .*ECONNREFUSED`)],
      [['add', 'n 9', nobody], usage, /^INVALID_PARAMETER: node must be a name/],
      [['add', 'n9', 'nowhere'], usage, /^INVALID_PARAMETER: raftAddress is no host:port$/m],
      [['priority', 'n0', '1001'], usage, /^INVALID_PARAMETER: priority must be at most 1000$/m],
      [['priority', 'n0', 'high'], usage, /'high' is invalid for argument 'n'. expected a whole number from 0 up/],
      [['add', 'n9'], usage, /missing required argument 'raft-address'/],
      [['promot', 'n9'], usage, /unknown command 'promot'\s+\(Did you mean promote\?\)/],
    ]
    for (const [args, code, text] of rows) {
      const result = await cluster.raft(...args)
      expect(result.stderr, args.join(' ')).toMatch(text)
      expect(result, args.join(' ')).toMatchObject({ code, stdout: '' })
      expect(result.stderr).not.toMatch(/^\s+at /m)
    }
    const json = await cluster.raft('remove', 'n9', '-o', 'json')
    expect(json).toMatchObject({ code: notFound, stderr: '' })
    expect(JSON.parse(json.stdout)).toMatchObject({ error: { code: 'NOT_A_MEMBER' } })
    await settles(async () => {
      const away = await cli('raft', 'members', '--address', nobody, '--timeout', '1000')
      expect(away).toMatchObject({ code: 1, stderr: expect.stringMatching(/^UNAVAILABLE: /) })
    })
    expect((await cluster.members()).index).toBe(index)
  })

  test('while one change is under way another is refused; the newcomer that never catches up can be taken out', async () => {
    const fleeting = await nodeThatOnlySaysWhoItIs('n9')
    try {
      const begun = await accepted(() => cluster.raft('add', 'n9', fleeting.address, '--no-wait'))
      expect(begun).toMatchObject({ code: 0, stderr: 'begun: add n9\n' })
      expect(begun.stdout).toMatch(/^group .*, under way: n9 is catching up to become a voter$/m)
      for (const args of [
        ['remove', 'n1'],
        ['promote', 'n9'],
      ]) {
        const second = await cluster.raft(...args)
        expect(second).toMatchObject({ code: refused, stdout: '' })
        expect(second.stderr).toMatch(/^CHANGE_IN_PROGRESS: n9 is catching up to become a voter$/m)
      }
    } finally {
      await fleeting.close(0)
    }
    const cancelled = await accepted(() => cluster.raft('remove', 'n9'))
    expect(cancelled).toMatchObject({ code: 0, stderr: expect.stringMatching(/done: remove n9\n$/) })
    expect(rolesOf(await cluster.members())).toEqual({ n0: 'voter', n1: 'voter', n2: 'voter' })
  })

  test('a learner is added, told from a voter, promoted and removed', async () => {
    const joined = await cluster.fastTry('add-node', '--learner')
    expect(joined).toMatchObject({ code: 0, stdout: 'n3 is a learner of RaftNode00 now, with 3 others\n' })
    expect(rolesOf(await cluster.members())).toMatchObject({ n3: 'learner' })
    expect(cluster.node('n3').clientPort).toBeLessThan(documentedPortMin)
    const voted = await cluster.raft('transfer-leader', 'n3')
    expect(voted).toMatchObject({ code: notFound, stderr: expect.stringMatching(/^NOT_A_MEMBER: /) })
    const promoted = await accepted(() => cluster.raft('promote', 'n3'))
    expect(promoted).toMatchObject({ code: 0, stderr: expect.stringMatching(/done: promote n3\n$/) })
    expect(rolesOf(await cluster.members())).toEqual({ n0: 'voter', n1: 'voter', n2: 'voter', n3: 'voter' })
    const removed = await cluster.raftJson<MembershipReply>('remove', 'n3')
    expect(rolesOf(removed)).toEqual({ n0: 'voter', n1: 'voter', n2: 'voter' })
    await cluster.until('n3 has learnt it', async () => {
      const rows = JSON.parse((await cluster.raft('status', '-o', 'json')).stdout) as readonly StatusRow[]
      return rows.find((row) => row.status?.node === 'n3')?.status?.role === 'removed'
    })
    await cluster.kill('n3')
    const isWell = async (): Promise<void> => {
      expect(await cluster.fastTry('status')).toMatchObject({ code: 0 })
      expect(await cluster.raft('status')).toMatchObject({ code: 0 })
    }
    await settles(isWell)
    await cluster.fastTry('stop')
    // Also those who are outside are started again, and not waited for.
    expect(await cluster.fastTry('start')).toMatchObject({ code: 0 })
    await settles(isWell)
  })
})

describe('a cluster of its own', () => {
  afterEach(() => cluster.end())

  test('--nodes 4: the leader removes itself and is added again with its folder; a follower without its disk is replaced', async () => {
    cluster = await BackgroundCluster.start(4)
    const leader = await cluster.leader()
    const rest = cluster.names().filter((name) => name !== leader)
    const removed = await accepted(() => cluster.raft('remove', leader))
    expect(removed).toMatchObject({ code: 0, stderr: expect.stringMatching(new RegExp(`done: remove ${leader}\n$`)) })
    const { members, leader: next } = await cluster.members()
    expect(members.map(({ node }) => node)).toEqual(rest)
    const added = await accepted(() => cluster.raft('add', leader, cluster.raftAddress(leader)))
    expect(added).toMatchObject({ code: 0, stderr: expect.stringMatching(new RegExp(`done: add ${leader}\n$`)) })

    const [lost = ''] = rest.filter((name) => name !== next)
    const disk = members.find(({ node }) => node === lost)?.disk
    await cluster.destroy(lost)
    expect(await cluster.raft('status')).toMatchObject({ code: unhealthy })
    const early = await cluster.raft('replace', lost)
    expect(early).toMatchObject({ code: 1, stderr: expect.stringMatching(/^NODE_UNREACHABLE: /) })
    await cluster.restart(lost)
    const again = await accepted(() => cluster.raft('add', lost, cluster.raftAddress(lost)))
    expect(again).toMatchObject({
      code: refused,
      stderr: expect.stringMatching(/^ALREADY_A_MEMBER: .*: replace it$/m),
    })
    const replaced = await cluster.raftJson<MembershipReply>('replace', lost)
    expect(Object.values(rolesOf(replaced))).toEqual(['voter', 'voter', 'voter', 'voter'])
    expect(replaced.members.find(({ node }) => node === lost)?.disk).not.toBe(disk)
    await settles(async () => expect(await cluster.raft('status')).toMatchObject({ code: 0 }))
  })

  test('--nodes 5: a sixth joins and leads; with two down only what keeps a majority is done; without one nothing is', async () => {
    cluster = await BackgroundCluster.start(5)
    expect(Object.values(rolesOf(await cluster.members()))).toEqual(Array.from({ length: 5 }, () => 'voter'))
    const joined = await cluster.fastTry('add-node')
    expect(joined).toMatchObject({ code: 0, stdout: 'n5 is a voter of RaftNode00 now, with 5 others\n' })
    const old = await cluster.leader()
    expect((await cluster.raftJson<TransferLeadershipReply>('transfer-leader', 'n5')).leader).toBe('n5')
    expect(await accepted(() => cluster.raft('remove', old))).toMatchObject({ code: 0 })

    const [first = '', second = '', third = ''] = cluster.names().filter((name) => name !== old && name !== 'n5')
    await cluster.kill(first)
    await cluster.kill(second)
    await settles(async () => {
      const wish = await cluster.raft('remove', third)
      expect(wish).toMatchObject({ code: refused, stderr: expect.stringMatching(/^WOULD_LOSE_QUORUM: /) })
      expect(wish.stderr).toMatch(new RegExp(`${[first, second].sort().join(', ')} cannot be reached$`, 'm'))
    })
    // Whoever is down may be the first one asked.
    const gone = await accepted(() => cluster.raftVia([first, 'n5'], 'remove', first, '-o', 'json'))
    expect(gone).toMatchObject({ code: 0 })
    expect(Object.keys(rolesOf(JSON.parse(gone.stdout) as MembershipReply))).toEqual(
      cluster.names().filter((name) => name !== old && name !== first),
    )
    const moved = await accepted(() => cluster.raftVia([first, 'n5'], 'transfer-leader'))
    expect(moved).toMatchObject({ code: 0, stderr: '' })

    await cluster.kill(third)
    // Whoever is asked says so at the end of the time it is given, which a busy machine needs to reach it at all.
    let timeoutMs = 1000
    await settles(async () => {
      timeoutMs *= 2
      const lost = await cluster.raft('members', '--timeout', String(timeoutMs))
      expect(lost).toMatchObject({ code: noLeader, stderr: expect.stringMatching(/^(NO_QUORUM|NOT_LEADER): /) })
      expect(await cluster.raft('transfer-leader', '--timeout', String(timeoutMs))).toMatchObject({ code: noLeader })
    })
    expect(await cluster.raft('status')).toMatchObject({ code: unhealthy })
    await cluster.restart(third)
    expect((await cluster.members()).members).toHaveLength(4)
  })

  test('--nodes 1: the only voter cannot be removed', async () => {
    cluster = await BackgroundCluster.start(1)
    for (const force of [[], ['--force']]) {
      const only = await cluster.raft('remove', 'n0', ...force)
      expect(only).toMatchObject({ code: refused, stdout: '' })
      expect(only.stderr).toMatch(/^WOULD_LOSE_QUORUM: n0 is the only voter of the group$/m)
    }
    expect(await cluster.raft('transfer-leader')).toMatchObject({ code: refused })
  })
})

/** Columns of the first line. */
function headOf(table: string): string {
  return (table.split('\n')[0] ?? '').split(/\s+/).join(' ')
}

function rolesOf(reply: MembershipReply): Readonly<Record<string, string>> {
  return Object.fromEntries(reply.members.map(({ node, role }) => [node, role]))
}

/** Answers the leader's question, and never becomes more than that: it was started, and went away. */
function nodeThatOnlySaysWhoItIs(node: string): Promise<Server> {
  const reply: DescribeReply = {
    ...{ node, disk: '5f0c7a52-6d0e-4d0b-9a43-0c2f4a7b8e11' },
    ...{ firstIndex: 0, lastIndex: 0, commitIndex: 0, term: 0, leader: '' },
  }
  const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger })
  return transport.listen('127.0.0.1:0', (routes) => routes.unary(raftMethods.describe, async () => reply))
}
