/**
 * Who runs the group: adds and removes nodes, replaces those that lost their disk, moves leadership. One task after
 * the other, by the admin API, asked again until the group is as wanted. Started by the simulation, fed by the faults.
 */
import { sleep } from '../../src/common/clock.ts'
import { LedgerError } from '../../src/common/errors.ts'
import { adminMethods } from '../../src/rpc/methods.ts'
import type { Channel } from '../../src/rpc/transport.ts'
import type { Electorate } from './electorate.ts'
import type { Judge } from './judge.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimNode } from './sim-node.ts'
import type { SimProcess } from './sim-process.ts'

export interface Task {
  readonly kind: 'add' | 'remove' | 'replace' | 'transfer'
  readonly node: string
}

export interface OperatorPorts {
  readonly process: SimProcess
  readonly network: SimNetwork
  readonly nodes: readonly SimNode[]
  readonly electorate: Electorate
  readonly judge: Judge
  note(text: string): void
}

/** Fewer voters are left by no removal. */
const votersMin = 2
const callMs = 1500
const pauseMs = 100
/** A transfer that does not come about is nobody's loss. */
const transferTriesMax = 5
const tasksMax = 8
/** What a sane request is never answered with. */
const wrongCodes: ReadonlySet<string> = new Set(['INVALID_PARAMETER', 'FOREIGN_GROUP', 'INTERNAL', 'DATA_LOSS'])

export class Operator {
  readonly #ports: OperatorPorts
  readonly #channels = new Map<string, Channel>()
  #tasks: Task[] = []
  #running: Task | null = null
  #leader: string | null = null
  #last = ''

  constructor(ports: OperatorPorts) {
    this.#ports = ports
  }

  get idle(): boolean {
    return this.#running === null && this.#tasks.length === 0
  }

  /** What it does, and what it was told last. */
  get status(): string {
    return this.#running ? `${this.#running.kind} ${this.#running.node}: ${this.#last}` : 'idle'
  }

  ask(task: Task): void {
    if (this.#tasks.length >= tasksMax) return
    this.#tasks.push(task)
    if (this.#running === null) void this.#work()
  }

  /** Begins nothing more, but what must be done. */
  finish(): void {
    this.#tasks = this.#tasks.filter(({ kind }) => kind === 'replace')
  }

  async #work(): Promise<void> {
    for (let task = this.#tasks.shift(); task; task = this.#tasks.shift()) {
      this.#running = task
      await this.#carryOut(task)
      this.#ports.note(`operator: ${task.kind} ${task.node} done`)
    }
    this.#running = null
  }

  async #carryOut(task: Task): Promise<void> {
    if (task.kind === 'remove' && this.#ports.electorate.voters.length <= votersMin) return
    for (let attempt = 0; !this.#isDone(task); attempt++) {
      if (task.kind === 'transfer' && attempt > transferTriesMax) return
      const { nodes } = this.#ports
      await this.#try(task, this.#leader ?? (nodes[attempt % nodes.length] as SimNode).name)
      await sleep(this.#ports.process, pauseMs)
    }
  }

  #isDone({ kind, node }: Task): boolean {
    const { electorate, nodes } = this.#ports
    const machine = nodes.find(({ name }) => name === node)
    if (!machine || kind === 'transfer') return machine?.broker?.replica?.leading ?? true
    if (!electorate.isSimple) return false
    return kind === 'remove' ? !electorate.isMember(machine) : electorate.isVoter(machine)
  }

  async #try(task: Task, at: string): Promise<void> {
    const channel = this.#channel(at)
    const { kind, node } = task
    try {
      if (kind === 'transfer') await channel.call(adminMethods.transferLeadership, { to: node }, { timeoutMs: callMs })
      else {
        const raftAddress = kind === 'add' ? `${node}:30912` : ''
        const request = { kind, node, raftAddress, learner: false, priority: 0, force: false }
        await channel.call(adminMethods.changeMembership, request, { timeoutMs: callMs })
      }
      this.#leader = at
      this.#last = 'accepted'
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error
      this.#last = `${error.code} ${error.message}`
      this.#ports.note(`operator: ${kind} ${node} at ${at}: ${this.#last}`)
      this.#leader = error.facts.leader?.node ?? (error.code === 'CHANGE_IN_PROGRESS' ? at : null)
      if (wrongCodes.has(error.code)) this.#ports.judge.fail(`P8: ${kind} of ${node} was answered: ${this.#last}`)
    }
  }

  #channel(node: string): Channel {
    let channel = this.#channels.get(node)
    if (!channel) {
      const { network, process } = this.#ports
      channel = network.endpoint(process).connect(`${node}:30911`, 'client')
      this.#channels.set(node, channel)
    }
    return channel
  }
}
