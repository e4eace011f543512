/**
 * A node with an empty folder outside its group: asks the replicas it knows, and whoever dials it, until the
 * membership of one of them names this node with this disk. Run by `broker.ts`.
 *
 * It stores nothing and promises nothing before that, so that a replica that lost its disk is nobody until an operator
 * decided that it may come back (P6).
 */
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { type DescribeReply, type FirstConfiguration, type Member, raftMethods } from '../../rpc/methods.ts'
import type { Channel, Transport } from '../../rpc/transport.ts'
import type { Identity } from './identity.ts'

/** Time between two rounds of asking. */
export const joinRoundMs = 250
const joinCallMs = 2000
/** Addresses asked in a round besides those given at the start. */
const learntMax = 16

export interface JoiningPorts {
  readonly clock: Clock
  readonly transport: Transport
  readonly logger: Logger
  readonly identity: Identity
  /** Why this node cannot live with what the group was made with, null when it can. */
  refuses(configuration: FirstConfiguration): LedgerError | null
}

export class Joining {
  readonly #ports: JoiningPorts
  readonly #given: readonly string[]
  /** Learnt on the way, newest last. */
  #learnt: readonly string[] = []
  readonly #channels = new Map<string, Channel>()
  readonly #stop = new AbortController()
  #problem: string | null = null
  /** Stays: what the group was made with never changes. */
  #refusal: LedgerError | null = null

  /** `addresses`: where replicas of the group listen for peers. */
  constructor(ports: JoiningPorts, addresses: readonly string[]) {
    this.#ports = ports
    this.#given = addresses
  }

  /** Why this node is still outside. */
  get reason(): string {
    const { node, disk } = this.#ports.identity
    if (this.#refusal) return `${this.#refusal.code}: ${this.#refusal.message}`
    return this.#problem ?? `NOT_A_MEMBER: waiting until the group adds node ${node} with disk ${disk}`
  }

  /** Started otherwise than the group was made: it will not come in before that is set right. */
  get isRefused(): boolean {
    return this.#refusal !== null
  }

  /** Somebody at this address wants to talk to this node as a member. */
  hint(address: string): void {
    if (address === '' || this.#given.includes(address)) return
    const others = this.#learnt.filter((known) => known !== address)
    this.#learnt = [...others, address].slice(-learntMax)
  }

  stop(): void {
    this.#stop.abort(new LedgerError('CLOSED', 'the broker stops'))
  }

  /** Asks everybody once. Rejects with CONFIG_INVALID when this node was not started as the group was made. */
  async check(): Promise<void> {
    await this.#round()
    if (!this.#refusal) return
    this.#hangUp()
    throw this.#refusal
  }

  /** Resolves with the first configuration of the group once this node is a member; null when stopped before. */
  async run(): Promise<FirstConfiguration | null> {
    try {
      while (!this.#stop.signal.aborted) {
        const found = await this.#round()
        if (found) return found
        await sleep(this.#ports.clock, joinRoundMs, this.#stop.signal).catch(() => {})
      }
      return null
    } finally {
      this.#hangUp()
    }
  }

  #hangUp(): void {
    for (const channel of this.#channels.values()) channel.close()
  }

  async #round(): Promise<FirstConfiguration | null> {
    const addresses = [...this.#given, ...this.#learnt]
    const replies = await Promise.all(addresses.map((address) => this.#ask(address)))
    if (this.#stop.signal.aborted) return null
    for (const reply of replies) {
      for (const { raftAddress } of reply ? everyone(reply) : []) this.hint(raftAddress)
      if (!reply?.configuration) continue
      this.#refusal ??= this.#ports.refuses(reply.configuration)
      // Outside it does no harm and says what is wrong; taking part would be the end of it.
      if (!this.#refusal && this.#isNamed(reply)) return reply.configuration
    }
    return null
  }

  async #ask(address: string): Promise<DescribeReply | null> {
    const { cluster, group, node, disk } = this.#ports.identity
    let channel = this.#channels.get(address)
    if (!channel) {
      channel = this.#ports.transport.connect(address, 'control')
      this.#channels.set(address, channel)
    }
    try {
      const request = { cluster, group, fromNode: node, fromDisk: disk }
      const reply = await channel.call(raftMethods.describe, request, {
        timeoutMs: joinCallMs,
        signal: this.#stop.signal,
      })
      this.#problem = null
      return reply
    } catch (error) {
      const { code, message } = toLedgerError(error)
      if (code === 'WRONG_CLUSTER') this.#problem = `WRONG_CLUSTER: ${address} says: ${message}`
      this.#ports.logger.debug('the group was asked in vain', { address, code, message })
      return null
    }
  }

  #isNamed(reply: DescribeReply): boolean {
    const { node, disk } = this.#ports.identity
    return everyone(reply).some((member) => member.node === node && member.disk === disk)
  }
}

function everyone({ membership }: DescribeReply): readonly Member[] {
  return membership ? [...membership.voters, ...membership.outgoing, ...membership.learners] : []
}
