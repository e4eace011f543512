/**
 * Members come and go while a steady load runs: added, promoted, removed, replaced with empty disks, leadership handed
 * to a newcomer, the leader itself taken out. Measures what every single change costs the load, and checks at the end
 * that nothing was lost, doubled or displaced, and that the logs of all members are equal.
 *
 * `node dist/test/verify/members.js --runs 8 --json`; a step of `npm run verify`. Also a table, on stderr with `--json`.
 */
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { verifyReplicas } from '../../src/broker/verify.ts'
import { check } from '../../src/cli/fast-try/check.ts'
import { drain } from '../../src/cli/fast-try/drain.ts'
import { nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import { Load } from '../../src/cli/fast-try/load.ts'
import { type Session, withSession } from '../../src/cli/fast-try/session.ts'
import { type Spread, spreadOf } from '../../src/cli/fast-try/statistics.ts'
import { formatTable } from '../../src/cli/output.ts'
import { sleep, systemClock } from '../../src/common/clock.ts'
import { LevelKeyValueEngine, NodeDisk } from '../../store/index.ts'
import { Fleet } from './fleet.ts'
import { findBrokenMembers } from './limits.ts'

export const changeKinds = [
  'add',
  'add learner',
  'promote',
  'transfer-leader',
  'remove follower',
  'remove leader',
  'replace',
] as const
export type ChangeKind = (typeof changeKinds)[number]

export interface ChangeResult {
  readonly kind: ChangeKind
  readonly node: string
  /** Longest time between two acknowledgements, from before the change until it has settled. */
  readonly gapMs: number
  /** From the request until the change is done: a joiner is a voter, a removed node is out. */
  readonly tookMs: number
}

export interface KindReport {
  readonly kind: ChangeKind
  readonly count: number
  readonly gapMs: Spread
  readonly tookMs: Spread
}

export interface MembersReport {
  readonly runs: number
  readonly changes: number
  readonly acknowledged: number
  readonly lost: number
  readonly duplicated: number
  readonly offsetGaps: number
  readonly corrupted: number
  readonly sendErrors: number
  readonly logsEqual: boolean
  /** Of all changes together. */
  readonly gapMs: Spread
  readonly kinds: readonly KindReport[]
  /** A few examples of what is wrong, for people. */
  readonly findings: readonly string[]
}

export interface MembersOptions {
  readonly runs: number
  readonly messagesPerSecond: number
  /** The load after a change that still counts as its surroundings. */
  readonly settleMs: number
  readonly say: (line: string) => void
}

const topic = 'Members'
const queues = 8
const sendTimeoutMs = 10_000
const findingsMax = 10

export async function measureMembers(options: MembersOptions): Promise<MembersReport> {
  const cluster = { dataDirectory: undefined, nodesPerGroup: 3, groups: 1, namesrvs: 1, anyPorts: true }
  return withSession(cluster, systemClock, async (session) => {
    const fleet = await Fleet.open(session)
    try {
      return await measure(session, fleet, options)
    } finally {
      await fleet.stopAll()
    }
  })
}

async function measure(session: Session, fleet: Fleet, options: MembersOptions): Promise<MembersReport> {
  await session.client.admin().createTopic({ topic, queues })
  const producer = session.client.producer({ sendTimeoutMs })
  const lines = Array.from({ length: 100 }, (_, index) => Buffer.from(`line ${index} ${'x'.repeat(index)}`))
  const load = new Load(producer, systemClock, { topic, lines, messagesPerSecond: options.messagesPerSecond })
  const results: ChangeResult[] = []
  load.start()
  try {
    for (let run = 1; run <= options.runs; run++) await runAll(new Changes(fleet, load, options, results, run))
  } finally {
    await load.stop()
    await producer.close()
  }
  options.say(`reading back ${load.acknowledged} messages …`)
  return report(session, fleet, load, results, options)
}

/** Every node is exchanged once, and there are three voters again at the end. */
async function runAll(changes: Changes): Promise<void> {
  const { fleet } = changes
  const newcomer = fleet.spare
  const leader = await fleet.settled()
  const [first = '', second = ''] = fleet.members.map(({ name }) => name).filter((name) => name !== leader)

  await changes.one('add', newcomer, () => fleet.startEmpty(newcomer))
  await changes.one('transfer-leader', newcomer)
  await changes.one('remove follower', leader)
  await fleet.stop(leader, 'SIGTERM')
  await changes.one('add learner', leader, () => fleet.startEmpty(leader))
  await changes.one('promote', leader)
  await changes.one('remove follower', first)
  await fleet.stop(first, 'SIGTERM')
  await changes.one('add', first, () => fleet.startEmpty(first))
  await changes.one('replace', second, async () => {
    await fleet.stop(second, 'SIGKILL')
    await fleet.startEmpty(second)
  })
  const leaving = await fleet.settled()
  await changes.one('remove leader', leaving)
  await fleet.stop(leaving, 'SIGTERM')
}

/** The changes of one run, each measured. */
class Changes {
  readonly fleet: Fleet
  readonly #load: Load
  readonly #options: MembersOptions
  readonly #results: ChangeResult[]
  readonly #run: number

  constructor(fleet: Fleet, load: Load, options: MembersOptions, results: ChangeResult[], run: number) {
    this.fleet = fleet
    this.#load = load
    this.#options = options
    this.#results = results
    this.#run = run
  }

  /** `prepare` belongs to the surroundings of the change, not to the time it takes. */
  async one(kind: ChangeKind, node: string, prepare: () => Promise<void> = async () => {}): Promise<void> {
    const { say, settleMs, runs } = this.#options
    await this.fleet.settled()
    this.#load.markGapStart()
    await prepare()
    const startedMs = systemClock.monotonicMs()
    await perform(this.fleet, kind, node)
    const tookMs = Math.round(systemClock.monotonicMs() - startedMs)
    await sleep(systemClock, settleMs)
    await this.fleet.settled()
    const gapMs = Math.round(this.#load.longestGapMs())
    this.#results.push({ kind, node, gapMs, tookMs })
    say(`run ${this.#run}/${runs}: ${kind} ${node}, longest gap ${gapMs} ms, took ${tookMs} ms`)
  }
}

async function perform(fleet: Fleet, kind: ChangeKind, node: string): Promise<void> {
  switch (kind) {
    case 'add':
      return fleet.change('add', node)
    case 'add learner':
      return fleet.change('add', node, { learner: true })
    case 'promote':
      return fleet.change('promote', node)
    case 'transfer-leader':
      return fleet.transfer(node)
    case 'replace':
      return fleet.change('replace', node)
    default:
      return fleet.change('remove', node)
  }
}

async function report(
  session: Session,
  fleet: Fleet,
  load: Load,
  results: readonly ChangeResult[],
  { runs }: MembersOptions,
): Promise<MembersReport> {
  const messages = await drain(session.client, topic)
  const { acknowledgements, sent } = load
  const checked = check({ acknowledgements, messages, sent, body: (sequence) => load.body(sequence) })
  await fleet.settled()
  const folders = fleet.members.map((node) => nodeDirectory(session.plan, node))
  await fleet.stopAll()
  const verified = await verifyReplicas(folders, { disk: new NodeDisk('/'), engine: new LevelKeyValueEngine() })
  const { acknowledged, lost, duplicated, offsetGaps, corrupted } = checked
  return {
    runs,
    changes: results.length,
    ...{ acknowledged, lost, duplicated, offsetGaps, corrupted },
    sendErrors: load.errors.length,
    logsEqual: verified.equal && verified.replicas.every(({ defect }) => defect === null),
    gapMs: spreadOf(results.map(({ gapMs }) => gapMs)),
    kinds: changeKinds.map((kind) => kindReport(kind, results)).filter(({ count }) => count > 0),
    findings: [...checked.findings, ...load.errors].slice(0, findingsMax),
  }
}

function kindReport(kind: ChangeKind, results: readonly ChangeResult[]): KindReport {
  const own = results.filter((result) => result.kind === kind)
  const gapMs = spreadOf(own.map((result) => result.gapMs))
  return { kind, count: own.length, gapMs, tookMs: spreadOf(own.map(({ tookMs }) => tookMs)) }
}

export function tableOf({ kinds }: MembersReport): string {
  return formatTable(kinds, [
    { head: 'CHANGE', cell: (row) => row.kind },
    { head: 'COUNT', cell: (row) => row.count },
    { head: 'GAP P50', cell: (row) => row.gapMs.p50 },
    { head: 'GAP P99', cell: (row) => row.gapMs.p99 },
    { head: 'GAP MAX', cell: (row) => row.gapMs.max },
    { head: 'TOOK P50', cell: (row) => row.tookMs.p50 },
    { head: 'TOOK MAX', cell: (row) => row.tookMs.max },
  ])
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: { runs: { type: 'string', default: '8' }, json: { type: 'boolean', default: false } },
  })
  const runs = Number(values.runs)
  const measured = await measureMembers({
    runs,
    messagesPerSecond: 1000,
    settleMs: 500,
    say: (line) => process.stderr.write(`${line}\n`),
  })
  const table = values.json ? process.stderr : process.stdout
  table.write(`${tableOf(measured)}\n`)
  process.stdout.write(`${JSON.stringify(measured)}\n`)
  const broken = findBrokenMembers(measured, runs)
  for (const line of broken) process.stderr.write(`${line}\n`)
  if (broken.length > 0) process.exitCode = 1
}
