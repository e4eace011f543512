/**
 * A replica loses its whole disk while the group is under load: the folder is emptied, the node comes back, is
 * replaced, copies the log and votes again. Measures how long that takes and what it costs the load.
 *
 * `node dist/test/verify/wiped-replica.js --mib 2048 --json`; `npm run verify` and a test of `test/cluster` use it, too.
 */
import { rmSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { type NodePlan, nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import { type Session, withSession } from '../../src/cli/fast-try/session.ts'
import { runChange } from '../../src/cli/raft/change.ts'
import { RaftGroup } from '../../src/cli/raft/group.ts'
import type { Producer } from '../../src/client/mod.ts'
import { sleep, systemClock } from '../../src/common/clock.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { createGrpcTransport } from '../../src/rpc/grpc-transport.ts'
import type { ReplicaStatusReply } from '../../src/rpc/methods.ts'

export interface WipedReport {
  readonly logMib: number
  /** From the start of the empty replica until it votes and has applied what the leader has. */
  readonly seconds: number
  readonly beforePerSecond: number
  readonly duringPerSecond: number
  /** Of the goodput during the copy to that before it. */
  readonly ratio: number
  /** The replica made a copy, instead of being sent everything. */
  readonly copied: boolean
  /** Sends that were not acknowledged. */
  readonly failed: number
}

export interface WipedOptions {
  readonly logMib: number
  /** Time that the goodput before is taken from, milliseconds. */
  readonly beforeMs: number
  readonly timeoutMs: number
  /** Until a send counts as failed, milliseconds; that of every producer when absent. */
  readonly sendTimeoutMs?: number
  readonly say: (line: string) => void
}

const topic = 'Wiped'
const queues = 8
const inFlight = 256
const bodyBytes = 1024
const fillBodyBytes = 256 * 1024
const fillInFlight = 32
const mebibyte = 1024 * 1024
/** Entries that may be missing under load in a replica that is called caught up. */
const lagMax = 5000

export async function measureWipedReplica(options: WipedOptions): Promise<WipedReport> {
  const cluster = { dataDirectory: undefined, nodesPerGroup: 3, groups: 1, namesrvs: 1, anyPorts: true }
  return withSession(cluster, systemClock, async (session) => {
    await session.client.admin().createTopic({ topic, queues })
    const { sendTimeoutMs } = options
    const producer = session.client.producer(sendTimeoutMs === undefined ? {} : { sendTimeoutMs })
    try {
      return await measure(session, producer, options)
    } finally {
      await producer.close()
    }
  })
}

async function measure(session: Session, producer: Producer, options: WipedOptions): Promise<WipedReport> {
  const { say, logMib } = options
  await fill(session, producer, logMib)
  say(`the log holds ${logMib} MiB`)
  const load = new ClosedLoad(producer)
  try {
    return await measureUnder(load, session, options)
  } finally {
    // Lanes that went on with a closed producer would keep the process busy for ever.
    await load.stop()
  }
}

async function measureUnder(load: ClosedLoad, session: Session, options: WipedOptions): Promise<WipedReport> {
  const { say, beforeMs, timeoutMs, logMib } = options
  await sleep(systemClock, beforeMs / 2)
  const before = await load.rate(() => sleep(systemClock, beforeMs))
  say(`${Math.round(before)} messages a second before`)
  const victim = await follower(session)
  session.cluster.processes.signal(victim.name, 'SIGKILL')
  await session.cluster.processes.waitGone(victim.name, 60_000)
  rmSync(nodeDirectory(session.plan, victim), { recursive: true, force: true })
  const startedMs = systemClock.monotonicMs()
  let copied = false
  session.cluster.onEvent(({ node, kind }) => {
    copied ||= node === victim.node && kind === 'catch_up_finished'
  })
  const during = await load.rate(async () => {
    session.cluster.processes.start(victim.name)
    await replace(session, victim, options)
    await caughtUp(session, victim, timeoutMs)
  })
  const seconds = Math.round((systemClock.monotonicMs() - startedMs) / 100) / 10
  const failed = await load.stop()
  const ratio = Math.round((during / before) * 100) / 100
  const rates = { beforePerSecond: Math.round(before), duringPerSecond: Math.round(during) }
  return { logMib, seconds, ...rates, ratio, copied, failed }
}

/** Large messages until the log of the leader is that long. */
async function fill(session: Session, producer: Producer, logMib: number): Promise<void> {
  const body = Buffer.alloc(fillBodyBytes, 'x')
  const perRound = fillInFlight * 4
  for (;;) {
    const [first] = session.plan.nodes
    const logBytes = (await statusOf(session, first as NodePlan))?.logBytes ?? 0
    if (logBytes >= logMib * mebibyte) return
    let left = Math.min(perRound, Math.ceil((logMib * mebibyte - logBytes) / fillBodyBytes) + 1)
    const lane = async (): Promise<void> => {
      while (left-- > 0) await producer.send({ topic, body })
    }
    await Promise.all(Array.from({ length: fillInFlight }, lane))
  }
}

async function follower(session: Session): Promise<NodePlan> {
  const group = session.plan.nodes[0]?.group ?? ''
  let leader = ''
  await session.cluster.waitFor('the group has a leader', 60_000, async () => {
    leader = (await session.cluster.leader(group))?.plan.name ?? ''
    return leader !== ''
  })
  const found = session.plan.nodes.find(({ name }) => name !== leader)
  if (!found) throw new Error('the group has one replica')
  return found
}

async function replace(session: Session, victim: NodePlan, { timeoutMs, say }: WipedOptions): Promise<void> {
  const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger })
  const others = session.plan.nodes.filter(({ name }) => name !== victim.name)
  const group = new RaftGroup(
    { clock: systemClock, transport },
    others.map(({ clientPort }) => `127.0.0.1:${clientPort}`),
  )
  try {
    const raftAddress = `127.0.0.1:${victim.raftPort}`
    const request = { kind: 'replace', node: victim.node, raftAddress, learner: false, priority: 0, force: false }
    await runChange(group, systemClock, request, { timeoutMs, wait: true, say })
  } finally {
    group.close()
  }
}

async function caughtUp(session: Session, victim: NodePlan, timeoutMs: number): Promise<void> {
  const endMs = systemClock.monotonicMs() + timeoutMs
  for (;;) {
    const leader = await session.cluster.leader(victim.group)
    const own = await statusOf(session, victim)
    const lag = (leader?.status?.commitIndex ?? Number.POSITIVE_INFINITY) - (own?.appliedIndex ?? 0)
    if (own?.role === 'follower' && own.quarantine === '' && lag <= lagMax) return
    if (systemClock.monotonicMs() > endMs) throw new Error(`not caught up: ${JSON.stringify(own)}`)
    await sleep(systemClock, 200)
  }
}

async function statusOf(session: Session, node: NodePlan): Promise<ReplicaStatusReply | null> {
  const view = (await session.cluster.view()).find(({ plan }) => plan.name === node.name)
  return (view?.status as ReplicaStatusReply | null | undefined) ?? null
}

/** As many sends under way as it is made for: each answer starts the next. */
class ClosedLoad {
  readonly #producer: Producer
  readonly #lanes: Promise<void>[]
  #acknowledged = 0
  #failed = 0
  #stopped = false

  constructor(producer: Producer) {
    this.#producer = producer
    this.#lanes = Array.from({ length: inFlight }, () => this.#lane())
  }

  /** Acknowledgements a second while `work` runs. */
  async rate(work: () => Promise<void>): Promise<number> {
    const from = this.#acknowledged
    const startMs = systemClock.monotonicMs()
    await work()
    return ((this.#acknowledged - from) * 1000) / (systemClock.monotonicMs() - startMs)
  }

  async stop(): Promise<number> {
    this.#stopped = true
    await Promise.all(this.#lanes)
    return this.#failed
  }

  async #lane(): Promise<void> {
    const body = Buffer.alloc(bodyBytes, 'y')
    while (!this.#stopped) {
      try {
        await this.#producer.send({ topic, body })
        this.#acknowledged++
      } catch {
        this.#failed++
      }
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({ options: { mib: { type: 'string', default: '2048' } } })
  const report = await measureWipedReplica({
    logMib: Number(values.mib),
    beforeMs: 10_000,
    timeoutMs: 600_000,
    say: (line) => process.stderr.write(`${line}\n`),
  })
  process.stdout.write(`${JSON.stringify(report)}\n`)
}
