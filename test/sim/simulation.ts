/**
 * One run of one seed: a broker group, a namesrv and a client of the production code under virtual time. First
 * anything may break (safety), then everything is mended and the group must make progress and agree (liveness).
 *
 * Used by `main.ts`, by `sim.test.ts` and for planted bugs. The same seed gives the same run, down to every byte sent.
 */

import type { BrokerOptions } from '../../src/broker/options.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { startNamesrv } from '../../src/namesrv/namesrv.ts'
import { type Broken, drawConfiguration, type SimConfiguration } from './configuration.ts'
import { Digest } from './digest.ts'
import type { FaultEvent, FaultKind } from './fault.ts'
import { both, Faults, oneWay } from './faults.ts'
import { checkAgreement, hasConverged } from './final-checks.ts'
import { Judge } from './judge.ts'
import { Operator } from './operator.ts'
import { SimRandom } from './random.ts'
import { chooseRotten } from './rot-choice.ts'
import { Scheduler } from './scheduler.ts'
import { SimNetwork } from './sim-network.ts'
import { SimNode } from './sim-node.ts'
import { SimProcess } from './sim-process.ts'
import { consumerGroup, namesrvAddress, topic, Workload } from './workload.ts'

export interface RunOptions {
  readonly seed: string
  /** Changes what the seed has drawn. */
  readonly change?: (configuration: SimConfiguration) => SimConfiguration
  /** Instead of what the seed would draw. */
  readonly story?: Story
  /** Hears what happens, with the virtual time in milliseconds. */
  readonly trace?: (atMs: number, text: string) => void
}

/** A run as data: its configuration and its faults. What else is left to chance comes from the seed. */
export interface Story {
  readonly configuration: SimConfiguration
  readonly faults: readonly FaultEvent[]
  /** No leader died during the faults, and one was killed before the group had to show that it can go on. */
  readonly leaderDiesAtEnd: boolean
}

export interface RunResult {
  readonly seed: string
  readonly configuration: SimConfiguration
  /** Null when all is well; else what was broken, or why the run proves nothing. */
  readonly failure: string | null
  readonly elections: number
  readonly crashes: number
  readonly acknowledged: number
  readonly unknown: number
  readonly consumed: number
  readonly commits: number
  /** Answers that had to be current, and changes of topics that were acknowledged. */
  readonly reads: number
  readonly topicChanges: number
  /** Times that the group gave up the beginning of its log, and copies that took its place. */
  readonly trims: number
  readonly copies: number
  /** Entries of disks that rotted. */
  readonly rotted: number
  /** Configuration entries. */
  readonly changes: number
  readonly faults: number
  /** What can be told again as a story. */
  readonly faultList: readonly FaultEvent[]
  readonly leaderDiesAtEnd: boolean
  readonly faultsByKind: Readonly<Partial<Record<FaultKind, number>>>
  readonly errors: Readonly<Record<string, number>>
  readonly events: number
  readonly virtualMs: number
  /** Of all effects: equal for equal seeds. */
  readonly digest: string
}

/** Bounds of the liveness phase, virtual milliseconds. */
const progressMsMax = 30_000
const convergenceMsMax = 30_000
/** Looks for a moment in which nothing is committed while everything is read. */
const restRoundsMax = 20
const lastMessages = 10
const clientHosts = ['client', 'client-2'] as const
const namesrvHost = 'ns'
const operatorHost = 'operator'

/**
 * V8 keeps the optimised code of a closure only as long as such a closure lives. Runs that were forgotten at once would
 * have a good part of the code compiled anew for every seed.
 */
const rememberedMax = 2
const remembered: unknown[] = []

export async function runSeed(options: RunOptions): Promise<RunResult> {
  const simulation = new Simulation(options)
  const onRejection = (error: unknown): void => simulation.bug('somewhere', error)
  process.on('unhandledRejection', onRejection)
  // Errors are events of life here, thousands of them; their stacks would cost a tenth of the run.
  const { stackTraceLimit } = Error
  if (!options.trace) Error.stackTraceLimit = 0
  try {
    return await simulation.run()
  } finally {
    remembered.unshift(simulation)
    remembered.length = Math.min(remembered.length, rememberedMax)
    process.off('unhandledRejection', onRejection)
    Error.stackTraceLimit = stackTraceLimit
  }
}

class Simulation {
  readonly #seed: string
  readonly #configuration: SimConfiguration
  readonly #scheduler = new Scheduler()
  readonly #digest = new Digest()
  readonly #random: SimRandom
  readonly #story: Story | null
  readonly #names: readonly string[]
  readonly #broken = new Set<SimNode>()
  #leaderDiesAtEnd: boolean
  readonly #network: SimNetwork
  readonly #nodes: readonly SimNode[]
  readonly #judge: Judge
  readonly #operatorProcess: SimProcess
  readonly #operator: Operator
  readonly #faults: Faults
  readonly #workload: Workload
  readonly #clients: readonly [SimProcess, SimProcess]
  readonly #trace: (atMs: number, text: string) => void
  #namesrvProcess: SimProcess | null = null
  #isDone: () => boolean = () => false
  readonly #isOver = (): boolean => {
    this.#judge.look()
    return this.#judge.violation !== null || this.#isDone()
  }

  constructor(options: RunOptions) {
    this.#seed = options.seed
    this.#random = new SimRandom(options.seed)
    this.#story = options.story ?? null
    const drawn = this.#story?.configuration ?? drawConfiguration(this.#random.fork('configuration'))
    this.#configuration = options.change ? options.change(drawn) : drawn
    this.#leaderDiesAtEnd = this.#story?.leaderDiesAtEnd ?? false
    const { nodes, spares = 0 } = this.#configuration
    this.#names = Array.from({ length: nodes + spares }, (_, at) => `n${at}`)
    this.#trace = options.trace ?? (() => {})
    this.#network = new SimNetwork(
      this.#scheduler,
      this.#random.fork('network'),
      this.#digest,
      this.#configuration.network,
    )
    this.#nodes = this.#names.map((name) => this.#makeNode(name))
    const { segmentBytes, looksAtDisks, retention } = this.#configuration
    this.#judge = new Judge({
      nodes: () => this.#nodes,
      initial: this.#initial,
      segmentBytes,
      topic,
      group: consumerGroup,
      looksAtDisks,
      nowMs: () => this.#scheduler.nowMs,
      reconfigures: (node, membership) => this.#faults.reconfigures(node, membership),
      followerLagBytesMax: retention?.followerLagBytesMax ?? null,
    })
    const [first, second] = clientHosts
    this.#clients = [this.#process(first), this.#process(second)]
    this.#operatorProcess = this.#process(operatorHost)
    this.#network.onSent = (from, to, purpose, message) => this.#onSent(from, to, purpose, message)
    this.#operator = this.#makeOperator()
    this.#faults = this.#makeFaults()
    this.#workload = new Workload({
      process: this.#clients[0],
      second: this.#clients[1],
      network: this.#network,
      random: this.#random.fork('workload'),
      configuration: this.#configuration,
      judge: this.#judge,
      nodes: this.#nodes,
    })
  }

  async run(): Promise<RunResult> {
    this.#startNamesrv()
    for (const node of this.#nodes) if (this.#initial.includes(node.name)) void node.start()
    void this.#workload.start()
    if (!this.#configuration.faultsAtBirth)
      await this.#until(progressMsMax, () => this.#workload.acknowledged.length > 0)
    this.#faults.start()
    await this.#until(this.#configuration.safetyMs, () => false)
    await this.#finish()
    if (this.#configuration.finalPowerLoss && !this.#judge.violation) await this.#loseAllAndCheckAgain()
    this.#end()
    return this.#result()
  }

  /** What should have ended the process: a broken invariant, or an error nobody caught. */
  bug(where: string, error: unknown): void {
    this.#judge.fail(`${where} stopped: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  }

  /** Liveness: mended, the group must acknowledge, agree and show everything within bounded time. */
  async #finish(): Promise<void> {
    this.#note('mend')
    this.#breakForEver()
    this.#faults.mend(this.#broken)
    if (this.#story === null) this.#leaderDiesAtEnd = !this.#faults.leaderDied
    if (this.#leaderDiesAtEnd) {
      await this.#must(progressMsMax, 'a mended group has a leader', () => {
        return this.#faults.leaderDied || this.#faults.killLeader()
      })
    }
    this.#workload.stop()
    this.#operator.finish()
    await this.#must(progressMsMax, 'what the operator wants is done', () => this.#operator.idle)
    let acknowledged = false
    void this.#workload.sendLast(lastMessages).then(() => {
      acknowledged = true
    })
    await this.#must(progressMsMax, 'a mended group acknowledges messages', () => acknowledged)
    await this.#must(progressMsMax, 'every send and commit is answered', () => this.#workload.idle)
    await this.#must(convergenceMsMax, 'the reader has read everything', () => this.#workload.caughtUp)
    await this.#must(convergenceMsMax, 'all rot is found and made good', () => this.#judge.rot.isHealed)
    await this.#checkAll()
  }

  /** Members that work. */
  get #healthy(): readonly SimNode[] {
    return this.#nodes.filter((node) => !this.#broken.has(node) && this.#judge.electorate.isMember(node))
  }

  get #initial(): readonly string[] {
    return this.#names.slice(0, this.#configuration.nodes)
  }

  /** A minority is left as it is, or worse, for the rest of the run. Cuts come after the mending, which ends all. */
  #breakForEver(): void {
    const { brokenForEver } = this.#configuration
    // The initial voters make their group together: before that none can be spared.
    if (!brokenForEver || this.#healthy.some((node) => !node.joined)) return
    const random = this.#random.fork('for-ever')
    while (this.#broken.size < brokenForEver.count) this.#broken.add(random.pick(this.#nodes))
    for (const node of this.#broken) {
      this.#note(`${node.name} is ${brokenForEver.how} for ever`)
      node.brokenForEver = true
      this.#scheduler.after(0, () => this.#leaveBroken(node, brokenForEver.how))
    }
  }

  #leaveBroken(node: SimNode, how: Broken): void {
    const hosts = [...this.#names.filter((name) => name !== node.name), ...clientHosts, namesrvHost]
    if (how === 'dead') {
      this.#judge.ending(node)
      node.kill()
    } else if (how === 'paused') node.pause()
    else {
      if (how === 'isolated') for (const cut of both(hosts, node)) this.#network.cut(cut)
      else for (const cut of oneWay({ hosts, purpose: null, outgoing: how === 'mute' }, node)) this.#network.cut(cut)
      node.resume()
    }
  }

  async #loseAllAndCheckAgain(): Promise<void> {
    this.#note('power loss of all')
    for (const node of this.#healthy) {
      this.#judge.ending(node)
      node.crash(true)
    }
    for (const node of this.#healthy) void node.start()
    await this.#checkAll()
  }

  /** Again when the group was not at rest until the end: a leader trims when it is time. */
  async #checkAll(): Promise<void> {
    for (let round = 0; round < restRoundsMax; round++) {
      await this.#must(convergenceMsMax, 'all replicas apply the same', () => hasConverged(this.#healthy))
      if (this.#judge.violation) return
      this.#workload.checkAcknowledged(this.#healthy)
      const { lastCommitted } = this.#judge
      const report: { problem?: string | null } = {}
      void checkAgreement(this.#healthy, this.#judge, this.#configuration).then((problem) => {
        report.problem = problem
      })
      await this.#must(convergenceMsMax, 'everything can be read', () => report.problem !== undefined)
      if (this.#judge.lastCommitted !== lastCommitted) continue
      if (report.problem) this.#judge.fail(report.problem)
      return
    }
    this.#judge.fail(`P8: the group is not at rest in any of ${restRoundsMax} looks`)
  }

  async #must(withinMs: number, what: string, isDone: () => boolean): Promise<void> {
    if (await this.#until(withinMs, isDone)) return
    if (this.#judge.violation) return
    this.#judge.fail(
      `P8: not reached within ${withinMs} ms: ${what}; operator ${this.#operator.status}; ${JSON.stringify(this.#state())}`,
    )
  }

  async #until(withinMs: number, isDone: () => boolean): Promise<boolean> {
    this.#isDone = isDone
    await this.#scheduler.run(this.#scheduler.nowMs + withinMs, this.#isOver)
    return this.#judge.violation === null && isDone()
  }

  #makeNode(name: string): SimNode {
    return new SimNode(this.#brokerOptions(name), {
      scheduler: this.#scheduler,
      network: this.#network,
      random: this.#random,
      digest: this.#digest,
      disk: this.#configuration.disk,
      started: (node, broker) => {
        this.#note(`${node.name} joined`)
        broker.events.subscribe((event) => this.#trace(this.#scheduler.nowMs, `${node.name} ${describe(event)}`))
        this.#judge.started(node, broker)
      },
      starting: (node) => this.#judge.rot.starting(node),
      failed: (node, error) => this.#onFailed(node, error),
    })
  }

  /** A broker may give up when its disk does, and only then. */
  #onFailed(node: SimNode, error: unknown): void {
    const isBug = error instanceof Error && error.name === 'InvariantError'
    if (isBug || !node.sick) this.bug(node.name, error)
    else {
      this.#note(`${node.name} gives up`)
      this.#faults.end(node, 'kill')
    }
  }

  #brokerOptions(node: string): BrokerOptions {
    const { raft, limits, segmentBytes, retention } = this.#configuration
    const members = this.#initial.map((member) => ({ node: member, raftAddress: `${member}:30912` }))
    const join = members.map(({ raftAddress }) => raftAddress)
    const place = this.#initial.includes(node)
      ? { members, bootstrap: true }
      : { members: [], bootstrap: false, join, raftListen: `${node}:30912` }
    return {
      cluster: 'RaftCluster',
      group: 'RaftNode00',
      node,
      directory: `data/${node}`,
      listen: `${node}:30911`,
      ...place,
      namesrv: [namesrvAddress],
      segmentBytes,
      registerIntervalMs: 2000,
      raft,
      limits,
      ...(retention ? { retention } : {}),
    }
  }

  #makeFaults(): Faults {
    return new Faults({
      scheduler: this.#scheduler,
      network: this.#network,
      random: this.#random.fork('nemesis'),
      configuration: this.#configuration,
      nodes: this.#nodes,
      clientHosts,
      list: this.#story?.faults ?? null,
      ending: (node) => this.#judge.ending(node),
      restartNamesrv: () => this.#startNamesrv(),
      maySpare: (node) => this.#operator.idle && this.#judge.maySpare(node),
      isOutside: (node) => this.#operator.idle && !this.#judge.electorate.isMember(node),
      lost: (machine) => this.#judge.wiped(machine),
      rot: (node, event) => this.#rot(node, event),
      ask: (task) => this.#operator.ask(task),
      note: (text) => this.#note(text),
    })
  }

  #makeOperator(): Operator {
    return new Operator({
      process: this.#operatorProcess,
      network: this.#network,
      nodes: this.#nodes,
      electorate: this.#judge.electorate,
      judge: this.#judge,
      note: (text) => this.#note(text),
    })
  }

  #rot(node: SimNode, event: Extract<FaultEvent, { readonly kind: 'bit_rot' }>): void {
    // While members change nobody knows who will be needed.
    if (!this.#operator.idle) return
    const mayCut = this.#configuration.faults.remove_node === undefined
    const rotten = chooseRotten(node, event, { judge: this.#judge, nodes: this.#nodes, mayCut })
    if (rotten.length > 0 && event.failsRepair) node.failNextRepair()
    for (const entry of rotten) {
      this.#note(`entry ${entry.index} of ${node.name} rots`)
      for (const at of event.places) this.#judge.rot.injure(node, entry, at)
    }
  }

  #startNamesrv(): void {
    if (this.#namesrvProcess) {
      this.#namesrvProcess.kill()
      this.#network.kill(this.#namesrvProcess, false)
    }
    const process = this.#process(namesrvHost)
    this.#namesrvProcess = process
    const ports = { clock: process, transport: this.#network.endpoint(process), logger: silentLogger }
    void startNamesrv({ listen: namesrvAddress, registerIntervalMs: 2000 }, ports)
  }

  #process(name: string): SimProcess {
    const lateness = this.#random.fork(`late.${name}`)
    return new SimProcess(name, {
      scheduler: this.#scheduler,
      wallMs: () => Math.floor(1_700_000_000_000 + this.#scheduler.nowMs),
      latenessMs: () => lateness.next() * 0.5,
      wakeOrder: () => 0,
      crashed: (error) => this.bug(name, error),
    })
  }

  #onSent(from: SimProcess, to: string, purpose: string, message: unknown): void {
    if (purpose !== 'control' || !Buffer.isBuffer(message)) return
    const node = this.#nodes.find((candidate) => candidate.process === from)
    if (node) this.#judge.onPeerMessage(node, to, message)
  }

  #note(text: string): void {
    this.#digest.addText(text)
    this.#trace(this.#scheduler.nowMs, text)
  }

  #state(): unknown {
    return this.#nodes.map((node) => {
      if (!node.broker) return { node: node.name, role: 'down' }
      const { role, reason, term, lastIndex, durableIndex, commitIndex, appliedIndex } = node.broker.status()
      return { node: node.name, role, reason, term, lastIndex, durableIndex, commitIndex, appliedIndex }
    })
  }

  /** Nothing may act any more when the next run begins. */
  #end(): void {
    for (const node of this.#nodes) node.kill()
    for (const client of this.#clients) client.kill()
    this.#operatorProcess.kill()
    this.#namesrvProcess?.kill()
  }

  #result(): RunResult {
    const acknowledged = this.#workload.acknowledged.length
    const { elections } = this.#judge
    const { crashes } = this.#faults
    let failure = this.#judge.violation?.message ?? null
    if (failure === null && (elections === 0 || crashes === 0 || acknowledged === 0)) {
      failure = `INVALID: ${elections} elections, ${crashes} crashes, ${acknowledged} acknowledged prove nothing`
    }
    return {
      seed: this.#seed,
      configuration: this.#configuration,
      failure,
      elections,
      crashes,
      acknowledged,
      unknown: this.#workload.unknown,
      consumed: this.#workload.consumed,
      commits: this.#workload.commits,
      reads: this.#workload.reads,
      topicChanges: this.#workload.topicChanges,
      trims: this.#judge.messages.trims,
      copies: this.#judge.copies,
      rotted: this.#judge.rot.entries,
      changes: this.#judge.electorate.changes,
      faults: this.#faults.total,
      faultList: this.#faults.recorded,
      leaderDiesAtEnd: this.#leaderDiesAtEnd,
      faultsByKind: this.#faults.counts,
      errors: this.#workload.errors,
      events: this.#scheduler.executed,
      virtualMs: Math.round(this.#scheduler.nowMs),
      digest: this.#digest.hex,
    }
  }
}

function describe(event: { readonly kind: string; readonly term: number; readonly details: object }): string {
  const details = Object.entries(event.details).map(([key, value]) => `${key}=${value}`)
  return [event.kind, `term=${event.term}`, ...details].join(' ')
}
