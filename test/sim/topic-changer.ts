/**
 * An operator of topics: creates, changes and deletes some, and gives the topic of the senders more queues while they
 * send. One change after the other, with the production SDK. What is acknowledged must have been done by an entry that
 * came after the request, and stays until a later one changes it (P4). Started by the workload.
 */
import type { Admin } from '../../src/client/admin.ts'
import type { Client } from '../../src/client/client.ts'
import { sleep } from '../../src/common/clock.ts'
import type { LedgerError } from '../../src/common/errors.ts'
import type { Judge } from './judge.ts'
import type { SimRandom } from './random.ts'
import type { SimNode } from './sim-node.ts'
import type { SimProcess } from './sim-process.ts'
import type { Told } from './told.ts'
import type { TopicState } from './topic-history.ts'

export interface TopicChangerPorts {
  readonly process: SimProcess
  readonly client: Client
  readonly random: SimRandom
  readonly judge: Judge
  readonly told: Told
  /** The topic of the senders, and how many queues it gets. One target only: a late retry must not take any away. */
  readonly topic: string
  readonly queues: number
  readonly pauseMeanMs: number
  /** Counts an error that users may see; throws any other. */
  note(error: unknown): LedgerError
  stopping(): boolean
}

interface Change {
  readonly kind: 'create' | 'update' | 'delete'
  readonly topic: string
  readonly queues: number
  readonly permission: number
}

const topicsMax = 4
const queuesMax = 8
const callMs = 3000

export class TopicChanger {
  readonly #ports: TopicChangerPorts
  readonly #admin: Admin
  /** By topic: every state that was asked for, whatever the answer. */
  readonly #asked = new Map<string, Change[]>()
  /** Topics whose existence was acknowledged and that nobody has asked to delete. */
  readonly #kept = new Set<string>()
  acknowledged = 0

  constructor(ports: TopicChangerPorts) {
    this.#ports = ports
    this.#admin = ports.client.admin()
  }

  async run(): Promise<void> {
    const { process, random, pauseMeanMs } = this.#ports
    while (!this.#ports.stopping()) {
      await sleep(process, random.around(pauseMeanMs))
      await this.#change(this.#draw())
    }
  }

  /** At rest: what was acknowledged is on every replica, as a later change may have left it. */
  check(nodes: readonly SimNode[]): void {
    const { judge } = this.#ports
    for (const node of nodes) {
      const topics = node.broker?.replica?.machine.topics() ?? []
      for (const name of judge.topics.names) {
        const found = topics.find(({ config }) => config.topic === name)
        const text = JSON.stringify(found ?? null)
        const wanted = JSON.stringify(judge.topics.now(name))
        judge.check(text === wanted, () => `P4: topic ${name} of ${node.name} is ${text}, it should be ${wanted}`)
      }
      for (const name of this.#kept) {
        const found = topics.find(({ config }) => config.topic === name)
        const isAsked = this.#asked.get(name)?.some(({ queues }) => queues === found?.config.readQueues)
        judge.check(
          isAsked === true || name === this.#ports.topic,
          () => `P4: topic ${name} of ${node.name} has ${found?.config.readQueues} queues, which nobody asked for`,
        )
      }
    }
  }

  #draw(): Change {
    const { random, topic, queues } = this.#ports
    if (random.chance(0.15)) return { kind: 'update', topic, queues, permission: 6 }
    const kind = random.pick(['create', 'create', 'update', 'update', 'update', 'delete'] as const)
    const name = `topic-${random.below(topicsMax)}`
    return { kind, topic: name, queues: 1 + random.below(queuesMax), permission: random.pick([6, 6, 4, 2]) }
  }

  async #change(change: Change): Promise<void> {
    const { judge, told } = this.#ports
    const { kind, topic } = change
    const behind = judge.lastCommitted
    const asked = this.#asked.get(topic) ?? []
    this.#asked.set(topic, [...asked, change])
    if (kind === 'delete') this.#kept.delete(topic)
    try {
      await this.#ask(change)
    } catch (error) {
      this.#checkRefusal(change, behind, this.#ports.note(error))
      return
    }
    this.acknowledged++
    if (kind !== 'delete' && !asked.some((earlier) => earlier.kind === 'delete')) this.#kept.add(topic)
    const index = judge.topics.changedBehind(topic, behind, stateOf(change))
    if (index === null) judge.fail(`P4: ${kind} of ${topic} was acknowledged, which nobody has applied`)
    else {
      judge.onChanged(index, `P4: ${kind} of ${topic} was acknowledged`)
      told.changed(index)
    }
  }

  async #ask({ kind, ...settings }: Change): Promise<void> {
    const options = { timeoutMs: callMs }
    if (kind === 'create') await this.#admin.createTopic(settings, options)
    else if (kind === 'update') await this.#admin.updateTopic(settings, options)
    else await this.#admin.deleteTopic(settings.topic, options)
  }

  /** Refusals speak of the state of the topic: it must have been like that. */
  #checkRefusal({ kind, topic }: Change, behind: number, error: LedgerError): void {
    const { judge } = this.#ports
    const text = (): string => `P4: ${kind} of ${topic} was answered: ${error.message}`
    if (error.code === 'TOPIC_NOT_EXIST') judge.check(judge.topics.wasSince(topic, behind, null), text)
    if (error.code === 'TOPIC_EXISTS') judge.check(judge.topics.existedSince(topic, behind), text)
  }
}

function stateOf({ kind, topic, queues, permission }: Change): TopicState {
  return kind === 'delete' ? null : { topic, readQueues: queues, writeQueues: queues, permission }
}
