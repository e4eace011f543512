/**
 * Incoming streams of peers: checks the Hello, then hands every message with its frames to the replica.
 *
 * Registered on the raft listener by `broker.ts`. Nothing of a peer that does not belong to this group, incarnation
 * and disk reaches the core: a copied folder or a wrong address must not be able to vote (thesis 6.4, identity).
 */
import type { EntryKind, EntryMeta, PeerMessage } from '../../../raft/index.ts'
import { type Frame, type FrameType, frameTypes, splitFrames } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { FirstConfiguration, Hello } from '../../rpc/methods.ts'
import { raftMethods } from '../../rpc/methods.ts'
import { decodePeerFrame, encodeHelloReply } from '../../rpc/peer-codec.ts'
import { toWireStatus } from '../../rpc/status.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'

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
export function checkHello(hello: Hello, own: OwnIdentity): string | null {
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
  const member = configuration.members.find((candidate) => candidate.node === hello.fromNode)
  if (!member) return `node ${hello.fromNode || 'without a name'} is no member of the group`
  if (hello.fromNode === own.node) return `node ${hello.fromNode} is this replica itself`
  if (member.disk !== hello.fromDisk) {
    return `node ${hello.fromNode} has disk ${hello.fromDisk || 'none'}, the configuration says ${member.disk}`
  }
  if (hello.protocolMin > protocolVersion || hello.protocolMax < protocolVersion) {
    return `protocol ${hello.protocolMin} to ${hello.protocolMax} does not include ${protocolVersion}`
  }
  return null
}

function acceptPeer(sink: StreamSink<Buffer>, ports: PeerServerPorts): StreamHandlers<Buffer> {
  let from: Hello | null = null
  let closed = false
  const refuse = (hello: Hello | null, reason: string, absent = false): void => {
    closed = true
    cancelTimer()
    const error = new LedgerError('WRONG_CLUSTER', reason)
    ports.refused(hello, reason, absent)
    sink.write(encodeHelloReply({ ...ownVersions, status: toWireStatus(error) }))
    sink.cancel(error)
  }
  const cancelTimer = ports.clock.after(helloTimeoutMs, () => refuse(null, 'no Hello came'), { background: true })
  const greet = (hello: Hello): void => {
    const own = ports.identity()
    const reason = 'absent' in own ? own.absent : checkHello(hello, own)
    if (reason !== null) {
      refuse(hello, reason, 'absent' in own)
      return
    }
    cancelTimer()
    from = hello
    ports.greeted(hello)
    sink.write(encodeHelloReply({ ...ownVersions, status: null }))
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
        const frames = frame.frames.flatMap((part) => splitFrames(part))
        ports.receive(withEntries(frame.message, frames), frame.wallMs, frames)
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
  return error instanceof Error && 'code' in error && error.code === 'BAD_FRAME'
}

/** Gives an append its entry descriptors, made from the frames that came with it. */
function withEntries(message: PeerMessage, frames: readonly Frame[]): PeerMessage {
  if (message.kind !== 'append') {
    if (frames.length > 0) throw new LedgerError('INVALID_REQUEST', `frames came with a ${message.kind}`)
    return message
  }
  const entries = frames.map((frame, at): EntryMeta => {
    const { index, term, type, frameLength } = frame.header
    if (index !== message.prevIndex + 1 + at) {
      throw new LedgerError('INVALID_REQUEST', `frame of entry ${index} at the place of ${message.prevIndex + 1 + at}`)
    }
    return { index, term, kind: entryKind(type), bytes: frameLength }
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
