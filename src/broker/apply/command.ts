/**
 * Commands: the log entries that change anything but queues. This is their one codec (byte tables in `README.md`).
 *
 * Handlers and the leader encode, `apply` decodes. Deterministic: the same command is the same bytes; lists whose
 * order means nothing are sorted. Ids and field numbers are never reused. A command that this build does not know
 * stops the replica before it changes anything: skipping it would make replicas differ.
 */
import { unreachable } from '../../common/assert.ts'
import type { TopicConfig } from '../contract.ts'
import * as payloads from './command-payloads.ts'
import type { Limits } from './limits.ts'
import { ProtobufError, ProtobufReader, ProtobufWriter } from './protobuf.ts'

export interface CommitOffsets {
  readonly kind: 'commit_offsets'
  readonly group: string
  /** Empty: a consumer without a group assignment, or an administrator. */
  readonly member: string
  readonly generation: number
  /** True: may move back. */
  readonly seek: boolean
  /** The order is the order of the answer. */
  readonly offsets: readonly { readonly topicId: number; readonly queue: number; readonly offset: number }[]
}

export interface AssignedMember {
  readonly member: string
  /** What the member subscribes to. */
  readonly topics: readonly string[]
  readonly queues: readonly { readonly topicId: number; readonly queue: number }[]
}

export interface AssignGroup {
  readonly kind: 'assign_group'
  readonly group: string
  /** Refused unless this is the group's generation (0: it never had members); the new one is one higher. */
  readonly expectedGeneration: number
  readonly members: readonly AssignedMember[]
}

export interface ExpireProducers {
  readonly kind: 'expire_producers'
  /** Log time, milliseconds: producers whose last stored batch is older. Apply never expires earlier than the limit. */
  readonly idleBefore: number
  /** Most producers to remove with this entry, oldest first; propose again for the rest. */
  readonly removeMax: number
}

export interface Trim {
  readonly kind: 'trim'
  /** Entries before it may be deleted from the log. 0: only minimums move, the rest comes with a later entry. */
  readonly firstIndex: number
  /** New first offsets, each the first whose batch lies at or behind the entries that go. */
  readonly queues: readonly { readonly topicId: number; readonly queue: number; readonly minOffset: number }[]
}

export interface DeleteTopic {
  readonly kind: 'delete_topic'
  readonly topic: string
  /** Only this one: a topic of the same name that was created since stays. */
  readonly topicId?: number
}

export type Command =
  | { readonly kind: 'create_topic'; readonly config: TopicConfig }
  | { readonly kind: 'update_topic'; readonly config: TopicConfig }
  | DeleteTopic
  | CommitOffsets
  | AssignGroup
  | ExpireProducers
  | Trim
  /** Only the limits named change. */
  | { readonly kind: 'set_limits'; readonly limits: Partial<Limits> }

/** Id and version on the wire. A version rises with every new field. Never reuse an id. */
const wireIds: { readonly [Kind in Command['kind']]: { readonly id: number; readonly version: number } } = {
  create_topic: { id: 1, version: 1 },
  update_topic: { id: 2, version: 1 },
  delete_topic: { id: 3, version: 2 },
  commit_offsets: { id: 4, version: 1 },
  assign_group: { id: 5, version: 1 },
  expire_producers: { id: 6, version: 1 },
  set_limits: { id: 7, version: 1 },
  trim: { id: 8, version: 1 },
}
const kindsById = new Map(Object.entries(wireIds).map(([kind, wire]) => [wire.id, kind as Command['kind']]))

/** The entry is not one that this build can apply. The replica must stop before it; a newer build can go on. */
export class EntryError extends Error {
  override readonly name = 'EntryError'
  readonly reason: 'unknown_command' | 'unknown_version' | 'malformed'

  constructor(reason: EntryError['reason'], message: string, options?: { readonly cause?: unknown }) {
    super(message, options)
    this.reason = reason
  }
}

/** Body of an entry of type `command`. Breaks an invariant on numbers that are no integers from 0 to 2^53. */
export function encodeCommand(command: Command): Buffer {
  const wire = wireIds[command.kind]
  const envelope = new ProtobufWriter()
  envelope.uint(1, wire.id)
  envelope.uint(2, wire.version)
  envelope.message(3, (writer) => writePayload(writer, command))
  return envelope.finish()
}

/** Throws EntryError. */
export function decodeCommand(body: Buffer): Command {
  try {
    return readPayload(...readEnvelope(body))
  } catch (cause) {
    if (cause instanceof ProtobufError) throw new EntryError('malformed', `command: ${cause.message}`, { cause })
    throw cause
  }
}

/** Id and version are judged before anything else is believed: a newer payload may have any shape. */
function readEnvelope(body: Buffer): [Command['kind'], ProtobufReader] {
  const reader = new ProtobufReader(body)
  const id = reader.next() === 1 ? reader.uint() : 0
  const version = reader.next() === 2 ? reader.uint() : 0
  if (id === 0 || version === 0) throw new EntryError('malformed', 'command: id or version is missing')
  const kind = kindsById.get(id)
  if (!kind) throw new EntryError('unknown_command', `command id ${id} is not known to this build`)
  if (version !== wireIds[kind].version) {
    throw new EntryError('unknown_version', `version ${version} of ${kind} is not known to this build`)
  }
  if (reader.next() !== 3) throw new EntryError('malformed', 'command: payload is missing')
  const payload = new ProtobufReader(reader.bytes())
  if (reader.next() !== 0) reader.unknown()
  return [kind, payload]
}

function writePayload(writer: ProtobufWriter, command: Command): void {
  switch (command.kind) {
    case 'create_topic':
    case 'update_topic':
      payloads.writeTopicConfig(writer, command.config)
      break
    case 'delete_topic':
      payloads.writeDeleteTopic(writer, command)
      break
    case 'commit_offsets':
      payloads.writeCommitOffsets(writer, command)
      break
    case 'assign_group':
      payloads.writeAssignGroup(writer, command)
      break
    case 'expire_producers':
      payloads.writeExpireProducers(writer, command)
      break
    case 'set_limits':
      payloads.writeLimits(writer, command.limits)
      break
    case 'trim':
      payloads.writeTrim(writer, command)
      break
    default:
      unreachable(command)
  }
}

function readPayload(kind: Command['kind'], reader: ProtobufReader): Command {
  switch (kind) {
    case 'create_topic':
    case 'update_topic':
      return { kind, config: payloads.readTopicConfig(reader) }
    case 'delete_topic':
      return payloads.readDeleteTopic(reader)
    case 'commit_offsets':
      return payloads.readCommitOffsets(reader)
    case 'assign_group':
      return payloads.readAssignGroup(reader)
    case 'expire_producers':
      return payloads.readExpireProducers(reader)
    case 'set_limits':
      return { kind, limits: payloads.readLimits(reader) }
    case 'trim':
      return payloads.readTrim(reader)
    default:
      return unreachable(kind)
  }
}
