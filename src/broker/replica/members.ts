/**
 * The other members as this replica knows them: connections, clients' addresses, clocks. Owned by the replica.
 *
 * Connections follow the memberships in the log, uncommitted ones included. Beside them there are guests: nodes that
 * a newer membership than ours names, which may lead us and must get our answers before we have its entry. A member may
 * be a guest, too: the log that is still to come may take it out and bring it in again.
 */
import type { Input, PeerMessage } from '../../../raft/index.ts'
import type { CommitLogApi } from '../../../store/index.ts'
import type { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration, Hello, LogRange, Member } from '../../rpc/methods.ts'
import type { EventSink } from '../events.ts'
import { membersMax } from '../membership/change.ts'
import type { MembershipHistory } from '../membership/history.ts'
import { memberNamed, memberRole, membersOf } from '../membership/membership.ts'
import { type BrokerOptions, type BrokerPorts, limitsOf } from '../options.ts'
import { buildName, featureLevel, protocolVersion } from './peer-server.ts'
import { Peers } from './peers.ts'
import { VoterClocks } from './voter-clocks.ts'

export interface MembersParts {
  readonly options: BrokerOptions
  readonly ports: BrokerPorts
  readonly logger: Logger
  readonly events: EventSink
  readonly configuration: FirstConfiguration
  readonly history: MembershipHistory
  /** Disk id of this node. */
  readonly disk: string
  /** Where clients reach this node. */
  readonly address: string
  /** Where peers reach this node, unless the membership says otherwise. */
  readonly raftAddress: string
  readonly log: CommitLogApi
  term(): number
  step(input: Input): void
  /** This member refused us. */
  refused(node: string, reason: string): void
  /** Entries that a member lacks could not be read here. */
  unreadable(range: LogRange): void
  /** A member said that this node is none, by a membership as new as ours; or one let us in again. */
  disowned(by: string | null): void
}

interface Known {
  readonly member: Member
  /** Of the membership that it came with: it stays until a committed one that is as new has decided. */
  readonly membershipIndex: number
}

export class Members {
  readonly #parts: MembersParts
  readonly #peers: Peers
  readonly #clocks: VoterClocks
  readonly #addresses = new Map<string, string>()
  readonly #guests = new Map<string, Known>()
  readonly #removeListener: () => void

  constructor(parts: MembersParts) {
    const { ports, events, options, history } = parts
    const { clock, random, transport } = ports
    this.#parts = parts
    this.#addresses.set(options.node, parts.address)
    this.#clocks = new VoterClocks(clock, events, (node) => this.#isVoter(node))
    this.#peers = new Peers({
      clock,
      random,
      transport,
      logger: parts.logger,
      log: parts.log,
      limits: limitsOf(options),
      hello: (to) => this.hello(to),
      connected: (node) => this.#onConnected(node),
      lost: (node, error) => this.#onLost(node, error),
      refused: (node, error) => this.#onRefused(node, error),
      unreadable: (range) => parts.unreadable(range),
      // Later, not now: the core is in the middle of handing out the message that could not be sent.
      unreachable: (node) => clock.defer(() => parts.step({ kind: 'unreachable', peer: node })),
    })
    this.#follow()
    this.#removeListener = history.onChanged(() => this.#follow())
  }

  /** Every member whose address for clients is known, this node included. */
  get nodes(): readonly { readonly node: string; readonly address: string }[] {
    const { membership } = this.#parts.history.newest
    return [...this.#addresses]
      .filter(([node]) => memberNamed(membership, node) !== undefined)
      .map(([node, address]) => ({ node, address }))
  }

  /** Empty until the first Hello of the member. */
  addressOf(node: string): string {
    return this.#addresses.get(node) ?? ''
  }

  /** A node whose Hello was accepted. True when its address for clients is news. */
  greeted(hello: Hello): boolean {
    const { fromNode: node, fromDisk: disk, fromRaftAddress: raftAddress, membershipIndex } = hello
    const isNewer = membershipIndex > this.#parts.history.committed.index
    if (isNewer && raftAddress !== '' && (this.#guests.has(node) || this.#guests.size < membersMax)) {
      this.#guests.set(node, { member: { node, disk, raftAddress }, membershipIndex })
      this.#follow()
    }
    this.#peers.hurry(node)
    if (hello.fromAddress === '' || this.#addresses.get(node) === hello.fromAddress) return false
    this.#addresses.set(node, hello.fromAddress)
    return true
  }

  heard(node: string, wallMs: number): void {
    this.#clocks.heard(node, wallMs)
  }

  /** Log time, never before `previous`. */
  stamp(previous: number): number {
    return this.#clocks.stamp(previous, this.#parts.term())
  }

  /** Everyone there is a connection to, members and guests. */
  get others(): readonly Member[] {
    return this.#peers.members
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
    this.#removeListener()
    this.#peers.close()
  }

  /** Connects whom the memberships and the guests name; of two with one name the newer one. */
  #follow(): void {
    const { history, options, disk: ownDisk } = this.#parts
    for (const [node, { membershipIndex }] of this.#guests) {
      if (history.committed.index >= membershipIndex) this.#guests.delete(node)
    }
    const named = history.placed.flatMap(({ index, membership }) =>
      membersOf(membership).map((member): Known => ({ member, membershipIndex: index })),
    )
    const newestLast = [...named, ...this.#guests.values()].sort((a, b) => a.membershipIndex - b.membershipIndex)
    const byNode = new Map(newestLast.map(({ member }) => [member.node, this.#given(member)]))
    byNode.delete(options.node)
    this.#peers.keep([...byNode.values()].filter((member) => member.disk !== ownDisk))
  }

  /** Initial members are reached at the addresses this node was started with, also after they moved. */
  #given(member: Member): Member {
    const { configuration, options } = this.#parts
    const isInitial = configuration.members.some(({ disk }) => disk === member.disk)
    const given = isInitial ? options.members.find(({ node }) => node === member.node) : undefined
    return given ? { ...member, raftAddress: given.raftAddress } : member
  }

  #isVoter(node: string): boolean {
    const role = memberRole(this.#parts.history.newest.membership, node)
    return role !== null && role !== 'learner'
  }

  /** How this node presents itself to that one. */
  hello(to: Member): Hello {
    const { configuration, history, options, disk, address, raftAddress } = this.#parts
    const own = memberNamed(history.newest.membership, options.node)
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
      membershipIndex: history.shownBy({ node: options.node, disk }),
      fromRaftAddress: own && own.disk === disk ? own.raftAddress : raftAddress,
    }
  }

  #onConnected(node: string): void {
    this.#parts.events.emit('peer_connected', this.#parts.term(), { node })
    this.#parts.disowned(null)
  }

  #onLost(node: string, error: LedgerError | undefined): void {
    this.#parts.events.emit('peer_lost', this.#parts.term(), { node, why: error?.code ?? 'ended' })
    this.#parts.step({ kind: 'peer_lost', peer: node })
  }

  #onRefused(node: string, error: LedgerError): void {
    if (error.code === 'NOT_A_MEMBER') this.#parts.disowned(node)
    if (error.code === 'WRONG_CLUSTER' || error.code === 'NOT_A_MEMBER') this.#parts.refused(node, error.message)
    else this.#parts.logger.debug('peer not reached', { node, code: error.code, why: error.message })
  }
}
