/** `ledgermq cluster`: `list` shows every replica with its Raft state, `watch` streams what happens to them. */
import type { Command } from 'commander'
import type { NodeEvent, ReplicaReport } from '../../client/mod.ts'
import { type ClientFlags, withClient, withClientOptions } from '../options.ts'
import { formatTable, printData, printJson } from '../output.ts'

const unhealthyExitCode = 10

export function registerCluster(program: Command): void {
  const cluster = program.command('cluster').description('list the brokers of a cluster, or watch what happens to them')
  withClientOptions(cluster.command('list').description('every replica: role, term, indexes, lag')).action(
    async (flags: ClientFlags) => {
      const brokers = await withClient(flags, (client) => client.admin().clusterStatus())
      if (flags.output === 'json') printJson(brokers.map(toJson))
      else printData(formatTable(brokers, columns(brokers)))
      if (brokers.length === 0 || brokers.some((broker) => !broker.status)) process.exitCode = unhealthyExitCode
    },
  )
  withClientOptions(
    cluster.command('watch').description('events of all replicas as they happen, one line each'),
  ).action(async (flags: ClientFlags) => {
    const stop = new AbortController()
    process.once('SIGINT', () => stop.abort())
    process.once('SIGTERM', () => stop.abort())
    await withClient(flags, async (client) => {
      for await (const event of client.admin().watchEvents({ signal: stop.signal })) print(event, flags)
    })
  })
}

function columns(brokers: readonly ReplicaReport[]): Parameters<typeof formatTable<ReplicaReport>>[1] {
  const leaderOf = (broker: ReplicaReport): ReplicaReport | undefined =>
    brokers.find((other) => other.group === broker.group && other.status?.role === 'leader')
  return [
    { head: 'GROUP', cell: (row) => row.group },
    { head: 'NODE', cell: (row) => row.node },
    { head: 'ADDRESS', cell: (row) => row.address },
    { head: 'ROLE', cell: (row) => row.status?.role ?? `no answer: ${row.error?.code ?? 'unknown'}` },
    { head: 'TERM', cell: (row) => row.status?.term },
    { head: 'LAST', cell: (row) => row.status?.lastIndex },
    { head: 'COMMIT', cell: (row) => row.status?.commitIndex },
    { head: 'APPLIED', cell: (row) => row.status?.appliedIndex },
    {
      head: 'LAG',
      cell: (row) => {
        const last = leaderOf(row)?.status?.lastIndex
        return last === undefined || !row.status ? null : Math.max(0, last - row.status.lastIndex)
      },
    },
    { head: 'PID', cell: (row) => row.status?.pid },
    { head: 'REASON', cell: (row) => row.status?.reason ?? row.error?.message },
  ]
}

/** An Error as JSON would lose its message. */
function toJson({ error, ...report }: ReplicaReport): unknown {
  return { ...report, error: error && { code: error.code, message: error.message } }
}

function print(event: NodeEvent, flags: ClientFlags): void {
  if (flags.output === 'json') {
    printJson(event)
    return
  }
  const details = Object.entries(event.details)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')
  printData(
    `${new Date(event.wallMs).toISOString()} ${event.group}/${event.node} term ${event.term} ${event.kind} ${details}`.trimEnd(),
  )
}
