/**
 * Starts, signals and watches the processes of a local cluster. Every process has a pid file with its start time, so
 * that a pid that the system gave to somebody else is never signalled; nothing is ever found by searching.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, fstatSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { type ClusterPlan, type NamesrvPlan, type NodePlan, namesrvAddresses, nodeDirectory } from './layout.ts'
import { factsOf, isGone } from './process-table.ts'

export type ProcessState = 'running' | 'paused' | 'down'

interface PidRecord {
  readonly pid: number
  /** Start time as the kernel tells it, null where it does not. */
  readonly started: string | null
}

/** The compiled command line, also when this file itself runs from its source. */
const entry = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../../dist/src/cli/main.js' : '../main.js', import.meta.url),
)

export class Processes {
  readonly #plan: ClusterPlan
  readonly #clock: Clock
  /** True: children end with this process, however it ends. */
  readonly #attached: boolean
  readonly #children = new Map<string, ChildProcess>()
  /** Where the log of a process that is starting begins. */
  readonly #starting = new Map<string, number>()

  constructor(plan: ClusterPlan, clock: Clock, options: { readonly attached: boolean }) {
    this.#plan = plan
    this.#clock = clock
    this.#attached = options.attached
    mkdirSync(join(plan.dataDirectory, 'run'), { recursive: true })
    mkdirSync(join(plan.dataDirectory, 'logs'), { recursive: true })
  }

  get names(): readonly string[] {
    return [...this.#plan.namesrvs, ...this.#plan.nodes].map((member) => member.name)
  }

  /** Starts a namesrv or a node by its name; harmless when it runs already. */
  start(name: string): void {
    this.assertName(name)
    if (this.state(name) !== 'down') return
    const namesrv = this.#plan.namesrvs.find((member) => member.name === name)
    const node = this.#plan.nodes.find((member) => member.name === name)
    if (namesrv) this.#spawn(name, this.#namesrvArguments(namesrv))
    else if (node) this.#spawn(name, this.#brokerArguments(node))
  }

  /**
   * Resolves when everything that was started has said that it is ready. Rejects with the end of the log of the first
   * that died instead, for example because its port is taken.
   */
  async waitStarted(timeoutMs: number): Promise<void> {
    const end = this.#clock.monotonicMs() + timeoutMs
    for (const name of [...this.#starting.keys()]) {
      while (!this.#isReady(name)) {
        if (this.state(name) === 'down')
          throw new LedgerError('SERVICE_NOT_AVAILABLE', `${name} ended while it started:\n${this.logTail(name, 8)}`)
        if (this.#clock.monotonicMs() > end)
          throw new LedgerError('TIMEOUT', `${name} is not ready after ${timeoutMs} ms`)
        await sleep(this.#clock, 5)
      }
      this.#starting.delete(name)
    }
  }

  /** Throws INVALID_PARAMETER for a name that the cluster does not have. */
  assertName(name: string): void {
    if (this.names.includes(name)) return
    throw new LedgerError('INVALID_PARAMETER', `no process ${name}; there are ${this.names.join(', ')}`)
  }

  startAll(): void {
    for (const name of this.names) this.start(name)
  }

  pid(name: string): number | null {
    const record = this.#read(name)
    return record && isSame(record) ? record.pid : null
  }

  state(name: string): ProcessState {
    const pid = this.pid(name)
    if (pid === null) return 'down'
    return factsOf(pid)?.state === 'T' ? 'paused' : 'running'
  }

  /** False when it was not running. */
  signal(name: string, signal: NodeJS.Signals): boolean {
    const pid = this.pid(name)
    if (pid === null) return false
    try {
      process.kill(pid, signal)
      return true
    } catch {
      return false
    }
  }

  /** Resolves when the process is gone; rejects with TIMEOUT after `timeoutMs`. */
  async waitGone(name: string, timeoutMs: number): Promise<void> {
    const end = this.#clock.monotonicMs() + timeoutMs
    while (this.pid(name) !== null) {
      if (this.#clock.monotonicMs() > end) throw new LedgerError('TIMEOUT', `${name} still runs after ${timeoutMs} ms`)
      await sleep(this.#clock, 5)
    }
    rmSync(this.#pidFile(name), { force: true })
  }

  /** Graceful first, then by force: no process of this cluster is left when it resolves. */
  async stopAll(): Promise<void> {
    await this.stop(this.names)
  }

  /** Likewise for these. */
  async stop(names: readonly string[]): Promise<void> {
    const all = [...this.#plan.nodes, ...this.#plan.namesrvs].map((member) => member.name)
    const brokersFirst = all.filter((name) => names.includes(name))
    for (const name of brokersFirst) {
      this.signal(name, 'SIGCONT')
      this.signal(name, 'SIGTERM')
    }
    for (const name of brokersFirst) {
      await this.waitGone(name, 10_000).catch(async () => {
        this.signal(name, 'SIGKILL')
        await this.waitGone(name, 5000)
      })
    }
  }

  /** Last lines of a process's log, for the error that says why it did not come up. */
  logTail(name: string, lines: number): string {
    const path = this.#logFile(name)
    return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n').slice(-lines).join('\n') : ''
  }

  #spawn(name: string, args: readonly string[]): void {
    const log = openSync(this.#logFile(name), 'a')
    this.#starting.set(name, fstatSync(log).size)
    const child = spawn(process.execPath, [entry, ...args, ...(this.#attached ? ['--exit-with-stdin'] : [])], {
      detached: true,
      stdio: [this.#attached ? 'pipe' : 'ignore', log, log],
    })
    if (child.pid === undefined) throw new LedgerError('SYSTEM_ERROR', `cannot start ${name}`)
    // A child that dies closes the pipe; that is not an error of ours.
    child.stdin?.on('error', () => {})
    this.#children.set(name, child)
    child.unref()
    const record: PidRecord = { pid: child.pid, started: factsOf(child.pid)?.started ?? null }
    writeFileSync(this.#pidFile(name), JSON.stringify(record))
  }

  #isReady(name: string): boolean {
    const written = readFileSync(this.#logFile(name)).subarray(this.#starting.get(name) ?? 0)
    return / ready on /.test(written.toString('utf8'))
  }

  #namesrvArguments(namesrv: NamesrvPlan): readonly string[] {
    return ['namesrv', '--listen', `127.0.0.1:${namesrv.port}`, ...this.#registerInterval()]
  }

  #brokerArguments(node: NodePlan): readonly string[] {
    const initial = this.#plan.nodes.filter((peer) => peer.group === node.group && peer.joins === undefined)
    const addresses = initial.map((peer) => `127.0.0.1:${peer.raftPort}`)
    const peers = initial.map((peer) => `${peer.node}=127.0.0.1:${peer.raftPort}`)
    return [
      'broker',
      ...['--cluster', this.#plan.cluster],
      ...['--group', node.group],
      ...['--node', node.node],
      ...['--listen', `127.0.0.1:${node.clientPort}`],
      ...['--raft-listen', `127.0.0.1:${node.raftPort}`],
      ...(node.joins ? ['--join', addresses.join(',')] : ['--peers', peers.join(','), '--bootstrap']),
      ...['--namesrv', namesrvAddresses(this.#plan).join(',')],
      ...['--data', nodeDirectory(this.#plan, node)],
      ...['--segment-bytes', String(this.#plan.segmentBytes)],
      ...(node.advertisedPort === undefined ? [] : ['--advertised', `127.0.0.1:${node.advertisedPort}`]),
      ...this.#registerInterval(),
    ]
  }

  #registerInterval(): readonly string[] {
    const { registerIntervalMs } = this.#plan
    return registerIntervalMs === undefined ? [] : ['--register-interval', String(registerIntervalMs)]
  }

  #read(name: string): PidRecord | null {
    try {
      return JSON.parse(readFileSync(this.#pidFile(name), 'utf8')) as PidRecord
    } catch {
      return null
    }
  }

  #pidFile(name: string): string {
    return join(this.#plan.dataDirectory, 'run', `${name}.pid`)
  }

  #logFile(name: string): string {
    return join(this.#plan.dataDirectory, 'logs', `${name}.log`)
  }
}

/** The same process that the record was written for, and still alive. */
function isSame(record: PidRecord): boolean {
  try {
    process.kill(record.pid, 0)
  } catch {
    return false
  }
  const facts = factsOf(record.pid)
  if (facts && isGone(facts)) return false
  return record.started === null || facts?.started === record.started
}
