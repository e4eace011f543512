/**
 * The other members as this replica knows them: connections, clients' addresses, clocks. Owned by the replica.
 */
import type { Input, PeerMessage } from '../../../raft/index.ts'
import type { CommitLogApi } from '../../../store/index.ts'
import type { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration, Hello, Member } from '../../rpc/methods.ts'
import type { EventSink } from '../events.ts'
import { type BrokerOptions, type BrokerPorts, limitsOf } from '../options.ts'
import { otherMembers } from './first-configuration.ts'
import { buildName, featureLevel, protocolVersion } from './peer-server.ts'
import { Peers } from './peers.ts'
import { VoterClocks } from './voter-clocks.ts'

export interface MembersParts {
  readonly options: BrokerOptions
  readonly ports: BrokerPorts
  readonly logger: Logger
  readonly events: EventSink
  readonly configuration: FirstConfiguration
  /** Disk id of this node. */
  readonly disk: string
  /** Where clients reach this node. */
  readonly address: string
  readonly log: CommitLogApi
  term(): number
  step(input: Input): void
  /** This member refused us. */
  refused(node: string, reason: string): void
}

export class Members {
  readonly #parts: MembersParts
  readonly #peers: Peers
  readonly #clocks: VoterClocks
  readonly #addresses = new Map<string, string>()

  constructor(parts: MembersParts) {
    const { ports, events, options, configuration } = parts
    const { clock, random, transport } = ports
    this.#parts = parts
    this.#addresses.set(options.node, parts.address)
    this.#clocks = new VoterClocks(clock, events)
    this.#peers = new Peers(otherMembers(configuration, options), {
      clock,
      random,
      transport,
      logger: parts.logger,
      log: parts.log,
      limits: limitsOf(options),
      hello: (to) => this.#hello(to),
      connected: (node) => events.emit('peer_connected', parts.term(), { node }),
      lost: (node, error) => this.#onLost(node, error),
      refused: (node, error) => this.#onRefused(node, error),
      // Later, not now: the core is in the middle of handing out the message that could not be sent.
      unreachable: (node) => clock.defer(() => parts.step({ kind: 'unreachable', peer: node })),
    })
  }

  /** Every node whose address for clients is known, this one included. */
  get nodes(): readonly { readonly node: string; readonly address: string }[] {
    return [...this.#addresses].map(([node, address]) => ({ node, address }))
  }

  /** Empty until the first Hello of the member. */
  addressOf(node: string): string {
    return this.#addresses.get(node) ?? ''
  }

  /** True when the address is news. */
  greeted(node: string, address: string): boolean {
    if (address === '' || this.#addresses.get(node) === address) return false
    this.#addresses.set(node, address)
    return true
  }

  heard(node: string, wallMs: number): void {
    this.#clocks.heard(node, wallMs)
  }

  /** Log time, never before `previous`. */
  stamp(previous: number): number {
    return this.#clocks.stamp(previous, this.#parts.term())
  }

  send(message: PeerMessage): void {
    this.#peers.send(message)
  }

  isConnected(node: string): boolean {
    return this.#peers.isConnected(node)
  }

  /** Why there is no connection to this member; null while there is one or nothing is known yet. */
  problemOf(node: string): string | null {
    return this.#peers.problemOf(node)
  }

  open(): void {
    this.#peers.open()
  }

  close(): void {
    this.#peers.close()
  }

  #hello(to: Member): Hello {
    const { configuration, options, disk, address } = this.#parts
    return {
      cluster: configuration.cluster,
      group: configuration.group,
      incarnation: configuration.incarnation,
      fromNode: options.node,
      fromDisk: disk,
      toNode: to.node,
      toDisk: to.disk,
      fromAddress: address,
      protocolMin: protocolVersion,
      protocolMax: protocolVersion,
      build: buildName,
      featureLevel,
      membershipIndex: 0,
      fromRaftAddress: '',
    }
  }

  #onLost(node: string, error: LedgerError | undefined): void {
    this.#parts.events.emit('peer_lost', this.#parts.term(), { node, why: error?.code ?? 'ended' })
    this.#parts.step({ kind: 'peer_lost', peer: node })
  }

  #onRefused(node: string, error: LedgerError): void {
    if (error.code === 'WRONG_CLUSTER') this.#parts.refused(node, error.message)
    else this.#parts.logger.debug('peer not reached', { node, code: error.code, why: error.message })
  }
}
