/**
 * Asks single nodes, whoever leads, for what only a current state may answer: the ends of the queues, the committed
 * offsets, the topics, and a read index. A node that was deposed while it was paused or cut off must not answer from its own
 * memory, and a follower not from what it has applied so far (thesis 6.4). Started by the workload.
 */
import { sleep } from '../../src/common/clock.ts'
import { LedgerError } from '../../src/common/errors.ts'
import { adminMethods, brokerMethods } from '../../src/rpc/methods.ts'
import type { Channel } from '../../src/rpc/transport.ts'
import type { Judge } from './judge.ts'
import type { SimRandom } from './random.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimNode } from './sim-node.ts'
import type { SimProcess } from './sim-process.ts'
import type { Told, ToldBefore } from './told.ts'

export interface ProberPorts {
  readonly process: SimProcess
  readonly network: SimNetwork
  readonly random: SimRandom
  readonly nodes: readonly SimNode[]
  readonly judge: Judge
  readonly told: Told
  readonly topic: string
  readonly group: string
  stopping(): boolean
}

const kinds = ['read index', 'ends', 'committed offsets', 'topics'] as const
const pauseMeanMs = 60
const leadingShare = 0.6
/** Longer than a node is paused: what it answers when it wakes up is what this is about. */
const callMs = 4000
/** Most answers that are waited for at once. */
const waitingMax = 16
/** What nobody is told of a topic and of queues that exist. */
const wrongCodes: ReadonlySet<string> = new Set(['TOPIC_NOT_EXIST', 'INVALID_PARAMETER', 'DATA_LOSS'])

export class Prober {
  readonly #ports: ProberPorts
  readonly #channels = new Map<string, Channel>()
  #waiting = 0
  answers = 0

  constructor(ports: ProberPorts) {
    this.#ports = ports
  }

  async run(): Promise<void> {
    const { process, random, nodes, told } = this.#ports
    while (!this.#ports.stopping()) {
      await sleep(process, random.around(pauseMeanMs))
      const before = told.before()
      // One that believes that it leads may have been deposed long ago.
      const leading = nodes.filter((candidate) => candidate.broker?.replica?.leading)
      const node = random.pick(leading.length > 0 && random.chance(leadingShare) ? leading : nodes)
      const kind = random.pick(kinds)
      // Before the first message the topic may not exist.
      const isTooEarly = before.index === 0 || (kind === 'ends' && before.ends.length === 0)
      if (isTooEarly || node.dormant || this.#waiting >= waitingMax) continue
      if (kind === 'read index') this.#readIndex(node, before)
      else void this.#ask(node, before, kind)
    }
  }

  /** As the handlers do it: on a follower the leader is asked. */
  #readIndex(node: SimNode, before: ToldBefore): void {
    const replica = node.broker?.replica
    if (!replica) return
    node.process?.run(() => {
      replica.readCurrent({ timeoutMs: callMs }).then(
        () => {
          this.answers++
          this.#ports.judge.check(
            replica.appliedIndex >= before.index,
            () =>
              `P4: ${node.name} (${replica.role}) reads at ${replica.appliedIndex}, ${before.index} was acknowledged before`,
          )
        },
        (error: unknown) => this.#onError(node, 'read index', error),
      )
    })
  }

  async #ask(node: SimNode, before: ToldBefore, kind: (typeof kinds)[number]): Promise<void> {
    this.#waiting++
    try {
      if (kind === 'ends') await this.#askEnds(node, before)
      else if (kind === 'topics') await this.#askTopics(node, before)
      else await this.#askCommitted(node, before)
      this.answers++
    } catch (error) {
      this.#onError(node, kind, error)
    }
    this.#waiting--
  }

  async #askTopics(node: SimNode, before: ToldBefore): Promise<void> {
    const { judge } = this.#ports
    const { topics } = await this.#channel(node).call(adminMethods.listTopics, {}, { timeoutMs: callMs })
    for (const name of judge.topics.names) {
      const state = topics.find(({ config }) => config.topic === name)?.config ?? null
      judge.check(
        judge.topics.wasSince(name, before.index, state),
        () => `P4: ${node.name} says that topic ${name} is ${JSON.stringify(state)}, it was not since ${before.index}`,
      )
    }
  }

  async #askEnds(node: SimNode, before: ToldBefore): Promise<void> {
    const { judge, topic } = this.#ports
    const { queues } = await this.#channel(node).call(adminMethods.describeTopic, { topic }, { timeoutMs: callMs })
    for (const [queue, end] of before.ends.entries()) {
      const { minOffset = 0, maxOffset = 0 } = queues[queue] ?? {}
      judge.check(
        maxOffset >= (end ?? 0),
        () => `P1: ${node.name} says that queue ${queue} ends at ${maxOffset}, ${end} was acknowledged before`,
      )
      judge.check(
        maxOffset <= (judge.messages.queues[queue]?.length ?? 0) && minOffset <= judge.messages.minOffset(queue),
        () => `B4: ${node.name} says that queue ${queue} is ${minOffset} to ${maxOffset}, which nobody has committed`,
      )
    }
  }

  async #askCommitted(node: SimNode, before: ToldBefore): Promise<void> {
    const { judge, topic, group } = this.#ports
    const queues = [...before.committed.keys()].map((queue) => ({ topic, queue, offset: 0 }))
    if (queues.length === 0) return
    const request = { group, queues }
    const { offsets } = await this.#channel(node).call(brokerMethods.fetchOffsets, request, { timeoutMs: callMs })
    for (const { queue, offset = 0 } of offsets) {
      const committed = before.committed.get(queue) ?? 0
      judge.check(
        offset >= committed,
        () => `B5: ${node.name} says that the group is at ${queue}/${offset}, ${committed} was committed before`,
      )
    }
  }

  /** Nodes that do not lead or are gone say so; the rest of the errors has its own judges. */
  #onError(node: SimNode, what: string, error: unknown): void {
    if (!(error instanceof LedgerError)) throw error
    const { judge } = this.#ports
    judge.check(!wrongCodes.has(error.code), () => `P4: ${node.name}, asked for ${what}, says ${error.message}`)
  }

  #channel(node: SimNode): Channel {
    let channel = this.#channels.get(node.name)
    if (!channel) {
      const { network, process } = this.#ports
      channel = network.endpoint(process).connect(`${node.name}:30911`, 'client')
      this.#channels.set(node.name, channel)
    }
    return channel
  }
}
