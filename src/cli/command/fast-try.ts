/**
 * `ledgermq fast-try`: a local cluster of real processes. Without a terminal it runs the demonstration and ends; on a
 * terminal it stays open with a live table; `start|status|kill|restart|stop` manage one in the background.
 */
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { sleep, systemClock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { addNode } from '../fast-try/add-node.ts'
import { banner } from '../fast-try/banner.ts'
import { isHealthy, LocalCluster, type NodeView } from '../fast-try/cluster.ts'
import { connectWhenUp } from '../fast-try/connect.ts'
import { demonstrate, verdict } from '../fast-try/demonstration.ts'
import { enterFolder } from '../fast-try/footprint.ts'
import { type ClusterPlan, loadPlan, type NodePlan, planCluster, savePlan } from '../fast-try/layout.ts'
import { runLive } from '../fast-try/live.ts'
import { Load } from '../fast-try/load.ts'
import { Processes } from '../fast-try/processes.ts'
import { type ScriptName, scriptNames } from '../fast-try/scripts.ts'
import { type Session, withSession } from '../fast-try/session.ts'
import { checkSameShape, type ShapeWish, shapeOf } from '../fast-try/shape.ts'
import { formatTable, printData, printJson, printTalk } from '../output.ts'
import { type OutputFlags, withOutput } from '../output-option.ts'
import { positiveInteger } from '../parse.ts'

interface AttachedFlags extends OutputFlags, ShapeWish {
  readonly data?: string
  readonly anyPorts?: boolean
  readonly script?: ScriptName
  readonly runs: number
  readonly rate: number
  readonly input?: string
  readonly demonstration?: boolean
}

const defaultBackgroundDirectory = '.fast-try'
const steadyMs = 1000
const pauseMs = 10_000
/** A process that dies is noticed at once: this one is for what hangs, on a machine that may be slow. */
const startTimeoutMs = 90_000
const anyPortsText = 'any free ports instead of the documented ones, for clusters side by side'
const addTimeoutMs = 5 * 60_000
/** Registrations take milliseconds, on a busy machine seconds; longer means that others answer. */
const routeTimeoutMs = 20_000

export function registerFastTry(program: Command): void {
  const fastTry = withOutput(program.command('fast-try'), 'table or json, the result as one line of it on stdout')
    .description('start a local cluster of real processes, break its leader, watch it recover')
    .option('--data <folder>', 'keep the data in this folder (default: a temporary one, thrown away)')
    .option('--nodes <n>', 'replicas in a broker group (default: 3)', positiveInteger)
    .option('--groups <n>', 'broker groups (default: 1)', positiveInteger)
    .option('--namesrvs <n>', 'namesrv processes (default: 1)', positiveInteger)
    .option('--any-ports', anyPortsText)
    .addOption(new Option('--script <name>', 'repeat this fault under load and count').choices([...scriptNames]))
    .option('--runs <n>', 'how often', positiveInteger, 1)
    .option('--rate <n>', 'messages per second of the load', positiveInteger, 1000)
    .option('--input <file>', 'file whose lines are sent')
    .option('--demonstration', 'run the demonstration and end, also on a terminal')
    .action(async (flags: AttachedFlags) => {
      const interactive = process.stdin.isTTY && process.stdout.isTTY && !flags.script && !flags.demonstration
      await (interactive ? stayOpen(flags) : runDemonstration(flags))
    })
  registerBackground(fastTry)
}

async function runDemonstration(flags: AttachedFlags): Promise<void> {
  const say = flags.output === 'json' ? printTalk : printData
  const good = await withSession(sessionOptions(flags), systemClock, async (session) => {
    say(await bannerOf(session, false))
    const result = await demonstrate(session, systemClock, {
      script: flags.script ?? 'kill-leader',
      runs: flags.runs,
      messagesPerSecond: flags.rate,
      steadyMs,
      pauseMs,
      input: flags.input,
      say,
    })
    say(verdict(result))
    if (flags.output === 'json') printJson(result.report)
    return result.good
  })
  if (!good) process.exitCode = 1
}

async function stayOpen(flags: AttachedFlags): Promise<void> {
  await withSession(sessionOptions(flags), systemClock, async (session) => {
    const topic = 'FastTry'
    await session.client.admin().createTopic({ topic, queues: 8 })
    const producer = session.client.producer()
    const lines = [Buffer.from('hello from fast-try')]
    const load = new Load(producer, systemClock, { topic, lines, messagesPerSecond: flags.rate })
    load.start()
    try {
      await runLive(session.cluster, load, systemClock)
    } finally {
      await load.stop()
      await producer.close()
      printData(`acknowledged ${load.acknowledged}, send errors ${load.errors.length}`)
    }
  })
}

function sessionOptions(flags: AttachedFlags): Parameters<typeof withSession>[0] {
  const known = flags.data === undefined ? null : loadPlan(resolve(flags.data))
  if (known) checkSameShape(known, flags)
  return { dataDirectory: flags.data, ...shapeOf(flags), anyPorts: flags.anyPorts ?? false }
}

async function bannerOf(session: Session, background: boolean): Promise<string> {
  const { plan, kept, readyMs } = session
  return banner({ plan, kept, readyMs, leaders: leadersOf(await session.cluster.view()), background })
}

function leadersOf(view: readonly NodeView[]): readonly string[] {
  return view.filter((node) => node.status?.role === 'leader').map((node) => node.plan.name)
}

interface BackgroundFlags extends OutputFlags, ShapeWish {
  readonly data: string
  readonly anyPorts?: boolean
}

function registerBackground(fastTry: Command): void {
  const verb = (name: string, description: string): Command =>
    fastTry
      .command(name)
      .description(description)
      .option('--data <folder>', 'data folder of the cluster', defaultBackgroundDirectory)
  verb('start', 'start a cluster in the background; its data is kept')
    .option('--nodes <n>', 'replicas in a broker group (default: 3)', positiveInteger)
    .option('--groups <n>', 'broker groups (default: 1)', positiveInteger)
    .option('--namesrvs <n>', 'namesrv processes (default: 1)', positiveInteger)
    .option('--any-ports', anyPortsText)
    .action(async (_flags: unknown, command: Command) => startBackground(command.optsWithGlobals()))
  withOutput(verb('status', 'processes and replicas of the background cluster')).action(
    async (_flags: unknown, command: Command) => printStatus(command.optsWithGlobals()),
  )
  verb('kill', 'kill -9 a process: n0, n1, …, namesrv, or leader')
    .argument('<name>')
    .action(async (name: string, _flags: unknown, command: Command) => {
      const flags = command.optsWithGlobals<BackgroundFlags>()
      const target = name === 'leader' ? (await inBackground(flags, findLeader)).value : name
      const { processes } = openBackground(flags)
      processes.assertName(target)
      if (!processes.signal(target, 'SIGKILL')) throw notRunning(target, processes)
      await processes.waitGone(target, startTimeoutMs)
      printData(`${target} was killed`)
    })
  verb('restart', 'start a process that is down again')
    .argument('<name>')
    .action(async (name: string, _flags: unknown, command: Command) => {
      const { plan, processes } = openBackground(command.optsWithGlobals())
      processes.start(name)
      await processes.waitStarted(startTimeoutMs)
      printData(`${name} runs as process ${processes.pid(name)} on ${plan.cluster}`)
    })
  verb('add-node', 'start one more replica and add it to its broker group')
    .option('--group <name>', 'broker group; the first one when absent')
    .option('--learner', 'let it stay a learner, without a vote')
    .action(async (_flags: unknown, command: Command) => {
      const flags = command.optsWithGlobals<BackgroundFlags & { readonly group?: string; readonly learner?: boolean }>()
      const { plan } = openBackground(flags)
      const group = flags.group ?? plan.nodes[0]?.group ?? ''
      const learner = flags.learner ?? false
      const groups = [...new Set(plan.nodes.map((node) => node.group))]
      if (!groups.includes(group))
        throw new LedgerError('INVALID_PARAMETER', `the cluster has no group ${group}; there are ${groups.join(', ')}`)
      const options = { group, learner, timeoutMs: addTimeoutMs, say: printTalk }
      const { node, membership } = await addNode(plan, systemClock, options)
      const role = membership.members.find((member) => member.node === node.node)?.role ?? 'outside'
      printData(`${node.name} is a ${role} of ${group} now, with ${membership.members.length - 1} others`)
    })
  verb('stop', 'stop every process of the background cluster; the data stays').action(
    async (_flags: unknown, command: Command) => {
      const { processes } = openBackground(command.optsWithGlobals())
      await processes.stopAll()
      printData('stopped')
    },
  )
}

async function startBackground(flags: BackgroundFlags): Promise<void> {
  const dataDirectory = resolve(flags.data)
  const startedMs = systemClock.monotonicMs()
  const known = loadPlan(dataDirectory)
  if (known) checkSameShape(known, flags)
  const plan = known ?? (await planCluster({ dataDirectory, ...shapeOf(flags), anyPorts: flags.anyPorts ?? false }))
  const footprint = enterFolder(dataDirectory)
  savePlan(plan)
  const processes = new Processes(plan, systemClock, { attached: false })
  const down = processes.names.filter((name) => processes.state(name) === 'down')
  try {
    processes.startAll()
    await processes.waitStarted(startTimeoutMs)
    await tellWhenReady(plan, processes, startedMs)
  } catch (error) {
    // Who is told that it did not start must not find half of it running.
    await processes.stop(down)
    footprint.remove()
    throw error
  }
}

async function tellWhenReady(plan: ClusterPlan, processes: Processes, startedMs: number): Promise<void> {
  await withClient(plan, processes, async (cluster) => {
    await cluster.waitHealthy(startTimeoutMs)
    await cluster.waitRouted(routeTimeoutMs)
    const readyMs = Math.round(systemClock.monotonicMs() - startedMs)
    printData(banner({ plan, kept: true, readyMs, leaders: leadersOf(await cluster.view()), background: true }))
  })
}

async function printStatus(flags: BackgroundFlags): Promise<void> {
  const { plan, processes } = openBackground(flags)
  const namesrvs = plan.namesrvs.map(({ name }) => ({ name, process: processes.state(name), pid: processes.pid(name) }))
  // Without a namesrv the replicas cannot be asked, but their processes are there to see.
  const view = namesrvs.some((namesrv) => namesrv.process === 'running')
    ? await withClient(plan, processes, (cluster) => cluster.view())
    : plan.nodes.map((node) => processView(node, processes))
  const nodes = view.map((node) => ({
    name: node.plan.name,
    process: node.process,
    pid: node.pid,
    status: node.status,
  }))
  const rows = [...namesrvs.map((namesrv) => ({ ...namesrv, status: null })), ...nodes]
  if (flags.output === 'json') printJson(rows)
  else
    printData(
      formatTable(rows, [
        { head: 'NAME', cell: (row) => row.name },
        { head: 'PROCESS', cell: (row) => row.process },
        { head: 'PID', cell: (row) => row.pid },
        { head: 'ROLE', cell: (row) => row.status?.role },
        { head: 'TERM', cell: (row) => row.status?.term },
        { head: 'COMMIT', cell: (row) => row.status?.commitIndex },
        { head: 'APPLIED', cell: (row) => row.status?.appliedIndex },
      ]),
    )
  if (!isHealthy(view) || namesrvs.some((namesrv) => namesrv.process !== 'running')) process.exitCode = 10
}

function processView(plan: NodePlan, processes: Processes): NodeView {
  return { plan, process: processes.state(plan.name), pid: processes.pid(plan.name), status: null }
}

function notRunning(name: string, processes: Processes): LedgerError {
  const running = processes.names.filter((each) => processes.state(each) !== 'down')
  const there = running.length === 0 ? 'no process of the cluster runs' : `running are ${running.join(', ')}`
  const hint = `\`ledgermq fast-try restart ${name}\` starts it again.`
  return new LedgerError('INVALID_PARAMETER', `${name} does not run; ${there}`, {}, { hint })
}

async function findLeader(cluster: LocalCluster): Promise<string> {
  const leader = await cluster.leader(cluster.plan.nodes[0]?.group ?? '')
  if (!leader) throw new LedgerError('NO_QUORUM', 'there is no leader to kill')
  return leader.plan.name
}

function openBackground(flags: { readonly data: string }): {
  readonly plan: ClusterPlan
  readonly processes: Processes
} {
  const plan = loadPlan(resolve(flags.data))
  if (!plan)
    throw new LedgerError(
      'CONFIG_INVALID',
      `${resolve(flags.data)} holds no cluster`,
      {},
      { hint: 'Start one there with `ledgermq fast-try start`, or name the folder of another one with --data.' },
    )
  return { plan, processes: new Processes(plan, systemClock, { attached: false }) }
}

async function inBackground<T>(
  flags: { readonly data: string },
  use: (cluster: LocalCluster) => Promise<T>,
): Promise<{ readonly value: T; readonly processes: Processes }> {
  const { plan, processes } = openBackground(flags)
  return { value: await withClient(plan, processes, use), processes }
}

async function withClient<T>(
  plan: ClusterPlan,
  processes: Processes,
  use: (cluster: LocalCluster) => Promise<T>,
): Promise<T> {
  const client = await connectWhenUp(plan, systemClock, startTimeoutMs)
  const cluster = new LocalCluster(plan, processes, client, systemClock)
  try {
    return await use(cluster)
  } finally {
    cluster.close()
    await client.close()
    // Lets the last answers of the transport settle before the process looks for open handles.
    await sleep(systemClock, 0)
  }
}
