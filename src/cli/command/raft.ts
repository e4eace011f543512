/**
 * `ledgermq raft`: who belongs to a broker group and who leads it; changes of both. Talks to any broker of the group
 * and goes on to the leader by itself; a change is followed to its end.
 */
import { type Command, Option } from 'commander'
import { systemClock } from '../../common/clock.ts'
import { silentLogger } from '../../common/logger.ts'
import { createGrpcTransport } from '../../rpc/grpc-transport.ts'
import type { ChangeMembershipRequest, GroupMember, MembershipReply } from '../../rpc/methods.ts'
import { formatTable, printData, printJson, printTalk } from '../output.ts'
import { type OutputFlags, withOutput } from '../output-option.ts'
import { addressList, positiveInteger, wholeNumber } from '../parse.ts'
import { runChange } from '../raft/change.ts'
import { RaftGroup, type ReplicaView } from '../raft/group.ts'
import { inTable, statusRows } from '../raft/status-rows.ts'
import { registerRaftRecover } from './raft-recover.ts'

interface Flags extends OutputFlags {
  readonly address?: readonly string[]
  readonly namesrv: readonly string[]
  readonly group?: string
  readonly timeout: number
}

interface ChangeFlags extends Flags {
  readonly wait: boolean
  readonly force?: boolean
  readonly learner?: boolean
  readonly raftAddress?: string
}

const defaultNamesrv = '127.0.0.1:9876'
const askTimeoutMs = 10_000
const changeTimeoutMs = 10 * 60_000

export function registerRaft(program: Command): void {
  const raft = program.command('raft').description('members and leadership of a broker group')
  const verb = (name: string, description: string, timeoutMs: number): Command =>
    withOutput(raft.command(name))
      .description(description)
      .addOption(new Option('-a, --address <addresses>', 'any broker of the group, host:port,…').argParser(addressList))
      .addOption(
        new Option('-n, --namesrv <addresses>', 'namesrvs to find the group by, when no broker is given')
          .env('LEDGERMQ_NAMESRV')
          .argParser(addressList)
          .default([defaultNamesrv], defaultNamesrv),
      )
      .option('-g, --group <name>', 'broker group, when the namesrv knows several')
      .option('--timeout <ms>', 'total time in milliseconds', positiveInteger, timeoutMs)
  const changing = (name: string, description: string): Command =>
    verb(name, description, changeTimeoutMs)
      .option('--no-wait', 'answer as soon as the change has begun')
      .option('--force', 'go on although no majority of reachable voters may be left')

  verb('status', 'every replica of the group: role, term, indexes, lag', askTimeoutMs).action((flags: Flags) =>
    withGroup(flags, (group) => printStatus(group, flags)),
  )
  verb('members', 'who belongs to the group, as its leader knows it', askTimeoutMs).action((flags: Flags) =>
    withGroup(flags, async (group) => printMembers(await group.membership(flags.timeout), flags)),
  )
  verb(
    'transfer-leader [node]',
    'hand leadership to a voter, or to the one that holds most of the log',
    askTimeoutMs,
  ).action((node: string | undefined, flags: Flags) =>
    withGroup(flags, (group) => transferLeader(group, node ?? '', flags)),
  )
  changing(
    'add <node> <raft-address>',
    'add a node that was started with --join; it becomes a voter once it holds the log',
  )
    .option('--learner', 'let it stay a learner, without a vote')
    .action((node: string, raftAddress: string, flags: ChangeFlags) =>
      change(flags, { kind: 'add', node, raftAddress, learner: flags.learner ?? false }),
    )
  changing('remove <node>', 'take a node out of the group; a leader hands over first').action(
    (node: string, flags: ChangeFlags) => change(flags, { kind: 'remove', node }),
  )
  changing('promote <node>', 'make a voter of a learner').action((node: string, flags: ChangeFlags) =>
    change(flags, { kind: 'promote', node }),
  )
  changing('replace <node>', 'take back a node that lost its disk: its old self goes, its new one catches up')
    .option('--raft-address <address>', 'where its peers reach it now, when it moved')
    .action((node: string, flags: ChangeFlags) =>
      change(flags, { kind: 'replace', node, raftAddress: flags.raftAddress ?? '' }),
    )
  changing(
    'priority <node>',
    'who should rather lead: the higher number, 0 is normal; leadership goes there once it is well',
  )
    .argument('<n>', 'from 0 up', wholeNumber)
    .action((node: string, priority: number, flags: ChangeFlags) => change(flags, { kind: 'priority', node, priority }))
  registerRaftRecover(raft)
}

async function withGroup(flags: Flags, use: (group: RaftGroup) => Promise<void>): Promise<void> {
  const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger })
  const place = { addresses: flags.address ?? [], namesrv: flags.namesrv, group: flags.group }
  const group = await RaftGroup.find({ clock: systemClock, transport }, place)
  try {
    await use(group)
  } finally {
    group.close()
  }
}

async function change(
  flags: ChangeFlags,
  wanted: Pick<ChangeMembershipRequest, 'kind' | 'node'> & Partial<ChangeMembershipRequest>,
): Promise<void> {
  const request = { raftAddress: '', learner: false, priority: 0, force: flags.force ?? false, ...wanted }
  await withGroup(flags, async (group) => {
    const options = { timeoutMs: flags.timeout, wait: flags.wait, say: printTalk }
    const { membership, changed } = await runChange(group, systemClock, request, options)
    const end = flags.wait ? 'done' : 'begun'
    if (flags.output !== 'json')
      printTalk(`${changed ? end : 'nothing had to be done'}: ${request.kind} ${request.node}`)
    printMembers(membership, flags)
  })
}

async function transferLeader(group: RaftGroup, to: string, flags: Flags): Promise<void> {
  const reply = await group.transferLeadership(to, flags.timeout)
  if (flags.output === 'json') printJson(reply)
  else printData(`${reply.leader} leads in term ${reply.term}`)
}

function printMembers(reply: MembershipReply, flags: Flags): void {
  if (flags.output === 'json') {
    printJson(reply)
    return
  }
  printData(
    formatTable(reply.members, [
      { head: 'NODE', cell: (row) => row.node },
      { head: 'ROLE', cell: (row) => (row.node === reply.leader ? `${row.role}, leader` : row.role) },
      { head: 'ADDRESS', cell: (row) => row.address },
      { head: 'RAFT', cell: (row) => row.raftAddress },
      { head: 'MATCH', cell: (row) => row.matchIndex },
      { head: 'LAG', cell: (row) => Math.max(0, reply.lastIndex - row.matchIndex) },
      { head: 'PRIORITY', cell: (row) => row.priority },
      { head: 'CONNECTED', cell: (row) => (row.connected ? 'yes' : `no: ${inTable(row.problem) ?? 'not yet'}`) },
      { head: 'DISK', cell: (row) => row.disk },
    ]),
  )
  const state = reply.underWay === '' ? 'nothing under way' : `under way: ${reply.underWay}`
  printData(`group ${reply.group}, term ${reply.term}, configuration ${reply.index}, ${state}`)
}

async function printStatus(group: RaftGroup, flags: Flags): Promise<void> {
  // The leader knows where all members are; without one, the replicas that are known have to do.
  const membership = await group.membership(Math.min(flags.timeout, statusLeaderMs)).catch(() => null)
  const views = await group.statuses()
  const rows = statusRows(views, membership)
  if (flags.output === 'json') printJson(rows.map(({ error, ...row }) => ({ ...row, error: error?.message ?? null })))
  else
    printData(
      formatTable(rows, [
        { head: 'NODE', cell: (row) => row.node },
        { head: 'ADDRESS', cell: (row) => row.address },
        { head: 'ROLE', cell: (row) => row.status?.role ?? `no answer: ${row.error?.code ?? ''}` },
        { head: 'TERM', cell: (row) => row.status?.term },
        { head: 'LEADER', cell: (row) => row.status?.leader },
        { head: 'FIRST', cell: (row) => row.status?.firstIndex },
        { head: 'LAST', cell: (row) => row.status?.lastIndex },
        { head: 'COMMIT', cell: (row) => row.status?.commitIndex },
        { head: 'APPLIED', cell: (row) => row.status?.appliedIndex },
        { head: 'LAG', cell: (row) => lagOf(row.status?.lastIndex, views) },
        { head: 'REASON', cell: (row) => row.status?.reason ?? row.error?.message },
      ]),
    )
  // Whoever was asked besides the members, and may be gone by now, does not count.
  const isThere = ({ node }: GroupMember): boolean => rows.some((row) => row.status !== null && row.node === node)
  if (!membership?.members.every(isThere)) process.exitCode = unhealthyExitCode
}

/** How long to look for a leader before the status is told without one. */
const statusLeaderMs = 2000
const unhealthyExitCode = 10

function lagOf(lastIndex: number | undefined, views: readonly ReplicaView[]): number | null {
  const leader = views.find((view) => view.status?.role === 'leader')?.status
  return lastIndex === undefined || !leader ? null : Math.max(0, leader.lastIndex - lastIndex)
}
