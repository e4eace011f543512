/**
 * How a group comes into being, once: the initial voters tell each other their disk ids, the one with the smallest
 * node id decides the first configuration, and every node stores it before it takes part in any vote.
 *
 * Run by `broker.ts` while the folder has no configuration; its handler goes on answering late nodes afterwards. The
 * decider stores before it tells, the others store before they answer, so no two configurations can come about. A
 * node that the configuration knows with another disk becomes a stranger: it stays up and never votes.
 */
import { type Clock, type Random, sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { type BootstrapReply, type BootstrapRequest, type FirstConfiguration, raftMethods } from '../../rpc/methods.ts'
import type { Channel, Transport } from '../../rpc/transport.ts'
import type { BrokerOptions, MemberAddress } from '../options.ts'
import {
  type BootstrapSettings,
  bootstrapSettings,
  decider,
  makeConfiguration,
  settingsDifference,
  strangerReason,
} from './first-configuration.ts'
import { type Identity, uuid } from './identity.ts'

/** Time between two rounds of asking the others. */
export const bootstrapRoundMs = 200
const bootstrapCallMs = 2000

export interface BootstrapPorts {
  readonly clock: Clock
  readonly random: Random
  readonly transport: Transport
  readonly logger: Logger
  readonly options: BrokerOptions
  readonly identity: Identity
  /** Makes the configuration durable. */
  save(configuration: FirstConfiguration): Promise<void>
}

/** `reason` starts with a code and says what an operator has to know. */
export type BootstrapOutcome =
  | { readonly kind: 'member'; readonly configuration: FirstConfiguration }
  | { readonly kind: 'stranger'; readonly reason: string }
  | { readonly kind: 'stopped' }

export class Bootstrap {
  readonly #ports: BootstrapPorts
  readonly #settings: BootstrapSettings
  #stored: FirstConfiguration | null
  #outcome: BootstrapOutcome | null = null
  #storing: Promise<void> = Promise.resolve()
  #reason: string
  readonly #stop = new AbortController()

  constructor(ports: BootstrapPorts, stored: FirstConfiguration | null) {
    this.#ports = ports
    this.#settings = bootstrapSettings(ports.options)
    this.#stored = stored
    // What is stored was taken by this disk as a member, in the beginning or when it was brought in later.
    if (stored) this.#outcome = { kind: 'member', configuration: stored }
    const empty = 'the folder is empty and the group has no configuration that names its disk'
    this.#reason = ports.options.bootstrap
      ? 'NOT_BOOTSTRAPPED: waiting for the other initial replicas'
      : `NOT_BOOTSTRAPPED: ${empty}; start all initial replicas once with --bootstrap`
  }

  /** Why this node takes no part, as far as known. */
  get reason(): string {
    return this.#outcome?.kind === 'stranger' ? this.#outcome.reason : this.#reason
  }

  get outcome(): BootstrapOutcome | null {
    return this.#outcome
  }

  stop(): void {
    this.#stop.abort(new LedgerError('CLOSED', 'the broker stops'))
  }

  /** Asks the others until it is settled what this node is. */
  async run(): Promise<BootstrapOutcome> {
    const { clock, transport, options } = this.#ports
    const others = options.members.filter((member) => member.node !== options.node)
    const channels = new Map(others.map((member) => [member.node, transport.connect(member.raftAddress, 'control')]))
    try {
      while (!this.#outcome && !this.#stop.signal.aborted) {
        await this.#round(others, channels)
        if (!this.#outcome) await sleep(clock, bootstrapRoundMs, this.#stop.signal).catch(() => {})
      }
      return this.#outcome ?? { kind: 'stopped' }
    } finally {
      for (const channel of channels.values()) channel.close()
    }
  }

  /** This node was brought into the group after the beginning: stores its first configuration. */
  async join(configuration: FirstConfiguration): Promise<void> {
    await this.#ports.save(configuration)
    this.#stored = configuration
    this.#outcome = { kind: 'member', configuration }
  }

  /** The Bootstrap call of another node. Throws WRONG_CLUSTER or CONFIG_INVALID. */
  async answer(request: BootstrapRequest): Promise<BootstrapReply> {
    const { identity, options } = this.#ports
    if (request.cluster !== identity.cluster || request.group !== identity.group) {
      const own = `${identity.cluster}/${identity.group}`
      throw new LedgerError('WRONG_CLUSTER', `this is a replica of ${own}, not of ${request.cluster}/${request.group}`)
    }
    if (!this.#stored) {
      const difference = settingsDifference(request, this.#settings)
      if (difference) throw this.#mismatch(difference)
      const known = options.members.some((member) => member.node === request.fromNode)
      if (!known) throw this.#mismatch(`members: ${request.fromNode} is not among those of this node`)
      if (request.configuration) await this.#adopt(request.configuration)
    }
    const disk = identity.disk
    return this.#stored ? { disk, configuration: this.#stored } : { disk }
  }

  async #round(others: readonly MemberAddress[], channels: ReadonlyMap<string, Channel>): Promise<void> {
    const { identity, options, random } = this.#ports
    const disks = new Map<string, string>([[identity.node, identity.disk]])
    const missing: string[] = []
    let problem: string | null = null
    let isMade = false
    await Promise.all(
      others.map(async ({ node }) => {
        const reply = await this.#ask(channels.get(node) as Channel).catch((error: unknown) => {
          const { code, message } = toLedgerError(error)
          if (code === 'CONFIG_INVALID' || code === 'WRONG_CLUSTER') problem = `${code}: ${node} says: ${message}`
          missing.push(node)
        })
        if (!reply) return
        disks.set(node, reply.disk)
        if (!reply.configuration) return
        isMade = true
        await this.#adoptOrTell(reply.configuration)
      }),
    )
    if (this.#outcome || isMade || !options.bootstrap) return
    if (missing.length > 0) {
      this.#reason = problem ?? `NOT_BOOTSTRAPPED: waiting for ${missing.sort().join(', ')}`
      return
    }
    if (decider(options) !== identity.node) return
    if (!(await this.#adoptOrTell(makeConfiguration(options, disks, uuid(random))))) return
    this.#ports.logger.info('first configuration made', { members: [...disks.keys()].join(' ') })
    // A push spares the others a round; whoever misses it asks.
    for (const channel of channels.values()) void this.#ask(channel).catch(() => {})
  }

  #ask(channel: Channel): Promise<BootstrapReply> {
    const { cluster, group, node, disk } = this.#ports.identity
    const request: BootstrapRequest = { cluster, group, fromNode: node, fromDisk: disk, ...this.#settings }
    const full = this.#stored ? { ...request, configuration: this.#stored } : request
    return channel.call(raftMethods.bootstrap, full, { timeoutMs: bootstrapCallMs, signal: this.#stop.signal })
  }

  /** False: the own disk did not take it; the next round tries again. */
  async #adoptOrTell(configuration: FirstConfiguration): Promise<boolean> {
    try {
      await this.#adopt(configuration)
      return true
    } catch (error) {
      if (error instanceof Error && error.name === 'InvariantError') throw error
      const text = error instanceof Error ? error.message : String(error)
      this.#reason = `STORAGE_FAILED: this node cannot store the first configuration of its group: ${text}`
      this.#ports.logger.warn('the first configuration could not be stored', { error: text })
      return false
    }
  }

  /** Stores the configuration if this node and disk belong to it. The first one wins; one at a time. */
  #adopt(configuration: FirstConfiguration): Promise<void> {
    const adopted = this.#storing.then(async () => {
      if (this.#outcome || this.#stop.signal.aborted) return
      if (strangerReason(configuration, this.#ports.identity) === null) {
        await this.#ports.save(configuration)
        this.#stored = configuration
      }
      this.#settle(configuration)
    })
    // A failed save fails its caller; the next configuration gets its own try.
    this.#storing = adopted.catch(() => {})
    return adopted
  }

  #settle(configuration: FirstConfiguration): void {
    const reason = strangerReason(configuration, this.#ports.identity)
    this.#outcome = reason === null ? { kind: 'member', configuration } : { kind: 'stranger', reason }
    if (reason !== null) this.#ports.logger.error('this replica is a stranger to its group', { reason })
  }

  #mismatch(difference: string): LedgerError {
    const error = new LedgerError('CONFIG_INVALID', difference)
    this.#reason = `CONFIG_INVALID: ${difference}`
    this.#ports.logger.error('the initial replicas were started with different settings', { difference })
    return error
  }
}
