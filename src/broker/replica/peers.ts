/**
 * All outgoing connections to the other members: what the core says goes out by control or, for log entries, by bulk.
 *
 * Owned by the replica loop. Control and bulk never share a connection, so that the log cannot delay a heartbeat.
 */
import type { Append, PeerMessage } from '../../../raft/index.ts'
import type { CommitLogApi, Frame } from '../../../store/index.ts'
import type { Clock, Random } from '../../common/clock.ts'
import type { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { Hello, LogRange, Member } from '../../rpc/methods.ts'
import { raftMethods } from '../../rpc/methods.ts'
import { encodePeerFrame } from '../../rpc/peer-codec.ts'
import type { Channel, Transport } from '../../rpc/transport.ts'
import type { ReplicaLimits } from '../options.ts'
import { BulkLane } from './bulk-lane.ts'
import { PeerLink } from './peer-link.ts'

/** Control messages written to a congested stream before further ones are dropped. */
const congestedControlMax = 1000

export interface PeersPorts {
  readonly clock: Clock
  readonly random: Random
  readonly transport: Transport
  readonly logger: Logger
  readonly log: CommitLogApi
  readonly limits: ReplicaLimits
  hello(to: Member): Hello
  /** Both directions of thought: the control stream to this peer is up, or broke after having been up. */
  connected(node: string): void
  lost(node: string, error: LedgerError | undefined): void
  refused(node: string, error: LedgerError): void
  unreachable(node: string): void
  /** Entries that a member lacks could not be read here. */
  unreadable(range: LogRange): void
}

interface Peer {
  readonly member: Member
  readonly channels: readonly Channel[]
  readonly control: PeerLink
  readonly bulk: PeerLink
  readonly lane: BulkLane
  congestedWrites: number
  /** Why the last attempt failed or the connection broke; null while it is up. */
  problem: string | null
}

export class Peers {
  readonly #ports: PeersPorts
  readonly #peers = new Map<string, Peer>()
  #encoded: { readonly message: Append; readonly bytes: Buffer } | null = null

  #isOpen = false

  constructor(ports: PeersPorts) {
    this.#ports = ports
  }

  /** From now on exactly these are connected. One that has another disk or address is connected anew. */
  keep(members: readonly Member[]): void {
    const wanted = new Map(members.map((member) => [member.node, member]))
    for (const [node, peer] of this.#peers) {
      if (isSame(peer.member, wanted.get(node))) continue
      this.#peers.delete(node)
      this.#disconnect(peer)
    }
    for (const [node, member] of wanted) {
      if (this.#peers.has(node)) continue
      const peer = this.#connect(member)
      this.#peers.set(node, peer)
      if (this.#isOpen) openLinks(peer)
    }
  }

  open(): void {
    this.#isOpen = true
    for (const peer of this.#peers.values()) openLinks(peer)
  }

  /** The peer is there: it has dialled us. */
  hurry(node: string): void {
    const peer = this.#peers.get(node)
    peer?.control.hurry()
    peer?.bulk.hurry()
  }

  get members(): readonly Member[] {
    return [...this.#peers.values()].map(({ member }) => member)
  }

  isConnected(node: string): boolean {
    return this.#peers.get(node)?.control.up ?? false
  }

  problemOf(node: string): string | null {
    return this.#peers.get(node)?.problem ?? null
  }

  /** Sends or drops; the core repeats what matters. */
  send(message: PeerMessage): void {
    const peer = this.#peers.get(message.to)
    if (!peer) return
    if (message.kind === 'append') {
      peer.lane.send(message)
      return
    }
    peer.congestedWrites = peer.control.congested ? peer.congestedWrites + 1 : 0
    if (peer.congestedWrites > congestedControlMax) return
    const wallMs = this.#ports.clock.wallMs()
    peer.control.write(encodePeerFrame({ kind: 'message', message, wallMs, frames: [] }))
  }

  close(): void {
    this.#isOpen = false
    for (const peer of this.#peers.values()) this.#disconnect(peer)
  }

  /** What was written goes out first: who is removed should learn that its removal is committed. */
  #disconnect(peer: Peer): void {
    peer.control.close()
    peer.bulk.close()
    for (const channel of peer.channels) channel.close()
  }

  #connect(member: Member): Peer {
    const { clock, random, transport, log, limits, logger } = this.#ports
    const { node, raftAddress } = member
    const controlChannel = transport.connect(raftAddress, 'control')
    const bulkChannel = transport.connect(raftAddress, 'bulk')
    const hello = (): Hello => this.#ports.hello(member)
    const control = new PeerLink({
      clock,
      random,
      channel: controlChannel,
      method: raftMethods.control,
      hello,
      up: () => {
        peer.problem = null
        this.#ports.connected(node)
      },
      lost: (error) => {
        peer.problem = error?.message ?? 'the peer ended the connection'
        this.#ports.lost(node, error)
      },
      failed: (error) => {
        peer.problem = error.message
        this.#ports.refused(node, error)
      },
      drained: () => {},
    })
    const bulk = new PeerLink({
      clock,
      random,
      channel: bulkChannel,
      method: raftMethods.bulk,
      hello,
      up: () => lane.flush(),
      lost: () => lane.drop(),
      failed: () => {},
      drained: () => lane.flush(),
    })
    const lane = new BulkLane({
      link: bulk,
      log,
      logger,
      bytesMax: limits.peerQueueBytesMax,
      encode: (message, frames) => this.#encode(message, frames),
      unreadable: (range) => this.#ports.unreadable(range),
      unreachable: () => this.#ports.unreachable(node),
    })
    const channels = [controlChannel, bulkChannel]
    const peer: Peer = { member, channels, control, bulk, lane, congestedWrites: 0, problem: null }
    return peer
  }

  /** Followers in step get the same bytes (sender and receiver are told by the stream), so they are made once. */
  #encode(message: Append, frames: readonly Frame[]): Buffer {
    const last = this.#encoded
    if (last && sameAppend(last.message, message)) return last.bytes
    const wallMs = this.#ports.clock.wallMs()
    const bytes = encodePeerFrame({ kind: 'message', message, wallMs, frames: frames.map((frame) => frame.bytes) })
    this.#encoded = { message, bytes }
    return bytes
  }
}

function openLinks(peer: Peer): void {
  peer.control.open()
  peer.bulk.open()
}

function isSame(a: Member, b: Member | undefined): boolean {
  return a.node === b?.node && a.disk === b.disk && a.raftAddress === b.raftAddress
}

function sameAppend(a: Append, b: Append): boolean {
  return (
    a.term === b.term &&
    a.prevIndex === b.prevIndex &&
    a.prevTerm === b.prevTerm &&
    a.commit === b.commit &&
    a.entries.length === b.entries.length &&
    // Within one term a leader never changes an entry, so the last one stands for all (Raft 5.3, append-only).
    a.entries.at(-1)?.term === b.entries.at(-1)?.term
  )
}
