/**
 * Incoming streams of peers: checks the Hello, then hands every message with its frames to the replica.
 *
 * Registered on the raft listener by `broker.ts`. Nothing of a peer that does not belong to this group, incarnation
 * and disk reaches the core: a copied folder or a wrong address must not be able to vote (thesis 6.4, identity).
 */
import type { EntryKind, EntryMeta, PeerMessage } from '../../../raft/index.ts'
import { type Frame, type FrameType, frameBody, frameTypes, splitFrames } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { FirstConfiguration, Hello, Member } from '../../rpc/methods.ts'
import { raftMethods } from '../../rpc/methods.ts'
import { decodePeerFrame, encodeHelloReply } from '../../rpc/peer-codec.ts'
import { toWireStatus } from '../../rpc/status.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'
import { ProtobufError } from '../apply/protobuf.ts'
import { decodeMembership } from '../membership/codec.ts'
import type { MembershipHistory } from '../membership/history.ts'
import { memberNamed, toConfiguration } from '../membership/membership.ts'

export const protocolVersion = 1
export const featureLevel = 1
export const buildName = 'ledgermq/0.1.0'
/** A stream without Hello is broken after this. */
const helloTimeoutMs = 5000

/** Who this node is, once it is part of a group. */
export interface OwnIdentity {
  readonly node: string
  readonly disk: string
  readonly configuration: FirstConfiguration
  readonly history: MembershipHistory
}

/** NOT_A_MEMBER: by a committed membership as new as the caller's, the caller does not belong to the group. */
interface HelloRefusal {
  readonly code: 'WRONG_CLUSTER' | 'NOT_A_MEMBER'
  readonly reason: string
}

export interface PeerServerPorts {
  readonly clock: Clock
  /** Null while this node is not (yet) part of a group; the text says why. */
  identity(): OwnIdentity | { readonly absent: string }
  greeted(hello: Hello): void
  /** `absent`: refused only because this node is not part of a group yet. */
  refused(hello: Hello | null, reason: string, absent: boolean): void
  receive(message: PeerMessage, wallMs: number, frames: readonly Frame[]): void
}

export function registerPeerServer(routes: ServerRoutes, ports: PeerServerPorts): void {
  routes.stream(raftMethods.control, (sink) => acceptPeer(sink, ports))
  routes.stream(raftMethods.bulk, (sink) => acceptPeer(sink, ports))
}

/** Null when the peer may talk to us, else the exact reason why not. */
export function checkHello(hello: Hello, own: OwnIdentity): HelloRefusal | null {
  const reason = wrongPlace(hello, own)
  if (reason !== null) return { code: 'WRONG_CLUSTER', reason }
  const stranger = notNamed(hello, own)
  return stranger === null ? null : { code: 'NOT_A_MEMBER', reason: stranger }
}

function wrongPlace(hello: Hello, own: OwnIdentity): string | null {
  const { configuration } = own
  const pairs: readonly (readonly [what: string, theirs: string, ours: string])[] = [
    ['cluster', hello.cluster, configuration.cluster],
    ['group', hello.group, configuration.group],
    ['incarnation', hello.incarnation, configuration.incarnation],
    ['addressed node', hello.toNode, own.node],
    ['addressed disk', hello.toDisk, own.disk],
  ]
  for (const [what, theirs, ours] of pairs) {
    if (theirs !== ours) return `${what} is ${theirs || 'empty'}, this replica has ${ours}`
  }
  if (hello.fromNode === own.node) return `node ${hello.fromNode} is this replica itself`
  if (hello.protocolMin > protocolVersion || hello.protocolMax < protocolVersion) {
    return `protocol ${hello.protocolMin} to ${hello.protocolMax} does not include ${protocolVersion}`
  }
  return null
}

/**
 * A caller with a newer membership may know of members that this node has not heard of yet, and one that is no member
 * itself knows of none: it has to listen to whoever brings it in (thesis 4.1: the caller's configuration decides).
 */
function notNamed(hello: Hello, own: OwnIdentity): string | null {
  const { history } = own
  const { fromNode: node, fromDisk: disk } = hello
  if (history.names({ node, disk }) || !history.names(own)) return null
  if (hello.membershipIndex > history.committed.index) return null
  const member: Member | undefined = memberNamed(history.newest.membership, node)
  if (!member) return `node ${node || 'without a name'} is no member of the group`
  return `node ${node} has disk ${disk || 'none'}, the configuration says ${member.disk}`
}

function acceptPeer(sink: StreamSink<Buffer>, ports: PeerServerPorts): StreamHandlers<Buffer> {
  let from: Hello | null = null
  let closed = false
  let judged: { readonly history: MembershipHistory; readonly revision: number } | null = null
  /** Of the replica that was told of this peer. */
  let met: MembershipHistory | null = null
  const refuse = (
    hello: Hello | null,
    reason: string,
    code: HelloRefusal['code'] = 'WRONG_CLUSTER',
    absent = false,
  ): void => {
    closed = true
    cancelTimer()
    const error = new LedgerError(code, reason)
    ports.refused(hello, reason, absent)
    sink.write(encodeHelloReply({ ...ownVersions, status: toWireStatus(error) }))
    sink.cancel(error)
  }
  const cancelTimer = ports.clock.after(helloTimeoutMs, () => refuse(null, 'no Hello came'), { background: true })
  const greet = (hello: Hello): void => {
    const own = ports.identity()
    if ('absent' in own) {
      refuse(hello, own.absent, 'WRONG_CLUSTER', true)
      return
    }
    if (!isStillWelcome(hello, own)) return
    cancelTimer()
    from = hello
    met = own.history
    ports.greeted(hello)
    sink.write(encodeHelloReply({ ...ownVersions, status: null }))
  }
  /** Judged again whenever the membership changed: who was removed must not go on talking on an old stream. */
  const isStillWelcome = (hello: Hello, { history, ...own }: OwnIdentity): boolean => {
    if (judged?.history === history && judged.revision === history.revision) return true
    judged = { history, revision: history.revision }
    const refusal = checkHello(hello, { history, ...own })
    if (refusal) refuse(hello, refusal.reason, refusal.code)
    return refusal === null
  }
  return {
    onMessage: (bytes) => {
      if (closed) return
      try {
        const frame = decodePeerFrame(bytes, { from: from?.fromNode ?? '', to: from?.toNode ?? '' })
        if (frame.kind === 'hello') {
          if (from) refuse(from, 'a second Hello came')
          else greet(frame.hello)
          return
        }
        if (!from) {
          refuse(null, 'the first message was no Hello')
          return
        }
        const own = ports.identity()
        if ('absent' in own || !isStillWelcome(from, own)) return
        // The replica began again behind this stream: only the Hello tells it where to send its answers.
        if (met !== own.history) {
          met = own.history
          ports.greeted(from)
        }
        const frames = frame.frames.flatMap((part) => splitFrames(part))
        ports.receive(withEntries(frame.message, frames, own), frame.wallMs, frames)
      } catch (error) {
        // Garbage ends the stream; a broken invariant of our own must not be taken for it.
        if (!isBadInput(error)) throw error
        refuse(from, error instanceof Error ? error.message : String(error))
      }
    },
    onClosed: (error) => {
      closed = true
      cancelTimer()
      if (error === undefined) sink.end()
    },
  }
}

const ownVersions = { protocol: protocolVersion, build: buildName, featureLevel } as const

function isBadInput(error: unknown): boolean {
  if (error instanceof LedgerError) return error.code === 'INVALID_REQUEST'
  if (error instanceof ProtobufError) return true
  return error instanceof Error && 'code' in error && error.code === 'BAD_FRAME'
}

/** Gives an append its entry descriptors, made from the frames that came with it. */
function withEntries(message: PeerMessage, frames: readonly Frame[], own: OwnIdentity): PeerMessage {
  if (message.kind !== 'append') {
    if (frames.length > 0) throw new LedgerError('INVALID_REQUEST', `frames came with a ${message.kind}`)
    return message
  }
  const entries = frames.map((frame, at): EntryMeta => {
    const { index, term, type, frameLength } = frame.header
    if (index !== message.prevIndex + 1 + at) {
      throw new LedgerError('INVALID_REQUEST', `frame of entry ${index} at the place of ${message.prevIndex + 1 + at}`)
    }
    const meta = { index, term, kind: entryKind(type), bytes: frameLength }
    if (meta.kind !== 'configuration') return meta
    return { ...meta, configuration: toConfiguration(decodeMembership(frameBody(frame)), own) }
  })
  return { ...message, entries }
}

function entryKind(type: FrameType): EntryKind {
  switch (type) {
    case frameTypes.noop:
      return 'noop'
    case frameTypes.configuration:
      return 'configuration'
    case frameTypes.padding:
      throw new LedgerError('INVALID_REQUEST', 'a padding frame came from a peer')
    default:
      return 'normal'
  }
}
