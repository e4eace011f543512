/**
 * What replicas send each other on the Control and Bulk streams (`raft.proto`), read and written by hand.
 *
 * Used by `broker/replica/peers.ts`. The log frames of an append travel as one byte string, exactly as they lie on
 * disk; this file does not look inside them. Malformed input throws a LedgerError INVALID_REQUEST.
 */
import type { AppendResponse, PeerMessage, VoteRefusal } from '../../raft/index.ts'
import { unreachable } from '../common/assert.ts'
import type { Hello, WireStatus } from './methods.ts'
import { readStatus, writeStatus } from './status.ts'
import { encodeMessage, type FieldSink, malformed, WireReader } from './wire.ts'

export interface HelloReply {
  readonly status: WireStatus | null
  readonly protocol: number
  readonly build: string
  readonly featureLevel: number
}

/**
 * `frames` are the encoded log frames of an append, empty for every other message. A decoded append has empty
 * `entries`: the receiver makes the descriptors from the frames, after it has checked them.
 */
export type PeerFrame =
  | { readonly kind: 'hello'; readonly hello: Hello }
  | {
      readonly kind: 'message'
      readonly message: PeerMessage
      readonly wallMs: number
      readonly frames: readonly Buffer[]
    }

export function encodePeerFrame(frame: PeerFrame): Buffer {
  if (frame.kind === 'hello') return encodeMessage((to) => to.message(1, (inner) => writeHello(inner, frame.hello)))
  const { message, wallMs, frames } = frame
  const framesBytes = frames.reduce((sum, part) => sum + part.length, 0)
  return encodeMessage((to) => {
    to.uint(2, wallMs)
    to.text(3, message.kind)
    to.uint(4, message.term)
    writeMessage(to, message)
    to.blob(15, framesBytes, (target, at) => copyAll(frames, target, at))
  })
}

/** `from` and `to` of a decoded message are the ones of the stream's Hello. */
export function decodePeerFrame(bytes: Buffer, stream: { readonly from: string; readonly to: string }): PeerFrame {
  const reader = new WireReader(bytes)
  const fields: MessageFields = { ...noFields }
  while (reader.next()) {
    if (reader.field === 1) return { kind: 'hello', hello: readHello(reader.message()) }
    readField(reader, fields)
  }
  const envelope = { from: stream.from, to: stream.to, term: fields.term }
  const frames = fields.frames.length === 0 ? [] : [fields.frames]
  return { kind: 'message', message: toMessage(envelope, fields), wallMs: fields.wallMs, frames }
}

function writeMessage(to: FieldSink, message: PeerMessage): void {
  switch (message.kind) {
    case 'pre_vote_request':
      to.uint(5, message.lastIndex)
      to.uint(6, message.lastTerm)
      return
    case 'vote_request':
      to.uint(5, message.lastIndex)
      to.uint(6, message.lastTerm)
      to.flag(9, message.transfer)
      return
    case 'pre_vote_response':
    case 'vote_response':
      to.text(10, message.refusal ?? '')
      return
    case 'heartbeat':
      to.uint(5, message.lastIndex)
      to.uint(7, message.commit)
      to.uint(8, message.round)
      to.uint(16, message.session)
      return
    case 'heartbeat_response':
      to.uint(8, message.round)
      to.uint(16, message.session)
      to.flag(18, !message.canLead)
      return
    case 'append':
      to.uint(5, message.prevIndex)
      to.uint(6, message.prevTerm)
      to.uint(7, message.commit)
      return
    case 'append_response':
      to.uint(5, message.matchIndex)
      if (message.rejected !== null) {
        to.flag(9, message.rejected.hasLost)
        to.uint(11, message.rejected.hintIndex)
        to.uint(12, message.rejected.hintTerm)
        to.flag(13, true)
        to.uint(14, message.rejected.rejectedIndex)
      }
      return
    case 'catch_up':
      to.uint(5, message.firstIndex)
      return
    case 'read_request':
      to.uint(17, message.context)
      return
    case 'read_response':
      to.uint(5, message.index ?? 0)
      to.flag(13, message.index === null)
      to.uint(17, message.context)
      return
    case 'timeout_now':
    case 'stepped_down':
      return
    default:
      unreachable(message)
  }
}

interface MessageFields {
  wallMs: number
  kind: string
  term: number
  index: number
  indexTerm: number
  commit: number
  round: number
  flag: boolean
  refusal: string
  hintIndex: number
  hintTerm: number
  rejected: boolean
  rejectedIndex: number
  session: number
  context: number
  cannotLead: boolean
  frames: Buffer
}

const noFields: Readonly<MessageFields> = {
  wallMs: 0,
  kind: '',
  term: 0,
  index: 0,
  indexTerm: 0,
  commit: 0,
  round: 0,
  flag: false,
  refusal: '',
  hintIndex: 0,
  hintTerm: 0,
  rejected: false,
  rejectedIndex: 0,
  session: 0,
  context: 0,
  cannotLead: false,
  frames: Buffer.alloc(0),
}

function readField(reader: WireReader, fields: MessageFields): void {
  if (reader.field === 2) fields.wallMs = reader.uint()
  else if (reader.field === 3) fields.kind = reader.text()
  else if (reader.field === 4) fields.term = reader.uint()
  else if (reader.field === 5) fields.index = reader.uint()
  else if (reader.field === 6) fields.indexTerm = reader.uint()
  else if (reader.field === 7) fields.commit = reader.uint()
  else if (reader.field === 8) fields.round = reader.uint()
  else if (reader.field === 9) fields.flag = reader.flag()
  else if (reader.field === 10) fields.refusal = reader.text()
  else if (reader.field === 11) fields.hintIndex = reader.uint()
  else if (reader.field === 12) fields.hintTerm = reader.uint()
  else if (reader.field === 13) fields.rejected = reader.flag()
  else if (reader.field === 14) fields.rejectedIndex = reader.uint()
  else if (reader.field === 15) fields.frames = reader.bytes()
  else if (reader.field === 16) fields.session = reader.uint()
  else if (reader.field === 17) fields.context = reader.uint()
  else if (reader.field === 18) fields.cannotLead = reader.flag()
  else reader.skip()
}

function toMessage(envelope: { from: string; to: string; term: number }, fields: MessageFields): PeerMessage {
  const { index, indexTerm, commit, round, session, context } = fields
  switch (fields.kind as PeerMessage['kind']) {
    case 'pre_vote_request':
      return { kind: 'pre_vote_request', ...envelope, lastIndex: index, lastTerm: indexTerm }
    case 'pre_vote_response':
      return { kind: 'pre_vote_response', ...envelope, refusal: toRefusal(fields.refusal) }
    case 'vote_request':
      return { kind: 'vote_request', ...envelope, lastIndex: index, lastTerm: indexTerm, transfer: fields.flag }
    case 'vote_response':
      return { kind: 'vote_response', ...envelope, refusal: toRefusal(fields.refusal) }
    case 'heartbeat':
      return { kind: 'heartbeat', ...envelope, commit, round, lastIndex: index, session }
    case 'heartbeat_response':
      return { kind: 'heartbeat_response', ...envelope, round, session, canLead: !fields.cannotLead }
    case 'append':
      return { kind: 'append', ...envelope, prevIndex: index, prevTerm: indexTerm, entries: [], commit }
    case 'append_response':
      return { kind: 'append_response', ...envelope, matchIndex: index, rejected: toRejected(fields) }
    case 'timeout_now':
      return { kind: 'timeout_now', ...envelope }
    case 'stepped_down':
      return { kind: 'stepped_down', ...envelope }
    case 'catch_up':
      return { kind: 'catch_up', ...envelope, firstIndex: index }
    case 'read_request':
      return { kind: 'read_request', ...envelope, context }
    case 'read_response':
      return { kind: 'read_response', ...envelope, context, index: fields.rejected ? null : index }
    default:
      throw malformed(`unknown kind of peer message ${JSON.stringify(fields.kind.slice(0, 40))}`)
  }
}

function toRejected(fields: MessageFields): AppendResponse['rejected'] {
  if (!fields.rejected) return null
  const { rejectedIndex, hintIndex, hintTerm, flag: hasLost } = fields
  return { rejectedIndex, hintIndex, hintTerm, hasLost }
}

const refusals: Readonly<Record<VoteRefusal, true>> = {
  leader_seen: true,
  log_behind: true,
  voted_for_other: true,
  old_term: true,
  quarantined: true,
}

/** An unknown refusal must not read as a grant: it is refused as malformed. */
function toRefusal(text: string): VoteRefusal | null {
  if (text === '') return null
  if (Object.hasOwn(refusals, text)) return text as VoteRefusal
  throw malformed(`unknown refusal ${JSON.stringify(text.slice(0, 40))}`)
}

function copyAll(parts: readonly Buffer[], target: Buffer, from: number): void {
  let at = from
  for (const part of parts) at += part.copy(target, at)
}

function writeHello(to: FieldSink, hello: Hello): void {
  to.text(1, hello.cluster)
  to.text(2, hello.group)
  to.text(3, hello.incarnation)
  to.text(4, hello.fromNode)
  to.text(5, hello.fromDisk)
  to.text(6, hello.toNode)
  to.uint(7, hello.protocolMin)
  to.uint(8, hello.protocolMax)
  to.text(9, hello.build)
  to.uint(10, hello.featureLevel)
  to.text(11, hello.toDisk)
  to.text(12, hello.fromAddress)
  to.uint(13, hello.membershipIndex)
  to.text(14, hello.fromRaftAddress)
}

function readHello(reader: WireReader): Hello {
  const hello: { -readonly [Key in keyof Hello]: Hello[Key] } = {
    cluster: '',
    group: '',
    incarnation: '',
    fromNode: '',
    fromDisk: '',
    toNode: '',
    toDisk: '',
    fromAddress: '',
    protocolMin: 0,
    protocolMax: 0,
    build: '',
    featureLevel: 0,
    membershipIndex: 0,
    fromRaftAddress: '',
  }
  while (reader.next()) {
    if (reader.field === 1) hello.cluster = reader.text()
    else if (reader.field === 2) hello.group = reader.text()
    else if (reader.field === 3) hello.incarnation = reader.text()
    else if (reader.field === 4) hello.fromNode = reader.text()
    else if (reader.field === 5) hello.fromDisk = reader.text()
    else if (reader.field === 6) hello.toNode = reader.text()
    else if (reader.field === 7) hello.protocolMin = reader.uint32()
    else if (reader.field === 8) hello.protocolMax = reader.uint32()
    else if (reader.field === 9) hello.build = reader.text()
    else if (reader.field === 10) hello.featureLevel = reader.uint32()
    else if (reader.field === 11) hello.toDisk = reader.text()
    else if (reader.field === 12) hello.fromAddress = reader.text()
    else if (reader.field === 13) hello.membershipIndex = reader.uint()
    else if (reader.field === 14) hello.fromRaftAddress = reader.text()
    else reader.skip()
  }
  return hello
}

export function encodeHelloReply(reply: HelloReply): Buffer {
  const { status } = reply
  return encodeMessage((to) => {
    if (status !== null) to.message(1, (inner) => writeStatus(inner, status))
    to.uint(2, reply.protocol)
    to.text(3, reply.build)
    to.uint(4, reply.featureLevel)
  })
}

export function decodeHelloReply(bytes: Buffer): HelloReply {
  const reader = new WireReader(bytes)
  const reply: { -readonly [Key in keyof HelloReply]: HelloReply[Key] } = {
    status: null,
    protocol: 0,
    build: '',
    featureLevel: 0,
  }
  while (reader.next()) {
    if (reader.field === 1) reply.status = readStatus(reader.message())
    else if (reader.field === 2) reply.protocol = reader.uint32()
    else if (reader.field === 3) reply.build = reader.text()
    else if (reader.field === 4) reply.featureLevel = reader.uint32()
    else reader.skip()
  }
  return reply
}
